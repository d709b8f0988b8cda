"""Were alerts and breakers told exactly once?  Every published transition follows the one before, and ends in a row.

Knows nothing of why something fired: that is the business of the rules' own tests.
"""

import json
from pathlib import Path
from typing import Any, Final

import msgspec
from simulation.broker import ALERTS, BREAKERS, Broker, Record

from streams.fold.price import Overrides, PriceBook
from streams.fold.session import OVERFLOW
from streams.rule.alert import decode_names, fingerprint
from streams.rule.breaker import breaker_name
from streams.rule.pricefile import parse_prices

PRICES: Final = PriceBook(Overrides(parse_prices(Path(__file__).with_name("prices.yaml").read_text("utf-8"))))
WORDS: Final = {1: "pending", 2: "firing", 3: "firing", 4: "resolved"}
STATES: Final = {0: "closed", 1: "open", 2: "half_open", 3: "disabled", 4: "forced_open", 5: "metrics_only"}


def told(broker: Broker, topic: str) -> list[Record]:
    """Return what a consumer of the topic has read."""
    log = broker.log(topic, 0)
    return log.read(0, log.end)[0]


def follow_alerts(broker: Broker) -> dict[str, tuple[int, int, str]]:
    """Return the newest transition by fingerprint; AssertionError when one is missing, or there twice."""
    newest: dict[str, tuple[int, int, str]] = {}
    oldest: dict[str, int] = {}
    ids: set[str] = set()
    for record in told(broker, ALERTS):
        key = (record.key or b"").decode()
        if key.startswith("ack/"):  # of people, not of the alert
            continue
        if record.value is None:
            incarnation, _, _ = newest.pop(key)
            oldest[key] = incarnation
            continue
        alert = json.loads(record.value)
        incarnation, transition = alert["incarnation"], alert["transition"]
        before = newest.get(key, (oldest.get(key, -1), 0, ""))
        expected = before[1] + 1 if incarnation == before[0] and key in newest else 1
        if transition != expected or incarnation < before[0] or alert["id"] in ids or alert["fingerprint"] != key:
            raise AssertionError(f"alert {alert['alert']} {alert['labels']}: {incarnation}.{transition} after {before}")
        if transition == 1 and incarnation == before[0]:
            raise AssertionError(f"alert {alert['alert']} {alert['labels']}: life {incarnation} begins twice")
        ids.add(alert["id"])
        newest[key] = incarnation, transition, alert["state"]
    return newest


def stored_alerts(rows: dict[bytes, bytes], origin: str) -> dict[str, tuple[int, int, str]]:
    """Return the stored alerts of one partition in the same shape."""
    stored: dict[str, tuple[int, int, str]] = {}
    for key, value in rows.items():
        if key[:1] == b"a":
            rule, over, labels = decode_names(key[1:])
            phase, incarnation, transition, *_ = msgspec.msgpack.decode(value)
            stored[fingerprint(origin, rule, over, labels)] = incarnation, transition, WORDS[phase]
    return stored


def follow_breakers(broker: Broker) -> dict[str, tuple[int, str]]:
    """Return the newest transition by circuit; AssertionError when one is missing, or there twice."""
    newest: dict[str, tuple[int, str]] = {}
    for record in told(broker, BREAKERS):
        key = (record.key or b"").decode()
        if OVERFLOW in key:  # one in each partition, under one name
            continue
        if record.value is None:  # its policy is gone
            newest.pop(key)
            continue
        told_of: dict[str, Any] = json.loads(record.value)
        first = told_of["previous"] if told_of["reason"] == "initial_state" else "closed"
        before, state = newest.get(key, (0, first))
        if told_of["transition"] != before + 1 or told_of["previous"] != state:
            raise AssertionError(f"circuit {key}: transition {told_of} after {before}, {state}")
        newest[key] = told_of["transition"], told_of["state"]
    return newest


def stored_breakers(rows: dict[bytes, bytes]) -> dict[str, tuple[int, str]]:
    """Return the stored circuits of one partition in the same shape."""
    stored: dict[str, tuple[int, str]] = {}
    for key, value in rows.items():
        if key[:1] == b"b":
            over, *labels = json.loads(key[1:])
            state, _, transition, *_ = msgspec.msgpack.decode(value)
            if OVERFLOW not in labels and transition:  # without one it is a window, and nobody was told
                stored[breaker_name(over, tuple(labels))] = transition, STATES[state]
    return stored
