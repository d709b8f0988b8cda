"""Circuits against resilience4j's rules: the table transition by transition, and lives against an oracle."""

from pathlib import Path
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rule.resilience import TARGETS, Breaker, Config
from rule.rows import Row

from streams.fold.circuits import pack_codes
from streams.fold.rollup import BreakerOrder
from streams.rule.breaker import BreakerBook, BreakerTransition
from streams.rule.circuit import (
    CLOSED,
    HALF_OPEN,
    METRICS_ONLY,
    NEXT,
    NOTHING,
    OPEN,
    ORDERED,
    BreakerState,
    Signal,
    Snapshot,
    State,
    advance,
    judge,
)
from streams.rule.model import BreakerPolicy, RuleSet
from streams.rule.parse import parse_rules
from streams.rule.records import breaker_record

KEY: Final = ("search",)
T0: Final = 1_000_000_000
STEP_MS: Final = 100  # a tick, and the finest that deadlines are
PAGE: Final = Path(__file__).parents[2] / "docs" / "breakers.md"


def rules_of(**keys: object) -> RuleSet:
    text = ", ".join(f"{key}: {value}" for key, value in {"over": "tool", "window": "4 calls", **keys}.items())
    return parse_rules(f"breakers: [{{{text}}}]")


def policy_of(**keys: object) -> BreakerPolicy:
    return rules_of(**keys).breakers[0]


# ---- the table -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signal", Signal)
@pytest.mark.parametrize("state", State)
def test_the_table_is_all_there_is(state: State, signal: Signal) -> None:
    circuit = BreakerState(state, 1_000, 5)
    if (state, signal) not in NEXT:
        with pytest.raises(KeyError):
            advance(policy_of(), circuit, signal, Snapshot(10, 5), 2_000)
        return
    advance(policy_of(), circuit, signal, Snapshot(10, 5), 2_000)

    assert NEXT[state, signal] is circuit.state
    assert 6 == circuit.transition
    assert 2_000 == circuit.moved_ms


def test_the_page_shows_the_table() -> None:
    """The conformance table in the documentation is read cell by cell; a dash is a signal that cannot come."""
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    shown = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    table = {row[0].strip("`").upper(): row[1:] for row in shown if len(row) == len(State) + 1}

    assert {signal.name for signal in Signal if signal is not Signal.INITIAL_STATE} == table.keys()
    for signal, cells in table.items():
        for state, cell in zip(State, cells, strict=True):
            after = NEXT.get((state, Signal[signal]))
            assert cell == ("–" if after is None else after.name), (signal, state)


def test_the_codes_are_those_everybody_knows() -> None:
    assert {
        "CLOSED": 0, "OPEN": 1, "HALF_OPEN": 2, "DISABLED": 3, "FORCED_OPEN": 4, "METRICS_ONLY": 5,
    } == {state.name: int(state) for state in State}  # fmt: skip


@pytest.mark.parametrize(
    ("state", "seen", "signal"),
    [
        (CLOSED, Snapshot(3, 3), None),  # too few say nothing
        (CLOSED, Snapshot(4, 1), None),
        (CLOSED, Snapshot(4, 2), Signal.FAILURE_RATE_EXCEEDED),  # exactly the rate trips
        (CLOSED, Snapshot(4, 0, 3), Signal.SLOW_CALL_RATE_EXCEEDED),
        (CLOSED, Snapshot(4, 2, 3), Signal.FAILURE_RATE_EXCEEDED),
        (METRICS_ONLY, Snapshot(4, 2), Signal.FAILURE_RATE_EXCEEDED),
        (HALF_OPEN, Snapshot(1, 1), None),
        (HALF_OPEN, Snapshot(2, 1), Signal.PROBES_FAILED),
        (HALF_OPEN, Snapshot(2, 0, 2), Signal.PROBES_FAILED),
        (HALF_OPEN, Snapshot(2, 0), Signal.PROBES_PASSED),
        (OPEN, Snapshot(99, 99), None),
        (State.DISABLED, Snapshot(99, 99), None),
        (State.FORCED_OPEN, Snapshot(99, 99), None),
    ],
)
def test_what_a_window_means_in_each_state(state: State, seen: Snapshot, signal: Signal | None) -> None:
    policy = policy_of(min_calls=9, half_open_calls=2, slow_call="1s", slow_call_rate="75%", open_for="1s")

    assert signal == judge(policy, BreakerState(state, T0), seen, T0)


def test_a_minimum_above_the_window_is_the_window() -> None:
    policy = policy_of(min_calls=100, half_open_calls=10)

    assert (4, 10) == (policy.least_calls, policy.least_probes)
    assert 3 == policy_of(min_calls=3, half_open_calls=10).least_probes


def test_the_wait_grows_with_every_opening_in_a_row_up_to_its_cap() -> None:
    fixed, growing = policy_of(open_for="30s"), policy_of(open_for="{first: 10s, factor: 2, most: 1m}")

    assert [30_000] * 4 == [fixed.wait_ms(attempts) for attempts in (1, 2, 3, 99)]
    assert [10_000, 20_000, 40_000, 60_000, 60_000] == [growing.wait_ms(attempts) for attempts in (1, 2, 3, 4, 10**6)]


def test_slow_is_longer_than_the_limit_and_never_equal() -> None:
    guarded = policy_of(slow_call="1s").guarded()
    assert guarded is not None

    assert [0, 2] == [guarded.code("success", None, us) for us in (1_000_000, 1_000_001)]
    assert [1, 3] == [guarded.code("error", None, us) for us in (0, 1_000_001)]
    assert [-1, -1] == [guarded.code("cancelled", None, us) for us in (0, 1_000_001)]


def test_error_codes_decide_before_the_status_does() -> None:
    policy = policy_of(over="model", failure_codes="[overloaded]", ignored_codes="[content_filter]")
    guarded = policy.guarded()
    assert guarded is not None

    assert [1, 1, -1, 1, 0] == [
        guarded.code("error", None, 0),
        guarded.code("success", "overloaded", 0),
        guarded.code("error", "content_filter", 0),
        guarded.code("error", "other", 0),
        guarded.code("success", "other", 0),
    ]


# ---- lives -----------------------------------------------------------------------------------------------------


class Watched:
    """A circuit of the product with a row, driven as the second stage drives it."""

    def __init__(self, rules: RuleSet, *, splits: bool) -> None:
        self.rules = rules
        self.book = BreakerBook(rules)
        self.row = Row()
        self.now_ms = T0
        self.offset = 0
        self.splits = splits
        self.moved: list[BreakerTransition] = []
        self.rows: dict[bytes, bytes | None] = {}

    @property
    def state(self) -> BreakerState:
        (state,) = [state for _, _, state in self.book.states()] or [BreakerState()]
        return state

    def _note(self, *moved: BreakerTransition | None) -> None:
        self.moved += [one for one in moved if one]

    def touch(self) -> None:
        self._note(self.book.touch("tool", KEY, self.row.at(self.now_ms), self.now_ms))

    def tick(self) -> None:
        self.now_ms += STEP_MS
        for _ in self.book.due(self.now_ms):
            self.touch()

    def calls(self, codes: list[int]) -> None:
        """Let calls end: in one flush, or in one for each."""
        for part in [[code] for code in codes] if self.splits else [codes]:
            self.offset += 1
            self._note(*self.book.take("tool", KEY, pack_codes(part), self.offset, self.now_ms))
            if self.splits and self.offset % 2:
                self.restart()

    def ask(self) -> None:
        self.row.add(self.now_ms, tool_calls_started=1)
        self.touch()

    def order(self, action: str) -> None:
        self.offset += 1
        order = BreakerOrder(f"c{self.offset}", self.now_ms, action, "tool|search", "ops")  # type: ignore[arg-type]  # one of ORDERED
        for over, key in self.book.meant(order, ()):
            self._note(self.book.obey(order, over, key, self.offset, self.row.at(self.now_ms), self.now_ms))

    def restart(self) -> None:
        """Write what has changed, throw the book away, and read it again."""
        self.rows.update(self.book.drain(self.offset))
        self.book = BreakerBook(self.rules)
        for names, stored in self.rows.items():
            assert stored is not None
            self.book.load(names, stored)

    def window(self) -> tuple[int, int, int]:
        state = self.state
        self.rows.update(self.book.drain(self.offset))
        return state.live_calls, state.live_failures, state.live_slow

    def events(self) -> list[str]:
        """Write what was told in the oracle's words."""
        told: list[str] = []
        for moved in self.moved:
            record = breaker_record(moved)
            if record.reason == "initial_state":
                continue
            for event in record.events:
                if event == "state_transition":
                    told.append(f"{record.previous}>{record.state}")
                elif event not in {"forced_open", "disabled"}:  # which say again where a transition went
                    told.append(event)
        return told


RATES: Final = (0.2, 0.34, 0.5, 0.67, 1.0)
configs = st.builds(
    Config,
    window=st.integers(1, 7),
    minimum=st.integers(1, 9),
    failure_rate=st.sampled_from(RATES),
    slow_rate=st.sampled_from(RATES),
    wait_ms=st.sampled_from((1_000, 1_500)),
    factor=st.sampled_from((1.0, 2.0)),
    wait_most_ms=st.just(3_000),
    permitted=st.integers(1, 5),
    half_open_ms=st.sampled_from((0, 0, 700)),
    after_half_open=st.sampled_from(("open", "closed")),
    automatic=st.booleans(),
    initial=st.sampled_from(("closed", "closed", "open", "half_open", "disabled", "forced_open", "metrics_only")),
)
calls = st.lists(st.integers(0, 3), min_size=1, max_size=12)
steps = st.lists(
    st.one_of(
        calls.map(lambda codes: ("calls", codes)),
        calls.map(lambda codes: ("calls", codes)),
        st.integers(1, 25).map(lambda ticks: ("wait", ticks)),
        st.just(("ask", None)),
        st.sampled_from(sorted(TARGETS)).map(lambda action: ("order", action)),
    ),
    max_size=25,
)


def rules_for(config: Config) -> RuleSet:
    wait: object = f"{config.wait_ms}ms"
    if config.factor > 1:
        wait = f"{{first: {config.wait_ms}ms, factor: {config.factor}, most: {config.wait_most_ms}ms}}"
    return rules_of(
        window=f"{config.window} calls", min_calls=config.minimum, failure_rate=config.failure_rate, slow_call="1s",
        slow_call_rate=config.slow_rate, open_for=wait, half_open_calls=config.permitted,
        half_open_for=f"{config.half_open_ms}ms", after_half_open=config.after_half_open,
        automatic=str(config.automatic).lower(), initial=config.initial,
    )  # fmt: skip


@settings(deadline=None, max_examples=400)
@given(configs, steps, st.booleans())
@example(  # opened anew while the deadline of half-open still stood
    config=Config(1, 1, 0.2, 0.2, 1_000, permitted=1, half_open_ms=700, automatic=True),
    life=[("calls", [1]), ("wait", 10), ("calls", [1]), ("wait", 10)],
    splits=False,
)
def test_a_circuit_lives_as_resilience4j_says(config: Config, life: list[tuple[str, object]], splits: bool) -> None:
    """Whatever happens, in one flush or in many, with restarts between them: state, times, window and events."""
    product, oracle = Watched(rules_for(config), splits=splits), Breaker(config, T0)
    product.touch()
    for what, how in life:
        match what, how:
            case "calls", list(codes):
                product.calls(codes)
                for code in codes:
                    oracle.call(bool(code & 1), bool(code & 2))
            case "wait", int(ticks):
                for _ in range(ticks):
                    product.tick()
                    oracle.tick(product.now_ms)
            case "order", str(action):
                product.order(action)
                oracle.order(action)
            case _:
                product.ask()
                oracle.ask()
        state = product.state

        assert oracle.state == state.state.name.lower()
        assert oracle.attempts == state.attempts
        assert oracle.events == product.events()
        if product.moved:
            assert oracle.since_ms == state.since_ms
            assert oracle.window() == product.window()


@settings(deadline=None, max_examples=200)
@given(configs, st.lists(calls, max_size=8), st.lists(st.integers(1, 5), max_size=8))
def test_how_calls_are_cut_into_flushes_changes_nothing(
    config: Config, flushes: list[list[int]], cuts: list[int]
) -> None:
    whole, cut = Watched(rules_for(config), splits=False), Watched(rules_for(config), splits=False)
    codes = [code for flush in flushes for code in flush]
    whole.calls(codes)
    at = 0
    while at < len(codes):
        size = cuts[at % len(cuts)] if cuts else 1
        cut.calls(codes[at : at + size])
        at += size
    if not codes:
        return
    whole.window()
    cut.window()

    whole.state.stamp = cut.state.stamp = 0
    assert whole.state == cut.state
    assert [(one.signal, one.state.state) for one in whole.moved] == [
        (one.signal, one.state.state) for one in cut.moved
    ]


def test_calls_of_a_record_that_was_taken_before_are_skipped() -> None:
    """A torn transaction left the row and not the offset: what is in the row is not taken again."""
    watched = Watched(rules_of(min_calls=4), splits=False)
    watched.calls([1, 1])
    watched.restart()
    watched.offset -= 1
    watched.calls([1, 1])
    assert (2, 2, 0) == watched.window()

    watched.calls([1, 1])
    assert OPEN is watched.state.state


def test_a_command_that_was_taken_before_is_skipped() -> None:
    watched = Watched(rules_of(), splits=False)
    watched.order("disable")
    watched.restart()
    watched.offset -= 1
    watched.order("force-open")

    assert State.DISABLED is watched.state.state
    assert 1 == len(watched.moved)


def test_a_command_says_who_and_why_until_the_next_move() -> None:
    watched = Watched(rules_of(), splits=False)
    order = BreakerOrder("c", T0, "force-open", "tool|search", "ops@example.com", "the vendor is down")
    moved = watched.book.obey(order, "tool", KEY, 7, None, T0)
    assert moved is not None
    record = breaker_record(moved)
    assert ("c", "ops@example.com", "the vendor is down") == (record.command, record.by, record.note)
    assert ("forced_open", 4, "force_open") == (record.state, record.code, record.reason)
    assert ("state_transition", "forced_open") == record.events

    watched.offset = 7
    watched.order("reset")
    last = breaker_record(watched.moved[-1])
    assert ("c8", "ops", None) == (last.command, last.by, last.note)


def test_a_pattern_means_the_keys_there_are() -> None:
    watched = Watched(rules_of(), splits=False)
    watched.calls([1])
    rows = [("tool", ("search",)), ("tool", ("sea|rch",)), ("tool", ("fetch",)), ("agent", ("sea",))]

    def meant(pattern: str) -> list[tuple[str, tuple[str, ...]]]:
        return list(watched.book.meant(BreakerOrder("c", T0, "reset", pattern, "ops"), rows))

    assert rows[:2] == meant("tool|sea*")
    assert rows[:3] == meant("tool|*")
    assert rows[1:2] == meant("tool|sea\\|rch")
    assert [("tool", ("never-seen",))] == meant("tool|never-seen")
    assert [] == meant("agent|*")
    assert [] == meant("tool|s?arch*")


def test_every_order_has_a_signal_from_every_state() -> None:
    assert set(TARGETS) == ORDERED.keys()
    for action, signal in ORDERED.items():
        assert {TARGETS[action]} == {NEXT[state, signal].name.lower() for state in State}


def test_a_time_window_counts_slow_calls_by_their_own_measure() -> None:
    policy = parse_rules("breakers: [{over: tool, window: 1m, min_calls: 4, slow_call: 1s, slow_call_rate: 50%}]")
    book, row = BreakerBook(policy), Row()
    row.add(T0, tool_calls_success=4, circuit_slow_calls=1)
    assert book.touch("tool", KEY, row.at(T0), T0) is None

    row.add(T0, circuit_slow_calls=1)
    moved = book.touch("tool", KEY, row.at(T0), T0)
    assert moved is not None
    assert (Signal.SLOW_CALL_RATE_EXCEEDED, OPEN, 4, 0, 2) == (
        moved.signal, moved.state.state, moved.state.calls, moved.state.failures, moved.state.slow,
    )  # fmt: skip


def test_metrics_only_tells_once_of_each_rate_and_stays() -> None:
    text = "breakers: [{over: tool, window: 1m, min_calls: 2, initial: metrics_only, slow_call: 1s}]"
    book, row, told = BreakerBook(parse_rules(text)), Row(), []
    for calls_ in ({}, {"tool_calls_error": 2}, {"tool_calls_error": 9}, {"circuit_slow_calls": 11}, {}):
        row.add(T0, **calls_)
        moved = book.touch("tool", KEY, row.at(T0), T0)
        told.append(breaker_record(moved).events if moved else None)

    assert [(), ("failure_rate_exceeded",), None, ("slow_call_rate_exceeded",), None] == told
    (state,) = [state for _, _, state in book.states()]
    assert (METRICS_ONLY, 3, T0) == (state.state, state.transition, state.since_ms)


def test_too_few_calls_read_as_a_rate_of_minus_one() -> None:
    state = BreakerState()
    advance(policy_of(), state, Signal.FORCE_OPEN, NOTHING, T0)

    assert (-1_000_000, -1_000_000) == (state.rate_ppm, state.slow_ppm)
