"""What do the alert topic and the breaker topic say?  Transitions into JSON records with CloudEvents headers.

Never decides anything.  Times are integer epoch ms (CloudEvents' own time is RFC 3339, as it demands).

Alert topic: key = fingerprint of the alert, one record per transition that others can see: pending, firing, resolved.
Pending is on the topic, because a table of alerts shows it; whoever notifies people leaves it out.  A pending alert
that is forgotten, and a resolved one that is old, are tombstones (no value): the key's last record is always the truth.
Breaker topic: key = name of the circuit, `tool|search`; one record per transition, a tombstone when it is forgotten.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from streams.fold.spending import BudgetUnit
from streams.rule.alert import FIRING, INACTIVE, KEPT, PENDING, RESOLVED, Phase, Transition, fingerprint, transition_id
from streams.rule.amount import amount_text, duration_text
from streams.rule.breaker import BreakerTransition, breaker_name
from streams.rule.breaker import transition_id as breaker_transition_id
from streams.rule.budget import PPM as BURN_PPM
from streams.rule.budget import Budget, BudgetPer, words
from streams.rule.circuit import DISABLED, FAILURE_RATE, FORCED_OPEN, OPEN, PPM, SLOW_RATE, Signal, State
from streams.rule.formula import first_comparison
from streams.rule.model import Rule, explained
from streams.rule.reading import SUBJECTS, Unit
from streams.rule.wording import EXPLAINING, render

SCHEMA: Final = 1
SPEC_VERSION: Final = "1.0"
ALERT_TYPE: Final = "agent-streams.alert."
BREAKER_TYPE: Final = "agent-streams.breaker."
SOURCE: Final = "/agent-streams/rules/"
BREAKER_SOURCE: Final = "/agent-streams/breakers/"
JSON_TYPE: Final = "application/json"

Headers: TypeAlias = tuple[tuple[str, bytes], ...]
AlertPhase: TypeAlias = Literal["pending", "firing", "resolved"]
CircuitState: TypeAlias = Literal["closed", "open", "half_open", "disabled", "forced_open", "metrics_only"]
CircuitEvent: TypeAlias = Literal[
    "state_transition", "reset", "forced_open", "disabled", "failure_rate_exceeded", "slow_call_rate_exceeded"
]

_ALERT_WORDS: Final[dict[Phase, AlertPhase]] = {
    PENDING: "pending",
    FIRING: "firing",
    KEPT: "firing",
    RESOLVED: "resolved",
}
_STATE_WORDS: Final[dict[State, CircuitState]] = {state: state.name.lower() for state in State}  # type: ignore[misc]  # the names are those of CircuitState
US_PER_MS: Final = 1_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS_MAX: Final = 253_402_300_799_999  # the last one that RFC 3339 can write: 9999-12-31T23:59:59.999Z


class Completeness(Struct, frozen=True, omit_defaults=True):
    """How whole the numbers behind a transition are: what the stage had seen of the partition until then."""

    late: int = 0
    duplicate: int = 0
    rejected: int = 0


class BudgetRecord(Struct, frozen=True, kw_only=True):
    """What an alert of a budget is about: `spent`, `limit` and `remaining` are in `unit`, as stored.

    `burn` is how fast it is being spent, as a multiple of the pace that spends the limit in just one period.
    """

    budget: str
    per: BudgetPer
    unit: BudgetUnit
    spent: int
    limit: int
    remaining: int
    period_start_ms: int | None
    period_end_ms: int | None
    runs_out_ms: int | None
    burn: float | None


class Explanation(Struct, frozen=True):
    """What a detector has found: what happens again, how often it had, since when, and what the session used since."""

    signature: str
    times: int
    since_ms: int
    tokens: int
    cost_nano_usd: int


class AlertRecord(Struct, frozen=True, kw_only=True):
    """One transition of one alert.

    `value` and `limit` are in `unit` as stored (us, ms, nano_usd, tokens, count, ratio); `value_text` and `limit_text`
    say the same for people.  `limit`, `comparison` and the durations are absent once the rule is gone.
    """

    schema: int = SCHEMA
    id: str
    fingerprint: str
    alert: str
    state: AlertPhase
    severity: str
    over: str
    labels: dict[str, str]
    value: int | float | None
    value_text: str
    count: int
    unit: Unit
    limit: int | float | None
    limit_text: str | None
    comparison: Literal["above", "below"] | None
    window_ms: int | None
    for_ms: int | None
    keep_firing_for_ms: int | None
    time_ms: int
    active_since_ms: int
    fired_ms: int | None
    resolved_ms: int | None
    reason: str | None
    summary: str
    description: str
    incarnation: int
    transition: int
    completeness: Completeness
    stop: bool = False  # guards deny calls for these labels while it fires
    budget: BudgetRecord | None = None
    explanation: Explanation | None = None  # of rules over detected values


class BreakerRecord(Struct, frozen=True, kw_only=True):
    """One transition of one circuit, or what else there is to tell of it: `events` say which, as resilience4j does.

    `code` is 0 closed, 1 open, 2 half-open, 3 disabled, 4 forced open, 5 metrics only.  Rates are −1 when too few calls
    were in the window.  A window is of `window_calls` calls, or of `window_ms` when that is 0.  `command`, `by` and
    `note` are there when somebody asked for the state.
    """

    schema: int = SCHEMA
    id: str
    breaker: str
    over: str
    labels: dict[str, str]
    state: CircuitState
    code: int
    previous: CircuitState
    reason: str
    since_ms: int
    open_until_ms: int | None
    failure_rate: float
    failure_rate_limit: float
    calls: int
    failures: int
    window_ms: int
    half_open_calls: int
    transition: int
    time_ms: int = 0
    events: tuple[CircuitEvent, ...] = ()
    slow_call_rate: float = -1.0
    slow_call_rate_limit: float | None = None
    slow_call_ms: float | None = None
    slow_calls: int = 0
    window_calls: int = 0
    attempts: int = 0
    command: str | None = None
    by: str | None = None
    note: str | None = None


class Message(NamedTuple):
    """One record for a topic; no value means a tombstone."""

    key: bytes
    value: bytes | None
    headers: Headers


_encode: Final = msgspec.json.Encoder().encode


def rfc3339(ms: int) -> str:
    """Write epoch ms as RFC 3339 in UTC; what lies outside the years it knows is moved to their edge."""
    moment = _EPOCH + timedelta(milliseconds=min(max(ms, 0), _MS_MAX))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def cloud_headers(*, ce_id: str, ce_type: str, ce_source: str, time_ms: int) -> Headers:
    """Return the headers of a CloudEvent in binary mode, as its Kafka binding has them."""
    return (
        ("ce_specversion", SPEC_VERSION.encode()),
        ("ce_id", ce_id.encode()),
        ("ce_type", ce_type.encode()),
        ("ce_source", ce_source.encode()),
        ("ce_time", rfc3339(time_ms).encode()),
        ("content-type", JSON_TYPE.encode()),
    )


# ---- alerts ----------------------------------------------------------------------------------------------------


def alert_message(moved: Transition, completeness: Completeness | None = None) -> Message:
    """Return what the alert topic is told about a transition."""
    state = moved.state
    word = "forgotten" if moved.after is INACTIVE else _ALERT_WORDS[moved.after]
    headers = cloud_headers(
        ce_id=transition_id(moved),
        ce_type=ALERT_TYPE + word,
        ce_source=SOURCE + moved.rule.name,
        time_ms=state.changed_ms,
    )
    key = fingerprint(moved.origin, moved.rule.name, moved.rule.over, moved.key).encode()
    record = alert_record(moved, completeness)
    return Message(key, None if record is None else _encode(record), headers)


def alert_record(moved: Transition, completeness: Completeness | None = None) -> AlertRecord | None:
    """Return the record of a transition, or None when the alert is to be forgotten."""
    if moved.after is INACTIVE:
        return None
    rule, state, known = moved.rule, moved.state, not moved.removed
    words = _words(moved)
    return AlertRecord(
        id=transition_id(moved),
        fingerprint=fingerprint(moved.origin, rule.name, rule.over, moved.key),
        alert=rule.name,
        state=_ALERT_WORDS[moved.after],
        severity=state.severity,
        over=rule.over,
        labels=state.labels,
        value=state.value,
        value_text=words["value"],
        count=state.count,
        unit=rule.unit,
        limit=_limit(moved) if known else None,
        limit_text=words["limit"] if known else None,
        comparison=_comparison(rule) if known else None,
        window_ms=rule.window_ms if known else None,
        for_ms=rule.for_ms if known else None,
        keep_firing_for_ms=rule.keep_firing_for_ms if known else None,
        time_ms=state.changed_ms,
        active_since_ms=state.active_since_ms,
        fired_ms=state.fired_ms,
        resolved_ms=state.resolved_ms,
        reason=moved.reason,
        summary=render(rule.summary, words),
        description=render(rule.description, words),
        incarnation=state.incarnation,
        transition=state.transition,
        completeness=completeness or Completeness(),
        stop=rule.stop,
        budget=_budget(moved),
        explanation=None if state.why is None else Explanation(*state.why[1:]),
    )


def _budget(moved: Transition) -> BudgetRecord | None:
    value, facts = moved.rule.value, moved.state.facts
    if not isinstance(value, Budget) or facts is None:
        return None
    burn = facts.get("burn_ppm")
    return BudgetRecord(
        budget=value.budget,
        per=value.per,
        unit=value.unit,
        spent=facts["spent"],
        limit=facts["limit"],
        remaining=facts["remaining"],
        period_start_ms=facts.get("period_start_ms"),
        period_end_ms=facts.get("period_end_ms"),
        runs_out_ms=facts.get("runs_out_ms"),
        burn=None if burn is None else burn / BURN_PPM,
    )


def _comparison(rule: Rule) -> Literal["above", "below"] | None:
    """Say on which side of the limit a value is too much; an equation has no sides."""
    if rule.condition is not None and first_comparison(rule.condition.node).sign in {"==", "!="}:
        return None
    return "above" if rule.above else "below"


def _limit(moved: Transition) -> int | float | None:
    """Return what the value was compared with; None where a condition could not say it."""
    rule, state = moved.rule, moved.state
    return rule.limit if rule.usual is None and rule.right is None else state.limit


def _words(moved: Transition) -> dict[str, str]:
    """Return what a template may name."""
    rule, state = moved.rule, moved.state
    return {
        **state.labels,
        **_explaining(moved),
        "alert": rule.name,
        "severity": state.severity,
        "value": amount_text(state.value, rule.unit),
        "limit": amount_text(_limit(moved), rule.unit),
        "count": str(state.count),
        "window": duration_text(rule.window_ms),
        "for": duration_text(rule.for_ms),
        **(words(rule.value, state.facts or {}, rfc3339) if isinstance(rule.value, Budget) else {}),
    }


def _explaining(moved: Transition) -> dict[str, str]:
    """Return what a template may name where the rule's value is explained."""
    if not explained(moved.rule.value):
        return {}
    why = moved.state.why
    if why is None:  # the state of an earlier release
        return dict.fromkeys(EXPLAINING, "unknown")
    return {
        "signature": why.signature,
        "since": rfc3339(why.since_ms),
        "tokens_since": amount_text(why.tokens, "tokens"),
        "cost_since": amount_text(why.cost_nano_usd, "nano_usd"),
    }


# ---- breakers --------------------------------------------------------------------------------------------------


def breaker_message(moved: BreakerTransition) -> Message:
    """Return what the breaker topic is told about a transition."""
    record = breaker_record(moved)
    headers = cloud_headers(
        ce_id=record.id,
        ce_type=BREAKER_TYPE + ("forgotten" if moved.gone else record.state),
        ce_source=BREAKER_SOURCE + moved.policy.over,
        time_ms=moved.state.moved_ms,
    )
    return Message(record.breaker.encode(), None if moved.gone else _encode(record), headers)


def breaker_record(moved: BreakerTransition) -> BreakerRecord:
    """Return the record of a transition."""
    policy, state = moved.policy, moved.state
    slow = policy.slow_us >= 0
    return BreakerRecord(
        id=breaker_transition_id(moved),
        breaker=breaker_name(policy.over, moved.key),
        over=policy.over,
        labels=dict(zip(SUBJECTS[policy.over].columns, moved.key, strict=True)),
        state=_STATE_WORDS[state.state],
        code=int(state.state),
        previous=_STATE_WORDS[moved.before],
        reason=moved.signal.name.lower(),
        since_ms=state.since_ms,
        open_until_ms=state.since_ms + policy.wait_ms(state.attempts) if state.state is OPEN else None,
        failure_rate=state.rate_ppm / PPM,
        failure_rate_limit=policy.failure_rate,
        calls=state.calls,
        failures=state.failures,
        window_ms=0 if policy.window_calls else policy.window_ms,
        half_open_calls=policy.half_open_calls,
        transition=state.transition,
        time_ms=state.moved_ms,
        events=_circuit_events(moved),
        slow_call_rate=state.slow_ppm / PPM if slow else -1.0,
        slow_call_rate_limit=policy.slow_rate if slow else None,
        slow_call_ms=policy.slow_us / US_PER_MS if slow else None,
        slow_calls=state.slow,
        window_calls=policy.window_calls,
        attempts=state.attempts,
        command=state.command or None,
        by=state.by or None,
        note=state.note or None,
    )


def _circuit_events(moved: BreakerTransition) -> tuple[CircuitEvent, ...]:
    """Name what resilience4j would have published."""
    after = moved.state.state
    events: list[CircuitEvent] = []
    if moved.told & FAILURE_RATE:
        events.append("failure_rate_exceeded")
    if moved.told & SLOW_RATE:
        events.append("slow_call_rate_exceeded")
    if moved.before is not after:
        events.append("state_transition")
        events += ["forced_open"] if after is FORCED_OPEN else ["disabled"] if after is DISABLED else []
    if moved.signal is Signal.RESET:
        events.append("reset")
    return tuple(events)
