"""Does every example do what it says?  They are run as they stand, against a real broker."""

import asyncio
import logging
import os
import runpy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from agents import set_trace_processors

from streams.feed.config import EmitterConfig
from streams.worker.connection import KafkaConnection
from streams.worker.topics import create

pytestmark = [pytest.mark.kafka, pytest.mark.filterwarnings("ignore::UserWarning")]  # LiteLLM's, of its own types
EXAMPLES: Final = Path(__file__).parents[3] / "docs/examples"
COAT: Final = "It rains in Lisbon: take a coat."
# A request, two model calls with their tokens, a tool call, and the tokens of the request.
EVENTS: Final = 2 + 2 * 3 + 2 + 1


@pytest.fixture
async def topic(
    kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[str]:
    caplog.set_level(logging.WARNING)  # LiteLLM writes what is less to standard output, beside what an example says
    await create(KafkaConnection(bootstrap=kafka), prefix)
    monkeypatch.setenv("AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS", kafka)
    monkeypatch.setenv("AGENT_STREAMS_TOPIC_PREFIX", prefix)
    monkeypatch.setenv("AGENT_STREAMS_EMITTER_GUARD", "kafka")
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", os.environ.get("LITELLM_LOCAL_MODEL_COST_MAP", "True"))
    yield EmitterConfig(bootstrap_servers=kafka, topic_prefix=prefix).topic
    set_trace_processors([])


@pytest.mark.parametrize(
    ("example", "says", "events"),
    [
        ("openai_agents_agent.py", COAT, EVENTS),
        ("pydantic_ai_agent.py", COAT, EVENTS),
        ("strands_agent.py", COAT, EVENTS),
        ("litellm_calls.py", COAT, 3),
        ("mcp_tools.py", "{'result': 'rain in Lisbon'}", 2),
        ("guarded_calls.py", "rain in Lisbon", 4),
    ],
)
async def test_an_example_does_what_it_says(
    topic: str, capsys: pytest.CaptureFixture[str], example: str, says: str, events: int
) -> None:
    await asyncio.to_thread(runpy.run_path, str(EXAMPLES / example), run_name="__main__")
    answer, told = capsys.readouterr().out.splitlines()

    assert answer == says
    assert told == f"{events} of {events} events are in {topic}"
