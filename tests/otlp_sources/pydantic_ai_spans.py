"""PydanticAI's own spans: a run with two tools, one of which fails, and a run whose model refuses."""

from openai import AsyncOpenAI
from pydantic_ai import Agent, ModelHTTPError
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from surroundings import MODEL, calls, exporting, says, scripted_model


def search(text: str) -> str:
    """Search."""
    return f"found {text}"


def boom() -> str:
    """Fail."""
    raise ValueError("no luck")


answers = [calls("search", {"text": "it"}), says("it is"), calls("boom", {}), 429]
with exporting("planner") as provider, scripted_model(answers) as url:
    client = AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
    model = OpenAIChatModel(MODEL, provider=OpenAIProvider(openai_client=client))
    agent = Agent(model, name="planner", tools=[search, boom])
    agent.instrument = InstrumentationSettings(tracer_provider=provider)
    agent.run_sync("is it?")
    for expected in (ValueError, ModelHTTPError):
        try:
            agent.run_sync("try it")
        except expected:
            continue
        raise AssertionError(f"no {expected.__name__}")
