"""OpenLLMetry: a workflow of Traceloop's SDK around its instrumentation of OpenAI's client, with tools."""

from contextlib import suppress

import openai
from opentelemetry.instrumentation.openai import OpenAIInstrumentor
from surroundings import MODEL, exporting, says, scripted_model
from traceloop.sdk import Traceloop
from traceloop.sdk.decorators import tool, workflow


@tool(name="search")
def search(text: str) -> str:
    return f"found {text}"


@tool(name="boom")
def boom() -> None:
    raise ValueError("no luck")


@workflow(name="trip")
def trip(client: openai.OpenAI) -> None:
    question = [{"role": "user", "content": "is it?"}]
    client.chat.completions.create(model=MODEL, messages=question)
    search("it")
    client.chat.completions.create(model=MODEL, messages=question)
    with suppress(ValueError):
        boom()
    with suppress(openai.RateLimitError):
        client.chat.completions.create(model=MODEL, messages=question)


with exporting("planner") as provider, scripted_model([says("it is"), says("it is so"), 429]) as url:
    (processor,) = provider._active_span_processor._span_processors
    Traceloop.init(app_name="planner", processor=processor, telemetry_enabled=False, instruments=set())
    Traceloop.set_association_properties({"session_id": "conversation-1", "user_id": "u-1"})
    OpenAIInstrumentor().instrument()
    trip(openai.OpenAI(base_url=url, api_key="none", max_retries=0))
    processor.force_flush()
