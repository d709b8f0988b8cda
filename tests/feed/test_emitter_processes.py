"""What becomes of events when processes end, fail, fork and spawn; real ones, that write what they send to a file."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
SCRIPT_HEAD = """
import json, os, sys, threading, time
from pathlib import Path
from streams.event.model import ToolStart
from streams.feed.config import EmitterConfig
from streams.feed.emitter import Emitter, _open
from streams.feed.sender import _Loop

class FileOutlet:
    def __init__(self, config): pass
    async def open(self): pass
    def partition(self, key): return 0
    async def send(self, partition, records):
        with open(sys.argv[1], "ab") as file:
            for record in records:
                file.write(record.value + b"\\n")
        return 0
    async def close(self): pass

def event(number):
    return ToolStart(id=str(number), time=0, agent="a", session_id="s", tool="t")

out = Emitter(EmitterConfig(), outlet=FileOutlet)
"""


def run_script(tmp_path: Path, body: str) -> list[dict[str, Any]]:
    """Run a process of its own and return what it sent."""
    script = tmp_path / "agent.py"
    script.write_text(SCRIPT_HEAD + textwrap.dedent(body))
    sent = tmp_path / "sent"
    sent.touch()
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), str(sent)],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    lines = [json.loads(line) for line in sent.read_text().splitlines()]
    return [each for line in lines for each in (line if isinstance(line, list) else [line])]


def test_a_process_that_just_ends_sends_what_waits(tmp_path: Path) -> None:
    sent = run_script(tmp_path, "for number in range(1000): out.emit(event(number))")

    assert [each["id"] for each in sent] == [str(number) for number in range(1_000)]


def test_a_process_that_fails_sends_what_waits(tmp_path: Path) -> None:
    sent = run_script(tmp_path, "out.emit(event(1)); sys.exit(0 if sys.stdout else 1)")

    assert [each["id"] for each in sent] == ["1"]


def test_a_forked_child_is_a_new_source_and_sends_nothing_of_its_parent(tmp_path: Path) -> None:
    sent = run_script(
        tmp_path,
        """
        for number in range(10): out.emit(event(number))
        parent = out.source
        pid = os.fork()
        for number in range(100, 105): out.emit(event(number + 1000 * (pid == 0)))
        if pid == 0:
            assert out.source != parent
            sys.exit(0)
        assert out.source == parent
        assert os.waitpid(pid, 0)[1] == 0
        """,
    )
    parent = [each for each in sent if int(each["id"]) < 1_000]
    child = [each for each in sent if int(each["id"]) >= 1_000]

    assert [each["seq"] for each in parent] == list(range(15))
    assert [each["id"] for each in child] == ["1100", "1101", "1102", "1103", "1104"]
    assert [each["seq"] for each in child] == [0, 1, 2, 3, 4]
    assert len({each["source"] for each in parent}) == len({each["source"] for each in child}) == 1
    assert parent[0]["source"] != child[0]["source"]


def test_a_fork_in_the_middle_of_everything_harms_neither(tmp_path: Path) -> None:
    sent = run_script(
        tmp_path,
        """
        stop = threading.Event()
        def work():
            number = 0
            while not stop.is_set():
                out.emit(event(number)); number += 1
                time.sleep(0.0002)
            print(number)
        thread = threading.Thread(target=work); thread.start()
        for child in range(20):
            time.sleep(0.005)
            pid = os.fork()
            if pid == 0:
                out.emit(event(10**6 + child))
                os._exit(0 if out.close() else 1)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set(); thread.join()
        """,
    )
    parent = [int(each["id"]) for each in sent if int(each["id"]) < 10**6]

    assert parent == list(range(len(parent)))
    assert sorted(int(each["id"]) - 10**6 for each in sent if int(each["id"]) >= 10**6) == list(range(20))
    assert len({each["source"] for each in sent}) == 21


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_of_multiprocessing_sends_what_waits_when_it_ends(tmp_path: Path, method: str) -> None:
    sent = run_script(
        tmp_path,
        f"""
        import multiprocessing
        def work(number):
            out.emit(event(number))
        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            children = [context.Process(target=work, args=(number,)) for number in range(3)]
            for child in children: child.start()
            for child in children: child.join()
            out.emit(event(3))
        """,
    )

    assert {each["id"] for each in sent} == {"0", "1", "2", "3"}
    assert len({each["source"] for each in sent}) == 4


def test_using_the_emitter_imports_no_engine_and_no_client(tmp_path: Path) -> None:
    run_script(
        tmp_path,
        """
        import streams.feed
        heavy = {"faust", "mode", "aiokafka", "pydantic", "aiohttp", "rich", "typer", "redis", "langchain_core"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        """,
    )
