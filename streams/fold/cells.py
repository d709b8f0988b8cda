"""What a micro-batch adds, gathered by the finest key; a flush spreads it over the dimensions.

`cells[key]` is the tuple of `append` methods of the lists that a value with that key belongs to: one of its leaf
(agent, name, provider) and one of its tenant.  A repeated key costs one look-up and two appends; the other dimensions
are sums and concatenations of leaves, made once per flush.  Lists hold the values of one meaning: 0 for a plain count,
µs for a duration, a tuple of amounts for usage.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

from streams.fold.measure import MEANINGS
from streams.fold.rollup import Delta, Histogram, add_sums
from streams.fold.sketch import DURATION_BOUNDS

# code of the meaning, pane start (−1: late), agent, tenant, name of tool or model, provider
CellKey: TypeAlias = tuple[int, int, str, str | None, str | None, str | None]
Leaf: TypeAlias = tuple[int, str, str | None, str | None, str]  # pane start, agent, name, provider, family
Target: TypeAlias = tuple[str, tuple[str, ...], int]  # dimension, labels, pane start
Values: TypeAlias = dict[int, list[Any]]  # by code of the meaning
Appends: TypeAlias = tuple[Callable[[Any], None], ...]

# A value costs about 7 bytes as it is and about 16 as a counted bin and bucket, of which there are at most a few dozen.
SAMPLES_RAW_MAX: Final = 64


class Cells(dict[CellKey, Appends]):
    """The lists of a micro-batch by cell key; see the head of this file."""

    def __init__(self) -> None:
        super().__init__()
        self._leaves: dict[Leaf, Values] = {}
        self._tenants: dict[tuple[int, str], Values] = {}

    def __missing__(self, key: CellKey) -> Appends:
        code, pane_ms, agent, tenant, name, provider = key
        leaf = self._leaves.setdefault((pane_ms, agent, name, provider, MEANINGS[code].family), {})
        appends: Appends = (leaf.setdefault(code, []).append,)
        if tenant is not None:
            appends += (self._tenants.setdefault((pane_ms, tenant), {}).setdefault(code, []).append,)
        self[key] = appends
        return appends

    def deltas(self) -> list[Delta]:
        """Return one delta per key of every dimension that was touched, and pane.

        `all` is the sum over agents, because every event names one.
        """
        found: dict[Target, _Added] = {}
        for (pane_ms, agent, name, provider, family), values in self._leaves.items():
            added = _added(values)
            _add(found, ("agent", (agent,), pane_ms), added)
            if name is not None and family == "tool":
                _add(found, ("tool", (name,), pane_ms), added)
                _add(found, ("agent_tool", (agent, name), pane_ms), added)
            elif name is not None:
                _add(found, ("model", (name,), pane_ms), added)
                if provider is not None:
                    _add(found, ("provider", (provider,), pane_ms), added)
        for (_, _, pane_ms), added in [item for item in found.items() if item[0][0] == "agent"]:
            _add(found, ("all", (), pane_ms), added)
        for (pane_ms, tenant), values in self._tenants.items():
            _add(found, ("tenant", (tenant,), pane_ms), _added(values))
        return [_delta(place, added) for place, added in found.items()]


class _Added(NamedTuple):
    """Sums by measure and samples by histogram, of one leaf or of one target."""

    sums: dict[str, int]
    samples: dict[str, list[int]]


def _added(values: Values) -> _Added:
    sums: dict[str, int] = {}
    samples: dict[str, list[int]] = {}
    for code, some in values.items():
        meaning = MEANINGS[code]
        count = len(some)
        for name in meaning.ones:
            sums[name] = sums.get(name, 0) + count
        if meaning.amounts:
            for name, column in zip(meaning.amounts, zip(*some, strict=True), strict=True):
                if amount := sum(column):
                    sums[name] = sums.get(name, 0) + amount
        if meaning.histogram is not None:
            samples.setdefault(meaning.histogram, []).extend(some)
    return _Added(sums, samples)


def _add(found: dict[Target, _Added], place: Target, more: _Added) -> None:
    """Add to a target; what is added is shared by several, so it is copied."""
    known = found.get(place)
    if known is None:
        found[place] = _Added(dict(more.sums), {name: list(values) for name, values in more.samples.items()})
        return
    add_sums(known.sums, more.sums)
    for name, values in more.samples.items():
        some = known.samples.get(name)
        if some is None:
            known.samples[name] = list(values)
        else:
            some.extend(values)


def _delta(place: Target, added: _Added) -> Delta:
    """Make a target a delta; many samples are counted, few stay as they are."""
    sums, samples = added
    histograms: dict[str, Histogram] = {}
    for name in [name for name, values in samples.items() if len(values) > SAMPLES_RAW_MAX]:
        values = samples.pop(name)
        buckets, bins = DURATION_BOUNDS.tally(Counter(values))
        histograms[name] = Histogram(sum(values), buckets, bins if place[2] >= 0 else {})
    return Delta(*place, sums, samples, histograms)
