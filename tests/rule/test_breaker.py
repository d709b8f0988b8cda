"""Circuits: the table walked transition by transition, and the arithmetic of who counts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule.rows import NOW_MS, PANE_MS, Row

from streams.rule import breaker as breaker_module
from streams.rule.breaker import BreakerBook, BreakerTransition, look, transition_id
from streams.rule.circuit import CLOSED, HALF_OPEN, OPEN, Signal, Snapshot, State, judge
from streams.rule.model import BreakerPolicy, RuleSet
from streams.rule.parse import parse_rules

KEY = ("search",)
TEXT = "breakers: [{over: tool, failure_rate: 50%, window: 1m, min_calls: 4, open_for: 30s, half_open_calls: 3}]"
RULES = parse_rules(TEXT)


def policy() -> BreakerPolicy:
    found = RULES.breaker("tool")
    assert found
    return found


class Tool:
    """A tool with its row and its circuit, driven as a stage does: a touch per call, a look when due."""

    def __init__(self, rules: RuleSet = RULES) -> None:
        self.row = Row()
        self.book = BreakerBook(rules)
        self.now_ms = NOW_MS
        self.moves: list[BreakerTransition] = []

    @property
    def state(self) -> State:
        return next((state.state for _, _, state in self.book.states()), CLOSED)

    def call(self, *outcomes: str) -> None:
        """Let calls finish, all in one flush."""
        for outcome in outcomes:
            self.row.add(self.now_ms, **{f"tool_calls_{outcome}": 1})
        self._touch()

    def wait(self, ms: int) -> None:
        """Let time pass."""
        self.now_ms += ms
        for _ in self.book.due(self.now_ms):
            self._touch()

    def _touch(self) -> None:
        moved = self.book.touch("tool", KEY, self.row.at(self.now_ms), self.now_ms)
        if moved is not None:
            self.moves.append(moved)

    def trip(self) -> None:
        self.call("error", "error", "error", "error")
        assert self.state is OPEN

    def trip_after(self, successes: int) -> None:
        """Open a circuit whose window is full of successes."""
        self.call(*["error"] * successes)
        assert self.state is OPEN


# ---- a life ----------------------------------------------------------------------------------------------------


def test_every_transition_in_turn() -> None:
    tool = Tool()
    tool.trip()
    tool.wait(30_000)
    tool.call("success", "error", "error")
    tool.wait(30_000)
    tool.call("success", "success", "error")
    tool.book.end("tool", KEY, tool.now_ms)

    assert [(m.before, m.signal, m.state.state) for m in tool.moves] == [
        (CLOSED, Signal.FAILURE_RATE_EXCEEDED, OPEN),
        (OPEN, Signal.WAIT_ELAPSED, HALF_OPEN),
        (HALF_OPEN, Signal.PROBES_FAILED, OPEN),
        (OPEN, Signal.WAIT_ELAPSED, HALF_OPEN),
        (HALF_OPEN, Signal.PROBES_PASSED, CLOSED),
    ]
    assert [m.state.transition for m in tool.moves] == [1, 2, 3, 4, 5]
    assert len({transition_id(m) for m in tool.moves}) == 5


# ---- closed ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        (["error"] * 3, CLOSED),  # too few calls say nothing
        (["error"] * 2 + ["success"] * 2, OPEN),  # exactly the rate trips
        (["error"] * 1 + ["success"] * 3, CLOSED),
        (["timeout"] * 2 + ["success"] * 2, OPEN),
        (["validation_error"] * 9, CLOSED),  # the caller's fault
        (["validation_error"] * 2 + ["error"] * 2, OPEN),  # but an answered call
        (["cancelled"] * 9 + ["error"] * 3, CLOSED),  # nobody waited for the answer
        (["success"] * 9, CLOSED),
    ],
)
def test_enough_calls_at_the_rate_open_the_circuit(outcomes: list[str], state: State) -> None:
    tool = Tool()
    tool.call(*outcomes)

    assert tool.state is state


def test_calls_that_left_the_window_do_not_count() -> None:
    tool = Tool()
    tool.call("error", "error", "error")
    tool.wait(60_000)
    tool.call("error")
    assert tool.state is CLOSED

    tool.call("error", "error", "error")
    assert tool.state is OPEN


def test_a_circuit_that_never_opened_has_no_row() -> None:
    tool = Tool()
    tool.call(*["success"] * 100, "error")

    assert not tool.book.drain()


# ---- open, half-open -------------------------------------------------------------------------------------------


def test_an_open_circuit_waits_whatever_happens() -> None:
    tool = Tool()
    tool.trip()
    tool.wait(29_999)
    tool.call(*["success"] * 50)
    assert tool.state is OPEN

    tool.wait(1)
    assert tool.state is HALF_OPEN


def test_a_touch_after_the_wait_does_what_the_tick_would_have_done() -> None:
    tool = Tool()
    tool.trip()
    tool.now_ms += 31_000
    tool.call("success")

    assert tool.state is HALF_OPEN
    assert (tool.moves[-1].state.baseline_calls, tool.moves[-1].state.baseline_failures) == (5, 4)


def test_half_open_shows_what_opened_it() -> None:
    tool = Tool()
    tool.trip()
    tool.wait(30_000)

    assert (tool.moves[-1].state.calls, tool.moves[-1].state.failures, tool.moves[-1].state.rate_ppm) == (
        4,
        4,
        1_000_000,
    )


def test_only_calls_finished_since_half_open_are_probes() -> None:
    tool = Tool()
    tool.trip()
    tool.wait(30_000)
    tool.call("success", "success")
    assert tool.state is HALF_OPEN

    tool.call("error")
    assert tool.state is CLOSED
    assert (tool.moves[-1].state.calls, tool.moves[-1].state.failures, tool.moves[-1].state.rate_ppm) == (3, 1, 333_333)


def test_a_half_open_circuit_waits_for_its_probes_for_ever() -> None:
    tool = Tool()
    tool.trip()
    tool.wait(30_000)
    tool.wait(10**9)

    assert tool.state is HALF_OPEN


def test_failures_from_before_the_opening_do_not_open_it_again() -> None:
    """Open for 30 s within a window of 1 min: when the circuit closes, the old failures are still in the window."""
    tool = Tool()
    tool.trip()
    tool.wait(30_000)
    tool.call("success", "success", "success")
    assert tool.state is CLOSED
    tool.call("success")
    assert tool.row.at(tool.now_ms).window("tool_calls_error", 60_000) == 4
    assert tool.state is CLOSED

    tool.call("error", "error", "error")
    assert tool.state is OPEN
    assert (tool.moves[-1].state.calls, tool.moves[-1].state.failures) == (4, 3)


def test_panes_after_the_closing_one_count_whole() -> None:
    """The pane in which the circuit closed had failed probes; a minute later nothing of that is left."""
    tool = Tool()
    tool.trip()
    tool.wait(30_000)
    tool.call("error", "success", "success")
    assert tool.state is CLOSED
    assert (tool.moves[-1].state.baseline_calls, tool.moves[-1].state.baseline_failures) == (3, 1)

    tool.wait(50_000)  # the pane in which it closed is now the oldest of the window
    tool.call("error")
    assert tool.state is CLOSED

    tool.wait(20_000)
    tool.call("error", "success")
    assert tool.state is CLOSED
    tool.call("success")
    assert tool.state is OPEN


def test_a_clock_that_runs_backwards_never_asks_for_less_than_a_pane() -> None:
    tool = Tool()
    tool.trip()
    tool.wait(30_000)
    tool.call("success", "success", "success")
    state = next(iter(tool.book.states()))[2]
    tool.row.add(tool.now_ms, tool_calls_error=4)

    assert look(policy(), state, tool.row.at(tool.now_ms), tool.now_ms - 20_000) == Snapshot(4, 4)


def test_late_calls_count_in_totals_only_and_open_nothing() -> None:
    tool = Tool()
    tool.trip()
    tool.wait(30_000)
    tool.call("success", "success", "success")
    for _ in range(50):
        tool.row.add(0, tool_calls_error=1)  # in no pane of the window
    tool.call("success")

    assert tool.state is CLOSED


# ---- limits, ends, storage -------------------------------------------------------------------------------------


def test_rows_without_a_policy_are_left_alone() -> None:
    book = BreakerBook(RULES)

    assert book.touch("model", KEY, Row().at(NOW_MS), NOW_MS) is None
    assert book.end("model", KEY, NOW_MS) is None


def test_circuits_beyond_the_limit_are_refused_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker_module, "BREAKERS_MAX", 1)
    tool = Tool()
    tool.trip()
    moved = tool.book.touch("tool", ("other",), tool.row.at(tool.now_ms), tool.now_ms)

    assert moved is None
    assert tool.book.overflowed == 1


def test_a_key_that_goes_closes_its_circuit_and_is_forgotten() -> None:
    tool = Tool()
    tool.trip()
    moved = tool.book.end("tool", KEY, tool.now_ms)
    assert moved

    assert (moved.before, moved.state.state, moved.signal, moved.gone) == (OPEN, CLOSED, Signal.KEY_EXPIRED, True)
    assert [stored for _, stored in tool.book.drain()] == [None]
    assert not tool.book.due(tool.now_ms + 10**9)
    assert tool.book.end("tool", KEY, tool.now_ms) is None


def restart(tool: Tool, rules: RuleSet) -> None:
    """Load a new book from what the old one stored."""
    rows = tool.book.drain()
    tool.book = BreakerBook(rules)
    for names, stored in rows:
        assert stored is not None
        tool.book.load(names, stored)


def test_the_wait_goes_on_through_a_restart() -> None:
    tool = Tool()
    tool.trip()
    tool.wait(10_000)
    restart(tool, RULES)
    tool.wait(19_900)
    assert tool.state is OPEN

    tool.wait(100)
    assert tool.state is HALF_OPEN
    assert [m.state.transition for m in tool.moves] == [1, 2]


def test_probes_are_counted_on_through_a_restart() -> None:
    tool = Tool()
    tool.trip()
    tool.wait(30_000)
    tool.call("success", "success")
    restart(tool, RULES)
    tool.call("success")

    assert tool.state is CLOSED


def test_a_policy_that_counts_other_calls_than_before_starts_counting_anew() -> None:
    tool = Tool()
    tool.call(*["success"] * 500)
    tool.trip_after(500)
    tool.wait(30_000)
    restart(tool, parse_rules(TEXT.replace("window", "calls: [tool_calls_error, tool_calls_timeout], window")))
    tool.call("error")
    assert tool.state is HALF_OPEN

    tool.call("error", "error", "error")
    assert tool.state is OPEN


def test_circuits_without_a_policy_close_and_are_forgotten() -> None:
    tool = Tool()
    tool.trip()
    restart(tool, RuleSet())
    (moved,) = tool.book.expire(tool.now_ms)

    assert (moved.key, moved.before, moved.state.state, moved.signal, moved.gone) == (
        KEY,
        OPEN,
        CLOSED,
        Signal.POLICY_REMOVED,
        True,
    )
    assert [stored for _, stored in tool.book.drain()] == [None]
    assert not tool.book.expire(tool.now_ms)


# ---- properties ------------------------------------------------------------------------------------------------


@given(st.integers(1, 1000), st.integers(0, 1000), st.integers(1, 100), st.integers(1, 100))
def test_the_cheap_look_never_hides_what_the_whole_one_would_see(
    calls: int, failures: int, percent: int, min_calls: int
) -> None:
    failures = min(failures, calls)
    text = f"breakers: [{{over: tool, failure_rate: {percent}%, min_calls: {min_calls}}}]"
    found = parse_rules(text).breaker("tool")
    assert found
    row = Row()
    row.add(NOW_MS, tool_calls_error=failures, tool_calls_success=calls - failures)
    reading = row.at(NOW_MS)
    opened = BreakerBook(parse_rules(text)).touch("tool", KEY, reading, NOW_MS) is not None

    assert opened == (judge(found, None, look(found, None, reading, NOW_MS), NOW_MS) is Signal.FAILURE_RATE_EXCEEDED)
    assert opened == (calls >= min_calls and failures * 100 >= percent * calls)


class Oracle:
    """A circuit that remembers every call and recounts them each time."""

    def __init__(self, rule: BreakerPolicy) -> None:
        self.rule = rule
        self.state = CLOSED
        self.since_ms = 0
        self.calls: list[tuple[int, int, bool]] = []  # moment, number of the flush, failed?
        self.flush = 0
        self.from_flush = 0  # calls before this flush no longer count

    def look(self, now_ms: int) -> None:
        """Decide once after a flush or a tick."""
        window_ms = now_ms - now_ms % PANE_MS + PANE_MS - self.rule.window_ms
        fresh = [call for call in self.calls if call[1] > self.from_flush]
        counted = fresh if self.state is HALF_OPEN else [call for call in fresh if call[0] >= window_ms]
        failed = sum(call[2] for call in counted)
        if self.state is OPEN:
            if now_ms - self.since_ms >= self.rule.open_for_ms:
                self._go(HALF_OPEN, now_ms)
        elif len(counted) >= (self.rule.min_calls if self.state is CLOSED else self.rule.half_open_calls):
            bad = failed / len(counted) >= self.rule.failure_rate
            if self.state is HALF_OPEN or bad:
                self._go(OPEN if bad else CLOSED, now_ms)

    def _go(self, state: State, now_ms: int) -> None:
        self.state, self.since_ms, self.from_flush = state, now_ms, self.flush


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 200), st.lists(st.booleans(), max_size=6)), max_size=30))
def test_a_circuit_decides_as_one_that_remembers_every_call(steps: list[tuple[int, list[bool]]]) -> None:
    tool, oracle = Tool(), Oracle(policy())
    for tenths, failed in steps:
        # ticks come every 100 ms; between flushes only an open circuit can move
        for _ in range(tenths):
            tool.wait(100)
            if oracle.state is OPEN:
                oracle.look(tool.now_ms)
            assert tool.state is oracle.state
        oracle.flush += 1
        oracle.calls += [(tool.now_ms, oracle.flush, bad) for bad in failed]
        if failed:
            tool.call(*("error" if bad else "success" for bad in failed))
            oracle.look(tool.now_ms)
        assert tool.state is oracle.state


# ---- other policies --------------------------------------------------------------------------------------------


def open_tool() -> Tool:
    tool = Tool()
    tool.call(*["error"] * 4)
    assert tool.state is OPEN
    return tool


def test_a_circuit_whose_policy_goes_closes_once() -> None:
    tool = open_tool()
    tool.book.use(RuleSet())
    moves = tool.book.expire(tool.now_ms)

    assert [(moved.signal, moved.state.state, moved.gone) for moved in moves] == [(Signal.POLICY_REMOVED, CLOSED, True)]
    assert not tool.book.expire(tool.now_ms)
    assert not list(tool.book.states())


def test_a_policy_that_comes_back_in_time_keeps_its_circuits() -> None:
    tool = open_tool()
    tool.book.use(RuleSet())
    tool.book.use(RULES)

    assert not tool.book.expire(tool.now_ms)
    assert tool.state is OPEN
    assert [stored for _, stored in tool.book.drain() if stored]  # what was told before is still to be written


@pytest.mark.parametrize(("open_for", "waited_ms"), [("5s", 5_000), ("2m", 120_000)])
def test_an_open_circuit_waits_as_long_as_the_new_policy_says(open_for: str, waited_ms: int) -> None:
    tool = open_tool()
    tool.book.use(parse_rules(TEXT.replace("open_for: 30s", f"open_for: {open_for}")))
    due = [at_ms for at_ms in range(0, 200_000, 1_000) if tool.book.due(tool.now_ms + at_ms)]

    assert [waited_ms] == due
