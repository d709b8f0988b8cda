"""Which JSON Schema does each record follow that others write or read?  Made of the types that decode and encode it.

Never describes changelog rows: they are between the workers, and may change with any release.
One schema per kind of event and per topic, each complete in itself; `events` is the union of all kinds.
"""

from collections.abc import Mapping
from inspect import cleandoc
from typing import Any, Final

import msgspec

from streams.event.codec import MS_END, Reason
from streams.event.command import COMMAND_SCHEMA, COMMANDS, Command
from streams.event.model import KINDS, SCHEMA_VERSION, Envelope
from streams.fold.gauges import GaugeDelta
from streams.fold.rollup import BATCH_SCHEMA, BreakerOrder, Delta, EraseOrder, Histogram, ResetOrder, RollupBatch
from streams.rule.acknowledgement import AcknowledgementRecord
from streams.rule.alert import (
    FOR_RAISED,
    KEY_EXPIRED,
    NO_LONGER_ENOUGH,
    PERIOD_ENDED,
    RECOVERED,
    RULE_REMOVED,
    SESSION_ENDED,
)
from streams.rule.circuit import Signal, State
from streams.rule.records import SCHEMA as RECORD_SCHEMA
from streams.rule.records import AlertRecord, BreakerRecord, BudgetRecord, Completeness
from streams.sink.document import SCHEMA as DOCUMENT_SCHEMA
from streams.sink.document import Document, DocumentPlace, DocumentSeries
from streams.stage import examples
from streams.stage.deadletter import EXCERPT_CHARS_MAX, DeadLetter
from streams.stage.deadletter import SCHEMA as LETTER_SCHEMA
from streams.stage.payloads import SCHEMA as PAYLOAD_SCHEMA
from streams.stage.payloads import PayloadRecord
from streams.topology import ALERTS, BREAKERS, DEAD_LETTER, EVENTS, PAYLOADS, ROLLUPS
from streams.topology import COMMANDS as COMMANDS_TOPIC

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
URN: Final = "urn:agent-streams:schema"

_EVENTS_SAY: Final = """One CallbackEvent of any kind.

A record holds one, a JSON array of them, or one per line; its key is the session_id, else the source, else the agent.
"""
_RECORDS: Final[Mapping[str, tuple[type[msgspec.Struct], int, msgspec.Struct]]] = {
    "rollups": (RollupBatch, BATCH_SCHEMA, examples.ROLLUPS),
    "dead-letter": (DeadLetter, LETTER_SCHEMA, examples.LETTER),
    "alert": (AlertRecord, RECORD_SCHEMA, examples.ALERT),
    "breaker": (BreakerRecord, RECORD_SCHEMA, examples.BREAKER),
    "acknowledgement": (AcknowledgementRecord, RECORD_SCHEMA, examples.ACKNOWLEDGEMENT),
    "command.reset": (COMMANDS["reset"], COMMAND_SCHEMA, examples.RESET),
    "command.rules": (COMMANDS["rules"], COMMAND_SCHEMA, examples.RULES),
    "command.purge": (COMMANDS["purge"], COMMAND_SCHEMA, examples.PURGE),
    "command.acknowledge": (COMMANDS["acknowledge"], COMMAND_SCHEMA, examples.ACKNOWLEDGE),
    "command.unacknowledge": (COMMANDS["unacknowledge"], COMMAND_SCHEMA, examples.UNACKNOWLEDGE),
    "command.silence": (COMMANDS["silence"], COMMAND_SCHEMA, examples.SILENCE),
    "command.unsilence": (COMMANDS["unsilence"], COMMAND_SCHEMA, examples.UNSILENCE),
    "command.breaker": (COMMANDS["breaker"], COMMAND_SCHEMA, examples.CIRCUIT),
    "payload": (PayloadRecord, PAYLOAD_SCHEMA, examples.PAYLOAD),
}
# What is asked for over HTTP and stands on no topic.
_PAGES: Final[Mapping[str, tuple[type[msgspec.Struct], int, msgspec.Struct]]] = {
    "metrics": (Document, DOCUMENT_SCHEMA, examples.DOCUMENT),
}
_WHOLE: Final = {**_RECORDS, **_PAGES}
# What a topic mostly holds; the alert topic has acknowledgements too, the one of commands every other kind.
TOPICS: Final = {
    EVENTS.suffix: "events",
    ROLLUPS.suffix: "rollups",
    ALERTS.suffix: "alert",
    BREAKERS.suffix: "breaker",
    DEAD_LETTER.suffix: "dead-letter",
    COMMANDS_TOPIC.suffix: "command.reset",
    PAYLOADS.suffix: "payload",
}

_NATURAL: Final = {"minimum": 0}
_POSITIVE: Final = {"minimum": 1}
_SHARE: Final = {"minimum": 0, "maximum": 1}
_RATE: Final = {"minimum": -1, "maximum": 1}  # −1 stands for too few calls
_NAMED: Final = {"minLength": 1}
_DIGEST: Final = {"pattern": "^[0-9a-f]{32}$"}
_UNKNOWN: Final = {"minimum": -1}  # −1 stands for a time that there is not
_ALERT_REASONS: Final = (
    RECOVERED, PERIOD_ENDED, NO_LONGER_ENOUGH, FOR_RAISED, SESSION_ENDED, KEY_EXPIRED, RULE_REMOVED,
)  # fmt: skip

# Events carry their bounds in their types, because the decoder checks them.  These records are written by the stages
# alone, and checking them again would only cost time: what is always true of them is said here, and tested.
_BOUNDS: Final[Mapping[type[msgspec.Struct], Mapping[str, Schema]]] = {
    RollupBatch: {
        "sequence": _POSITIVE, "events": _NATURAL, "watermark_ms": _UNKNOWN, "late": _NATURAL,
        "duplicate": _NATURAL, "rejected": _NATURAL, "schema": {"const": BATCH_SCHEMA},
    },
    EraseOrder: {"command": _NAMED, "digest": {"pattern": "^[0-9a-f]{64}$"}},
    ResetOrder: {"command": _NAMED, "time_ms": _NATURAL},
    BreakerOrder: {"command": _NAMED, "time_ms": _NATURAL, "breaker": _NAMED, "by": _NAMED},
    Delta: {"dimension": _NAMED, "pane_ms": {"exclusiveMinimum": -MS_END, "exclusiveMaximum": MS_END}},
    GaugeDelta: {"forgotten": _NATURAL},
    Histogram: {"min_us": _UNKNOWN, "max_us": _UNKNOWN},
    DeadLetter: {
        "reason": {"enum": [reason.value for reason in Reason]},
        "topic": {"enum": [EVENTS.suffix, COMMANDS_TOPIC.suffix]}, "partition": _NATURAL, "offset": _NATURAL,
        "position": _NATURAL, "timestamp_ms": _UNKNOWN, "value_bytes": _NATURAL,
        "value_sha256": {"pattern": "^[0-9a-f]{64}$"}, "excerpt": {"maxLength": EXCERPT_CHARS_MAX}, "more": _NATURAL,
        "schema": {"const": LETTER_SCHEMA},
    },
    AlertRecord: {
        "schema": {"const": RECORD_SCHEMA}, "id": _DIGEST, "fingerprint": _DIGEST, "alert": _NAMED, "count": _NATURAL,
        "time_ms": _NATURAL, "active_since_ms": _NATURAL, "transition": _POSITIVE,
        "reason": {"enum": [*_ALERT_REASONS, None]},
    },
    BudgetRecord: {"spent": _NATURAL, "limit": _POSITIVE, "remaining": _NATURAL},
    PayloadRecord: {
        "id": _NAMED, "time_ms": _NATURAL, "agent": _NAMED, "body_bytes": _NATURAL, "cut_bytes": _NATURAL,
        "partition": _NATURAL, "offset": _NATURAL, "schema": {"const": PAYLOAD_SCHEMA},
    },
    Document: {"time_ms": _NATURAL},
    DocumentSeries: {"count": _NATURAL, "created_ms": _NATURAL},
    DocumentPlace: {"value": {"exclusiveMinimum": 0}},
    Completeness: {"late": _NATURAL, "duplicate": _NATURAL, "rejected": _NATURAL},
    AcknowledgementRecord: {
        "schema": {"const": RECORD_SCHEMA}, "id": _NAMED, "fingerprint": _DIGEST, "incarnation": _NATURAL, "by": _NAMED,
        "time_ms": _NATURAL, "ends_ms": _NATURAL,
    },
    BreakerRecord: {
        "schema": {"const": RECORD_SCHEMA}, "id": _DIGEST, "breaker": _NAMED,
        "code": {"enum": [state.value for state in State]}, "reason": {"enum": [move.name.lower() for move in Signal]},
        "since_ms": _NATURAL, "failure_rate": _RATE, "failure_rate_limit": _SHARE, "calls": _NATURAL,
        "failures": _NATURAL, "window_ms": _NATURAL, "half_open_calls": _NATURAL, "transition": _POSITIVE,
        "time_ms": _NATURAL, "slow_call_rate": _RATE, "slow_calls": _NATURAL, "window_calls": _NATURAL,
        "attempts": _NATURAL,
    },
}  # fmt: skip

EVENT_NAMES: Final = tuple(f"event.{kind}" for kind in KINDS)
RECORD_NAMES: Final = tuple(_RECORDS)
PAGE_NAMES: Final = tuple(_PAGES)
NAMES: Final = (*EVENT_NAMES, *RECORD_NAMES, *PAGE_NAMES)


def schema(name: str) -> Schema:
    """Return one schema: of `event.<kind>`, a record, a page, or of `events`, any kind; KeyError when there is none."""
    if name == EVENTS.suffix:
        return _any_event()
    if name in _WHOLE:
        record, version, example = _WHOLE[name]
        return _whole(name, version, record, (examples.record(example),))
    kind = name.removeprefix("event.")
    return _whole(f"event.{kind}", SCHEMA_VERSION, KINDS[kind], _event_examples(kind))


def file_name(name: str) -> str:
    """Name the file that holds a schema: with its version, because a new one does not replace what people hold."""
    return f"{name}.v{_WHOLE[name][1] if name in _WHOLE else SCHEMA_VERSION}.json"


def text(name: str) -> str:
    """Return a schema as it is written."""
    return msgspec.json.format(msgspec.json.encode(schema(name)), indent=2).decode() + "\n"


def files() -> dict[str, str]:
    """Return all that belongs into the folder of schemas: file name and text."""
    return {file_name(name): text(name) for name in NAMES}


def _whole(name: str, version: int, record: type[msgspec.Struct], shown: tuple[Schema, ...]) -> Schema:
    parts = _parts((record,))
    root = parts.pop(record.__name__)
    return {**_head(name, version), **root, **({"$defs": parts} if parts else {}), "examples": list(shown)}


def _any_event() -> Schema:
    parts = _parts(tuple(KINDS.values()))
    union = {
        "title": "CallbackEvent",
        "description": cleandoc(_EVENTS_SAY),
        "oneOf": [{"$ref": f"#/$defs/{cls.__name__}"} for cls in KINDS.values()],
    }
    return {**_head(EVENTS.suffix, SCHEMA_VERSION), **union, "$defs": parts}


def _head(name: str, version: int) -> Schema:
    return {"$schema": DIALECT, "$id": f"{URN}:{name}:v{version}"}


def _parts(records: tuple[type[msgspec.Struct], ...]) -> dict[str, Schema]:
    """Return the schemas of types and of what they are made of, by class name."""
    _, found = msgspec.json.schema_components(records, ref_template="#/$defs/{name}")
    parts: dict[str, Schema] = dict(found)
    for record in (*records, *_BOUNDS):
        if record.__name__ in parts:
            parts[record.__name__] = _finished(record, parts[record.__name__])
    return {name: {**part, "description": cleandoc(part["description"])} for name, part in parts.items()}


def _finished(record: type[msgspec.Struct], part: Schema) -> Schema:
    """Add what the type does not say: its kind as a constant, its bounds, and what all events have in common."""
    for field, bounds in _BOUNDS.get(record, {}).items():
        # The tag of a tagged array stands before its fields.
        at = record.__struct_fields__.index(field) + (record.__struct_config__.tag is not None)
        where = part["properties"][field] if "properties" in part else part["prefixItems"][at]
        where.update(bounds)
    base = next((each for each in (Envelope, Command) if issubclass(record, each)), None)
    if base is not None:
        part["properties"]["kind"] = {"const": record.__struct_config__.tag}
        common = cleandoc(base.__doc__ or "").partition("\n\n")[2]
        part["description"] = f"{cleandoc(record.__doc__ or '')}\n\n{common}"
    return part


def _event_examples(kind: str) -> tuple[Schema, ...]:
    """Return a whole event, and one with only what must be there."""
    whole = examples.event(kind)
    must = {field.encode_name for field in msgspec.structs.fields(KINDS[kind]) if field.required}
    return (whole, {name: value for name, value in whole.items() if name == "kind" or name in must})
