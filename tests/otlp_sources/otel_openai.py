"""OpenTelemetry's own instrumentation of OpenAI's client: two answers, one of them streamed, and a refusal."""

import openai
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
from surroundings import MODEL, exporting, says, scripted_model

with exporting("planner") as provider, scripted_model([says("it is"), says("it is so"), 429]) as url:
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    question = [{"role": "user", "content": "is it?"}]
    client.chat.completions.create(model=MODEL, messages=question, temperature=0.5)
    for _ in client.chat.completions.create(
        model=MODEL, messages=question, stream=True, stream_options={"include_usage": True}
    ):
        pass
    try:
        client.chat.completions.create(model=MODEL, messages=question)
    except openai.RateLimitError:
        pass
    else:
        raise AssertionError("the model did not refuse")
