"""Handlers do what they say, alone, together, and in an emitter; the page about them is run as it stands."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from feed_recording import Recording, until

from streams.event.model import Envelope, SessionEnd, ToolEnd, ToolStart
from streams.feed import Emitter, EmitterConfig, Session
from streams.feed.handlers import NAMES_MAX, OTHERS, Batching, Composite, Custom, Null, Performance, Printing

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs/emitter.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def tool_end(number: int = 0, **fields: Any) -> ToolEnd:
    return ToolEnd(**{"id": str(number), "time": number, "agent": "a", "session_id": "s", "tool": "t", **fields})


class Raising:
    def emit(self, event: Envelope) -> None:
        raise RuntimeError(event.id)


class Kept(list[Envelope]):
    def emit(self, event: Envelope) -> None:
        self.append(event)


def test_the_page_has_an_example_of_every_handler() -> None:
    text = "\n".join(EXAMPLES)
    assert all(f"{each.__name__}(" in text for each in (Null, Printing, Performance, Batching, Composite))
    assert "(Custom):" in text
    assert 8 == len(EXAMPLES)


def test_the_examples_of_the_page_print_what_they_say() -> None:
    """One process for all of them: starting Python takes longer than any."""
    script = "\nprint('----')\n".join(EXAMPLES)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (0, "") == (done.returncode, done.stderr)
    for example, printed in zip(EXAMPLES, done.stdout.split("----\n"), strict=True):
        said = re.findall(r"^# prints: (.*)$", example, re.MULTILINE)
        lines = printed.splitlines()
        assert len(said) == len(lines)
        for expected, line in zip(said, lines, strict=True):
            assert re.fullmatch(re.escape(expected).replace("…", r"[\d.]+"), line), (expected, line)


def test_a_line_says_what_whose_and_how_and_all_of_it_when_asked() -> None:
    short, verbose = io.StringIO(), io.StringIO()
    event = tool_end(status="error", duration_ms=12)
    Printing(short).emit(event)
    Printing(verbose, verbose=True).emit(event)

    assert "tool_end session=s name=t status=error duration_ms=12\n" == short.getvalue()
    assert ("tool_end", "s", "error") == tuple(json.loads(verbose.getvalue())[key] for key in ("kind", "session_id",
                                                                                             "status"))  # fmt: skip


def test_timings_add_up_from_many_threads_and_their_names_are_bounded() -> None:
    performance = Performance()

    def work() -> None:
        for number in range(500):
            performance.emit(tool_end(number, duration_ms=2, status="error" if number % 5 == 0 else "success"))

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for number in range(NAMES_MAX + 10):
        performance.emit(tool_end(tool=f"tool-{number}", duration_ms=1))
    performance.emit(ToolStart(id="1", time=0, agent="a", tool="t"))

    assert (2_000, 400, 4_000.0, 2.0) == performance.timings["tool_end", "t"]
    assert NAMES_MAX + 1 == len(performance.timings)
    assert 11 == performance.timings["tool_end", OTHERS].calls
    assert 2_000 + NAMES_MAX + 11 == performance.events
    assert 0 < performance.own_us_per_event


def test_batches_go_by_number_by_age_and_at_once_in_order() -> None:
    batches: list[list[str]] = []

    def take(events: Sequence[Envelope]) -> None:
        batches.append([each.id for each in events])

    with Batching(take, events=3, age_ms=30_000) as by_number:
        for number in range(4):
            by_number.emit(tool_end(number))
        by_number.emit(SessionEnd(id="end", time=9, agent="a", session_id="s"))
        by_number.emit(tool_end(5))
    Batching(take, age_ms=0).emit(tool_end(6))

    assert [["0", "1", "2"], ["3", "end"], ["5"], ["6"]] == batches
    with pytest.raises(ValueError, match="0 events and 30001 ms given"):
        Batching(take, events=0, age_ms=30_001)


def test_one_that_raises_keeps_nothing_from_the_others() -> None:
    kept = Kept()
    both = Composite(Raising(), kept)
    both.emit(tool_end())

    assert (1, 1) == (len(kept), both.failures)


def test_bodies_are_offered_where_any_of_several_takes_them() -> None:
    off = Emitter(EmitterConfig())
    assert (False, True) == (Composite(off).payloads, Composite(off, Null()).payloads)


def test_a_kind_without_a_method_of_its_own_goes_to_the_one_for_all() -> None:
    seen: list[str] = []

    class Mine(Custom):
        def on_tool_end(self, event: ToolEnd) -> None:
            seen.append(event.tool)

        def on_event(self, event: Envelope) -> None:
            seen.append(type(event).__name__)

    with Session(Mine(), agent="a").tool_call("dig"):
        pass
    assert ["ToolStart", "dig"] == seen


def test_an_emitter_shows_its_handlers_what_it_was_given_and_goes_on_when_they_fail() -> None:
    recording, kept = Recording(), Kept()
    with Emitter(EmitterConfig(sample=0.0), handlers=[Raising(), kept], outlet=recording.outlet) as out:
        out.emit(tool_end(1, arguments_hash=None, error_message="ann@example.com", status="error"))
        out.emit(tool_end(2))
        assert out.flush_sync()
        until(lambda: out.stats().handler_failures == 2)

    assert ["1", "2"] == [event.id for event in kept], "sampling comes later"
    assert ["1"] == recording.ids()
    assert "ann@example.com" == getattr(kept[0], "error_message", None), "and so does redaction"
