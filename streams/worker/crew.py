"""Which events do simulated agents publish, and what must the tables say afterwards?  Pure: one seed, one history.

Never publishes anything and never reads a clock: event n happens n / rate seconds after the beginning, and the ledger
counts what was handed out, sharing no code with the tables it is compared with.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from streams.event.model import (
    AgentEnd,
    AgentStart,
    CallStatus,
    Envelope,
    ModelEnd,
    ModelStart,
    SessionEnd,
    TokenUsage,
    ToolEnd,
    ToolStart,
    ToolStatus,
)

SESSIONS: Final = 24  # alive at once
HOSTS: Final = 3  # processes that agents run in, each with an emitter
EVENTS_LEAST: Final = 1_000  # fewer do not hold enough failures for the alerts

BAD_TOOL: Final = "web_search"
RUNAWAY: Final = "coder-runaway"
RUNAWAY_CALLS: Final = 100
_RUNAWAY_SHARE: Final = 0.12  # of the events, while it runs
_RUNAWAY_TOKENS: Final = 400_000  # per call: a whole context window, again and again
_BAD_SHARE: Final = 0.3  # of the tool calls go to the tool that turns bad
_FAILING: Final = 0.85
_FAILING_ELSEWHERE: Final = 0.002
_OUTAGE_S: Final = 45.0
_PERIOD_S: Final = 120.0  # after which it all happens again

# agent, its tools, its model
_AGENTS: Final = (
    ("researcher", ("fetch_page", "summarise", "cite"), "gpt-5"),
    ("coder", ("read_file", "run_tests", "apply_patch"), "claude-4"),
    ("support", ("crm_lookup", "send_mail", "refund"), "gpt-5"),
    ("analyst", ("sql_query", "plot", "read_sheet"), "gemini-3"),
    ("planner", ("calendar", "maps"), "claude-4"),
)
_PROVIDERS: Final = {"gpt-5": "openai", "claude-4": "anthropic", "gemini-3": "google"}
_NANO_USD: Final = {"gpt-5": (1_250, 10_000), "claude-4": (3_000, 15_000), "gemini-3": (1_250, 5_000)}  # per token


@dataclass(frozen=True, slots=True)
class Script:
    """When things go wrong, in seconds after the beginning."""

    bad_s: float
    runaway_s: float

    @classmethod
    def of(cls, seconds: float | None) -> "Script":
        """Fit the script into a run of this length; None: a run without an end."""
        return cls(min(10.0, 0.2 * (seconds or 60.0)), min(15.0, 0.35 * (seconds or 60.0)))

    def bad(self, at_s: float) -> bool:
        """Is the tool bad at this moment?"""
        return 0.0 <= at_s % _PERIOD_S - self.bad_s < _OUTAGE_S


class Act(NamedTuple):
    """One event, and the process that publishes it."""

    host: int
    event: Envelope


class Crew:
    """Agents at work: an endless iterator of acts in the order of their event times."""

    def __init__(self, seed: int, *, rate: float, begin_ms: int, script: Script) -> None:
        self.ledger = Ledger()
        self._random = random.Random(seed)  # noqa: S311  the same history for the same seed is the point
        self._seed = seed
        self._rate = rate
        self._begin_ms = begin_ms
        self._script = script
        self._count = 0
        self._opened = 0
        self._calls = 0
        self._lives = [self._life() for _ in range(SESSIONS)]
        self._runaway = self._run_away()

    @property
    def at_s(self) -> float:
        """When the next event happens, after the beginning."""
        return self._count / self._rate

    def __iter__(self) -> Iterator[Act]:
        return self

    def __next__(self) -> Act:
        act = self._next_runaway() or self._next_life()
        self.ledger.publish(act.event)
        self._count += 1
        return act

    def _next_runaway(self) -> Act | None:
        if self.at_s < self._script.runaway_s or self._random.random() > _RUNAWAY_SHARE:
            return None
        return next(self._runaway, None)

    def _next_life(self) -> Act:
        number = self._random.randrange(SESSIONS)
        act = next(self._lives[number], None)
        if act is None:
            self._lives[number] = life = self._life()
            act = next(life)
        return act

    # ---- lives --------------------------------------------------------------------------------------------------

    def _life(self) -> Iterator[Act]:
        """Live through one session: a few requests, then its end."""
        agent, tools, model = self._random.choice(_AGENTS)
        self._opened += 1
        session = f"{agent}-{self._opened:05d}"
        host = self._opened % HOSTS
        tenant = f"team-{self._opened % 4}"
        for _ in range(self._random.randint(2, 5)):
            for event in self._request(agent, session, tenant, tools, model):
                yield Act(host, event)
        yield Act(host, SessionEnd(**self._common(agent, session, tenant), reason="done"))

    def _request(self, agent: str, session: str, tenant: str, tools: tuple[str, ...], model: str) -> Iterator[Envelope]:
        call = self._call_id()
        yield AgentStart(**self._common(agent, session, tenant), call_id=call)
        duration_ms, failed = 0, False
        for _ in range(self._random.randint(1, 3)):
            for event in self._model_call(agent, session, tenant, model, self._random.randrange(400, 6_000)):
                yield event
                duration_ms += int(getattr(event, "duration_ms", 0))
            for event in self._tool_calls(agent, session, tenant, tools):
                yield event
                duration_ms += int(getattr(event, "duration_ms", 0))
                failed = isinstance(event, ToolEnd) and event.status != "success"
        status: CallStatus = "error" if failed and self._random.random() < 0.3 else "success"
        yield AgentEnd(
            **self._common(agent, session, tenant), call_id=call, status=status, duration_ms=duration_ms + 20
        )

    def _model_call(
        self, agent: str, session: str, tenant: str | None, model: str, input_tokens: int
    ) -> Iterator[Envelope]:
        named: dict[str, Any] = {"call_id": self._call_id(), "model": model, "provider": _PROVIDERS[model]}
        yield ModelStart(**self._common(agent, session, tenant), **named)
        status: CallStatus = "error" if self._random.random() < 0.01 else "success"
        yield ModelEnd(**self._common(agent, session, tenant), **named, status=status, duration_ms=self._duration(900))
        if status == "success":
            output_tokens = self._random.randrange(50, 900)
            each_in, each_out = _NANO_USD[model]
            yield TokenUsage(
                **self._common(agent, session, tenant),
                **named,
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                cost_nano_usd=input_tokens * each_in + output_tokens * each_out,
            )

    def _tool_calls(self, agent: str, session: str, tenant: str, tools: tuple[str, ...]) -> Iterator[Envelope]:
        """Call one tool, and again when it failed, up to three times in all."""
        tool = BAD_TOOL if self._random.random() < _BAD_SHARE else self._random.choice(tools)
        for attempt in (1, 2, 3):
            call = self._call_id()
            yield ToolStart(**self._common(agent, session, tenant), call_id=call, tool=tool, attempt=attempt)
            bad = tool == BAD_TOOL and self._script.bad(self.at_s)
            failed = self._random.random() < (_FAILING if bad else _FAILING_ELSEWHERE)
            status: ToolStatus = ("timeout" if self._random.random() < 0.5 else "error") if failed else "success"
            yield ToolEnd(
                **self._common(agent, session, tenant),
                call_id=call,
                tool=tool,
                attempt=attempt,
                status=status,
                duration_ms=self._duration(4_000 if bad else 180),
            )
            if not failed:
                return

    def _run_away(self) -> Iterator[Act]:
        """Live through the session that calls its model in a loop, until somebody stops it."""
        for _ in range(RUNAWAY_CALLS):
            for event in self._model_call("coder", RUNAWAY, None, "claude-4", _RUNAWAY_TOKENS):
                yield Act(0, event)

    def _common(self, agent: str, session: str, tenant: str | None) -> dict[str, Any]:
        return {
            "id": f"{self._seed:x}-{self._count:x}",
            "time": self._begin_ms + int(self.at_s * 1000),
            "agent": agent,
            "session_id": session,
            "tenant": tenant,
        }

    def _call_id(self) -> str:
        self._calls += 1
        return f"c{self._calls:x}"

    def _duration(self, median_ms: float) -> int:
        return max(1, min(int(median_ms * self._random.lognormvariate(0.0, 0.6)), 120_000))


# ---- a client that is not ours ----------------------------------------------------------------------------------

STRANGER: Final = "legacy-bot"
STRANGER_SESSION: Final = "legacy-bot-1"
_LATE_BY_MS: Final = 10 * 60_000


class Stranger:
    """A careless client: sends everything twice, now and then something old, and now and then no event at all."""

    def __init__(self, ledger: "Ledger", begin_ms: int) -> None:
        self._ledger = ledger
        self._begin_ms = begin_ms
        self._turn = 0
        self._seq = 0

    @property
    def at_s(self) -> float:
        """When its next turn is, after the beginning: one per second."""
        return float(self._turn + 1)

    def records(self) -> list[bytes]:
        """Take one turn and return what is sent, in order, all with the session's id as key."""
        now_ms = self._begin_ms + int(self.at_s * 1000)
        self._turn += 1
        fresh = self._event(now_ms)
        records = [fresh, fresh]
        self._ledger.outcomes["duplicate"] += 1
        if self._turn % 3 == 0:
            # Behind the fresh one in the same partition, hence late for certain.
            records.append(self._event(now_ms - _LATE_BY_MS, late=True))
        if self._turn % 7 == 0:
            records.append(b'{"kind": "tool_end", "tool":')
            self._ledger.outcomes["rejected"] += 1
        return records

    def _event(self, time_ms: int, *, late: bool = False) -> bytes:
        self._seq += 1
        event = ToolEnd(
            id=f"legacy-{self._seq}",
            time=time_ms,
            agent=STRANGER,
            session_id=STRANGER_SESSION,
            source="legacy-host",
            seq=self._seq,
            tool="fax",
            duration_ms=2_000,
        )
        self._ledger.publish(event, late=late)
        return msgspec.json.encode(event)


# ---- the truth --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Ledger:
    """What was published, counted by hand: outcomes of all events, totals by tool and by session."""

    outcomes: Counter[str] = field(default_factory=Counter)
    tools: dict[str, Counter[str]] = field(default_factory=dict)
    sessions: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)

    @property
    def published(self) -> int:
        """How many events were handed out, duplicates and broken ones included?"""
        return sum(self.outcomes.values())

    def publish(self, event: Envelope, *, late: bool = False) -> None:
        """Count one good event that is sent for the first time."""
        self.outcomes["late" if late else "applied"] += 1
        if event.session_id is not None:
            self.sessions[event.session_id] += 1
        if isinstance(event, ToolEnd):
            self.tools.setdefault(event.tool, Counter())[event.status] += 1
        elif isinstance(event, TokenUsage):
            self.totals["input_tokens"] += event.input_tokens
            self.totals["output_tokens"] += event.output_tokens
            self.totals["cost_nano_usd"] += event.cost_nano_usd or 0
        elif isinstance(event, ModelEnd):
            self.totals[f"model_calls_{event.status}"] += 1
        elif isinstance(event, AgentEnd):
            self.totals[f"requests_{event.status}"] += 1
