"""What people see: everything that matters is on the board, whatever the names hold and however narrow it is."""

from io import StringIO
from typing import NamedTuple

import msgspec
import noticed
import pytest
from painted import BEGIN_MS, Painter, painted, record_of
from rich.console import Console
from rich.text import Text

from streams.event.model import ToolEnd
from streams.rule.acknowledgement import StoredAcknowledgement, acknowledged_message, unacknowledged_message
from streams.topology import ALERTS
from streams.worker import board
from streams.worker.crew import BAD_TOOL
from streams.worker.picture import Picture

NOW_MS = BEGIN_MS + 20_000


class Record(NamedTuple):
    """What a reader of a topic gets."""

    key: bytes
    value: bytes | None


@pytest.fixture(scope="module")
def picture() -> Picture:
    return painted(20)[0].picture


def seen(picture: Picture, now_ms: int = NOW_MS, width: int = 140, height: int = 50) -> str:
    """Return what a terminal shows, through a console like the commands' own."""
    console = Console(record=True, width=width, height=height, file=StringIO(), color_system=None, soft_wrap=True)
    console.print(board.screen(picture, now_ms, console.size, Text("the end")))
    return console.export_text()


def test_board_of_nothing_says_so() -> None:
    text = seen(Picture())

    assert "0 events/s" in text
    assert text.count("nothing yet") == 3


def test_board_shows_totals_tools_circuits_sessions_and_alerts(picture: Picture) -> None:
    text = seen(picture)
    outcomes = picture.tables.sessions.outcomes()
    (bad,) = [line for line in text.splitlines() if f" {BAD_TOOL} " in line and "%" in line and "open" in line]

    assert f"received {outcomes['received']:,}" in text
    assert f"{picture.tables.sessions.alive:,} active of {picture.tables.sessions.count:,}" in text
    assert "p95 5m" in text
    assert "ToolFailing" in text
    assert "SessionTokenVelocityHigh" in text
    assert text.splitlines()[-1].startswith("the end")
    assert bad


def test_tools_with_the_most_calls_come_first(picture: Picture) -> None:
    lines = seen(picture).splitlines()
    first = next(number for number, line in enumerate(lines) if "in flight" in line and "circuit" in line)

    assert BAD_TOOL in lines[first + 1]


def test_no_line_is_wider_than_the_terminal_and_names_stay_whole(picture: Picture) -> None:
    for width in (60, 80, 120, 200):
        text = seen(picture, width=width)

        assert max(map(len, text.splitlines())) <= width
        assert BAD_TOOL in text
    assert next(picture.tables.sessions.recent())[0] in seen(picture, width=80)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (110, 24), (110, 30), (200, 40)])
def test_board_fits_the_terminal_and_every_part_is_on_it(picture: Picture, width: int, height: int) -> None:
    text = seen(picture, width=width, height=height)

    assert len(text.splitlines()) < height
    for part in ("rejected", BAD_TOOL, "SessionTokenVelocityHigh", "the end"):
        assert part in text


def test_room_is_taken_from_the_longest_part_and_some_rows_always_stay() -> None:
    assert board.shortened((8, 6, 6), 3) == [5, 6, 6]
    assert board.shortened((8, 6, 1), 100) == [2, 2, 1]


def test_names_that_look_like_markup_are_shown_as_they_are() -> None:
    painter = Painter()
    event = ToolEnd(id="1", time=BEGIN_MS, agent="[red]a", session_id="[bold]s[/bold]", tool="[link=x]tool")
    painter.publish([record_of(event)], BEGIN_MS)
    text = seen(painter.picture)

    assert "[link=x]tool" in text
    assert "[bold]s[/bold]" in text


def test_rate_is_that_of_the_last_seconds() -> None:
    painter, seconds = Painter(), 10
    for second in range(seconds + 1):
        now_ms = BEGIN_MS + second * 1000
        rate = 5 if second <= 5 else 50
        events = [ToolEnd(id=f"{second}-{n}", time=now_ms, agent="a", session_id="s", tool="t") for n in range(rate)]
        painter.publish(map(record_of, events), now_ms)
        painter.picture.sample(now_ms)

    assert painter.picture.rate == 50
    assert "50 events/s" in board.line(painter.picture)


def test_line_for_pipes_names_open_circuits_and_what_fires(picture: Picture) -> None:
    text = board.line(picture)

    assert "\n" not in text
    assert f"tool|{BAD_TOOL} open" in text
    assert "ToolFailing" in text


def test_who_has_taken_an_alert_on_is_on_the_board_until_it_is_given_back() -> None:
    picture, at_ms = Picture(), 10_000
    stored = StoredAcknowledgement(0, "c", "a", 1, at_ms, at_ms + 60_000, "ada", "ticket 1")
    told, given_back = acknowledged_message(stored), unacknowledged_message(stored, at_ms)
    record = Record(b"a", msgspec.json.encode(noticed.record("a")))
    picture.take(ALERTS.suffix, 0, [record, Record(told.key, told.value)])

    assert "[ada] a fails" in seen(picture, at_ms)
    assert "[ada]" not in seen(picture, at_ms + 60_000), "it was to end then"
    picture.take(ALERTS.suffix, 0, [Record(given_back.key, given_back.value)])
    assert "[ada]" not in seen(picture, at_ms)
    assert 1 == len(picture.alerts)
