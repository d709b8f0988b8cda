"""What events do to a session's row and to the cells: calls between agents, and what a request took."""

from typing import Any, Final

from streams.event import model
from streams.fold.apply import apply, end
from streams.fold.cells import Cells
from streams.fold.live import LiveRow
from streams.fold.rollup import Delta, Histogram

T0: Final = 1_763_724_000_000


class Story:
    """One session, and what its events add up to."""

    def __init__(self) -> None:
        self.row = LiveRow("a", None, None, T0, T0, T0)
        self.cells = Cells()
        self._deltas: list[Delta] = []

    def tell(self, kind: type[model.Envelope], **fields: Any) -> None:
        event = kind(id="e", time=T0, agent="a", session_id="s", **fields)
        apply(self.row, None, event, self.cells, T0, T0)

    def sums(self, dimension: str, *labels: str) -> dict[str, int]:
        found = [delta.sums for delta in self.deltas() if (delta.dimension, delta.labels) == (dimension, labels)]
        return found[0] if found else {}

    def observed(self, histogram: str) -> tuple[int, int]:
        """Return how many there were, and their sum."""
        (delta,) = [delta for delta in self.deltas() if delta.dimension == "agent"]
        seen = delta.histograms.get(histogram, Histogram())
        return sum(seen.buckets.values()), seen.sum_us

    def deltas(self) -> list[Delta]:
        """Take what the cells have, once."""
        self._deltas = self._deltas or self.cells.deltas()
        return self._deltas


# ---- calls between agents ---------------------------------------------------------------------------------------


def test_a_call_ends_where_it_began() -> None:
    """Its end may name another agent: in flight is counted by the one its start named."""
    story = Story()
    story.tell(model.A2AStart, call_id="c", target="b", operation="run")
    story.tell(model.A2AEnd, call_id="c", target="other", operation="run")

    assert {"events": 1, "a2a_started": 1, "a2a_ended": 1} == story.sums("a2a_agent", "b")
    assert {"events": 1} == story.sums("a2a_agent", "other")
    assert {"events": 1, "a2a_requests": 1} == story.sums("a2a", "other", "run", "success")
    assert not story.row.open


def test_an_end_that_was_begun_as_something_else_is_unmatched() -> None:
    story = Story()
    story.tell(model.ToolStart, call_id="c", tool="t")
    story.tell(model.A2AEnd, call_id="c", target="b", operation="run")

    assert {"events": 1, "a2a_unmatched": 1} == story.sums("a2a_agent", "b")
    assert ["c"] == list(story.row.open)
    assert 1 == story.row.unmatched


def test_a_call_in_flight_is_given_up_with_its_session() -> None:
    story = Story()
    story.tell(model.A2AStart, call_id="c", target="b", operation="run")
    story.tell(model.A2AStart, target="b", operation="run")  # which no end can name
    end(story.row, T0, "idle", story.cells, T0)

    assert {"events": 2, "a2a_started": 2, "a2a_abandoned": 2} == story.sums("a2a_agent", "b")
    assert 2 == story.row.abandoned


# ---- what a request took ----------------------------------------------------------------------------------------


def test_a_request_took_what_its_session_spent_meanwhile() -> None:
    story = Story()
    story.tell(model.TokenUsage, model="m", input_tokens=1_000, cost_nano_usd=5)
    story.tell(model.Cycle, phase="planning")
    story.tell(model.AgentStart, call_id="q")
    story.tell(model.TokenUsage, model="m", input_tokens=30, output_tokens=4, cost_nano_usd=700)
    story.tell(model.Cycle, phase="reasoning")
    story.tell(model.Cycle, phase="reasoning")
    story.tell(model.AgentEnd, call_id="q")
    story.tell(model.TokenUsage, model="m", input_tokens=9)

    assert (1, 34) == story.observed("request_tokens")
    assert (1, 700) == story.observed("request_cost")
    assert (1, 2) == story.observed("request_cycles")
    assert not story.row.begun


def test_what_nobody_reported_is_not_observed_as_zero() -> None:
    story = Story()
    story.tell(model.AgentStart, call_id="q")
    story.tell(model.AgentEnd, call_id="q")

    for histogram in ("request_tokens", "request_cost", "request_cycles"):
        assert (0, 0) == story.observed(histogram)


def test_a_request_within_a_request_is_part_of_both() -> None:
    story = Story()
    story.tell(model.AgentStart, call_id="outer")
    story.tell(model.AgentStart, call_id="inner")
    story.tell(model.TokenUsage, model="m", input_tokens=10)
    story.tell(model.AgentEnd, call_id="inner")
    story.tell(model.TokenUsage, model="m", input_tokens=5)
    story.tell(model.AgentEnd, call_id="outer")

    assert (2, 25) == story.observed("request_tokens")


def test_an_end_without_its_start_observes_nothing_and_a_second_start_does_not_begin_anew() -> None:
    story = Story()
    story.tell(model.AgentEnd, call_id="never")
    story.tell(model.AgentStart, call_id="q")
    story.tell(model.TokenUsage, model="m", input_tokens=10)
    story.tell(model.AgentStart, call_id="q")
    story.tell(model.AgentEnd, call_id="q")

    assert (1, 10) == story.observed("request_tokens")


def test_what_is_given_up_leaves_nothing_behind() -> None:
    story = Story()
    story.tell(model.AgentStart, call_id="q")
    end(story.row, T0, "idle", story.cells, T0)

    assert not story.row.begun
