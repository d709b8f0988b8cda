"""What does a text say of breakers?  One mapping into one frozen policy, with every fault noted.

Never judges a call, and never reads anything but the mapping it is given.
"""

import re
from typing import Any, Final, Literal

from streams.event.model import CALL_STATUSES, TOOL_STATUSES
from streams.fold.circuits import GUARDED, NEVER_SLOW
from streams.rule.amount import amount, amount_text
from streams.rule.faults import Form
from streams.rule.model import NOUNS, BreakerPolicy, status_of
from streams.rule.reading import SUBJECTS

BREAKER_KEYS: Final = (
    "over",
    "failure_rate",
    "slow_call_rate",
    "slow_call",
    "window",
    "min_calls",
    "open_for",
    "half_open_calls",
    "half_open_for",
    "after_half_open",
    "automatic",
    "initial",
    "failures",
    "calls",
    "ignored",
    "failure_codes",
    "ignored_codes",
)
OVERS: Final = tuple(GUARDED)
STATES: Final = ("closed", "open", "half_open", "disabled", "forced_open", "metrics_only")
WINDOW_MS_MAX: Final = 60 * 60_000  # finer panes than an hour's are not kept for longer
WINDOW_CALLS_MAX: Final = 10_000  # two bits each, in a row that is written whenever one of them ends
CALLS_MAX: Final = 2**53 - 1
PROBES_MAX: Final = 10_000
CODES_MAX: Final = 64
CODE_CHARS_MAX: Final = 128
FACTOR_MAX: Final = 10.0
OPEN_MOST_MS: Final = 60 * 60_000  # of a wait that grows, unless the policy says otherwise
_HINTS: Final = {
    "half_open": "write half_open_calls",
    "slow_call_duration": "write slow_call",
    "wait": "write open_for",
}
_CALLS: Final = re.compile(r"([0-9]{1,5}) calls?")

# Nobody waited for the answer of a cancelled call.  A validation error is the caller's fault: it says nothing about
# the tool, but it is a call that was answered.
_UNCOUNTED: Final = frozenset({"cancelled"})
_GOOD: Final = frozenset({"success", "validation_error"})


def read_breaker(form: Form) -> BreakerPolicy:
    """Read a policy; after a fault, one that nothing else has to find fault with."""
    form.only(BREAKER_KEYS, _HINTS)
    over = form.choice("over", OVERS, None)
    calls, failures = _counted(form, over or "tool")
    window_ms, window_calls = _window(form, over or "tool")
    open_for_ms, factor, most_ms = _open_for(form)
    return BreakerPolicy(
        over=over,
        failure_rate=_rate(form, "failure_rate", 0.5),
        window_ms=window_ms,
        min_calls=form.whole("min_calls", 20, least=1, most=CALLS_MAX),
        open_for_ms=open_for_ms,
        half_open_calls=form.whole("half_open_calls", 10, least=1, most=PROBES_MAX),
        failures=failures,
        calls=calls,
        window_calls=window_calls,
        slow_rate=_rate(form, "slow_call_rate", 1.0),
        slow_us=_slow(form),
        failure_codes=_codes(form, "failure_codes", over),
        ignored_codes=_codes(form, "ignored_codes", over),
        open_factor=factor,
        open_most_ms=most_ms,
        half_open_for_ms=form.duration("half_open_for", 0),
        after_half_open=_after(form),
        automatic=form.flag("automatic", default=True),
        initial=form.choice("initial", STATES, "closed") or "closed",  # type: ignore[arg-type]  # one of STATES
    )


def _after(form: Form) -> Literal["open", "closed"]:
    return "closed" if form.choice("after_half_open", ("open", "closed"), "open") == "closed" else "open"


def _counted(form: Form, over: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read which statuses count and which of them are failures, as measures; words such as `timeout` will do."""
    noun = NOUNS[over]
    statuses = TOOL_STATUSES if noun == "tool_calls" else CALL_STATUSES
    ignored = _statuses(form, "ignored", over, statuses) or ()
    calls = _statuses(form, "calls", over, statuses)
    if calls is None:
        calls = tuple(f"{noun}_{status}" for status in statuses if status not in _UNCOUNTED)
    calls = tuple(field for field in calls if field not in ignored)
    failures = _statuses(form, "failures", over, statuses)
    if failures is None:
        failures = tuple(field for field in calls if status_of(field) not in _GOOD | _UNCOUNTED)
    if failures and calls and not set(failures) <= set(calls):
        form.fault("failures", f"failures that are among the calls ({', '.join(calls)})", "add the others to calls")
    return calls, failures


def _statuses(form: Form, key: str, over: str, statuses: tuple[str, ...]) -> tuple[str, ...] | None:
    if not form.has(key):
        return None
    noun = NOUNS[over]
    raw = form.raw(key)
    names = [raw] if isinstance(raw, str) else raw
    if isinstance(names, list):
        names = [f"{noun}_{name}" if isinstance(name, str) and name in statuses else name for name in names]
    written = Form(form.faults, form.place, {key: names})
    return written.fields(key, SUBJECTS[over].windowed)


def _window(form: Form, over: str) -> tuple[int, int]:
    """Read `1m` or `100 calls`."""
    raw = form.raw("window")
    counted = _CALLS.fullmatch(raw) if isinstance(raw, str) else None
    if counted is not None:
        calls = int(counted[1])
        if not 0 < calls <= WINDOW_CALLS_MAX:
            form.fault("window", f"1 to {WINDOW_CALLS_MAX} calls", "write window: 100 calls")
        if form.has("calls") or form.has("failures"):
            _only_statuses(form, over)
        return 60_000, min(max(calls, 1), WINDOW_CALLS_MAX)
    step_ms = SUBJECTS[over].step_ms
    window_ms = form.duration("window", 60_000, least_ms=step_ms)
    if window_ms % step_ms or window_ms > WINDOW_MS_MAX:
        shape = f"a multiple of {amount_text(step_ms, 'ms')} up to 1h, or a number of calls such as 100 calls"
        form.fault("window", shape, "write window: 1m")
    return window_ms, 0


def _only_statuses(form: Form, over: str) -> None:
    """A window of calls holds how each of them ended: a measure of anything else is in none."""
    noun = NOUNS[over]
    known = {f"{noun}_{status}" for status in TOOL_STATUSES if noun == "tool_calls" or status in CALL_STATUSES}
    for key in ("calls", "failures"):
        for field in _statuses(form, key, over, TOOL_STATUSES) or ():
            if field not in known:
                form.faults.note(f"{form.place}, {key}", field, f"one of {', '.join(sorted(known))}", "remove it")


def _rate(form: Form, key: str, default: float) -> float:
    rate = amount(form.raw(key), "ratio") if form.has(key) else default
    if rate is None or not 0 < rate <= 1:
        form.fault(key, "a share above 0 and up to 1, such as 0.5 or 50%", f"write {key}: {default}")
        return default
    return float(rate)


def _slow(form: Form) -> int:
    """Read how long a call may take, in µs; without it none is slow."""
    if not form.has("slow_call"):
        if form.has("slow_call_rate"):
            form.fault("slow_call", "a duration: longer calls are slow", "write slow_call: 5s")
        return NEVER_SLOW
    us = amount(form.raw("slow_call"), "us")
    if us is None or us <= 0:
        form.fault("slow_call", "a duration such as 500ms or 5s", "write slow_call: 5s")
        return NEVER_SLOW
    return int(us)


def _open_for(form: Form) -> tuple[int, float, int]:
    """Read `30s`, or a wait that grows with every opening in a row: {first: 30s, factor: 2, most: 10m}."""
    raw = form.raw("open_for")
    if not isinstance(raw, dict):
        return form.duration("open_for", 30_000, least_ms=1_000), 1.0, 0
    inner = Form(form.faults, f"{form.place}, open_for", raw)
    inner.only(("first", "factor", "most"))
    first_ms = inner.duration("first", 30_000, least_ms=1_000)
    factor = inner.raw("factor") if inner.has("factor") else 2
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 < factor <= FACTOR_MAX:
        inner.fault("factor", f"a number above 1 and up to {FACTOR_MAX:.0f}", "write factor: 2")
        factor = 2
    most_ms = inner.duration("most", max(OPEN_MOST_MS, first_ms), least_ms=1_000)
    if most_ms < first_ms:
        inner.fault("most", f"at least as long as first ({amount_text(first_ms, 'ms')})", "write most: 10m")
    return first_ms, float(factor), most_ms


def _codes(form: Form, key: str, over: str) -> tuple[str, ...]:
    """Read error codes; only calls to models have some."""
    raw: Any = form.raw(key)
    if raw is None:
        return ()
    names = [raw] if isinstance(raw, str) else raw
    good = isinstance(names, list) and 0 < len(names) <= CODES_MAX
    if not good or not all(isinstance(name, str) and 0 < len(name) <= CODE_CHARS_MAX for name in names):
        form.fault(key, f"an error code, or a list of up to {CODES_MAX}", f"write {key}: [rate_limited]")
        return ()
    if over and NOUNS[over] != "model_calls":
        form.fault(key, "nothing: only calls to models (model, provider) have error codes", "remove it")
        return ()
    return tuple(dict.fromkeys(names))
