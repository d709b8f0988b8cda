"""`agent-streams alerts` before anything is published: what cannot be meant is refused, with the next step."""

import pytest
from typer.testing import CliRunner

from streams.__main__ import build
from streams.errors import ConfigError
from streams.worker.cli.alerts import _ends, _moment
from streams.worker.situation import Ambiguous, NoSuch, only, shown

NOWHERE = ("--bootstrap", "127.0.0.1:9")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("silence", "tool=a"), "say --for 2h"),
        (("silence", "tool=a", "--for", "2h", "--until", "2099-01-01T00:00:00Z"), "one of --for and --until"),
        (("silence", "tool=a", "--for", "soon"), "such as 30m, 2h"),
        (("silence", "tool=a", "--until", "tomorrow"), "2025-11-21T14:00:00Z"),
        (("silence", "tool=a", "--for", "2h", "--start", "tomorrow"), "--start"),
        (("--json", "list"), "behind list"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(build(["alerts"]), ["alerts", *options, *NOWHERE])

    assert isinstance(done.exception, ConfigError), done.output
    assert said in str(done.exception)


def test_an_end_is_a_moment_or_a_duration_from_the_beginning() -> None:
    assert _ends("1h30m", None, 1_000, None) == 1_000 + 5_400_000
    assert _ends(None, "1970-01-01T00:00:02Z", 1_000, None) == 2_000
    assert _moment("--start", "3000") == 3_000


def test_an_id_is_found_by_as_much_of_it_as_no_other_begins_with() -> None:
    ids = ["aaaa1111bbbb", "aaaa1111cccc", "ffff0000ffff"]

    assert only("f", ids, "alert", "list") == "ffff0000ffff"
    assert only("aaaa1111b", ids, "alert", "list") == "aaaa1111bbbb"
    assert only("aaaa1111bbbb", [*ids, "aaaa1111bbbb2"], "alert", "list") == "aaaa1111bbbb", "a whole id is no prefix"
    with pytest.raises(Ambiguous, match="2 alerts have ids that begin with 'aaaa': aaaa1111b, aaaa1111c"):
        only("aaaa", ids, "alert", "list")
    for nobody in ("", "x"):
        with pytest.raises(NoSuch, match="those there are: list"):
            only(nobody, ids, "alert", "list")


def test_ids_are_shown_as_short_as_they_stay_apart() -> None:
    ids = ["aaaa1111bbbb", "aaaa1111cccc", "ffff0000ffff", "short"]

    assert {
        "aaaa1111bbbb": "aaaa1111b",
        "aaaa1111cccc": "aaaa1111c",
        "ffff0000ffff": "ffff0000",
        "short": "short",
    } == shown(ids)
    for name, chars in shown(ids).items():
        assert name == only(chars, ids, "alert", "list")
