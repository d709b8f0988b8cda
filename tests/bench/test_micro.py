"""Does a change make the path of an event slower?  Each file is held to a limit in turns of a loop beside it."""

import io
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from bench.micro import Found, Run, Work, hold, measure, works

from streams.event import codec
from streams.fold import apply


@pytest.fixture(scope="module")
def all_works() -> dict[str, Work]:
    return {work.name: work for work in works()}


def broken(found: list[Found]) -> dict[str, tuple[float, float]]:
    return {each.work.name: (each.ratio, each.work.limit) for each in found if each.ratio > each.work.limit}


def test_no_file_on_the_path_of_an_event_is_slower_than_its_limit(all_works: dict[str, Work]) -> None:
    """In turns of the loop per call: what was measured, and the limit."""
    assert not broken(hold(all_works.values()))


def test_every_limit_notices_a_file_that_takes_five_times_as_long(all_works: dict[str, Work]) -> None:
    slower = [work._replace(make=_repeated(work.make, 5)) for work in all_works.values()]

    assert all_works.keys() == broken(measure(slower, rounds=5)).keys()


def test_a_second_parser_is_noticed(all_works: dict[str, Work], monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual way to lose speed: somebody wants to see one field before."""
    decode = codec.decode_one
    monkeypatch.setattr(codec, "decode_one", lambda value: json.loads(value) and decode(value))

    assert "event.codec" in broken(measure([all_works["event.codec"]]))


def test_a_log_line_per_event_is_noticed(all_works: dict[str, Work], monkeypatch: pytest.MonkeyPatch) -> None:
    fold = apply.apply

    log = logging.getLogger(f"{__name__}.told")
    log.propagate = False
    log.addHandler(logging.StreamHandler(io.StringIO()))

    def told(row: Any, pane: Any, event: Any, *more: Any) -> None:
        log.warning("folding %s", event)
        fold(row, pane, event, *more)

    monkeypatch.setattr(apply, "apply", told)

    assert "fold.apply" in broken(measure([all_works["fold.apply"]]))


def _repeated(make: Callable[[], Run], times: int) -> Callable[[], Run]:
    def made() -> Run:
        runs = [make() for _ in range(times)]
        return lambda: [run() for run in runs]

    return made
