"""A real LangChain agent fails at a tool: its callbacks end as table rows, an alert and metrics."""

import json
import urllib.request
from pathlib import Path
from typing import Any, Final

import pytest
from changelogs import totals
from harness import Broker, Fleet, eventually
from langchain_core.messages import AIMessage
from langchain_scripted import agent, asks, boom

from streams.feed import Emitter, EmitterConfig
from streams.feed.adapters.langchain import AgentStreamsCallback
from streams.worker import topics
from streams.worker.connection import KafkaConnection
from streams.worker.loopback import free_ports

pytestmark = pytest.mark.kafka

RUNS: Final = 12  # one failure each; more than ten within a minute break the default rule
SHOWN: Final = (
    f'agent_tool_calls_total{{tool="boom",status="error"}} {RUNS}',
    'agent_alerts{alert="ToolFailing",severity="critical",state="firing"} 1',
)
USAGE: Final = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}


def ask_and_fail(emitter: Emitter, number: int) -> None:
    """Let an agent call a tool that raises; the framework hands the exception on."""
    planner = agent(asks(("boom", {"x": "luck"}), usage_metadata=USAGE), AIMessage("sorry"), tools=[boom])
    config: Any = {
        "callbacks": [AgentStreamsCallback(emitter)],
        "configurable": {"thread_id": f"thread-{number}"},
    }
    with pytest.raises(RuntimeError, match="no luck"):
        planner.invoke({"messages": [("user", "try it")]}, config)


async def test_what_the_framework_does_arrives_everywhere(kafka: str, prefix: str, tmp_path: Path) -> None:
    await topics.create(KafkaConnection(bootstrap=kafka), prefix, {"events": 4, "rollups": 2})
    broker = Broker(kafka)
    (port,) = free_ports(1)
    with Fleet(tmp_path) as fleet:
        where = ["--bootstrap", kafka, "--prefix", prefix]
        fleet.add("worker", ["-m", "streams", "worker", *where])
        fleet.add("exporter", ["-m", "streams", "exporter", *where, "--port", str(port)])
        with Emitter(EmitterConfig(bootstrap_servers=kafka, topic_prefix=prefix)) as emitter:
            for number in range(RUNS):
                ask_and_fail(emitter, number)

        def tables() -> bool:
            sessions, tools = totals(broker, prefix)
            return len(sessions) == RUNS and tools.get("boom", {}).get("calls_error") == RUNS

        eventually(tables, timeout_s=60, what=lambda: f"the tables {totals(broker, prefix)}\n{fleet.logs()}")
        sessions, _ = totals(broker, prefix)
        alerts = eventually(lambda: _alerts(broker, prefix), timeout_s=60, what=fleet.logs)
        page = eventually(lambda: _page(port, *SHOWN), timeout_s=60, what=fleet.logs) or ""

    assert {f"thread-{number}" for number in range(RUNS)} == set(sessions)
    assert {1} == {row["tool_errors"] for row in sessions.values()}
    assert {100} == {row["input_tokens"] for row in sessions.values()}
    # The rule on ratios may be pending too: it looks at panes of 10 s, and one may have closed meanwhile.
    assert [("ToolFailing", "firing", {"tool": "boom"})] == [each for each in alerts if each[1] == "firing"]
    assert all(line in page for line in SHOWN)


def _alerts(broker: Broker, prefix: str) -> list[tuple[str, str, dict[str, str]]]:
    """Return what the alert topic says of tools, once something fires."""
    records = (json.loads(message.value()) for message in broker.read(f"{prefix}alerts") if message.value())
    told = [(one["alert"], one["state"], one["labels"]) for one in records if one["over"] == "tool"]
    return told if "firing" in {state for _, state, _ in told} else []


def _page(port: int, *wanted: str) -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            page: str = answer.read().decode()
    except OSError:
        return None
    return page if all(line in page for line in wanted) else None
