"""`agent-streams reset` before anything is published: what contradicts itself is refused, with the next step."""

import pytest
from typer.testing import CliRunner

from streams.__main__ import build
from streams.errors import ConfigError
from streams.stage import commands, rollup_rows
from streams.stage.commands import Accepted
from streams.worker.asking import Accepting
from streams.worker.reset import Seen


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "either --all or --dimension"),
        (("--all", "--dimension", "tool"), "either --all or --dimension"),
        (("--all", "--label", "tool=a"), "say --dimension too"),
        (("--dimension", "tool", "--label", "search"), "expected NAME=VALUE"),
        (("--dimension", "tool", "--label", "tool=a", "--label", "tool=b"), "each name once"),
        (("--dimension", "planet"), "expected one of agent, tool"),
        (("--dimension", "tool", "--label", "agent=a"), "its labels are tool"),
        (("--all", "--metric", "agent_tool_calls_in_flight"), "no counter or histogram"),
        (("--all", "--by", ""), "length >= 1"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(build(["reset"]), ["reset", *options])

    assert isinstance(done.exception, ConfigError)
    assert said in str(done.exception)


def test_a_command_is_carried_out_when_every_partition_that_was_told_has_committed_it() -> None:
    seen = Seen()
    accepted = Accepted(5, {0: 3, 2: 1})
    for partition, sequence, expected in ((0, 2, False), (0, 3, False), (2, 1, True), (1, 9, True)):
        seen.upstreams[partition] = {-1: rollup_rows.Upstream(sequence), 0: rollup_rows.Upstream(99)}
        assert expected == seen.carried_out(0, accepted)
    assert not seen.carried_out(1, accepted), "another partition of commands is another upstream"


def test_a_command_that_was_judged_but_not_accepted_was_refused() -> None:
    seen = Accepting()

    assert seen.verdict("x", 0, 5) is False
    seen.next_offsets[0] = 6
    assert seen.verdict("x", 0, 5) is True
    assert seen.verdict("x", 0, 6) is False
    seen.rows[commands.accepted_key("x")] = commands._encode(Accepted(5, {0: 1}))
    assert Accepted(5, {0: 1}) == seen.verdict("x", 0, 5)
