"""OpenInference: an agent of LangChain with a tool that works and one that fails."""

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openinference.instrumentation import using_session, using_user
from openinference.instrumentation.langchain import LangChainInstrumentor
from surroundings import MODEL, calls, exporting, says, scripted_model


@tool
def search(text: str) -> str:
    """Search."""
    return f"found {text}"


@tool
def boom() -> str:
    """Fail."""
    raise ValueError("no luck")


with (
    exporting("planner") as provider,
    scripted_model([calls("search", {"text": "it"}), says("it is"), calls("boom", {})]) as url,
):
    LangChainInstrumentor().instrument(tracer_provider=provider)
    model = ChatOpenAI(model=MODEL, base_url=url, api_key="none", max_retries=0)
    agent = create_agent(model, [search, boom], name="planner")
    with using_session("conversation-1"), using_user("u-1"):
        agent.invoke({"messages": [("user", "is it?")]})
        try:
            agent.invoke({"messages": [("user", "try it")]})
        except ValueError:
            pass
        else:
            raise AssertionError("the tool did not fail")
