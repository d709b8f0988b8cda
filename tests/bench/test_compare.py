"""The comparison with peers: nothing wrong gets a figure, and every peer can be had and agrees with the recount."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench.compare import Contestant, Measured, table
from bench.written import PAGE, put

RIGHT = Measured(events=1_000, wall_s=2.0, cpu_s=1.0, rss_mb=80.0, exact=True)


def contestant(*runs: Measured, left_out: str = "") -> Contestant:
    return Contestant("peer", "its part", lambda: RIGHT, list(runs), left_out)


def test_a_result_is_the_median_of_its_runs() -> None:
    slower, faster = (Measured(1_000, wall_s, 1.0, 80.0, exact=True) for wall_s in (4.0, 1.0))

    (line,) = table([contestant(slower, RIGHT, faster)], {}, 1_000).splitlines()[4:]

    assert "| peer | 500 | 1,000 | 80 | 3 | exact | its part |" == line


def test_one_wrong_run_takes_away_the_figure() -> None:
    wrong = Measured(1_000, 0.1, 0.1, 80.0, exact=False)

    (line,) = table([contestant(RIGHT, wrong)], {}, 1_000).splitlines()[4:]

    assert "| peer | – | – | – | 2 | **wrong** | its part |" == line


def test_a_peer_that_cannot_be_had_is_named_with_the_reason() -> None:
    assert "left out: no wheel" in table([contestant(left_out="no wheel")], {}, 1_000)


@pytest.mark.parametrize("name", ["compare", "growth"])
def test_a_table_replaces_the_one_in_its_block_of_the_page(name: str) -> None:
    page = PAGE.read_text(encoding="utf-8")

    once = put(page, name, "| new |")

    assert once.count("| new |") == 1
    assert once == put(put(page, name, "| older |"), name, "| new |")


@pytest.mark.kafka
@pytest.mark.long
def test_every_peer_agrees_with_the_recount(kafka: str, tmp_path: Path) -> None:
    program = Path(__file__).with_name("compare.py")
    command = [sys.executable, str(program), "--events", "40000", "--out", str(tmp_path)]

    environment = {**os.environ, "KAFKA_BOOTSTRAP": kafka}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert not done.returncode, done.stdout[-2000:] + done.stderr[-4000:]
    found = json.loads((tmp_path / "compare.json").read_bytes())["contestants"]
    assert {"ours", "kafka-streams", "quix-streams", "bytewax", "stock-faust"} == found.keys()
    assert all(run["exact"] for each in found.values() for run in each["runs"])
    assert all(len(each["runs"]) == 1 for each in found.values()), done.stdout
