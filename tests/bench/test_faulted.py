"""Rivals under faults: what counts as lost and as counted twice, what a log names, and one real run of ours."""

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from bench.faulted import Outcome, raised, shared, table
from bench.rivals import Difference, difference
from bench.written import DOCS, put

ASKED = Namespace(events=100, rate=10.0, times=2, seed=1)


def test_what_is_missing_is_lost_and_what_is_too_much_was_counted_twice() -> None:
    wanted = {"a": [5, 1], "b": [3, 0], "c": [2, 2]}

    assert Difference(3, 0, 0, 0) == difference(wanted, dict(wanted))
    assert Difference(3, 2, 2, 4) == difference(wanted, {"a": [9, 1], "b": [1, 0], "c": [2, 2]})


def test_a_row_with_the_right_count_and_a_wrong_sum_is_wrong() -> None:
    assert Difference(1, 1, 0, 0) == difference({"a": [5, 1]}, {"a": [5, 2]})


def test_rows_that_are_missing_or_that_nobody_asked_for_count() -> None:
    assert Difference(1, 2, 5, 7) == difference({"a": [5]}, {"b": [7]})


def test_shares_are_all_of_the_events_in_their_order() -> None:
    events = [{"id": number} for number in range(10)]

    assert [3, 3, 4] == [len(share) for share in shared(events, 3)]
    assert events == [event for share in shared(events, 3) for event in share]


def test_a_log_is_told_by_the_exceptions_that_end_its_tracebacks() -> None:
    lines = ("Traceback", "  File x", "faust.exceptions.ConsistencyError: 7", "ValueError: 1", "no Error", "ValueError")
    log = "\n".join(lines)

    assert "ValueError 2x, ConsistencyError 1x" == raised([log])
    assert not raised(["all is well\n"])


def test_only_who_has_every_row_right_and_came_to_the_end_is_exact() -> None:
    right = Difference(10, 0, 0, 0)
    good = Outcome("a", "once", "kill", [1.0, 3.0], sessions=right, tools=right)
    gave_up = Outcome("b", "once", "kill", remark="no progress", sessions=right, tools=right)
    wrong = Outcome("c", "once", "kill", exits=[75, 75], sessions=right, tools=Difference(10, 1, 0, 2))

    lines = table([good, gave_up, wrong], {}, ASKED).splitlines()[4:]

    assert [True, False, False] == ["exact" in line for line in lines]
    assert "| 2.0 / 3.0 |" in lines[0]
    assert "| no progress |" in lines[1]
    assert "| 1 of 20 | 0 | 0 | 0 | 2 |" in lines[2]
    assert "| 2 (75) |" in lines[2]


def test_the_page_has_a_block_for_the_table() -> None:
    assert "| new |" in put((DOCS / "faults.md").read_text(encoding="utf-8"), "rivals", "| new |")


@pytest.mark.kafka
@pytest.mark.long
@pytest.mark.fault("T2", "T9")
def test_ours_is_exact_where_it_is_compared(kafka: str, tmp_path: Path) -> None:
    program = Path(__file__).with_name("faulted.py")
    command = [
        sys.executable,
        str(program),
        "--times",
        "1",
        "--events",
        "3000",
        "--only",
        "ours",
        "--out",
        str(tmp_path),
    ]

    environment = {**os.environ, "KAFKA_BOOTSTRAP": kafka}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert not done.returncode, done.stdout[-2000:] + done.stderr[-4000:]
    told = json.loads((tmp_path / "rivals.json").read_bytes())["outcomes"]
    assert ["kill", "pause"] == [each["fault"] for each in told]
    assert all(len(each["went_on_s"]) == 1 and not each["standstills"] for each in told)
