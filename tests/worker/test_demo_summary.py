"""The judgement of a demo: exact means that nothing differs, and a single lost or doubled event is named."""

import pytest
from painted import Painter, painted, record_of

from streams.errors import ConfigError
from streams.event.model import ToolEnd
from streams.worker.crew import BAD_TOOL, RUNAWAY, Crew
from streams.worker.demo import DemoConfig
from streams.worker.demo_summary import differences, summarise


@pytest.fixture(scope="module")
def run() -> tuple[Painter, Crew]:
    return painted(20)


def test_what_the_stages_make_of_a_run_is_exact_and_noticed(run: tuple[Painter, Crew]) -> None:
    painter, crew = run
    summary = summarise(1, crew.ledger, painter.picture, expect_faults=True)

    assert summary.faults == []
    assert summary.exact
    assert summary.planted == {
        f"ToolFailing {BAD_TOOL}": True,
        f"breaker {BAD_TOOL}": True,
        f"SessionTokenVelocityHigh {RUNAWAY}": True,
    }
    assert summary.passed
    assert summary.received == summary.published == crew.ledger.published
    assert min(summary.late, summary.duplicate, summary.rejected) > 0
    assert summary.as_dict()["passed"] is True


def test_nothing_is_asked_of_faults_that_had_no_time_to_show() -> None:
    painter, crew = painted(2)

    assert not summarise(1, crew.ledger, painter.picture, expect_faults=True).passed
    assert summarise(1, crew.ledger, painter.picture, expect_faults=False).passed


def test_one_call_too_many_or_too_few_is_named_everywhere_it_shows() -> None:
    painter, crew = painted(2)
    lost = ToolEnd(id="lost", time=1_763_724_001_000, agent="coder", session_id="s-lost", tool="run_tests")
    crew.ledger.publish(lost)
    missing = list(differences(crew.ledger, painter.picture))
    painter.publish([record_of(lost)], 1_763_724_001_000)
    whole = list(differences(crew.ledger, painter.picture))

    assert [fault.partition(":")[0] for fault in missing] == ["events", "tool run_tests", "session s-lost", "all"]
    assert whole == []


@pytest.mark.parametrize(
    ("given", "said"),
    [((5.0, None), "--rate: 5 given"), ((1e6, None), "--rate"), ((200.0, 1.0), "expected 5s or more")],
)
def test_run_that_can_show_nothing_is_refused(given: tuple[float, float | None], said: str) -> None:
    rate, seconds = given

    with pytest.raises(ConfigError, match=said):
        DemoConfig(rate=rate, seconds=seconds)
