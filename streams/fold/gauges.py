"""What was measured last: which observation of a source counts, for how long, and what several sources say together.

Never adds up what one source has said: of each source only the newest observation counts, whatever the order it came
in.  Values are integers in the stored unit: bytes, tokens, µs, calls; scores, cores and temperatures × 1e6.

An observation's order is (event time, source partition, offset).  `offset` is the highest one of the flush it came
with: one partition is folded in order, so its observations stand in the same order by it as by their own, and a flush
sends on only the newest of each source.  How the log was cut into flushes therefore shows in no value.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import nsmallest
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from streams.event import model
from streams.event.custom import Observation as CustomObservation
from streams.fold.measure import AGENT, AGENT_TOOL, CUSTOM, TOOL
from streams.fold.shapes import CUSTOM_PREFIX
from streams.fold.streamtime import HOUR_MS, MINUTE_MS

# Sources of one gauge of one key; a row with this many is about 15 KB and is written whole.  Beyond it the one that
# was heard of longest ago is forgotten and counted.
SOURCES_MAX: Final = 256

PROCESS_TTL_MS: Final = 5 * MINUTE_MS  # processes report every few seconds; as long as Prometheus keeps a series
CONVERSATION_TTL_MS: Final = 30 * MINUTE_MS  # the silence that ends a session
SETTING_TTL_MS: Final = HOUR_MS  # what was chosen holds until something else is
FOR_EVER: Final = 0

MICRO: Final = 1_000_000
VALUE_MAX: Final = 2**63 - 1  # what MessagePack holds; only a publisher's own metrics could go beyond
ONE_FOR_ALL: Final = ""  # the source of peaks

Merge: TypeAlias = Literal["sum", "max", "last"]
Labels: TypeAlias = tuple[str, ...]


class Gauge(NamedTuple):
    """How the observations of a gauge are kept and merged; a peak keeps the highest, and of equal ones the first."""

    merge: Merge
    ttl_ms: int
    peak: bool = False


GAUGES: Final[Mapping[str, Gauge]] = {
    "memory_bytes": Gauge("sum", PROCESS_TTL_MS),
    "memory_peak_bytes": Gauge("max", FOR_EVER, peak=True),
    "pool_active": Gauge("sum", PROCESS_TTL_MS),
    "pool_idle": Gauge("sum", PROCESS_TTL_MS),
    "threads_busy": Gauge("sum", PROCESS_TTL_MS),
    "threads_total": Gauge("sum", PROCESS_TTL_MS),
    "async_tasks": Gauge("sum", PROCESS_TTL_MS),
    "queue_depth": Gauge("sum", PROCESS_TTL_MS),
    "batch_efficiency": Gauge("sum", PROCESS_TTL_MS),  # × 1e6; shown as its mean over sources
    "uptime_us": Gauge("max", PROCESS_TTL_MS),
    "cpu": Gauge("sum", PROCESS_TTL_MS),  # cores × 1e6
    "context_tokens": Gauge("max", CONVERSATION_TTL_MS),
    "context_limit_tokens": Gauge("max", CONVERSATION_TTL_MS),
    "context_used": Gauge("max", CONVERSATION_TTL_MS),  # × 1e6, of the same message's limit
    "tool_queue_depth": Gauge("sum", PROCESS_TTL_MS),
    "temperature": Gauge("last", SETTING_TTL_MS),  # × 1e6
}


# What a rule may look at, by dimension.  Not batch_efficiency: what is shown of it is a mean, which no row holds.
OF_DIMENSION: Final[Mapping[str, frozenset[str]]] = {
    AGENT.name: frozenset(GAUGES) - {"tool_queue_depth", "batch_efficiency"},
    AGENT_TOOL.name: frozenset({"tool_queue_depth"}),
    TOOL.name: frozenset({"tool_queue_depth"}),
}
MILLIONTHS: Final = frozenset({"cpu", "context_used", "temperature"})  # stored × 1e6

_CUSTOM: Final = Gauge("last", PROCESS_TTL_MS)  # × 1e6; a publisher's own, which the settings declare


def gauge_of(name: str) -> Gauge | None:
    """Return how a gauge is kept and merged; None for one that this release does not know."""
    return _CUSTOM if name.startswith(CUSTOM_PREFIX) else GAUGES.get(name)


# ---- one observation -------------------------------------------------------------------------------------------


class Observation(NamedTuple):
    """What a source has said, and where it stands among everything it has said."""

    value: int
    event_ms: int
    partition: int
    offset: int


Sources: TypeAlias = dict[str, Observation]


def supersedes(gauge: Gauge, one: Observation, known: Observation) -> bool:
    """Return whether an observation counts instead of a known one of the same source; an equal one changes nothing."""
    if not gauge.peak:
        return one[1:] > known[1:]
    return one.value > known.value or (one.value == known.value and one[1:] < known[1:])


def is_live(gauge: Gauge, event_ms: int, now_ms: int) -> bool:
    """Return whether an observation still holds: up to its time to live, the end excluded."""
    return not gauge.ttl_ms or now_ms < event_ms + gauge.ttl_ms


def merge_into(sources: Sources, gauge: Gauge, more: Mapping[str, Observation]) -> bool:
    """Take in observations by source; returns whether anything changed."""
    changed = False
    for source, one in more.items():
        known = sources.get(source)
        if known is None or supersedes(gauge, one, known):
            sources[source] = one
            changed = True
    return changed


def drop_expired(sources: Sources, gauge: Gauge, now_ms: int) -> bool:
    """Forget what no longer holds; returns whether anything did."""
    expired = [source for source, one in sources.items() if not is_live(gauge, one.event_ms, now_ms)]
    for source in expired:
        del sources[source]
    return bool(expired)


def trim(sources: Sources, most: int = SOURCES_MAX) -> int:
    """Forget those heard of longest ago until few enough are left; returns how many.

    Event time and name alone decide, so what is left does not hang on how the log was cut into flushes.
    """
    beyond = len(sources) - most
    if beyond <= 0:
        return 0
    for _, source in nsmallest(beyond, ((one.event_ms, source) for source, one in sources.items())):
        del sources[source]
    return beyond


# ---- several sources -------------------------------------------------------------------------------------------


class Level(NamedTuple):
    """What some sources say together: the merged value, of how many, and whose word was the last one."""

    value: int
    sources: int
    event_ms: int
    source: str


def together(merge: Merge, levels: Iterable[Level]) -> Level | None:
    """Merge what disjoint sets of sources say, in any order and grouping; None of nobody."""
    some = list(levels)
    if len(some) < 2:
        return some[0] if some else None
    last = max(some, key=_last)
    count = sum([level.sources for level in some])
    if merge == "sum":
        return Level(sum([level.value for level in some]), count, last.event_ms, last.source)
    value = max([level.value for level in some]) if merge == "max" else last.value
    return Level(value, count, last.event_ms, last.source)


def _last(level: Level) -> tuple[int, str, int]:
    return level.event_ms, level.source, level.value  # the name decides between two of the same millisecond


def level_of(gauge: Gauge, sources: Mapping[str, Observation]) -> Level | None:
    """Merge the sources of one row."""
    return together(gauge.merge, (Level(one.value, 1, one.event_ms, source) for source, one in sources.items()))


def value_at(gauge: Gauge, sources: Mapping[str, Observation], now_ms: int) -> int | None:
    """Return what the sources that still hold at a moment say together; None when there are none."""
    level = level_of(gauge, {name: one for name, one in sources.items() if is_live(gauge, one.event_ms, now_ms)})
    return None if level is None else level.value


# ---- events ----------------------------------------------------------------------------------------------------

Observed: TypeAlias = tuple[str, Labels, str, str, int]  # dimension, labels, gauge, source, value
Observe: TypeAlias = Callable[[Any], Sequence[Observed]]

_RESOURCE: Final = (
    ("memory_bytes", 1), ("pool_active", 1), ("pool_idle", 1), ("threads_busy", 1), ("threads_total", 1),
    ("async_tasks", 1), ("queue_depth", 1), ("batch_efficiency", MICRO), ("cpu", MICRO),
)  # fmt: skip
_TEMPERATURE_MAX: Final = 10  # as in the events that carry nothing else


def process_of(event: model.Envelope) -> str:
    """Name the process an event comes from; agents that name no source are one process each."""
    return event.source or event.agent


def conversation_of(event: model.Envelope) -> str:
    """Name the conversation an event belongs to."""
    return event.session_id or event.source or event.agent


def qualified(source: str, names: Labels) -> str:
    """Name a source where several keys share a row; bars in names are escaped, so no two of them meet."""
    return "|".join([name.replace("\\", "\\\\").replace("|", "\\|") for name in (*names, source)])


def micro(value: float) -> int:
    """Turn a score, cores or a temperature into millionths, rounded half to even."""
    return round(value * MICRO)


def _resource(event: model.Resource) -> Sequence[Observed]:
    process, labels = process_of(event), (event.agent,)
    found: list[Observed] = []
    for name, scale in _RESOURCE:
        value = getattr(event, name)
        if value is not None:
            found.append((AGENT.name, labels, name, process, value if scale == 1 else micro(value)))
    if event.memory_bytes is not None:
        found.append((AGENT.name, labels, "memory_peak_bytes", ONE_FOR_ALL, event.memory_bytes))
    if event.uptime_ms is not None:
        found.append((AGENT.name, labels, "uptime_us", process, min(event.uptime_ms * 1000, VALUE_MAX)))
    return found


def _message(event: model.Message) -> Sequence[Observed]:
    conversation, labels = conversation_of(event), (event.agent,)
    tokens, limit = event.context_tokens, event.context_limit
    found: list[Observed] = []
    if tokens is not None:
        found.append((AGENT.name, labels, "context_tokens", conversation, tokens))
    if limit is not None:
        found.append((AGENT.name, labels, "context_limit_tokens", conversation, limit))
    if tokens is not None and limit:
        found.append((AGENT.name, labels, "context_used", conversation, tokens * MICRO // limit))
    return found


def _queue(event: model.ToolStart | model.ToolEnd) -> Sequence[Observed]:
    depth = event.queue_depth
    if depth is None:
        return ()
    process, agent, tool = process_of(event), event.agent, event.tool
    # One process may be several agents, each with a queue of its own for the tool.
    return (
        (AGENT_TOOL.name, (agent, tool), "tool_queue_depth", process, depth),
        (TOOL.name, (tool,), "tool_queue_depth", qualified(process, (agent,)), depth),
    )


def _called(event: model.ModelStart | model.ModelEnd) -> Sequence[Observed]:
    return () if event.temperature is None else (_temperature(event, event.temperature),)


def _parameter(event: model.ParameterChange) -> Sequence[Observed]:
    after = event.after
    if event.parameter != "temperature" or after is None or not 0 <= after <= _TEMPERATURE_MAX:
        return ()
    return (_temperature(event, after),)


def _temperature(event: model.Envelope, value: float) -> Observed:
    return AGENT.name, (event.agent,), "temperature", process_of(event), micro(value)


def _custom(event: CustomObservation) -> Sequence[Observed]:
    if event.metric_kind != "gauge":
        return ()
    labels = event.metric, event.values_json
    return ((CUSTOM.name, labels, CUSTOM_PREFIX + event.metric, process_of(event), micro(event.value)),)


OBSERVE: Final[dict[type, Observe]] = {
    CustomObservation: _custom,
    model.Resource: _resource,
    model.Message: _message,
    model.ToolStart: _queue,
    model.ToolEnd: _queue,
    model.ModelStart: _called,
    model.ModelEnd: _called,
    model.ParameterChange: _parameter,
}


# ---- the first stage -------------------------------------------------------------------------------------------


class GaugeDelta(Struct, array_like=True, gc=False):
    """The newest observations of one gauge of one key in one flush, and how many sources did not fit."""

    sources: Sources
    forgotten: int = 0


class Newest:
    """What the events of a micro-batch say of gauges: of each source its newest word."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[tuple[str, Labels], dict[str, dict[str, tuple[int, int]]]] = {}  # … source: value, event_ms

    def __bool__(self) -> bool:
        return bool(self._found)

    def observe(self, event: model.Envelope, event_ms: int) -> None:
        """Take an event, in the order of the log; kinds without gauges change nothing."""
        observe = OBSERVE.get(event.__class__)
        for dimension, labels, name, source, value in () if observe is None else observe(event):
            self.put(dimension, labels, name, source, value, event_ms)

    def put(self, dimension: str, labels: Labels, name: str, source: str, value: int, event_ms: int) -> None:
        """Take one observation of a gauge that `gauge_of` knows, in the order of the log."""
        sources = self._found.setdefault((dimension, labels), {}).setdefault(name, {})
        known = sources.get(source)
        gauge = GAUGES.get(name)
        if known is None:
            newer = True
        elif gauge is not None and gauge.peak:
            newer = (value, -event_ms) > (known[0], -known[1])
        else:
            newer = event_ms >= known[1]
        if newer:
            sources[source] = (value, event_ms)

    def drain(self, partition: int, offset: int) -> dict[tuple[str, Labels], dict[str, GaugeDelta]]:
        """Return what was observed, by key and gauge, and begin anew; `offset` is the highest one folded."""
        found, self._found = self._found, {}
        return {
            key: {name: _delta(sources, partition, offset) for name, sources in gauges.items()}
            for key, gauges in found.items()
        }


def _delta(said: Mapping[str, tuple[int, int]], partition: int, offset: int) -> GaugeDelta:
    sources = {source: Observation(value, event_ms, partition, offset) for source, (value, event_ms) in said.items()}
    forgotten = trim(sources)
    return GaugeDelta(sources, forgotten)


# ---- the second stage's rows -----------------------------------------------------------------------------------


class GaugeRow(Struct, array_like=True, gc=False):
    """One gauge of one key: its live sources; `ordinal` is the key's, as in its lifetime row."""

    dimension: str
    labels: Labels
    gauge: str
    ordinal: int
    sources: Sources


encode_gauge: Final[Callable[[GaugeRow], bytes]] = msgspec.msgpack.Encoder().encode
decode_gauge: Final[Callable[[bytes], GaugeRow]] = msgspec.msgpack.Decoder(GaugeRow).decode
