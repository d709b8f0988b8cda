"""Records of the breaker and the alert topic, as the workers write them, for tests of guards; and a source of such."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from streams.feed import EmitterConfig, Guard, GuardPolicy
from streams.feed.guard.source import Heard
from streams.rule.records import AlertRecord, BreakerRecord, Completeness

CODES: dict[str, int] = {
    "closed": 0, "open": 1, "half_open": 2, "disabled": 3, "forced_open": 4, "metrics_only": 5,
}  # fmt: skip


def circuit(state: str = "open", transition: int = 1, *, over: str = "tool", **more: Any) -> bytes:
    """Return a record of the breaker topic; its labels are those of tool `search` unless `labels` says otherwise."""
    labels = more.pop("labels", {"tool": "search"})
    since_ms = more.pop("since_ms", 1_000)
    record = BreakerRecord(
        **{
            "id": f"circuit-{transition}",
            "breaker": "|".join([over, *labels.values()]),
            "over": over,
            "labels": labels,
            "state": "open",
            "code": CODES[state],
            "previous": "closed",
            "reason": "rate_exceeded",
            "since_ms": since_ms,
            "open_until_ms": None,
            "failure_rate": 0.8,
            "failure_rate_limit": 0.5,
            "calls": 20,
            "failures": 16,
            "window_ms": 60_000,
            "half_open_calls": 3,
            "transition": transition,
            **more,
        }
    )
    return msgspec.json.encode(msgspec.to_builtins(record) | {"state": state})


def stopping(over: str = "session", labels: dict[str, str] | None = None, **more: Any) -> bytes:
    """Return a record of the alert topic: an alert that stops calls and fires, unless `more` says otherwise."""
    record = AlertRecord(
        **{
            "id": "alert-1",
            "fingerprint": "f1",
            "alert": "SessionLoops",
            "state": "firing",
            "severity": "critical",
            "over": over,
            "labels": {"session_id": "s1"} if labels is None else labels,
            "value": 9,
            "value_text": "9",
            "count": 9,
            "unit": "count",
            "limit": 5,
            "limit_text": "5",
            "comparison": "above",
            "window_ms": 60_000,
            "for_ms": 0,
            "keep_firing_for_ms": 0,
            "time_ms": 2_000,
            "active_since_ms": 2_000,
            "fired_ms": 2_000,
            "resolved_ms": None,
            "reason": None,
            "summary": "the same call 9 times",
            "description": "",
            "incarnation": 1,
            "transition": 1,
            "completeness": Completeness(),
            "stop": True,
            **more,
        }
    )
    return msgspec.json.encode(record)


@dataclass
class Told:
    """A source that tells what a test tells it to."""

    waiting: Sequence[tuple[str, bytes | None]] = ()
    whole: bool = True  # was everything read?
    alive: bool = True
    failures: int = 0  # so many attempts fail
    follows: int = 0
    taken: int = 0
    shown: int = 0

    def source(self, _config: Any) -> "Told":
        """Stand in as what makes a source."""
        return self

    def tell(self, *records: tuple[str, bytes | None]) -> None:
        """Let the guard hear these."""
        self.waiting = [*self.waiting, *records]

    async def follow(self, heard: Heard) -> None:
        self.follows += 1
        if self.failures:
            self.failures -= 1
            raise ConnectionError("nobody is there")
        while True:
            if self.taken < len(self.waiting):
                for record in self.waiting[self.taken :]:
                    heard.standing.take(*record)
                    self.taken += 1
                heard.show()
                self.shown = self.taken
            if self.whole and self.alive:
                heard.alive()
            await asyncio.sleep(0.002)

    def heard(self, guard: Any, until: Callable[..., None]) -> None:
        """Wait until a guard shows what it was told."""
        wanted = len(self.waiting)
        until(lambda: self.shown >= wanted and guard.ready())


def loop(**more: Any) -> bytes:
    """Return a record of an alert of a detector that stops a session."""
    return msgspec.json.encode(
        {**msgspec.json.decode(stopping(**more)), "explanation": {"signature": "add", "times": 9}}
    )


# What stops the calls of tool `add`, of tenant `acme` and of session `t1`: a circuit, a budget, a loop.
STOPPED: Final = {
    "breaker": ("breaker/tool|add", circuit(labels={"tool": "add"}), "circuit is open"),
    "budget": (
        "stop/b",
        stopping("tenant", {"tenant": "acme"}, alert="TenantBudgetSpent", unit="nano_usd"),
        "TenantBudgetSpent stops tenant acme",
    ),
    "loop": ("stop/l", loop(alert="SessionRepeatsCall", labels={"session_id": "t1"}), "SessionRepeatsCall stops"),
}


@contextmanager
def stopped(by: str, **only: Any) -> Iterator[Guard]:
    """Have a guard that knows one of these verdicts; `model` makes it one about a model."""
    name, body, _ = STOPPED[by]
    if model := only.get("model"):
        name, body = f"breaker/model|{model}", circuit(over="model", labels={"model": model})
    told = Told([(name, body)])
    with Guard(EmitterConfig(guard=GuardPolicy(source="kafka")), source=told.source) as guard:
        assert guard.wait_ready(60_000)
        yield guard
