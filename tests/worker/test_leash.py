"""The leash: a program on it ends with its owner, however that ends."""

import select
import signal
import subprocess

import pytest

from streams.worker import leash


def on_leash(script: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        leash.command(["/bin/sh", "-c", script]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )


def awaited_end(process: "subprocess.Popen[bytes]") -> None:
    """Wait until leash and program have closed their output: both are gone then."""
    assert process.stdout is not None
    ended, _, _ = select.select([process.stdout], [], [], 60)
    assert ended, "the program still runs"
    assert process.stdout.read() == b""


def test_status_of_the_program_is_the_status_of_the_leash() -> None:
    with on_leash("exit 3") as process:
        assert process.wait() == 3


def test_status_after_a_signal_is_128_and_its_number() -> None:
    with on_leash("kill -KILL $$") as process:
        assert process.wait() == 128 + signal.SIGKILL


@pytest.mark.parametrize("ending", ["owner gone", "terminated", "leash killed"])
def test_program_ends_when(ending: str) -> None:
    with on_leash("echo begun; exec sleep 600") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        if ending == "owner gone":
            process.stdin.close()
        else:
            process.send_signal(signal.SIGTERM if ending == "terminated" else signal.SIGKILL)

        awaited_end(process)
