"""Which events is a log record?  Claude Code's calls of models and tools, its prompts, and evaluations.  Pure.

What the conventions for GenAI tell by log events repeats what their spans say, and is passed over.
Ids are digests of a record's time, name and attributes, so that what is exported twice counts once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

from streams.event.failures import BY_STATUS
from streams.event.model import (
    DURATION_MS_MAX,
    Envelope,
    ErrorType,
    Feedback,
    Message,
    ModelEnd,
    ModelStart,
    TokenUsage,
    ToolEnd,
    ToolStart,
)
from streams.event.otel import words
from streams.event.otel.family import service_of
from streams.event.otel.spans import EVALUATION, Translated, is_score, nano_usd
from streams.event.otel.strange import Strange
from streams.event.otel.wire import LogRecord
from streams.event.tokens import canonical

_NS_PER_MS: Final = 1_000_000
_DIGEST_BYTES: Final = 16
_TIME_NS_MAX: Final = 2**63 - 1
_NAME: Final = "event.name"
CLAUDE_CODE: Final = "claude_code."
CLAUDE_CODE_SCOPE: Final = "com.anthropic.claude_code"
PROVIDER: Final = "anthropic"  # whose models Claude Code calls; through whom, its events do not say
# Known, and said by spans or by other events already.
PASSED_OVER: Final = frozenset({
    "gen_ai.client.inference.operation.details", "gen_ai.client.operation.exception", "gen_ai.assistant.message",
    "gen_ai.choice", "gen_ai.system.message", "gen_ai.tool.message", "gen_ai.user.message",
    "claude_code.api_retries_exhausted", "claude_code.assistant_response", "claude_code.at_mention",
    "claude_code.auth", "claude_code.compaction", "claude_code.feedback_survey", "claude_code.hook_execution_complete",
    "claude_code.hook_execution_start", "claude_code.hook_registered", "claude_code.internal_error",
    "claude_code.mcp_server_connection", "claude_code.permission_mode_changed", "claude_code.plugin_installed",
    "claude_code.plugin_loaded", "claude_code.skill_activated", "claude_code.tool_decision",
})  # fmt: skip


def translate(records: Sequence[LogRecord], strange: Strange, *, tokens: bool = True) -> Translated:
    """Turn the log records of one request into events; without `tokens` Claude Code's metrics are to count them."""
    events: list[Envelope] = []
    rejected = 0
    for record in records:
        if 0 < record.time_ns <= _TIME_NS_MAX:
            events += _events(record, strange, tokens=tokens)
        else:
            rejected += 1
    return Translated(events, len(records), rejected, "log records without a valid time" if rejected else "")


def _events(record: LogRecord, strange: Strange, *, tokens: bool) -> Iterator[Envelope]:
    name = event_of(record)
    make = _EVENTS.get(name)
    if make is not None:
        yield from (event for event in make(_Line(record, name)) if tokens or not isinstance(event, TokenUsage))
    elif name.startswith((*words.OURS, CLAUDE_CODE)):
        if name not in PASSED_OVER:
            strange.note("log", name)
    else:
        strange.note("scope", record.scope or name or "log")


def event_of(record: LogRecord) -> str:
    """Return the name of a record's event; Claude Code has it in the body, and without its own name as attribute."""
    name = record.event or str(record.attributes.get(_NAME) or "")
    if isinstance(record.body, str) and record.body.startswith(CLAUDE_CODE):
        return record.body
    ours = record.scope.startswith(CLAUDE_CODE_SCOPE) and name and not name.startswith(CLAUDE_CODE)
    return CLAUDE_CODE + name if ours else name


class _Line:
    """One record, and what all of its events carry."""

    __slots__ = ("_common", "_id", "about", "end_ms")

    def __init__(self, record: LogRecord, name: str) -> None:
        self.about = record.attributes
        self.end_ms = record.time_ns // _NS_PER_MS
        self._id = digest(name, record.time_ns, {**record.resource, **record.attributes})
        session = first_of(record, words.SESSION) or record.trace_id or None
        self._common: dict[str, Any] = {
            "agent": first_of(record, words.AGENT) or service_of(record.resource),
            "session_id": session,
            "user_id": first_of(record, words.USER),
            "tenant": first_of(record, words.TENANT),
            "trace_id": record.trace_id or None,
        }

    @property
    def duration_ms(self) -> float:
        return min(max(number(self.about.get("duration_ms")), 0), DURATION_MS_MAX)

    def event(self, kind: type[Envelope], what: str, **fields: Any) -> Envelope:
        time_ms = max(self.end_ms - int(self.duration_ms), 0) if what == "start" else self.end_ms
        return kind(id=f"{self._id}-{what}", time=time_ms, **self._common, **fields)

    def call(self, kind: type[Envelope], what: str, **fields: Any) -> Envelope:
        return self.event(kind, what, call_id=self._id, **fields)

    def text(self, name: str) -> str:
        value = self.about.get(name)
        return "" if value is None else str(value)


def digest(name: str, time_ns: int, about: Mapping[str, Any]) -> str:
    """Return the id of something that has none: equal ones are the same."""
    said = msgspec.json.encode((name, time_ns, about), order="deterministic")
    return blake2b(said, digest_size=_DIGEST_BYTES).hexdigest()


def first_of(record: Any, names: tuple[str, ...]) -> str | None:
    """Return what a record, or its resource, says under one of these names."""
    named = words.first(record.attributes, names)
    named = words.first(record.resource, names) if named is None else named
    return None if named is None else str(named)


def number(value: Any) -> float:
    """Read a number, which may be written as text; 0 for what is none."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return 0
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53
    return value if good else 0


# ---- Claude Code -------------------------------------------------------------------------------------------------


def _api_request(line: _Line) -> Iterator[Envelope]:
    said = {"model": line.text("model") or "unknown", "provider": PROVIDER}
    yield line.call(ModelStart, "start", **said)
    counted = canonical("claude_code", line.about)
    if counted is not None:
        cost = nano_usd(number(line.about["cost_usd"])) if "cost_usd" in line.about else None
        yield line.call(TokenUsage, "usage", **said, **counted.usage._asdict(), cost_nano_usd=cost)
    yield line.call(ModelEnd, "end", **said, duration_ms=line.duration_ms)


def _api_error(line: _Line) -> Iterator[Envelope]:
    said = {"model": line.text("model") or "unknown", "provider": PROVIDER}
    code = line.text("status_code")
    kind: ErrorType = BY_STATUS.get(int(number(code)), "other")
    yield line.call(ModelStart, "start", **said)
    yield line.call(
        ModelEnd,
        "end",
        **said,
        duration_ms=line.duration_ms,
        status="timeout" if kind == "timeout" else "error",
        error_code=code if code not in ("", "undefined") else None,
        attributes={"error_type": kind},
    )


def _tool_result(line: _Line) -> Iterator[Envelope]:
    tool = line.text("tool_name") or "unknown"
    failed = line.text("success").lower() == "false"
    ending: dict[str, Any] = {"status": "error", "attributes": {"error_type": "tool_error"}} if failed else {}
    yield line.call(ToolStart, "start", tool=tool)
    yield line.call(
        ToolEnd,
        "end",
        tool=tool,
        duration_ms=line.duration_ms,
        output_bytes=max(int(number(line.about.get("tool_result_size_bytes"))), 0),
        error_message=line.text("error") or None if failed else None,
        **ending,
    )


def _user_prompt(line: _Line) -> Iterator[Envelope]:
    characters = max(int(number(line.about.get("prompt_length"))), 0)
    yield line.event(Message, "message", role="user", characters=characters)


# ---- everybody's -------------------------------------------------------------------------------------------------


def _evaluation(line: _Line) -> Iterator[Envelope]:
    score = line.about.get("gen_ai.evaluation.score.value")
    if is_score(score):
        yield line.event(Feedback, "evaluation", quality=score)


_EVENTS: Final[Mapping[str, Callable[[_Line], Iterator[Envelope]]]] = {
    CLAUDE_CODE + "api_request": _api_request,
    CLAUDE_CODE + "api_error": _api_error,
    CLAUDE_CODE + "tool_result": _tool_result,
    CLAUDE_CODE + "user_prompt": _user_prompt,
    EVALUATION: _evaluation,
}
