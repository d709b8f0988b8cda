"""An exporter that is abused: the stages go on, whoever has no login gets no page, and its loop never stands still.

The exporter runs here, so that its loop can be watched; the worker and who abuses are processes of their own.
"""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest
from exporting import create, exporting
from fault_table import record
from fleet import Fleet as Agents
from loop_watch import watched, what_others_left_set_aside
from pressed import STEADY, Loss, Pressed, what_is_lost

from streams.worker.connection import KafkaConnection
from streams.worker.exporter import ExporterConfig
from streams.worker.web import WebConfig
from streams.worker.web_door import Login

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.fault("T24"), pytest.mark.timeout(1_200)]

LEAST: Final = 10_000  # records of a turn
PAIRS: Final = (12, 100)  # as many as it takes to tell
TURN_S: Final = 4.0
LOSS: Final = 0.05
HELD_S: Final = 0.1  # of its thread's processor time, in which the garbage of the publisher beside it is
TOKEN: Final = "canary-71d0"  # noqa: S105  made up
PROGRAM: Final = Path(__file__).parents[1] / "abuse.py"


class Abuser:
    """The process; what it has seen is kept."""

    def __init__(self, address: str, folder: Path) -> None:
        host, _, port = address.rpartition(":")
        self._command = [sys.executable, str(PROGRAM), host, port, TOKEN]
        self._out = folder / "abuse.out"
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        with self._out.open("ab") as out:
            self._process = subprocess.Popen(self._command, stdout=out)

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def seen(self, *, right: bool) -> Counter[str]:
        """Return how many connections ended how, of those with the right login or of the others."""
        found: Counter[str] = Counter()
        for line in self._out.read_text().splitlines():
            if line.endswith("}"):
                told = json.loads(line)
                if told.pop("right") == right:
                    found.update(told)
        return found


async def test_an_abused_exporter_costs_the_stages_nothing_and_turns_strangers_away(
    kafka: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(kafka, prefix)
    for name, value in STEADY.items():
        monkeypatch.setenv(name, value)
    pressed = Pressed(kafka, prefix, tmp_path, least=LEAST, agents=Agents(17, sessions=400, tools=40))
    config = ExporterConfig(KafkaConnection(bootstrap=kafka), prefix, WebConfig(port=0, login=Login(token=TOKEN)))
    with what_others_left_set_aside():
        async with exporting(config) as scraper, watched() as held:
            abuser = Abuser(scraper.exporter.server.address, tmp_path)

            def take_turns() -> Loss:
                with pressed.working():
                    try:
                        found = what_is_lost(pressed, LOSS, TURN_S, PAIRS, abuser.begin, abuser.end)
                    finally:
                        abuser.end()
                    pressed.settle()
                    assert pressed.worker.running
                    return found

            found = await asyncio.to_thread(take_turns)
            status, page = await scraper.get(headers={"Authorization": f"Bearer {TOKEN}"})

    known, strangers = abuser.seen(right=True), abuser.seen(right=False)
    record(
        "T24", "abuse", loss_percent=round(100 * found.share, 2), uncertain_by=round(200 * found.error, 2),
        pairs=found.pairs, longest_hold_ms=round(1000 * held.longest_s, 1), pages=known["200"],
        turned_away=known["503"] + known["0"] + strangers["503"] + strangers["0"], strangers=strangers["401"],
    )  # fmt: skip
    assert status == 200
    assert "agent_events_total" in page
    assert known["200"] > 0
    assert {"200", "503", "0"} >= known.keys(), known
    assert strangers["401"] > 0
    assert {"401", "503", "0"} >= strangers.keys(), "nobody of them got a page"
    assert found.most < LOSS, found
    assert held.longest_s < HELD_S
