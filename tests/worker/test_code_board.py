"""The board of code execution: figures with their trend, skills, and how long runs take, of what real stages wrote."""

from io import StringIO

import msgspec
import pytest
from painted import BEGIN_MS, Painter
from rich.console import Console
from rich.text import Text

from streams.event import model
from streams.worker import code_board
from streams.worker.picture import Picture

MINUTE_MS = 60_000
NOW_MS = BEGIN_MS + 7 * MINUTE_MS


def story() -> list[model.Envelope]:
    """Two runs of which one fails early, then eight good ones; one skill that is used, one that is only saved."""
    events: list[model.Envelope] = []

    def add(kind: type[model.Envelope], minute: int, **fields: object) -> None:
        head = {"id": f"e{len(events)}", "time": BEGIN_MS + minute * MINUTE_MS, "agent": "coder"}
        events.append(msgspec.convert({"kind": kind.__struct_config__.tag, **head, **fields}, model.Event))

    for status in ("success", "error"):
        add(model.Execution, 0, language="python", status=status, duration_ms=40)
    for _ in range(8):
        add(model.Execution, 6, language="python", duration_ms=3_000)
    for results in (3, 0, 0, 0):
        add(model.Discovery, 6, keyword_hash="k", results=results)
    add(model.Filtering, 6, operation="map", input_bytes=1_000, output_bytes=250, tokens_saved=1_234)
    add(model.Skill, 6, skill="parse-csv", language="python", action="saved")
    add(model.Skill, 6, skill="idle", language="python", action="saved")
    for _ in range(4):
        add(model.Skill, 6, skill="parse-csv", language="python", action="executed", duration_ms=500)
    add(model.Security, 6, action="pii_detected", pattern="email", count=4)
    return events


@pytest.fixture(scope="module")
def picture() -> Picture:
    painter = Painter()
    painter.publish(((b"coder", msgspec.json.encode(each)) for each in story()), NOW_MS)
    painter.tick(NOW_MS)
    return painter.picture


def seen(picture: Picture) -> list[str]:
    console = Console(record=True, width=110, height=60, file=StringIO(), color_system=None)
    console.print(code_board.screen(picture, NOW_MS, Text("the end")))
    return console.export_text().splitlines()


def row_of(lines: list[str], name: str) -> str:
    (found,) = (line for line in lines if f" {name} " in line)
    return found


def test_nothing_says_so() -> None:
    text = "\n".join(seen(Picture()))

    assert 3 == text.count("nothing yet")
    assert "no code execution yet" == code_board.line(Picture())


def test_figures_stand_beside_their_last_minutes_and_the_way_they_go(picture: Picture) -> None:
    lines = seen(picture)

    assert ["90.0%", "100.0%", "50.0%", "↑"] == row_of(lines, "execution success").split()[3:7]
    assert ["10", "8", "2", "↑"] == row_of(lines, "executions").split()[2:6]
    assert "25.0%" in row_of(lines, "discovery hit ratio")
    assert "75.0%" in row_of(lines, "data filtered away")
    assert "1,234" in row_of(lines, "context tokens saved")
    assert "2.0" in row_of(lines, "skill runs per saved skill")
    assert "the end" in lines[-1]


def test_skills_that_run_are_listed_with_their_mean(picture: Picture) -> None:
    lines = seen(picture)

    assert ["python", "4", "100.0%", "0.50", "s"] == row_of(lines, "parse-csv").split()[2:7]
    assert not any(" idle " in line for line in lines)


def test_bars_are_as_long_as_what_they_count(picture: Picture) -> None:
    bars = [line.count("█") for line in seen(picture) if "█" in line]

    assert [code_board.BAR_COLUMNS // 4, code_board.BAR_COLUMNS] == bars


def test_the_line_names_what_there_is(picture: Picture) -> None:
    assert "execution success 90.0%" in code_board.line(picture)
    assert "personal data detected 4" in code_board.line(picture)


@pytest.mark.parametrize(
    ("now", "before", "arrow"),
    [
        (None, 1.0, ""),
        (1.0, None, ""),
        (1.0, 1.0, "→"),
        (1.04, 1.0, "→"),
        (1.2, 1.0, "↑"),
        (0.5, 1.0, "↓"),
        (0, 0, "→"),
    ],
)
def test_a_twentieth_is_no_trend(now: float | None, before: float | None, arrow: str) -> None:
    assert arrow == code_board.trend(now, before)
