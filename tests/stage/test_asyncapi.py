"""Is the AsyncAPI document one, and does it say what the program does?  The official schema and the stages are asked.

The schema in tests/stage/asyncapi is that of the AsyncAPI initiative, unchanged, under the licence beside it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator
from sent_by_fleet import sent_by_a_fleet

from streams.stage import asyncapi, schemas
from streams.stage.asyncapi import channel_name, document, headers_of, key_of, messages_of
from streams.topology import ALERTS, BREAKERS, COMMANDS, EVENTS, STAGES, TOPICS

FOLDER: Final = Path(__file__).parents[2] / "schemas"
REGENERATE: Final = "the document is not what the wiring says; write it anew: agent-streams schema --to schemas"
OFFICIAL: Final = json.loads((Path(__file__).parent / "asyncapi" / "3.0.0.json").read_text(encoding="utf-8"))
BY_SUFFIX: Final = {topic.suffix: topic for topic in TOPICS}


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for each in part.values():
            yield from references(each)
    elif isinstance(part, list):
        for each in part:
            yield from references(each)


def test_the_official_schema_has_nothing_to_say() -> None:
    Draft7Validator.check_schema(OFFICIAL)

    assert [] == [error.message for error in Draft7Validator(OFFICIAL).iter_errors(document())]


@pytest.mark.parametrize("broken", ["channels", "bindingVersion", "action"])
def test_the_official_schema_would_say_something(broken: str) -> None:
    made = document()
    if broken == "channels":
        made["channels"]["events"]["adress"] = made["channels"]["events"].pop("address")
    elif broken == "action":
        made["operations"]["sendAlerts"]["action"] = "publish"
    else:
        made["channels"]["events"]["bindings"]["kafka"]["partitions"] = "many"

    assert list(Draft7Validator(OFFICIAL).iter_errors(made))


def test_the_file_is_what_the_program_says_and_is_yaml() -> None:
    written = (FOLDER / asyncapi.FILE).read_text(encoding="utf-8")

    assert asyncapi.text() == written, REGENERATE
    assert document() == yaml.safe_load(written)


def test_every_reference_leads_somewhere() -> None:
    made = document()
    found = set(references(made))

    for reference in found:
        if reference.startswith("#/"):
            part = made
            for name in reference[2:].split("/"):
                part = part[name]
        else:
            assert (FOLDER / reference).is_file(), reference
    assert {f"./{name}" for name in schemas.files() if not name.startswith("metrics.")} == {
        each for each in found if not each.startswith("#/")
    }


def test_every_topic_is_there_as_it_is_declared() -> None:
    made = document()

    assert [channel_name(topic) for topic in TOPICS] == list(made["channels"])
    for topic in TOPICS:
        channel = made["channels"][channel_name(topic)]
        config = channel["bindings"]["kafka"]["topicConfiguration"]
        assert "{prefix}" + topic.suffix == channel["address"]
        assert {"cleanup.policy": "delete", **topic.config} == {
            name: value[0] if isinstance(value, list) else str(value) for name, value in config.items()
        }
        assert channel["messages"].keys() == set(messages_of(topic))


def test_workers_receive_their_sources_and_send_the_rest() -> None:
    told = [
        (each["action"], each["channel"]["$ref"].removeprefix("#/channels/"))
        for each in document()["operations"].values()
    ]

    assert {channel_name(stage.source) for stage in STAGES} == {name for action, name in told if action == "receive"}
    assert {channel_name(topic) for topic in TOPICS} - {channel_name(EVENTS), channel_name(COMMANDS)} == {
        name for action, name in told if action == "send"
    }


def test_keys_and_headers_are_those_that_stages_send() -> None:
    """Whatever a fleet with a failing tool makes the stages write, on every topic of theirs."""
    seen = set()
    for send in sent_by_a_fleet():
        topic = BY_SUFFIX[send.topic]
        key = None if send.key is None else send.key.decode()
        assert any(Draft202012Validator(key_of(topic, name)).is_valid(key) for name in messages_of(topic)), key
        assert headers_of(topic) == tuple(name for name, _ in send.headers)
        for name in messages_of(topic):
            part = document()["components"]["messages"][name].get("headers", {})
            Draft202012Validator(part).validate({header: value.decode() for header, value in send.headers})
        seen.add(topic.suffix)

    assert {ALERTS.suffix, BREAKERS.suffix} <= seen
    assert len(seen) >= 4
