"""What rules see of a row: readings of session rows and of rollup keys at one moment of the partition's clock."""

from streams.fold.findings import DETECTED, find, first_due, overdue, used
from streams.fold.live import LivePane, LiveRow
from streams.fold.norms import Norms
from streams.fold.panes import Panes
from streams.fold.rollup import LifetimeRow
from streams.fold.session import ENDED, Finding
from streams.fold.sketch import quantile
from streams.fold.spending import Account
from streams.fold.streamtime import MINUTE_MS
from streams.stage.gauges import GaugeTable


class SessionReading:
    """A session's row at a moment; its panes are minutes."""

    __slots__ = ("_norms", "_now_ms", "_row")

    def __init__(self, row: LiveRow, now_ms: int, norms: Norms) -> None:
        self._row = row
        self._now_ms = now_ms
        self._norms = norms

    @property
    def now_ms(self) -> int:
        """The reading's end."""
        return self._now_ms

    def account(self, budget: str) -> Account | None:  # noqa: ARG002  a session's totals are its account
        """Return None: the budget of a session is compared with its totals."""
        return None

    def total(self, field: str) -> int:
        """Return a counter of the row."""
        row = self._row
        total: int = row.input_tokens + row.output_tokens if field == "tokens" else getattr(row, field)
        return total

    def window(self, field: str, window_ms: int) -> int:
        """Sum a field over the trailing minutes, the open one included."""
        minute_ms = self._now_ms - self._now_ms % MINUTE_MS
        return self._sum(field, minute_ms + MINUTE_MS - window_ms, minute_ms + MINUTE_MS)

    def window_closed(self, field: str, window_ms: int) -> int:
        """Sum a field over the trailing minutes that have ended."""
        minute_ms = self._now_ms - self._now_ms % MINUTE_MS
        return self._sum(field, minute_ms - window_ms, minute_ms)

    def _sum(self, field: str, since_ms: int, until_ms: int) -> int:
        total = 0
        for pane in self._row.panes:
            if since_ms <= pane.start_ms < until_ms:
                total += _field(pane, field)
        return total

    def observations(self, histogram: str, window_ms: int) -> int:  # noqa: ARG002  sessions keep no histograms
        """Return 0: sessions keep no histograms, and rules over them cannot ask for one."""
        return 0

    def quantile(self, histogram: str, q: float, window_ms: int) -> float | None:  # noqa: ARG002  as above
        """Return None, for the same reason."""
        return None

    def gauge(self, field: str) -> int | None:
        """Return how many calls are in flight, for how long the oldest has been, or what a detector says."""
        if field == "in_flight":
            return len(self._row.open)
        if field.endswith("_ms"):
            began_ms = self.began_ms(field)
            return None if began_ms is None else max(self._now_ms - began_ms, 0)
        found = self.explain(field)
        if found is None:
            return 0
        if field == "loop_tokens":
            return found.tokens
        return found.cost_nano_usd if field == "loop_cost_nano_usd" else found.value

    def began_ms(self, age: str) -> int | None:
        """Return when the oldest call in flight began, or when the first is or will be overdue."""
        calls = self._row.open
        if not calls:
            return None
        if age == "overdue_ms":
            first = first_due(self._row, self._norms)
            return None if first is None else first[0]
        beats = self._row.beats
        waiting = [call.started_ms for call_id, call in calls.items() if beats.get(call_id) != ENDED]
        return min(waiting) if waiting else None

    def alarmed(self) -> bool:
        """Has a call or an error of the session happened again of late?"""
        trail = self._row.trail
        return trail is not None and trail.alarmed

    def explain(self, field: str) -> Finding | None:
        """Return what is behind a gauge of loops or of overdue calls; None: nothing is."""
        if field in DETECTED:
            return find(self._row, field, self._now_ms)
        if field == "overdue_ms":
            return overdue(self._row, self._norms, self._now_ms)
        return used(self._row, self._now_ms)

    def age_ms(self) -> int:
        """Return how long the session has been going on."""
        return max(self._now_ms - self._row.started_ms, 0)

    def quiet_ms(self) -> int:
        """Return how long no event of the session has come."""
        return max(self._now_ms - self._row.seen_ms, 0)

    def at(self, now_ms: int) -> "SessionReading":
        """Return the same session at an earlier end."""
        return SessionReading(self._row, now_ms, self._norms)


def _field(pane: LivePane, field: str) -> int:
    value: int = pane.input_tokens + pane.output_tokens if field == "tokens" else getattr(pane, field)
    return value


class KeyReading:
    """A rollup key's rows at a moment; its panes are 10 s."""

    __slots__ = ("_bins", "_gauges", "_key", "_now_ms", "_panes", "_row")

    def __init__(self, row: LifetimeRow, panes: Panes, now_ms: int, gauges: GaugeTable, key: str) -> None:
        self._row = row
        self._gauges = gauges
        self._key = key
        self._bins: dict[tuple[str, int], dict[int, int]] = {}  # merged once per reading
        self._panes = panes
        self._now_ms = now_ms

    @property
    def now_ms(self) -> int:
        """The reading's end."""
        return self._now_ms

    def account(self, budget: str) -> Account | None:
        """Return what the key has spent of a budget."""
        return self._row.accounts.get(budget)

    def total(self, field: str) -> int:
        """Return a measure since the key's first event."""
        return self._row.sums.get(field, 0)

    def window(self, field: str, window_ms: int) -> int:
        """Sum a measure over the trailing panes, the open one included."""
        return self._panes.window(field, window_ms, self._now_ms)

    def window_closed(self, field: str, window_ms: int) -> int:
        """Sum a measure over the trailing panes that have ended."""
        return self._panes.window_closed(field, window_ms, self._now_ms)

    def observations(self, histogram: str, window_ms: int) -> int:
        """Count what a histogram saw in the trailing panes that have ended."""
        return sum(self._merged(histogram, window_ms).values())

    def quantile(self, histogram: str, q: float, window_ms: int) -> float | None:
        """Return a quantile over the trailing panes that have ended, in µs."""
        return quantile(self._merged(histogram, window_ms), q)

    def _merged(self, histogram: str, window_ms: int) -> dict[int, int]:
        bins = self._bins.get((histogram, window_ms))
        if bins is None:
            bins = self._bins[histogram, window_ms] = self._panes.bins(histogram, window_ms, self._now_ms)
        return bins

    def began_ms(self, age: str) -> int | None:  # noqa: ARG002  no gauge of a rollup key is an age
        """Return None: what grows by itself belongs to sessions."""
        return None

    def alarmed(self) -> bool:
        """Return False: detectors look at sessions."""
        return False

    def explain(self, field: str) -> Finding | None:  # noqa: ARG002  as above
        """Return None, for the same reason."""
        return None

    def gauge(self, field: str) -> int | None:
        """Return what the sources that still hold say together."""
        return self._gauges.value(field, self._key, self._now_ms)

    def age_ms(self) -> int:
        """Return how long ago the key's first event came."""
        return max(self._now_ms - self._row.created_ms, 0)

    def quiet_ms(self) -> int:
        """Return how long nothing has been added to the key."""
        return max(self._now_ms - self._row.touched_ms, 0)

    def at(self, now_ms: int) -> "KeyReading":
        """Return the same key at an earlier end."""
        return KeyReading(self._row, self._panes, now_ms, self._gauges, self._key)
