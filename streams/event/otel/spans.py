"""Which events is a span?  A start and an end, its tokens, and what was thought of it.  Pure.

A model's call owns its tokens; what a request, or a span around the same call, says of tokens is held against them.
Ids are made of the trace and the span, so that what is exported twice counts once.  Texts are read for their size, a
hash, and whether they say that they failed; none leaves but the messages of errors.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from streams.event.model import (
    AMOUNT_MAX,
    COST_NANO_USD_MAX,
    DURATION_MS_MAX,
    AgentEnd,
    AgentStart,
    Envelope,
    Feedback,
    ModelEnd,
    ModelStart,
    TokenUsage,
    ToolEnd,
    ToolStart,
)
from streams.event.otel import words
from streams.event.otel.endings import Ending, ending_of, tool_ending_of
from streams.event.otel.family import Family, Memory, tool_of
from streams.event.otel.roles import Role
from streams.event.otel.strange import Strange
from streams.event.otel.wire import Span, SpanEvent
from streams.event.tokens import Usage, canonical

_NS_PER_MS: Final = 1_000_000
_NANO: Final = 1_000_000_000
_DIGEST_BYTES: Final = 16
_NO_ID: Final = frozenset("0")
_TIME_NS_MAX: Final = 2**63 - 1
EVALUATION: Final = "gen_ai.evaluation.result"


class Translated(NamedTuple):
    """What a request became: events, how many of its items there were, and which of them could not be taken."""

    events: Sequence[Envelope]
    items: int
    rejected: int = 0
    reason: str = ""


def translate(spans: Sequence[Span], memory: Memory, strange: Strange) -> Translated:
    """Turn the spans of one request into events, in their order."""
    good = [_begun(span) for span in spans if _is_span(span)]
    family = Family(good, memory)
    events = [event for span in good for event in _events(span, family, strange)]
    # Spans are told of as they end; what happens around others begins before them.
    events.sort(key=_time)
    rejected = len(spans) - len(good)
    reason = "spans without a valid trace id, span id or time: ids are 32 and 16 hexadecimal digits" if rejected else ""
    return Translated(events, len(spans), rejected, reason)


def _time(event: Envelope) -> int:
    return int(event.time)


def _is_span(span: Span) -> bool:
    return (
        bool(span.trace_id and span.span_id)
        and not _NO_ID.issuperset(span.trace_id)
        and not _NO_ID.issuperset(span.span_id)
        and 0 < span.start_ns <= _TIME_NS_MAX
        and 0 <= span.end_ns <= _TIME_NS_MAX
    )


def _begun(span: Span) -> Span:
    """Return the span that Logfire tells of in advance, by another one inside it; any other as it is."""
    if span.attributes.get(words.LOGFIRE_KIND) != words.LOGFIRE_PENDING or not span.parent_id:
        return span
    around = str(span.attributes.get(words.LOGFIRE_PARENT) or "")
    return span._replace(span_id=span.parent_id, parent_id="" if _NO_ID.issuperset(around) else around, end_ns=0)


def _events(span: Span, family: Family, strange: Strange) -> Iterator[Envelope]:
    role = family.role(span)
    if role is Role.FOREIGN:
        strange.note("scope", span.scope or span.name)
        return
    for name in span.attributes:
        if words.is_strange(name):
            strange.note("attribute", name)
    if role is Role.STRANGE:
        strange.note("span", str(span.attributes.get(words.OPERATION) or span.name))
        return
    call = _Call(span, family)
    if role is Role.AGENT:
        yield from _agent(call)
    elif role is Role.MODEL:
        yield from _model(call)
    elif role is Role.TOOL:
        yield from _tool(call)
    elif family.is_doubled(span):
        yield from call.usage("aggregate")
    for number, event in enumerate(span.events):
        if event.name == EVALUATION:
            yield from _evaluation(call, number, event)


class _Call:
    """One span, and what all of its events carry."""

    __slots__ = ("_common", "about", "span")

    def __init__(self, span: Span, family: Family) -> None:
        self.span = span
        self.about = span.attributes
        self._common: dict[str, Any] = {
            "agent": family.agent(span),
            "session_id": family.session(span),
            "call_id": span.span_id,
            "parent_id": family.parent(span),
            "user_id": family.about(span, words.USER),
            "tenant": family.about(span, words.TENANT),
            "trace_id": span.trace_id,
        }

    @property
    def ended(self) -> bool:
        return self.span.end_ns > 0

    @property
    def duration_ms(self) -> float:
        spent_ns = max(self.span.end_ns - self.span.start_ns, 0)
        return min(round(spent_ns / _NS_PER_MS, 3), float(DURATION_MS_MAX))

    def start(self, kind: type[Envelope], **fields: Any) -> Envelope:
        return self._event(kind, "start", self.span.start_ns, **fields)

    def end(self, kind: type[Envelope], ending: Ending, **fields: Any) -> Envelope:
        if ending.error_type is not None:
            fields["attributes"] = {"error_type": ending.error_type}
        return self._event(kind, "end", self.span.end_ns, duration_ms=self.duration_ms, **fields)

    def other(self, kind: type[Envelope], what: str, time_ns: int, **fields: Any) -> Envelope:
        return self._event(kind, what, time_ns or self.span.end_ns or self.span.start_ns, **fields)

    def usage(self, scope: str) -> Iterator[Envelope]:
        tokens = usage_of(self.about)
        if tokens is None or not self.ended:
            return
        said = {"model": self.model, "provider": self.provider, **tokens._asdict(), "scope": scope}
        yield self._event(TokenUsage, "usage", self.span.end_ns, **said, cost_nano_usd=cost_of(self.about))

    @property
    def model(self) -> str:
        return str(words.first(self.about, words.MODEL) or "unknown")

    @property
    def provider(self) -> str | None:
        return provider_of(self.about)

    def _event(self, kind: type[Envelope], what: str, time_ns: int, **fields: Any) -> Envelope:
        span = self.span
        named = f"{span.trace_id}-{span.span_id}-{what}"
        return kind(id=named, time=time_ns // _NS_PER_MS, **self._common, **fields)


# ---- one function per role ---------------------------------------------------------------------------------------


def _agent(call: _Call) -> Iterator[Envelope]:
    streaming = _streams(call.about)
    endpoint = call.span.name or None
    yield call.start(AgentStart, streaming=streaming, endpoint=endpoint)
    if not call.ended:
        return
    yield from call.usage("aggregate")
    ending = ending_of(call.span)
    yield call.end(
        AgentEnd,
        ending,
        status=ending.status,
        streaming=streaming,
        endpoint=endpoint,
        completed=ending.status == "success",
        response_bytes=_size(words.first(call.about, words.RESULT)),
    )


def _model(call: _Call) -> Iterator[Envelope]:
    said = {
        "model": call.model,
        "provider": call.provider,
        "streaming": _streams(call.about),
        "temperature": _temperature(call.about),
    }
    yield call.start(ModelStart, **said)
    if not call.ended:
        return
    yield from call.usage("leaf")
    ending = ending_of(call.span)
    finish = words.first(call.about, words.FINISH)
    finish = finish[0] if isinstance(finish, list) else finish
    first_ms = _first_token_ms(call.span)
    said["streaming"] = bool(said["streaming"] or first_ms is not None)
    yield call.end(
        ModelEnd,
        ending,
        status=ending.status,
        error_code=ending.code,
        finish_reason=None if finish is None else str(finish),
        first_token_ms=first_ms,
        **said,
    )


def _tool(call: _Call) -> Iterator[Envelope]:
    arguments = _text(words.first(call.about, words.ARGUMENTS))
    said = {"tool": tool_of(call.span), "arguments_hash": _hash(arguments) if arguments else None}
    yield call.start(ToolStart, **said)
    if not call.ended:
        return
    status, ending = tool_ending_of(call.span)
    yield call.end(
        ToolEnd,
        ending,
        status=status,
        input_bytes=_size(arguments),
        output_bytes=_size(words.first(call.about, words.RESULT)),
        error_message=ending.message,
        **said,
    )


def _evaluation(call: _Call, number: int, event: SpanEvent) -> Iterator[Envelope]:
    score = event.attributes.get("gen_ai.evaluation.score.value")
    if is_score(score):
        yield call.other(Feedback, f"evaluation-{number}", event.time_ns, quality=score)


# ---- what attributes say -----------------------------------------------------------------------------------------


def is_score(score: Any) -> bool:
    """Is this a score from 0 to 1?"""
    return isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 1


def usage_of(about: Any) -> Usage | None:
    """Read the tokens of a span, whichever dialect counts them; None without any."""
    for dialect in ("otel", "openinference", "otel_aggregated"):
        counted = canonical(dialect, about)
        if counted is not None:
            return counted.usage
    return None


def cost_of(about: Any) -> int | None:
    """Return what a span says its tokens cost, in nano-USD; None when it does not say, or in another currency."""
    usd = words.first(about, words.COST_USD)
    if usd is None and about.get(words.COST_CURRENCY) == "USD":
        usd = about.get(words.COST_AMOUNT)
    return nano_usd(usd)


def nano_usd(usd: Any) -> int | None:
    """Return an amount of dollars in nano-USD, the nearest; None for what cannot be one."""
    if not isinstance(usd, int | float) or isinstance(usd, bool) or not 0 <= usd <= COST_NANO_USD_MAX / _NANO:
        return None
    return round(usd * _NANO)


def provider_of(about: Any) -> str | None:
    """Return who made the model, by the name the conventions give it."""
    named = words.first(about, words.PROVIDER)
    if named is None:
        return None
    lower = str(named).lower()
    return words.PROVIDERS.get(lower, lower)


def _streams(about: Any) -> bool:
    return words.first(about, words.STREAMING) is True


def _temperature(about: Any) -> float | None:
    given = words.first(about, words.TEMPERATURE)
    if given is None and isinstance(parameters := about.get(words.PARAMETERS), str):
        try:
            read = msgspec.json.decode(parameters)
        except (msgspec.DecodeError, RecursionError):
            return None
        given = read.get("temperature") if isinstance(read, dict) else None
    return given if isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given <= 10 else None


def _first_token_ms(span: Span) -> float | None:
    about = span.attributes
    seconds, ms = words.first(about, words.FIRST_TOKEN_S), words.first(about, words.FIRST_TOKEN_MS)
    if isinstance(seconds, int | float):
        ms = seconds * 1000
    if not isinstance(ms, int | float):
        came_ns = (each.time_ns for each in span.events if each.name in words.FIRST_TOKEN_EVENTS)
        came = next(came_ns, 0)
        ms = (came - span.start_ns) / _NS_PER_MS if came >= span.start_ns else None
    return round(ms, 3) if ms is not None and 0 <= ms <= DURATION_MS_MAX else None


def _text(value: Any) -> str:
    """Return a value as text: instrumentations write arguments and results as JSON or as themselves."""
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value, order="deterministic").decode()


def _size(value: Any) -> int:
    return min(len(_text(value).encode("utf-8", "replace")), AMOUNT_MAX)


def _hash(arguments: str) -> str:
    return blake2b(arguments.encode("utf-8", "replace"), digest_size=_DIGEST_BYTES).hexdigest()
