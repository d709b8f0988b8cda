"""What a micro-batch adds, gathered by the finest key; a flush spreads it over the dimensions.

A cell counts one meaning for one agent, tenant, tool or model, and provider in one pane.  All dimensions are sums of
cells, made once per flush.  Cells stay when a flush has emptied them: what one batch touches, the next one mostly
touches again.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, TypeAlias

from streams.fold.circuits import Outcomes
from streams.fold.gauges import Newest
from streams.fold.kinds import Contribution
from streams.fold.measure import LEDGER, MEANINGS, TOOL_EXTRAS, USAGE, USER, USER_MEASURES
from streams.fold.norms import Norms
from streams.fold.price import Pricer
from streams.fold.rollup import UNKNOWN, Delta, Histogram
from streams.fold.shapes import bounds_of
from streams.fold.sketch import Bounds

# code of the meaning, agent, tenant, name of tool or model, provider
CellKey: TypeAlias = tuple[int, str, str | None, str | None, str | None]
Leaf: TypeAlias = tuple[int, str, str | None, str | None, str]  # pane start, agent, name, provider, family
Labels: TypeAlias = tuple[str, ...]
Target: TypeAlias = tuple[str, tuple[str, ...], int]  # dimension, labels, pane start

CELLS_KEPT_MAX: Final = 50_000  # empty ones included, some 250 bytes each; beyond it a flush forgets them all
PANES_KEPT_MAX: Final = 4  # of which cells are kept: the current one, and those a few late-comers fall into


class Cell:
    """How often a meaning was seen, and with which values: what its histogram observes, such as µs of a duration."""

    __slots__ = ("code", "count", "leaf", "tenant", "values")

    def __init__(self, code: int, leaf: Leaf, tenant: str | None) -> None:
        self.code: int = code
        self.leaf: Leaf = leaf
        self.tenant: str | None = tenant
        self.count: int = 0
        self.values: list[int] = []

    def one(self) -> None:
        """Count one."""
        self.count += 1

    def observe(self, value: int) -> None:
        """Count one, with its value."""
        self.count += 1
        self.values.append(value)

    def amounts(self) -> tuple[int, ...]:
        """Return the sums that go with `Meaning.amounts`."""
        return ()

    def empty(self) -> None:
        """Begin anew."""
        self.count = 0
        self.values = []


class UsageCell(Cell):
    """Token usage, added up."""

    __slots__ = (
        "cache_read", "cache_write", "computed", "cost_nano_usd", "inconsistent", "input", "output", "reasoning",
        "unpriced",
    )  # fmt: skip

    def __init__(self, code: int, leaf: Leaf, tenant: str | None) -> None:
        super().__init__(code, leaf, tenant)
        self.input: int = 0
        self.output: int = 0
        self.cache_read: int = 0
        self.cache_write: int = 0
        self.reasoning: int = 0
        self.cost_nano_usd: int = 0
        self.unpriced: int = 0
        self.computed: int = 0  # of the cost
        self.inconsistent: int = 0

    def use(
        self,
        input_tokens: int,
        output_tokens: int,
        cache_read: int,
        cache_write: int,
        reasoning: int,
        cost_nano_usd: int,
        unpriced: int,
        computed: int,
        inconsistent: int,
    ) -> None:
        """Add one report."""
        self.count += 1
        self.input += input_tokens
        self.output += output_tokens
        self.cache_read += cache_read
        self.cache_write += cache_write
        self.reasoning += reasoning
        self.cost_nano_usd += cost_nano_usd
        self.unpriced += unpriced
        self.computed += computed
        self.inconsistent += inconsistent

    def amounts(self) -> tuple[int, ...]:
        """Return the sums in the order of USAGE_AMOUNTS."""
        return (
            self.input, self.output, self.cache_read, self.cache_write, self.reasoning, self.cost_nano_usd,
            self.unpriced, self.computed, self.inconsistent,
        )  # fmt: skip

    def empty(self) -> None:
        """Begin anew."""
        super().empty()
        self.input = self.output = self.cache_read = self.cache_write = self.reasoning = 0
        self.cost_nano_usd = self.unpriced = self.computed = self.inconsistent = 0


class ExtrasCell(Cell):
    """What only some tool calls have, added up."""

    __slots__ = ("input_bytes", "output_bytes", "retries")

    def __init__(self, code: int, leaf: Leaf, tenant: str | None) -> None:
        super().__init__(code, leaf, tenant)
        self.retries: int = 0
        self.input_bytes: int = 0
        self.output_bytes: int = 0

    def add(self, retries: int, input_bytes: int, output_bytes: int) -> None:
        """Add one call."""
        self.count += 1
        self.retries += retries
        self.input_bytes += input_bytes
        self.output_bytes += output_bytes

    def amounts(self) -> tuple[int, ...]:
        """Return the sums in the order of TOOL_EXTRA_AMOUNTS."""
        return self.retries, self.input_bytes, self.output_bytes

    def empty(self) -> None:
        """Begin anew."""
        super().empty()
        self.retries = self.input_bytes = self.output_bytes = 0


class LedgerCell(Cell):
    """What became of the accounts of calls, added up."""

    __slots__ = ("forgotten", "leafless", "over", "settled", "under")

    def __init__(self, code: int, leaf: Leaf, tenant: str | None) -> None:
        super().__init__(code, leaf, tenant)
        self.settled: int = 0
        self.leafless: int = 0
        self.over: int = 0
        self.under: int = 0
        self.forgotten: int = 0

    def settle(self, settled: int, leafless: int, over: int, under: int, forgotten: int) -> None:
        """Add one account."""
        self.count += 1
        self.settled += settled
        self.leafless += leafless
        self.over += over
        self.under += under
        self.forgotten += forgotten

    def amounts(self) -> tuple[int, ...]:
        """Return the sums in the order of LEDGER_AMOUNTS."""
        return self.settled, self.leafless, self.over, self.under, self.forgotten

    def empty(self) -> None:
        """Begin anew."""
        super().empty()
        self.settled = self.leafless = self.over = self.under = self.forgotten = 0


class UserCell:
    """What one user has spent in one pane."""

    __slots__ = (
        "cost_nano_usd", "events", "input", "model_calls", "output", "requests", "tool_calls", "unpriced",
    )  # fmt: skip

    def __init__(self) -> None:
        self.events: int = 0
        self.requests: int = 0
        self.model_calls: int = 0
        self.tool_calls: int = 0
        self.input: int = 0
        self.output: int = 0
        self.cost_nano_usd: int = 0
        self.unpriced: int = 0

    def use(self, input_tokens: int, output_tokens: int, cost_nano_usd: int, unpriced: int) -> None:
        """Add one report of tokens."""
        self.input += input_tokens
        self.output += output_tokens
        self.cost_nano_usd += cost_nano_usd
        self.unpriced += unpriced

    def sums(self) -> dict[str, int]:
        """Return what is not zero, by measure."""
        amounts = (
            self.events, self.requests, self.model_calls, self.tool_calls, self.input, self.output,
            self.cost_nano_usd, self.unpriced,
        )  # fmt: skip
        return {name: amount for name, amount in zip(USER_MEASURES, amounts, strict=True) if amount}


def _cell(code: int, leaf: Leaf, tenant: str | None) -> Cell:
    if code == USAGE:
        return UsageCell(code, leaf, tenant)
    if code == TOOL_EXTRAS:
        return ExtrasCell(code, leaf, tenant)
    if code == LEDGER:
        return LedgerCell(code, leaf, tenant)
    return Cell(code, leaf, tenant)


class Cells:
    """The cells of a partition; see the head of this file."""

    __slots__ = (
        "_contributed", "_current", "_kept", "_pane_ms", "_panes", "_touched", "_users", "gauges", "norms", "outcomes",
        "pricer",
    )  # fmt: skip

    def __init__(self, pricer: Pricer | None = None, outcomes: Outcomes | None = None) -> None:
        self.outcomes: Outcomes | None = outcomes  # of calls that a circuit guards
        self.pricer: Pricer | None = pricer  # of usage reports whose publisher named no cost
        self.gauges: Newest = Newest()
        self.norms: Norms = Norms()
        self._touched: list[Cell] = []
        self._contributed: dict[Target, _Added] = {}
        self._users: dict[tuple[int, str], UserCell] = {}
        self._kept: int = 0
        self._panes: dict[int, dict[CellKey, Cell]] = {}
        self._pane_ms: int = -2  # no pane: the first event chooses one
        self._current: dict[CellKey, Cell] = {}

    def __bool__(self) -> bool:
        return bool(self._touched) or bool(self._contributed)  # users are touched with other cells

    def of(
        self, code: int, pane_ms: int, agent: str, tenant: str | None, name: str | None, provider: str | None
    ) -> Cell:
        """Return the cell of a meaning and its labels, to which the caller adds one at once; pane below 0: late."""
        if pane_ms != self._pane_ms:
            current = self._panes.get(pane_ms)
            if current is None:
                current = self._panes[pane_ms] = {}
            self._current = current
            self._pane_ms = pane_ms
        key = (code, agent, tenant, name, provider)
        cell = self._current.get(key)
        if cell is None:
            cell = _cell(code, (pane_ms, agent, name, provider, MEANINGS[code].family), tenant)
            self._current[key] = cell
            self._kept += 1
        if cell.count == 0:
            self._touched.append(cell)
        return cell

    def user(self, pane_ms: int, user_id: str) -> UserCell:
        """Return the cell of a user, to which the caller adds what one event has spent; pane below 0: late."""
        cell = self._users.get((pane_ms, user_id))
        if cell is None:
            cell = self._users[pane_ms, user_id] = UserCell()
        cell.events += 1
        return cell

    def guard(self, outcomes: Outcomes | None) -> None:
        """Gather the outcomes of other calls from now on; what was gathered until now stays."""
        if self.outcomes:
            outcomes = Outcomes(()) if outcomes is None else outcomes
            outcomes.go_on(self.outcomes)
        self.outcomes = outcomes

    def contribute(self, pane_ms: int, contributions: Sequence[Contribution]) -> None:
        """Add what an event of a rare kind adds to keys of its own; pane below 0: late."""
        for each in contributions:
            added = _at(self._contributed, each.dimension, each.labels, pane_ms)
            sums = added.sums
            for name, by in each.sums.items():
                sums[name] = sums.get(name, 0) + by
            for name, value in each.samples.items():
                added.histogram(name).observe(value, bounds_of(name))

    def deltas(self) -> list[Delta]:
        """Return one delta per key of every dimension that was touched, and pane; all cells are empty then.

        `all` is the sum over agents, because every event names one.
        """
        leaves: dict[Leaf, _Added] = {}
        tenants: dict[tuple[int, str], _Added] = {}
        for cell in self._touched:
            leaf = leaves.get(cell.leaf)
            if leaf is None:
                leaf = leaves[cell.leaf] = _Added()
            tenant: _Added | None = None
            if cell.tenant is not None:
                tenant = tenants.get((cell.leaf[0], cell.tenant))
                if tenant is None:
                    tenant = tenants[cell.leaf[0], cell.tenant] = _Added()
            _gather(cell, leaf, tenant)
            cell.empty()
        self._touched = []
        if self._kept > CELLS_KEPT_MAX or len(self._panes) > PANES_KEPT_MAX:
            self._panes, self._kept, self._current, self._pane_ms = {}, 0, {}, -2
        found = _spread(leaves, tenants)
        for (dimension, labels, pane_ms), added in self._contributed.items():
            found.append(_delta(dimension, labels, pane_ms, added))
        self._contributed = {}
        for (pane_ms, user_id), spent in self._users.items():
            found.append(Delta(USER.name, (user_id,), pane_ms, spent.sums()))
        self._users = {}
        return found if self.outcomes is None else self.outcomes.attach(found)


class _Added:
    """Sums by measure, and observations by histogram: their sum, and counts by place."""

    __slots__ = ("durations", "sums")

    def __init__(self) -> None:
        self.sums: dict[str, int] = {}
        self.durations: dict[str, _Observed] = {}

    def add(self, more: "_Added") -> None:
        """Add what another has."""
        sums = self.sums
        for name, value in more.sums.items():
            sums[name] = sums.get(name, 0) + value
        for name, some in more.durations.items():
            self.histogram(name).add(some)

    def histogram(self, name: str) -> "_Observed":
        """Return one histogram, opening it when needed."""
        known = self.durations.get(name)
        if known is None:
            known = self.durations[name] = _Observed()
        return known


class _Observed:
    """The sum of observations, the place of each (bin × _BUCKETS + bucket), and the extremes.

    Places are listed and not counted before the end: joining lists and counting one is much faster than adding counts.
    """

    __slots__ = ("max_us", "min_us", "places", "sum_us")

    def __init__(self) -> None:
        self.sum_us: int = 0
        self.min_us: int = UNKNOWN
        self.max_us: int = UNKNOWN
        self.places: list[int] = []

    def observe(self, value: int, bounds: Bounds) -> None:
        """Add one."""
        self.sum_us += value
        self.max_us = max(self.max_us, value)
        if value < self.min_us or self.min_us < 0:
            self.min_us = value
        bucket, index = bounds.place(value)
        self.places.append(index * _BUCKETS + bucket)

    def add(self, more: "_Observed") -> None:
        """Add what another has."""
        self.sum_us += more.sum_us
        self.max_us = max(self.max_us, more.max_us)
        if self.min_us < 0 or 0 <= more.min_us < self.min_us:
            self.min_us = more.min_us
        self.places.extend(more.places)


_BUCKETS: Final = 64  # room for the buckets of one histogram in the number of a place


def _gather(cell: Cell, leaf: _Added, tenant: _Added | None) -> None:
    """Add a cell to what its leaf and its tenant have seen."""
    meaning = MEANINGS[cell.code]
    count = cell.count
    sums = leaf.sums
    more = None if tenant is None else tenant.sums
    for name in meaning.ones:
        sums[name] = sums.get(name, 0) + count
        if more is not None:
            more[name] = more.get(name, 0) + count
    if meaning.amounts:
        for name, amount in zip(meaning.amounts, cell.amounts(), strict=True):
            if amount:
                sums[name] = sums.get(name, 0) + amount
                if more is not None:
                    more[name] = more.get(name, 0) + amount
    if meaning.histogram is not None:
        observed = _observed(cell.values, bounds_of(meaning.histogram))
        leaf.histogram(meaning.histogram).add(observed)
        if tenant is not None:
            tenant.histogram(meaning.histogram).add(observed)


def _observed(values: list[int], bounds: Bounds) -> _Observed:
    found = _Observed()
    for value in values:
        found.observe(value, bounds)
    return found


def _spread(leaves: dict[Leaf, _Added], tenants: dict[tuple[int, str], _Added]) -> list[Delta]:
    """Add up leaves by every dimension."""
    agents: dict[int, dict[str, _Added]] = {}  # by pane first: most flushes know one
    found: dict[Target, _Added] = {}
    for (pane_ms, agent, name, provider, family), added in leaves.items():
        _of(agents.setdefault(pane_ms, {}), agent).add(added)
        if name is not None and family == "tool":
            _at(found, "tool", (name,), pane_ms).add(added)
            _at(found, "agent_tool", (agent, name), pane_ms).add(added)
        elif name is not None:
            _at(found, "model", (name,), pane_ms).add(added)
            if provider is not None:
                _at(found, "provider", (provider,), pane_ms).add(added)
    for pane_ms, by_agent in agents.items():
        whole = _at(found, "all", (), pane_ms)
        for agent, added in by_agent.items():
            found["agent", (agent,), pane_ms] = added
            whole.add(added)
    for (pane_ms, tenant), added in tenants.items():
        found["tenant", (tenant,), pane_ms] = added
    return [_delta(dimension, labels, pane_ms, added) for (dimension, labels, pane_ms), added in found.items()]


def _of(by_name: dict[str, _Added], name: str) -> _Added:
    known = by_name.get(name)
    if known is None:
        known = by_name[name] = _Added()
    return known


def _at(found: dict[Target, _Added], dimension: str, labels: Labels, pane_ms: int) -> _Added:
    known = found.get((dimension, labels, pane_ms))
    if known is None:
        known = found[dimension, labels, pane_ms] = _Added()
    return known


def _delta(dimension: str, labels: Labels, pane_ms: int, added: _Added) -> Delta:
    """Make what a target has seen a delta; what is late has no bins, because there is no pane to keep them in."""
    histograms: dict[str, Histogram] = {}
    for name, durations in added.durations.items():
        buckets: dict[int, int] = {}
        bins: dict[int, int] = {}
        for place, count in Counter(durations.places).items():
            bucket, index = place % _BUCKETS, place // _BUCKETS
            buckets[bucket] = buckets.get(bucket, 0) + count
            bins[index] = bins.get(index, 0) + count
        known = bins if pane_ms >= 0 else {}
        histograms[name] = Histogram(durations.sum_us, buckets, known, durations.min_us, durations.max_us)
    return Delta(dimension, labels, pane_ms, added.sums, {}, histograms)
