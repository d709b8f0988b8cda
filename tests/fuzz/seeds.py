"""What fuzzing begins with, and how it changes events without breaking their shape."""

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from fuzz.targets import TARGETS, command, otlp_json, packed, receivers, record, redaction, rules, stages
from hostile import BAD_EVENTS, BAD_RECORDS
from leaks import leaks

from streams.stage import examples

ODD: Final[tuple[Any, ...]] = (
    None, True, 0, -1, 2**31, 2**53, 2**63, 2**64, 10**20, 0.5, -0.0, 1e308, "", " ", "\x00", "\ud7ff", "💥" * 40,
    "x" * 300, "a@example.com", "1969-12-31T23:59:59Z", "2025-11-21T11:41:00.123456789+23:59", "9" * 19, [], [[]],
    {}, {"": ""}, {"a": {"b": []}}, [1, "2", None],
)  # fmt: skip
_RULES: Final = b"""groups:
  - name: g
    rules:
      - {alert: A, over: tool, value: {ratio: [tool_calls_error, tool_calls]}, window: 5m, above: 5%, min_count: 10}
      - {alert: B, over: session, value: {total: tokens}, above: 1000, severity: critical, stop: true}
breakers:
  - {over: tool, failure_rate: 50%, window: 1m, min_calls: 5, open_for: 10s, half_open_calls: 2}
"""
_RECEIVERS: Final = b"""receivers:
  - {name: am, kind: alertmanager, url: "http://localhost:9093", match: {severity: critical}}
  - {name: cache, kind: redis, url: "redis://localhost:6379/0"}
"""
_OTLP: Final = json.dumps(
    {
        "resourceSpans": [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "a"}}]},
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": "5b8efff798038103d269b633813fc60c",
                                "spanId": "eee19b7ec3c1b174",
                                "name": "chat gpt",
                                "startTimeUnixNano": "1763724000000000000",
                                "endTimeUnixNano": "1763724001000000000",
                                "attributes": [
                                    {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
                                    {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "12"}},
                                ],
                            }
                        ]
                    }
                ],
            }
        ]
    }
).encode()


def seeds() -> Iterator[bytes]:
    """Yield inputs: the target's number, then its bytes."""
    events = [json.dumps(examples.event(kind)).encode() for kind in examples.EVENTS]
    bad = [each.value for each in (*BAD_EVENTS, *BAD_RECORDS) if each.value and len(each.value) < 4096]
    for value in (*events, *bad, b"[" + b",".join(events[:5]) + b"]", b"\n".join(events[:3])):
        yield _for(record, value)
    for at in range(0, len(events), 4):
        yield _for(stages, b"\n\n".join(events[at : at + 4]))
    for leak in leaks(1, 10):
        yield _for(redaction, leak.text.encode())
    for target, value in ((rules, _RULES), (receivers, _RECEIVERS), (otlp_json, _OTLP), (packed, gzip.compress(b"x"))):
        yield _for(target, value)
    yield _for(command, b'{"kind":"reset","id":"c1","time":1763724000000,"by":"me","scope":{"tool":"search"}}')


def _for(target: Any, value: bytes) -> bytes:
    return bytes([TARGETS.index(target)]) + value


def write_seeds(folder: Path) -> None:
    """Write each into a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (folder / f"seed-{number:03}").write_bytes(seed)


def mutated(value: bytes, rng: random.Random) -> bytes | None:
    """Change one place of a JSON text, whose shape stays; None when it is none."""
    try:
        whole = json.loads(value)
    except (ValueError, RecursionError):
        return None
    places = list(_places(whole))
    if not places:
        return None
    holder, key = rng.choice(places)
    chance = rng.random()
    if chance < 0.1:
        del holder[key]
    elif chance < 0.3 and isinstance(holder, dict):
        other, name = rng.choice(places)
        holder[key] = other[name]
    else:
        holder[key] = rng.choice(ODD)
    try:
        return json.dumps(whole).encode()
    except (ValueError, RecursionError):
        return None


def _places(node: Any, deep: int = 0) -> Iterator[tuple[Any, Any]]:
    if deep > 8 or not isinstance(node, dict | list):
        return
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        yield from _places(node[key], deep + 1)
