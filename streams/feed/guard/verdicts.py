"""Which calls are stopped, by whom, and until when?  Records of the breaker and the alert topic as an index.  Pure.

Never judges whether a circuit should open or an alert should fire: the workers have, and this only finds their words.

A verdict is about what its row is about: `tool`, `session`, or several such as `agent_tool`, or `all` calls.  Rows that
no call can be held against (an endpoint, a partition of the pipeline) stop nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

BREAKER: Final = "breaker/"  # then the circuit's name: what a verdict on it is called
STOP: Final = "stop/"  # then the alert's fingerprint
VERDICTS_MAX: Final = 50_000  # held at once, at 1 KB each; beyond it new ones are counted and left out

DeniedBy: TypeAlias = Literal["breaker", "budget", "loop", "rule", "unknown"]
Mode: TypeAlias = Literal["deny", "probe"]

# What may be known of a call, by the word that names it in a rule's `over`.
_COLUMNS: Final[Mapping[str, str]] = {
    "agent": "agent",
    "tool": "tool",
    "model": "model",
    "provider": "provider",
    "tenant": "tenant",
    "user": "user_id",
    "session": "session_id",
    "endpoint": "endpoint",
}
# resilience4j's states, words and codes; closed, disabled and metrics_only let every call through.
_STATES: Final[Mapping[str | int, Mode | None]] = {
    "closed": None, "open": "deny", "half_open": "probe",
    "disabled": None, "forced_open": "deny", "metrics_only": None,
    0: None, 1: "deny", 2: "probe", 3: None, 4: "deny", 5: None,
}  # fmt: skip
_SPENT: Final = frozenset({"nano_usd", "tokens"})  # what a budget is in


class Circuit(Struct, frozen=True, gc=False):
    """What is needed of a record of the breaker topic."""

    id: str
    breaker: str
    over: str
    labels: dict[str, str]
    state: str
    code: int
    reason: str
    since_ms: int
    transition: int
    open_until_ms: int | None = None
    calls: int = 0
    failures: int = 0
    window_ms: int = 0
    half_open_calls: int = 1
    by: str | None = None  # who asked for the state, where somebody did
    note: str | None = None


class Budget(Struct, frozen=True, gc=False):
    """What an alert of a budget says about it."""

    budget: str
    period_end_ms: int | None = None


class Explanation(Struct, frozen=True, gc=False):
    """What a detector has found."""

    signature: str = ""


class Stop(Struct, frozen=True, gc=False):
    """What is needed of a record of the alert topic."""

    id: str
    fingerprint: str
    alert: str
    state: str
    over: str
    labels: dict[str, str]
    active_since_ms: int
    incarnation: int
    transition: int
    stop: bool = False
    fired_ms: int | None = None
    unit: str = "count"
    summary: str = ""
    budget: Budget | None = None
    explanation: Explanation | None = None


class Verdict(Struct, frozen=True, gc=False):
    """One word of the workers that may stop calls: those that have all of `values` in `columns`."""

    name: str
    mode: Mode
    order: tuple[int, int]  # of two verdicts of one name the higher is the newer
    columns: tuple[str, ...]
    values: tuple[str, ...]
    denied_by: DeniedBy
    about: Circuit | Stop

    @property
    def until_ms(self) -> int | None:
        """When an open circuit lets calls try again, or a budget's period ends; None when nobody knows."""
        about = self.about
        if isinstance(about, Circuit):
            return about.open_until_ms
        return None if about.budget is None else about.budget.period_end_ms


_decode_circuit: Final = msgspec.json.Decoder(Circuit).decode
_decode_stop: Final = msgspec.json.Decoder(Stop).decode


def columns_of(over: str) -> tuple[str, ...] | None:
    """Return what a call must be known by to be held against a kind of row; None when it never can."""
    if over == "all":
        return ()
    columns = tuple(_COLUMNS.get(part, "") for part in over.split("_"))
    return columns if all(columns) else None


def read(name: str, body: bytes | str) -> Verdict | None:
    """Read a record: `name` says of which topic; None when it stops nothing. Raises msgspec.DecodeError."""
    return _of_circuit(name, _decode_circuit(body)) if name.startswith(BREAKER) else _of_stop(name, _decode_stop(body))


def order_of(name: str, body: bytes | str) -> tuple[int, int]:
    """Return what tells a newer record of a name from an older one. Raises msgspec.DecodeError."""
    if name.startswith(BREAKER):
        circuit = _decode_circuit(body)
        return circuit.since_ms, circuit.transition
    stop = _decode_stop(body)
    return stop.incarnation, stop.transition


def _of_circuit(name: str, circuit: Circuit) -> Verdict | None:
    mode = _STATES.get(circuit.state, _STATES.get(circuit.code))
    where = _where(circuit.over, circuit.labels)
    if mode is None or where is None:
        return None
    return Verdict(name, mode, (circuit.since_ms, circuit.transition), *where, "breaker", circuit)


def _of_stop(name: str, stop: Stop) -> Verdict | None:
    where = _where(stop.over, stop.labels)
    if not stop.stop or stop.state != "firing" or where is None:
        return None
    return Verdict(name, "deny", (stop.incarnation, stop.transition), *where, _kind(stop), stop)


def _kind(stop: Stop) -> DeniedBy:
    if stop.explanation is not None:
        return "loop"
    return "budget" if stop.budget is not None or stop.unit in _SPENT else "rule"


def _where(over: str, labels: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    columns = columns_of(over)
    if columns is None:
        return None
    values = tuple(labels.get(column, "") for column in columns)
    return (columns, values) if all(values) else None


class Shape(NamedTuple):
    """The verdicts about calls that are known by the same columns."""

    columns: tuple[str, ...]
    table: Mapping[tuple[str, ...], tuple[Verdict, ...]]


class Index:
    """Verdicts by what they are about; never changed once it is made."""

    __slots__ = ("shapes", "verdicts")

    def __init__(self, verdicts: Iterable[Verdict] = ()) -> None:
        tables: dict[tuple[str, ...], dict[tuple[str, ...], tuple[Verdict, ...]]] = {}
        self.verdicts = 0
        for verdict in verdicts:
            table = tables.setdefault(verdict.columns, {})
            table[verdict.values] = (*table.get(verdict.values, ()), verdict)
            self.verdicts += 1
        self.shapes: Final = tuple(Shape(columns, table) for columns, table in tables.items())

    def about(self, call: Mapping[str, str | None]) -> list[Verdict]:
        """Return the verdicts about a call: a look-up for each way in which calls are stopped at the moment."""
        found: list[Verdict] = []
        for columns, table in self.shapes:
            hit = table.get(tuple([call.get(column) or "" for column in columns]))
            if hit is not None:
                found += hit
        return found


class Standing:
    """What is said at the moment, as it is read; `index` is made anew when asked for."""

    def __init__(self) -> None:
        self._verdicts: dict[str, Verdict] = {}
        self.unreadable = 0
        self.overflowed = 0

    def clear(self) -> None:
        """Forget everything: it is about to be read whole."""
        self._verdicts = {}

    def take(self, name: str, body: bytes | str | None) -> None:
        """Take one record; None forgets it. An older one than what is known changes nothing."""
        if body is None:
            self._verdicts.pop(name, None)
            return
        try:
            verdict = read(name, body)
        except msgspec.DecodeError:
            self.unreadable += 1
            return
        known = self._verdicts.get(name)
        if known is not None and order_of(name, body) < known.order:
            return
        if verdict is None:
            self._verdicts.pop(name, None)
        elif known is None and len(self._verdicts) >= VERDICTS_MAX:
            self.overflowed += 1
        else:
            self._verdicts[name] = verdict

    def index(self) -> Index:
        """Return what calls are held against."""
        return Index(self._verdicts.values())
