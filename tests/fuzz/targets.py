"""What hostile bytes are thrown at, and what must hold whatever they are: only named refusals, and books that balance.

Each target takes bytes and returns; whatever else happens is a finding.
"""

from collections.abc import Callable
from typing import Final

import msgspec
from through_stages import Stages

from streams.errors import ConfigError
from streams.event.codec import DETAIL_CHARS_MAX, Rejected, decode_record
from streams.event.command import Command, decode_command
from streams.event.redact import REDACTOR, redact_event
from streams.fold.measure import OUTCOMES
from streams.rule.parse import parse_rules
from streams.rule.receivers import parse_receivers
from streams.stage.deadletter import EXCERPT_CHARS_MAX, DeadLetter, dead_letters
from streams.stage.payloads import PayloadPolicy
from streams.worker.ingest_codec import Translator
from streams.worker.ingest_records import Signal, unpack

UNPACKED_MAX: Final = 1 << 16
_encode: Final = msgspec.json.Encoder().encode
_letter: Final = msgspec.json.Decoder(DeadLetter).decode


def record(data: bytes) -> None:
    """Decode a record; what is good stays so after redaction, what is bad becomes a letter that says little."""
    decoded = decode_record(data)
    assert decoded.events or decoded.rejected
    for event in decoded.events:
        clean, _ = redact_event(event)
        again = decode_record(_encode(clean))
        assert not again.rejected, again.rejected
        assert [clean] == list(again.events)
    for rejected, send in zip(decoded.rejected, dead_letters(decoded.rejected, 0, 0, 0), strict=False):
        assert len(rejected.detail) <= DETAIL_CHARS_MAX
        assert send.value is not None
        assert len(_letter(send.value).excerpt) <= EXCERPT_CHARS_MAX


def stages(data: bytes) -> None:
    """Feed records, one per line, to both stages: every event has one outcome, and a second life is as good."""
    stage = Stages(payloads=PayloadPolicy(on=True), events=1, rollups=1)
    stage.publish(data.split(b"\n\n")[:32], partition=0, timestamp_ms=1_763_724_000_000)
    stage.tick(1_763_724_060_000)
    counters = stage.sessions[0].counters()
    assert counters.get("received", 0) == sum(counters.get(name, 0) for name in OUTCOMES)


def redaction(data: bytes) -> None:
    """Redact a text: its counts tell of every replacement."""
    text = data.decode("utf-8", "replace")
    clean, counts = REDACTOR.text(text)
    assert (clean is text) == (not counts)
    assert all(clean.count(f"[{name}]") >= 1 for name in counts)


def otlp_json(data: bytes) -> None:
    """Translate requests in JSON."""
    _otlp(data, as_json=True)


def otlp_protobuf(data: bytes) -> None:
    """Translate requests in protobuf."""
    _otlp(data, as_json=False)


def _otlp(data: bytes, *, as_json: bool) -> None:
    for signal in Signal:
        try:
            carried = Translator(REDACTOR).carry(signal, data, as_json=as_json)
        except ValueError:
            continue
        for made in carried.records:
            assert not decode_record(made.value).rejected, "what we translate ourselves, workers take"


def packed(data: bytes) -> None:
    """Unpack gzip."""
    try:
        assert len(unpack(data, UNPACKED_MAX)) <= UNPACKED_MAX
    except ValueError:
        return


def rules(data: bytes) -> None:
    """Read rules."""
    _refused(parse_rules, data)


def receivers(data: bytes) -> None:
    """Read receivers."""
    _refused(parse_receivers, data)


def _refused(parse: Callable[[str], object], data: bytes) -> None:
    try:
        parse(data.decode("utf-8", "replace"))
    except ConfigError as error:
        assert str(error)  # noqa: PT017  most texts are refused and some are not


def command(data: bytes) -> None:
    """Read a command."""
    assert isinstance(decode_command(data), Command | Rejected)


TARGETS: Final = (record, stages, redaction, otlp_json, otlp_protobuf, packed, rules, receivers, command)
