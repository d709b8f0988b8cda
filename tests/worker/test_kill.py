"""Whatever happens to the workers, three independent readings of the totals agree with what was published.

A real Kafka and the installed command, both stages, default rules; two workers, one of which is killed with -9 three
times and paused for two session timeouts, then both are rolled with SIGTERM (tests/life.py).  tests/faults does the
same to them often, at random moments.
"""

from pathlib import Path
from typing import Final

import pytest
from life import TAKEOVER_S, Life, prepared

pytestmark = [pytest.mark.kafka, pytest.mark.fault("T2", "T4", "T9", "T20")]

KILLS: Final = 3


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
async def test_totals_are_exact_through_kills_pauses_and_a_rolling_restart(
    kafka: str, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, static: bool
) -> None:
    await prepared(kafka, prefix)
    with Life(kafka, prefix, tmp_path, static=static) as life:
        one = life.workers[0]
        takeovers_s = [life.kill(one) for _ in range(KILLS)]
        while _in_time(takeovers_s) < KILLS and len(takeovers_s) < 2 * KILLS:  # a busy machine makes one of them late
            takeovers_s.append(life.kill(one))
        life.pause(one)
        life.roll()

        life.finish()

        with capsys.disabled():
            print(f"\n  takeovers, seconds: {[round(seconds, 1) for seconds in takeovers_s]}")  # noqa: T201  a figure
        assert _in_time(takeovers_s) >= KILLS, takeovers_s


def _in_time(takeovers_s: list[float]) -> int:
    return sum(seconds <= TAKEOVER_S for seconds in takeovers_s)
