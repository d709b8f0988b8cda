"""Strands' own spans: an agent with a tool that works and one that fails, on OpenAI's client."""

from opentelemetry import trace
from strands import Agent, tool
from strands.models.openai import OpenAIModel
from surroundings import MODEL, calls, exporting, says, scripted_model


@tool
def search(text: str) -> str:
    """Search."""
    return f"found {text}"


@tool
def boom() -> str:
    """Fail."""
    raise ValueError("no luck")


answers = [calls("search", {"text": "it"}), calls("boom", {}), says("it is")]
with exporting("planner") as provider, scripted_model(answers) as url:
    trace.set_tracer_provider(provider)
    model = OpenAIModel(client_args={"base_url": url, "api_key": "none", "max_retries": 0}, model_id=MODEL)
    agent = Agent(
        model,
        name="planner",
        tools=[search, boom],
        callback_handler=None,
        trace_attributes={"session.id": "conversation-1", "user.id": "u-1"},
    )
    agent("is it?")
