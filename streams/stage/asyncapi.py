"""Who may write and read what here?  One AsyncAPI 3 document of all topics, made of the wiring and the schemas.

Never asks a broker, and never repeats what a schema says: messages point at the files beside it.
Sources: the AsyncAPI specification 3.0.0 and its Kafka bindings 0.5.0.
"""

from collections.abc import Mapping
from typing import Any, Final

import yaml

from streams.rule.acknowledgement import KEY_PREFIX
from streams.rule.records import cloud_headers
from streams.stage import schemas
from streams.stage.batches import HEADER_EVENTS, HEADER_SEQUENCE, HEADER_SOURCE
from streams.topology import (
    ALERTS,
    BREAKERS,
    COMMANDS,
    DEAD_LETTER,
    EVENTS,
    NOTIFY_CHANGELOG,
    PAYLOADS,
    ROLLUPS,
    STAGES,
    TOPICS,
    Topic,
)

FILE: Final = "asyncapi.yaml"
VERSION: Final = "3.0.0"
BINDING: Final = "0.5.0"
CONTRACT: Final = "1.0.0"  # of the topics; each schema has a version of its own
_DIALECT: Final = "application/schema+json;version=2020-12"
_PACKED: Final = "application/x-msgpack"

Part = dict[str, Any]

# Names of headers and what their text is; none is asked of agents, who may send events in a CloudEvents envelope.
_DIGITS: Final = {"type": "string", "pattern": "^-?[0-9]+$"}
_ROLLUP_HEADERS: Final = (HEADER_SOURCE, HEADER_SEQUENCE, HEADER_EVENTS)
_CLOUD: Final = tuple(name for name, _ in cloud_headers(ce_id="", ce_type="", ce_source="", time_ms=0))
_TEXT: Final = {"type": "string", "minLength": 1}
_KEYS: Final[Mapping[str, Part]] = {  # by message
    "rollups": {"type": "null"},
    "alert": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    "acknowledgement": {"type": "string", "pattern": f"^{KEY_PREFIX}[0-9a-f]{{32}}$"},
    "dead-letter": {"type": "string", "pattern": r"^[a-z-]+:[0-9]+:[0-9]+:[0-9]+$"},
}
_WRITTEN_BY_AGENTS: Final = (EVENTS, COMMANDS)  # by agents, or by operators
_READ_BY_ANYBODY: Final = (ALERTS, BREAKERS, DEAD_LETTER, PAYLOADS)


def document() -> Part:
    """Return the document."""
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "AgentStreams",
            "version": CONTRACT,
            "description": "Exactly-once tables, alerts, circuit breakers and metrics for LLM agents, on Kafka. "
            "Operations are those of the workers: what they receive others send, and the other way round.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": _server()},
        "channels": {channel_name(topic): _channel(topic) for topic in TOPICS},
        "operations": dict(_operations()),
        "components": {"messages": {name: _message(topic, name) for topic in TOPICS for name in messages_of(topic)}},
    }


def text() -> str:
    """Return the document as it is written (YAML)."""
    return yaml.safe_dump(document(), sort_keys=False, allow_unicode=True, width=120)


def channel_name(topic: Topic) -> str:
    """Name a topic's channel as a program could: no dots and dashes."""
    first, *rest = topic.suffix.replace(".", "-").split("-")
    return first + "".join(part.capitalize() for part in rest)


def messages_of(topic: Topic) -> tuple[str, ...]:
    """Return the names of what a topic holds; of a changelog one, whose content is between the workers."""
    if topic == EVENTS:
        return schemas.EVENT_NAMES
    if topic == COMMANDS:
        return tuple(name for name in schemas.RECORD_NAMES if name.startswith("command."))
    if topic == ALERTS:
        return "alert", "acknowledgement"
    return (schemas.TOPICS.get(topic.suffix, topic.suffix),)


def headers_of(topic: Topic) -> tuple[str, ...]:
    """Return the headers that every record of a topic has."""
    if topic == ROLLUPS:
        return _ROLLUP_HEADERS
    return _CLOUD if topic in (ALERTS, BREAKERS) else ()


def key_of(topic: Topic, name: str) -> Part:
    """Return the schema of the key of one message of a topic."""
    return {**_KEYS.get(name, _TEXT), "description": topic.key}


def _server() -> Part:
    return {
        "host": "{bootstrap}",
        "protocol": "kafka",
        "description": "Kafka 2.5 or newer; TLS and SASL as the brokers ask for them.",
        "variables": {"bootstrap": {"default": "localhost:9092", "description": "host:port of one broker or more"}},
        "bindings": {"kafka": {"bindingVersion": BINDING}},
    }


def _channel(topic: Topic) -> Part:
    config: Part = {"cleanup.policy": [topic.config.get("cleanup.policy", "delete")]}
    config |= {name: _value(value) for name, value in topic.config.items() if name != "cleanup.policy"}
    return {
        "address": "{prefix}" + topic.suffix,
        "description": topic.holds,
        "parameters": {"prefix": {"default": "agent.", "description": "AGENT_STREAMS_TOPIC_PREFIX"}},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages_of(topic)},
        "bindings": {"kafka": {"topicConfiguration": config, "bindingVersion": BINDING}},
    }


def _operations() -> Any:
    group = {"kafka": {"groupId": {"type": "string", "const": "{prefix}workers"}, "bindingVersion": BINDING}}
    sources = [stage.source for stage in STAGES]
    for topic in TOPICS:
        name, channel = channel_name(topic), {"$ref": f"#/channels/{channel_name(topic)}"}
        named = name[0].upper() + name[1:]
        if topic in sources:
            summary = "the source of a stage; offsets are committed in the transactions that hold what came of them"
            yield f"receive{named}", {"action": "receive", "channel": channel, "summary": summary, "bindings": group}
        if topic not in _WRITTEN_BY_AGENTS:
            yield f"send{named}", {"action": "send", "channel": channel, "summary": _sent(topic)}


def _sent(topic: Topic) -> str:
    if topic == NOTIFY_CHANGELOG:
        return "written and read by notify alone"
    if topic in _READ_BY_ANYBODY:
        return "in transactions: read it with isolation.level=read_committed"
    return "in transactions, between the workers"


def _message(topic: Topic, name: str) -> Part:
    message: Part = {"name": name, "bindings": {"kafka": {"key": key_of(topic, name), "bindingVersion": BINDING}}}
    headers = headers_of(topic)
    if headers:
        values = _DIGITS if topic == ROLLUPS else _TEXT
        message["headers"] = {"type": "object", "required": list(headers), "properties": dict.fromkeys(headers, values)}
    if name in schemas.NAMES:
        reference = {"$ref": f"./{schemas.file_name(name)}"}
        message["payload"] = {"schemaFormat": _DIALECT, "schema": reference}
    else:
        message["contentType"] = _PACKED
        message["summary"] = f"{topic.holds}; between the workers, and may change with any release"
    if topic.compacted:
        message["description"] = "A record without a value deletes its key."
    return message


def _value(value: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
