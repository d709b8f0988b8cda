"""Model calls through LiteLLM whose tokens and costs arrive in Kafka; it needs a broker and no model.

    pip install 'agent-streams[litellm]'
    AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python litellm_calls.py

With a real model only `mock_response` goes. The proxy takes an instance of the logger in `litellm_settings.callbacks`.
"""
# ruff: noqa: T201, INP001  an example prints, and is no package

import time

import litellm

from streams.feed import Emitter
from streams.feed.adapters.litellm import AgentStreamsLogger

WAIT_S = 10  # LiteLLM tells its callbacks from a thread of its own


def main() -> None:
    """Ask once, and show what became of the events."""
    with Emitter() as emitter:
        litellm.callbacks = [AgentStreamsLogger(emitter, agent="planner")]
        answer = litellm.completion(
            "gpt-4o",
            [{"role": "user", "content": "What shall I wear in Lisbon?"}],
            mock_response="It rains in Lisbon: take a coat.",
            metadata={"session_id": "example-1"},
        )
        print(answer.choices[0].message.content)
        deadline = time.monotonic() + WAIT_S
        while emitter.stats().emitted < len(("start", "usage", "end")) and time.monotonic() < deadline:
            time.sleep(0.01)
    stats = emitter.stats()
    print(f"{stats.acknowledged} of {stats.emitted} events are in {emitter.config.topic}")


if __name__ == "__main__":
    main()
