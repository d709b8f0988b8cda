"""resilience4j's circuit breaker once more, the slow and obvious way: lists of calls, recounted after each of them.

Written from its documented rules; shares nothing with the product but the names of states.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

StateName = Literal["closed", "open", "half_open", "disabled", "forced_open", "metrics_only"]
TARGETS: Final[dict[str, StateName]] = {
    "force-open": "forced_open", "force-close": "closed", "disable": "disabled", "metrics-only": "metrics_only",
    "reset": "closed",
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """What a person may set; durations in ms, rates as shares."""

    window: int = 100
    minimum: int = 100
    failure_rate: float = 0.5
    slow_rate: float = 1.0
    wait_ms: int = 60_000
    factor: float = 1.0
    wait_most_ms: int = 3_600_000
    permitted: int = 10
    half_open_ms: int = 0
    after_half_open: StateName = "open"
    automatic: bool = False
    initial: StateName = "closed"


@dataclass
class Breaker:
    """One circuit breaker that sees every call end, and every tick of a clock."""

    config: Config
    now_ms: int
    state: StateName = "closed"
    since_ms: int = 0
    attempts: int = 0
    calls: list[tuple[bool, bool]] = field(default_factory=list)  # failed?, slow?
    told: set[str] = field(default_factory=set)
    events: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._enter(self.config.initial)

    def _enter(self, state: StateName) -> None:
        """Every state begins with calls of its own."""
        self.attempts = self.attempts + 1 if state == "open" else self.attempts if state == "half_open" else 0
        self.state, self.since_ms, self.calls, self.told = state, self.now_ms, [], set()

    def _go(self, state: StateName) -> None:
        if state != self.state:
            self.events.append(f"{self.state}>{state}")
        self._enter(state)

    @property
    def waited(self) -> bool:
        grown = self.config.wait_ms * self.config.factor ** (self.attempts - 1)
        wait_ms = int(min(grown, self.config.wait_most_ms)) if self.config.factor > 1 else self.config.wait_ms
        return self.now_ms - self.since_ms >= wait_ms

    def tick(self, now_ms: int) -> None:
        """Let the scheduler look."""
        self.now_ms = now_ms
        if self.state == "open" and self.config.automatic and self.waited:
            self._go("half_open")
        elif self.state == "half_open" and 0 < self.config.half_open_ms <= now_ms - self.since_ms:
            self._go(self.config.after_half_open)

    def ask(self) -> None:
        """Somebody requests permission."""
        if self.state == "open" and self.waited:
            self._go("half_open")

    def call(self, failed: bool, slow: bool) -> None:
        """A call has ended."""
        if self.state in {"open", "disabled", "forced_open"}:
            return
        self.calls.append((failed, slow))
        size = self.config.permitted if self.state == "half_open" else self.config.window
        seen = self.calls[-size:]
        if len(seen) < min(self.config.minimum, size):
            return
        exceeded = []
        if sum(one[0] for one in seen) / len(seen) >= self.config.failure_rate:
            exceeded.append("failure_rate_exceeded")
        if sum(one[1] for one in seen) / len(seen) >= self.config.slow_rate:
            exceeded.append("slow_call_rate_exceeded")
        if self.state == "half_open":
            self._go("open" if exceeded else "closed")
        elif self.state == "closed" and exceeded:
            self.events += exceeded
            self._go("open")
        elif self.state == "metrics_only":
            self.events += [each for each in exceeded if each not in self.told]
            self.told.update(exceeded)

    def order(self, action: str) -> None:
        """Somebody moves it by hand."""
        self._go(TARGETS[action])
        if action == "reset":
            self.events.append("reset")

    def window(self) -> tuple[int, int, int]:
        """Return how many calls are in the window, how many failed and how many were slow."""
        seen = self.calls[-(self.config.permitted if self.state == "half_open" else self.config.window) :]
        return len(seen), sum(one[0] for one in seen), sum(one[1] for one in seen)
