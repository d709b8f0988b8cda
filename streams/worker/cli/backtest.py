"""`agent-streams rules backtest` and `diff`: what would rules have told of what has happened?

Never writes anything anywhere, and never takes part in the workers' group.
"""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer
from rich.markup import escape
from rich.table import Table

from streams.clock import now_ms
from streams.errors import ConfigError
from streams.event.codec import time_ms
from streams.rule.amount import duration_ms, duration_text
from streams.rule.model import RuleSet
from streams.stage.lives import Differing, Life, by_rule, compare
from streams.stage.replay import STEP_MS, WARM_UP_MS
from streams.worker import wiring
from streams.worker.backtest import Given, Played, as_dict, life_dict, play_lines, play_topic
from streams.worker.cli.options import Bootstrap, Json, Prefix, connection, err, load, out, print_json, progress
from streams.worker.cli.rules_app import app

SHOWN: Final = 40  # alerts that people see; programs get them all
NOTHING: Final = 66  # EX_NOINPUT: there was nothing to replay
STDIN: Final = Path("-")
HOUR: Final = "1h"
WARM_UP: Final = duration_text(WARM_UP_MS)
STEP: Final = duration_text(STEP_MS)

From = Annotated[
    str,
    typer.Option("--from", metavar="TIME", help="Where the range begins: RFC 3339, epoch ms, or how long ago (24h)."),
]
To = Annotated[str, typer.Option("--to", metavar="TIME", help="Where it ends.", show_default="now")]
WarmUp = Annotated[
    str, typer.Option("--warm-up", metavar="DURATION", help="What is replayed before it, so that windows are full.")
]
Step = Annotated[
    str, typer.Option("--step", metavar="DURATION", help="How finely time passes: alerts are right to one step.")
]
Input = Annotated[
    Path | None,
    typer.Option("--input", metavar="FILE", help="Read events from JSON lines (- is stdin) instead of Kafka."),
]


@app.command()
def backtest(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="The rules; without it those of the settings.", show_default=False),
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="FILE", help="Show only in what these rules differ.")
    ] = None,
    begin: From = HOUR,
    end: To = "",
    warm_up: WarmUp = WARM_UP,
    step: Step = STEP,
    given: Input = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Replay a range of the events topic through the workers' own stages, and show which alerts would have fired.

    Nothing is written anywhere. It ends with 66 if the range holds nothing.
    """
    sets = [None if file is None else read_rules(file)[0]]
    if against is not None:
        sets.append(read_rules(against)[0])
    played = _play(sets, begin, end, warm_up, step, given, bootstrap, prefix)
    if against is not None:
        _show_difference(played, [str(file or "settings"), str(against)], as_json=as_json)
    elif as_json:
        print_json(as_dict(played))
    else:
        _show(played)
    _end(played)


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="Rules.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Other rules.")],
    begin: From = HOUR,
    end: To = "",
    warm_up: WarmUp = WARM_UP,
    step: Step = STEP,
    given: Input = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Replay a range under two rule files: alerts of the first only, of the second only, and at other times."""
    sets: list[RuleSet | None] = [read_rules(file)[0] for file in (first, second)]
    played = _play(sets, begin, end, warm_up, step, given, bootstrap, prefix)
    _show_difference(played, [str(first), str(second)], as_json=as_json)
    _end(played)


def read_rules(file: Path) -> tuple[RuleSet, str]:
    """Read a rule file; ConfigError names it and every fault."""
    return wiring.read_rules(file, str(file))


def duration(ms: int) -> str:
    """Write a time after a start."""
    return duration_text(ms) if ms else "0s"


# ---- replaying -------------------------------------------------------------------------------------------------


def _play(
    sets: Sequence[RuleSet | None], begin: str, end: str, warm_up: str, step: str, file: Path | None,
    bootstrap: str | None, prefix: str | None,
) -> Played:  # fmt: skip
    settings = load(bootstrap, prefix)
    rule_sets = [wiring.rules(settings) if rules is None else rules for rules in sets]
    given = Given(wiring.price_book(settings), wiring.customs(settings))
    step_ms = _duration("--step", step, least_ms=50)
    if file is not None:
        with _opened(file) as lines, progress(f"reading {file}") as say:
            return play_lines(lines, rule_sets, given, say=say, step_ms=step_ms)
    now = now_ms()
    from_ms, to_ms = _moment("--from", begin, now), _moment("--to", end, now) if end else now
    if from_ms >= to_ms:
        raise ConfigError(f"--from: {begin} is not before --to; say an earlier time, such as --from 24h")
    warm_up_ms = _duration("--warm-up", warm_up, least_ms=0)
    with progress("looking for the range") as say:
        return asyncio.run(
            play_topic(
                connection(settings), settings.topic_prefix, rule_sets, given, from_ms=from_ms, to_ms=min(to_ms, now),
                warm_up_ms=warm_up_ms, say=say, step_ms=step_ms,
            )
        )  # fmt: skip


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    if file == STDIN:
        yield sys.stdin.buffer
        return
    try:
        with file.open("rb") as lines:
            yield lines
    except OSError as error:
        raise ConfigError(f"--input: {file} cannot be read ({error.strerror})") from error


def _moment(option: str, text: str, now: int) -> int:
    """Read a time: how long ago, epoch, or RFC 3339; ConfigError otherwise."""
    ago_ms = duration_ms(text)
    if ago_ms is not None and not text.isdecimal():
        return now - ago_ms
    at_ms = now if text == "now" else time_ms(text)
    if at_ms is None:
        raise ConfigError(f"{option}: {text!r} given, expected 24h (ago), 2025-11-21T12:00:00Z, or epoch ms")
    return at_ms


def _duration(option: str, text: str, *, least_ms: int) -> int:
    ms = duration_ms(text)
    if ms is None or ms < least_ms:
        raise ConfigError(f"{option}: {text!r} given, expected a duration from {duration(least_ms)}, such as 10s or 1h")
    return ms


# ---- showing ---------------------------------------------------------------------------------------------------


def _show(played: Played) -> None:
    replay = played.replays[0]
    lives = replay.lives.all(played.from_ms)
    table = Table("rule", "severity", "fired", "keys", "longest", "in all", box=None, pad_edge=False)
    for one in by_rule(lives, replay.rules.rules):
        lasted = [duration(one.longest_ms), duration(one.fired_ms)] if one.fired else ["", ""]
        table.add_row(escape(one.alert), one.severity, str(one.fired), str(one.keys), *lasted)
    out.print(table)
    if lives:
        out.print()
        _list(lives[:SHOWN], played.from_ms)
        if len(lives) > SHOWN:
            out.print(f"… {len(lives):,} in all; --json shows every one")
    for name, opened in sorted(replay.circuits.items()):
        if opened:
            out.print(f"breaker {escape(name)} would have opened {opened} time{'' if opened == 1 else 's'}")
    if replay.lives.forgotten:
        err.print(f"{replay.lives.forgotten:,} more alerts were counted as forgotten: nobody reads so many")
    _sum_up(played)


def _list(lives: Sequence[Life], from_ms: int) -> None:
    table = Table("fired", "for", "alert", "key", "peak", "what", box=None, pad_edge=False)
    for life in lives:
        open_end = "" if life.resolved_ms is not None else "+"
        began = "before" if (life.fired_ms or 0) < from_ms else clock(life.fired_ms)
        key = ", ".join(f"{name}={value}" for name, value in life.labels.items())
        table.add_row(
            began, duration(life.fired_for_ms) + open_end, escape(life.alert), escape(key), life.peak_text,
            escape(life.summary),
        )  # fmt: skip
    out.print(table)


def clock(ms: int | None) -> str:
    """Write a moment for people, in UTC."""
    return "–" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _show_difference(played: Played, names: list[str], *, as_json: bool) -> None:
    first, second = (replay.lives.all(played.from_ms) for replay in played.replays)
    found = compare(first, second)
    if as_json:
        print_json(_difference(played, found, names))
        return
    for lives, name in ((found.only_first, names[0]), (found.only_second, names[1])):
        out.print(f"[bold]only with {escape(name)}[/bold]: {len(lives)}")
        if lives:
            _list(lives[:SHOWN], played.from_ms)
    out.print(f"[bold]at other times[/bold]: {len(found.moved)}")
    for one, other in found.moved[:SHOWN]:
        key = ", ".join(f"{label}={value}" for label, value in one.labels.items())
        out.print(
            f"{escape(one.alert)} {escape(key)}: fired {clock(one.fired_ms)} → {clock(other.fired_ms)}, "
            f"resolved {clock(one.resolved_ms)} → {clock(other.resolved_ms)}"
        )
    out.print(f"the same: {found.same}")
    _sum_up(played)


def _difference(played: Played, found: Differing, names: list[str]) -> dict[str, Any]:
    told = as_dict(played)
    del told["alerts"], told["breakers_opened"]
    return {
        **told,
        "first": names[0],
        "second": names[1],
        "only_first": [life_dict(life, played.from_ms) for life in found.only_first],
        "only_second": [life_dict(life, played.from_ms) for life in found.only_second],
        "moved": [[life_dict(life, played.from_ms) for life in pair] for pair in found.moved],
        "same": found.same,
    }


def _sum_up(played: Played) -> None:
    rate = f", {played.events / played.took_s:,.0f} events/s" if played.took_s else ""
    out.print(
        f"{played.events:,} events of {clock(played.from_ms)} to {clock(played.to_ms)} UTC, warm-up included, "
        f"replayed in {played.took_s:.1f} s{rate}; nothing was written"
    )


def _end(played: Played) -> None:
    """Say what was not there any more, and end with the code for nothing at all."""
    for partition, oldest_ms in sorted(played.missing.items()):
        err.print(
            f"[yellow]partition {partition} holds nothing from before {clock(oldest_ms)} UTC[/yellow]: "
            "what came before is no longer retained"
        )
    if played.missing:
        err.print(
            "Say a later --from, keep events for longer (retention.ms of the events topic) before the next time, "
            "or replay a copy of them: --input FILE"
        )
    if not played.records:
        err.print("There is nothing in this range: say another --from and --to, or check --prefix")
        raise typer.Exit(NOTHING)
