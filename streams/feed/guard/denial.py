"""What is an agent told about a call that was not made: what, why, since when, until when, and what to do.  Pure.

Never a reason without a next step.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import Struct

from streams.errors import AgentStreamsError
from streams.feed.guard.verdicts import Circuit, DeniedBy, Stop, Verdict

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS_MAX: Final = 253_402_300_799_000  # the last second that can be written
_STATES: Final = {"forced_open": "is forced open", "half_open": "is half-open and its probe calls are taken"}
_ADVICE: Final = {
    "budget": "Finish with what you have, or ask for a larger budget.",
    "loop": "Stop repeating it: change the approach, or end the session.",
    "rule": "Do something else until the alert is resolved.",
}


class Denial(Struct, frozen=True):
    """Why a call was not made; times are epoch ms, None where nobody knows.

    `reason` is one word for programs: the circuit's state, the alert's name, or `not_ready` or `stale`.
    """

    target: str
    denied_by: DeniedBy
    reason: str
    verdict_id: str | None
    why: str
    since_ms: int | None
    until_ms: int | None
    advice: str

    def __str__(self) -> str:
        since = "" if self.since_ms is None else f", since {_moment(self.since_ms)}"
        until = "" if self.until_ms is None else f", until {_moment(self.until_ms)}"
        return f"{self.target} was not called: {self.why}{since}{until}. {self.advice}"


class CallDenied(AgentStreamsError):
    """A call that the guard did not let through; `denial` has the parts of the message."""

    def __init__(self, denial: Denial) -> None:
        super().__init__(str(denial))
        self.denial = denial

    def __reduce__(self) -> tuple[type["CallDenied"], tuple[Denial]]:  # it may cross a process boundary
        return CallDenied, (self.denial,)


def denial_of(target: str, verdict: Verdict) -> Denial:
    """Put a verdict into words."""
    about = verdict.about
    return _by_circuit(target, about) if isinstance(about, Circuit) else _by_alert(target, verdict, about)


def unknown(target: str, *, stale: bool) -> Denial:
    """Say that nothing is known: not any more, or not yet."""
    why = "nothing has been heard of what is stopped for too long" if stale else "what is stopped has not been read yet"
    return Denial(
        target=target,
        denied_by="unknown",
        reason="stale" if stale else "not_ready",
        verdict_id=None,
        why=f"{why}, and this guard denies meanwhile",
        since_ms=None,
        until_ms=None,
        advice="Try again soon; if it stays so, check the guard's source (Redis or Kafka) and that workers run.",
    )


def _by_circuit(target: str, circuit: Circuit) -> Denial:
    why = f"its circuit {_STATES.get(circuit.state, 'is open')}"
    if circuit.calls and circuit.state == "open":
        why += f", {circuit.failures} of {circuit.calls} calls failed"
    if circuit.by is not None:
        why += f" by {circuit.by}" + (f": {circuit.note}" if circuit.note else "")
    if circuit.breaker.partition("|")[2] not in target:
        why += f" ({circuit.breaker})"
    forced = circuit.state == "forced_open"
    advice = "Use something else, or ask who opened it." if forced else "Use something else, or try again later."
    return Denial(
        target=target,
        denied_by="breaker",
        reason=circuit.state,
        verdict_id=circuit.id,
        why=why,
        since_ms=circuit.since_ms,
        until_ms=None if forced else circuit.open_until_ms,
        advice=advice,
    )


def _by_alert(target: str, verdict: Verdict, stop: Stop) -> Denial:
    whose = ", ".join(f"{column} {value}" for column, value in zip(verdict.columns, verdict.values, strict=True))
    return Denial(
        target=target,
        denied_by=verdict.denied_by,
        reason=stop.alert,
        verdict_id=stop.id,
        why=f"{stop.alert} stops {whose or 'all calls'}" + (f": {stop.summary}" if stop.summary else ""),
        since_ms=stop.fired_ms or stop.active_since_ms,
        until_ms=verdict.until_ms,
        advice=_ADVICE[verdict.denied_by],
    )


def _moment(ms: int) -> str:
    moment = _EPOCH + timedelta(milliseconds=min(max(ms, 0), _MS_MAX))
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
