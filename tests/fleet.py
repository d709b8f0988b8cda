"""A fleet of simulated agents: plausible event streams from one seed, as plain dictionaries.

Sessions take turns; each runs requests of model calls, usage reports and tool calls, with errors, retries and pauses.
Never imports the product: what it yields is what any client might publish.
"""

import random
from collections.abc import Iterator
from typing import Any, Final

Event = dict[str, Any]

MODELS: Final = (("gpt-5", "openai"), ("claude-4", "anthropic"), ("gemini-3", "google"))
START_MS: Final = 1_763_724_000_000


class Fleet:
    """Events of many sessions in event-time order; the same seed gives the same events."""

    def __init__(
        self,
        seed: int,
        *,
        sessions: int = 2_000,
        agents: int = 8,
        tools: int = 50,
        tools_per_agent: int = 8,
        tenants: int = 5,
        sources: int = 10,
        step_ms: float = 0.05,
        start_ms: int = START_MS,
        failing_tool: str | None = None,
    ) -> None:
        self._random = random.Random(seed)
        self._sessions = sessions
        self._agents = agents
        self._tools = tools
        self._tools_per_agent = tools_per_agent
        self._tenants = tenants
        self._sources = sources
        self._step_ms = step_ms
        self._start_ms = start_ms
        self._failing = failing_tool
        self._seqs: dict[str, int] = {}
        self._count = 0

    def events(self, count: int) -> Iterator[Event]:
        """Yield a number of events."""
        lives: dict[int, Iterator[Event]] = {}
        made = 0
        while made < count:
            number = self._random.randrange(self._sessions)
            life = lives.get(number)
            event = next(life, None) if life is not None else None
            if event is None:
                lives[number] = life = self._request(number)
                event = next(life)
            yield self._stamp(event, number)
            made += 1

    def _stamp(self, event: Event, number: int) -> Event:
        source = f"host-{number % self._sources}"
        seq = self._seqs[source] = self._seqs.get(source, 0) + 1
        event["id"] = f"e{self._count:012d}"
        event["time"] = int(self._start_ms + self._count * self._step_ms)
        event["agent"] = f"agent-{number % self._agents}"
        event["session_id"] = f"s-{number:06d}"
        event["tenant"] = f"tenant-{number % self._tenants}"
        event["source"] = source
        event["seq"] = seq
        self._count += 1
        return event

    def _call_id(self) -> str:
        return f"c{self._random.getrandbits(48):012x}"

    def _request(self, number: int) -> Iterator[Event]:
        rng = self._random
        request = self._call_id()
        yield {"kind": "agent_start", "call_id": request}
        failed = False
        for _ in range(rng.randint(1, 4)):
            yield from self._model_call(request)
            for _ in range(rng.randint(0, 2)):
                call = self._tool_call(request, number)
                for event in call:
                    failed = failed or event.get("status") == "error"
                    yield event
        if rng.random() < 0.02:
            yield {"kind": "error", "error_type": rng.choice(("network", "rate_limit", "other")), "component": "api"}
        status = "error" if failed and rng.random() < 0.5 else "success"
        yield {
            "kind": "agent_end", "call_id": request, "status": status, "duration_ms": self._duration(7.0),
        }  # fmt: skip

    def _model_call(self, request: str) -> Iterator[Event]:
        rng = self._random
        name, provider = rng.choice(MODELS)
        named = {"call_id": self._call_id(), "parent_id": request, "model": name, "provider": provider}
        yield {"kind": "model_start", **named}
        status = "error" if rng.random() < 0.01 else "success"
        yield {"kind": "model_end", **named, "status": status, "duration_ms": self._duration(6.0)}
        if status == "success":
            usage: Event = {"input_tokens": rng.randrange(4_000), "output_tokens": rng.randrange(900)}
            if rng.random() < 0.9:
                usage["cost_nano_usd"] = usage["input_tokens"] * 1_250 + usage["output_tokens"] * 10_000
            yield {"kind": "token_usage", **named, **usage}

    def _tool_call(self, request: str, number: int) -> Iterator[Event]:
        rng = self._random
        first = number % self._agents * 6
        tool = f"tool-{(first + rng.randrange(self._tools_per_agent)) % self._tools:02d}"
        for attempt in (1, 2):
            named = {"call_id": self._call_id(), "parent_id": request, "tool": tool, "attempt": attempt}
            yield {"kind": "tool_start", **named}
            broken = tool == self._failing and rng.random() < 0.8
            status = "error" if broken or rng.random() < 0.05 else "success"
            yield {
                "kind": "tool_end", **named, "status": status, "duration_ms": self._duration(4.0),
                "output_bytes": rng.randrange(2_000),
            }  # fmt: skip
            if status == "success":
                return

    def _duration(self, mu: float) -> int:
        return min(int(self._random.lognormvariate(mu, 1.0)), 600_000)
