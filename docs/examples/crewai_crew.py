"""A crew of CrewAI whose agents' work, model calls and tool calls arrive in Kafka; it needs a broker and no model.

    pip install agent-streams crewai
    AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python crewai_crew.py

With a real model only `Scripted` goes: `Agent(role="planner", llm="gpt-5", …)`.
"""
# ruff: noqa: T201, INP001  an example prints, and is no package

from typing import Any

from crewai import Agent, BaseLLM, Crew, Task
from crewai.events import crewai_event_bus
from crewai.events.types.llm_events import LLMCallType
from crewai.llms.base_llm import llm_call_context
from crewai.tools import tool

from streams.feed import Emitter
from streams.feed.adapters.crewai import AgentStreamsListener

USAGE = {"prompt_tokens": 210, "completion_tokens": 18, "total_tokens": 228}
ASK = [{"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Lisbon"}'}}]


class Scripted(BaseLLM):
    """A model that says what it is told to, and tells the bus as the real ones do."""

    answers: list[Any] = []  # noqa: RUF012  a field: its base class is a model of pydantic's

    def supports_function_calling(self) -> bool:
        """Say that it can."""
        return True

    def call(self, messages: Any, tools: Any = None, *_: Any, **about: Any) -> Any:
        """Say the next answer."""
        whose = {"from_task": about.get("from_task"), "from_agent": about.get("from_agent")}
        with llm_call_context():
            self._emit_call_started_event(messages=messages, tools=tools, **whose)
            answer = self.answers.pop(0)
            self._emit_call_completed_event(response=answer, call_type=LLMCallType.LLM_CALL, usage=USAGE, **whose)
            return answer


@tool("weather")
def weather(city: str) -> str:
    """Tell the weather."""
    return f"rain in {city}"


def main() -> None:
    """Ask once, and show what became of the events."""
    with Emitter() as emitter:
        AgentStreamsListener(emitter).listen()
        model = Scripted(model="scripted-1", answers=[ASK, "It rains in Lisbon: take a coat."])
        planner = Agent(role="planner", goal="advise", backstory="none", llm=model, tools=[weather])
        task = Task(description="What shall I wear in Lisbon?", expected_output="an answer", agent=planner)
        print(Crew(agents=[planner], tasks=[task]).kickoff(inputs={"session_id": "example-1"}))
        crewai_event_bus.flush()
    stats = emitter.stats()
    print(f"{stats.acknowledged} of {stats.emitted} events are in {emitter.config.topic}")


if __name__ == "__main__":
    main()
