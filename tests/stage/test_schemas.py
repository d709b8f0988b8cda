"""Do the published schemas say what the program does?  The files, the codecs and real records are asked, in turn."""

import json
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from fleet import START_MS
from jsonschema import Draft202012Validator
from pages import full_view, own_samples
from sent_by_fleet import sent_by_a_fleet

from streams.event.codec import decode_record
from streams.event.command import COMMANDS, decode_command
from streams.event.model import KINDS, Envelope
from streams.fold.rollup import RollupBatch
from streams.rule.acknowledgement import AcknowledgementRecord
from streams.rule.records import AlertRecord, BreakerRecord
from streams.sink.document import Document, as_json
from streams.stage import examples
from streams.stage.deadletter import DeadLetter
from streams.stage.payloads import PayloadRecord
from streams.stage.schemas import EVENT_NAMES, NAMES, PAGE_NAMES, RECORD_NAMES, TOPICS, files, schema
from streams.topology import COMMANDS as COMMANDS_TOPIC
from streams.topology import EVENTS

FOLDER: Final = Path(__file__).parents[2] / "schemas"
REGENERATE: Final = "schemas/ is not what the types say; write it anew: agent-streams schema --to schemas"
TYPES: Final[dict[str, type[msgspec.Struct]]] = {
    "rollups": RollupBatch,
    "dead-letter": DeadLetter,
    "alert": AlertRecord,
    "breaker": BreakerRecord,
    **{f"command.{kind}": command for kind, command in COMMANDS.items()},
    "acknowledgement": AcknowledgementRecord,
    "payload": PayloadRecord,
    "metrics": Document,
}
RESET: Final = json.dumps(examples.record(examples.RESET)).encode()
# What every field is tried with: most are wrong for most fields, and all are right for some.
TRIED: Final[tuple[Any, ...]] = (
    None, True, 0, 1, -1, 0.5, 2**53, 1e300, "", "success", "x" * 129, "x" * 70_000, [], {}, {"a": "b"}, {"": 1},
)  # fmt: skip


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(schema(name))


def test_files_are_what_the_types_say() -> None:
    written = {file.name: file.read_text(encoding="utf-8") for file in FOLDER.glob("*.json")}

    assert files().keys() == written.keys(), REGENERATE
    for name, text in files().items():
        assert text == written[name], f"{name}: {REGENERATE}"


def test_there_is_one_for_every_kind_and_every_topic() -> None:
    assert set(EVENT_NAMES) == {f"event.{kind}" for kind in KINDS}
    others = {f"command.{kind}" for kind in COMMANDS} - {TOPICS[COMMANDS_TOPIC.suffix]} | {"acknowledgement"}
    assert set(TOPICS.values()) | others == {*RECORD_NAMES, EVENTS.suffix}
    assert len({schema(name)["$id"] for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", [*NAMES, EVENTS.suffix])
def test_each_is_a_schema_that_says_what_it_describes(name: str) -> None:
    made = schema(name)

    Draft202012Validator.check_schema(made)
    assert made["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert made["$id"] == f"urn:agent-streams:schema:{name}:v1"
    assert made["title"]
    assert made["description"]


@pytest.mark.parametrize("kind", KINDS)
def test_event_examples_hold_and_survive_the_codec(kind: str) -> None:
    made = schema(f"event.{kind}")
    own = set(KINDS[kind].__struct_fields__) - set(Envelope.__struct_fields__)

    assert made["properties"]["kind"] == {"const": kind}
    assert own | {"kind"} <= made["examples"][0].keys(), "the first example shows every field of its kind"
    assert set(made["required"]) == made["examples"][1].keys(), "the second shows what must be there"
    for example in made["examples"]:
        validator(f"event.{kind}").validate(example)
        validator(EVENTS.suffix).validate(example)
        decoded = decode_record(json.dumps(example).encode())
        assert not decoded.rejected
        again = decode_record(msgspec.json.encode(decoded.events[0]))
        assert decoded.events == again.events


@pytest.mark.parametrize("name", [*RECORD_NAMES, *PAGE_NAMES])
def test_record_examples_hold_and_survive_decoding(name: str) -> None:
    (example,) = schema(name)["examples"]

    validator(name).validate(example)
    decoded = msgspec.json.decode(json.dumps(example).encode(), type=TYPES[name])
    assert example == json.loads(msgspec.json.encode(decoded))


@pytest.mark.parametrize("kind", KINDS)
def test_schema_and_decoder_refuse_the_same_events(kind: str) -> None:
    """Text that is no time is left out: JSON Schema cannot say which text is one."""
    judge, good = validator(f"event.{kind}"), examples.event(kind)
    for field in KINDS[kind].__struct_fields__:
        for value in TRIED:
            if field == "time" and isinstance(value, str) and value:
                continue
            event = {**good, field: value}
            accepted = not decode_record(json.dumps(event).encode()).rejected
            assert accepted == judge.is_valid(event), f"{field}={str(value)[:40]!r}: the decoder says {accepted}"
    for field in good:
        event = {name: value for name, value in good.items() if name != field}
        accepted = not decode_record(json.dumps(event).encode()).rejected
        assert accepted == judge.is_valid(event), f"without {field}: the decoder says {accepted}"


@pytest.mark.parametrize("kind", COMMANDS)
def test_schema_and_decoder_refuse_the_same_commands(kind: str) -> None:
    """As with events; and a field nobody knows is refused by both."""
    judge = validator(f"command.{kind}")
    (good,) = schema(f"command.{kind}")["examples"]
    for field in (*COMMANDS[kind].__struct_fields__, "kind", "labels"):
        for value in TRIED:
            if field == "time" and isinstance(value, str) and value:
                continue
            command = {**good, field: value}
            accepted = isinstance(decode_command(json.dumps(command).encode()), COMMANDS[kind])
            assert accepted == judge.is_valid(command), f"{field}={str(value)[:40]!r}: the decoder says {accepted}"
    for field in good:
        command = {name: value for name, value in good.items() if name != field}
        accepted = isinstance(decode_command(json.dumps(command).encode()), COMMANDS[kind])
        assert accepted == judge.is_valid(command), f"without {field}: the decoder says {accepted}"


def test_what_the_stages_send_holds() -> None:
    """Whatever a fleet with a failing tool makes the stages write, on every topic of theirs."""
    judges = {topic: validator(name) for topic, name in TOPICS.items()}
    seen: dict[str, int] = {}
    for send in sent_by_a_fleet():
        if send.value is not None:
            judges[send.topic].validate(json.loads(send.value))
            seen[send.topic] = seen.get(send.topic, 0) + 1

    assert seen.keys() == TOPICS.keys() - {EVENTS.suffix, COMMANDS_TOPIC.suffix}, "every topic was written to"


def test_the_exporters_json_holds() -> None:
    view = full_view()[1]
    text = b"".join(as_json(view, {**view.samples(), **own_samples()}, now_ms=START_MS))

    validator("metrics").validate(json.loads(text))
