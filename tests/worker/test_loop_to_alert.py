"""A real LangChain agent runs in a circle: before it is done, the alert topic names the call and says to stop it."""

import json
from pathlib import Path
from typing import Any, Final

import pytest
from harness import Broker, Fleet, eventually
from langchain_core.messages import AIMessage
from langchain_scripted import add, agent

from streams.feed import Emitter, EmitterConfig
from streams.feed.adapters.langchain import AgentStreamsCallback
from streams.feed.size import digest
from streams.worker import topics
from streams.worker.connection import KafkaConnection

pytestmark = pytest.mark.kafka

ROUNDS: Final = 9
USAGE: Final = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}
ASKED: Final = {"a": 1, "b": 2}


def call(number: int, a: int = 1) -> AIMessage:
    asked = {"name": "add", "args": ASKED | {"a": a}, "id": f"call-{number}"}
    return AIMessage("", tool_calls=[asked], usage_metadata=USAGE)


def run(emitter: Emitter, session_id: str, *answers: AIMessage) -> None:
    planner = agent(*answers, AIMessage("done"), tools=[add])
    config: Any = {"callbacks": [AgentStreamsCallback(emitter)], "configurable": {"thread_id": session_id}}
    planner.invoke({"messages": [("user", "how much is it?")]}, config)


async def test_a_looping_agent_is_named_with_what_it_repeats(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Another one, which adds different numbers with the same tool, is left alone."""
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, {"events": 2, "rollups": 1})
    broker = Broker(kafka)

    def told() -> list[dict[str, Any]]:
        records = (json.loads(message.value()) for message in broker.read(f"{prefix}alerts") if message.value())
        return [one for one in records if one["over"] == "session"]

    with Fleet(tmp_path) as fleet:
        fleet.add("worker", ["-m", "streams", "worker", "--bootstrap", kafka, "--prefix", prefix])
        with Emitter(EmitterConfig(bootstrap_servers=kafka, topic_prefix=prefix)) as emitter:
            run(emitter, "works", *(call(number, a=number) for number in range(ROUNDS)))
            run(emitter, "loops", *(call(number) for number in range(ROUNDS)))
        eventually(told, timeout_s=60, what=fleet.logs)

    (alert,) = told()
    shown = digest(ASKED).hash[:4]
    assert ("SessionRepeatsCall", "firing", {"session_id": "loops"}) == (
        alert["alert"],
        alert["state"],
        alert["labels"],
    )
    assert True is alert["stop"]
    assert alert["explanation"]["signature"].startswith(f"add(args {shown}…) ×")
    assert alert["explanation"]["times"] >= 6
    assert alert["explanation"]["tokens"] >= 4 * 120
    assert alert["explanation"]["signature"] in alert["summary"]
