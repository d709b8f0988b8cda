"""`agent-streams rules`: check rules, test them, try them on what has happened, load them into running workers.

Never judges itself: the engine is the workers'.
"""

import asyncio
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape

from streams.errors import ConfigError
from streams.rule.defaults import default_rules
from streams.rule.model import RuleSet
from streams.rule.parse import parse_rules
from streams.stage.casefile import CaseFile, parse_cases
from streams.stage.caserun import Failure, run_cases
from streams.stage.ruling import digest_of
from streams.topology import COMMANDS
from streams.worker import wiring
from streams.worker.asking import Outcome
from streams.worker.cli import backtest
from streams.worker.cli.options import Bootstrap, Json, Prefix, connection, err, load, out, print_json, progress
from streams.worker.cli.reset import whoever
from streams.worker.cli.rules_app import app
from streams.worker.rules_load import Done, Standing, load_rules, make, standing

EXAMPLES: Final = (
    "agent-streams rules check rules.yaml",
    "agent-streams rules test rules.test.yaml",
    "agent-streams rules backtest rules.yaml --from 24h",
    "agent-streams rules diff old.yaml new.yaml --from 7d --json",
    "agent-streams rules load rules.yaml --note 'tools may fail five times'",
    "agent-streams rules show",
)
TIMEOUT_S: Final = 30.0
# What a script can tell apart; Kafka that fails ends with 69, a wrong file or option with 78, as everywhere.
EXIT_CODES: Final = {
    Outcome.APPLIED: 0,
    Outcome.REFUSED: os.EX_DATAERR,  # 65
    Outcome.WAITING: os.EX_TEMPFAIL,  # 75
}


__all__ = ["app"]


# ---- check and test --------------------------------------------------------------------------------------------


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Rule files (YAML).")],
    as_json: Json = False,
) -> None:
    """Read rule files as workers would, and name every fault at once; 78 if there is one."""
    found = [backtest.read_rules(file) for file in files]
    if as_json:
        rows = [
            {"file": str(file), "rules": len(rules.rules), "breakers": len(rules.breakers), "digest": digest_of(text)}
            for file, (rules, text) in zip(files, found, strict=True)
        ]
        print_json({"files": rows})
        return
    for file, (rules, text) in zip(files, found, strict=True):
        out.print(f"[green]ok[/green]  {escape(str(file))}: {_count(rules)}, digest {digest_of(text)}")


@app.command(name="test")
def run_tests(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Files of tests (YAML).")],
    as_json: Json = False,
) -> None:
    """Run tests of rules: series or events of invented time go in, expected alerts are compared.

    It ends with 1 if an expectation fails, with 78 if a file cannot be used.
    """
    settings = load()
    book, customs = wiring.price_book(settings), wiring.customs(settings)
    failures: dict[str, list[Failure]] = {}
    cases = 0
    for file in files:
        held = _read_cases(file)
        rules = default_rules() if held.rules is None else backtest.read_rules(file.parent / held.rules)[0]
        try:
            failures[str(file)] = run_cases(held.cases, rules, book, customs)
        except ConfigError as error:
            raise ConfigError(f"{file}\n{error}") from error
        cases += len(held.cases)
    failed = sum(len({failure.case for failure in each}) for each in failures.values())
    if as_json:
        rows = [
            {"file": name, "test": failure.case, "at_ms": failure.at_ms, "lines": failure.lines}
            for name, each in failures.items()
            for failure in each
        ]
        print_json({"tests": cases, "failed": failed, "failures": rows})
    else:
        for name, each in failures.items():
            _show(name, each)
        colour = "red" if failed else "green"
        out.print(f"[{colour}]{cases - failed} of {cases} tests passed[/{colour}]")
    if failed:
        raise typer.Exit(1)


def _read_cases(file: Path) -> CaseFile:
    try:
        return parse_cases(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error})") from error
    except ConfigError as error:
        raise ConfigError(f"{file}\n{error}") from error


def _show(file: str, failures: list[Failure]) -> None:
    for failure in failures:
        at = backtest.duration(failure.at_ms)
        out.print(f"[red]FAILED[/red] {escape(file)}: {escape(failure.case)}, at {at}")
        for line in failure.lines:
            colour = "red" if line.startswith("-") else "green"
            out.print(f"  [{colour}]{escape(line)}[/{colour}]")


# ---- load and show ---------------------------------------------------------------------------------------------


@app.command(name="load")
def load_command(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="The rule file.", show_default=False)] = None,
    default: Annotated[bool, typer.Option("--default", help="Go back to the rules of each worker's settings.")] = False,
    note: Annotated[str | None, typer.Option(help="Why, for whoever reads it later.")] = None,
    by: Annotated[str | None, typer.Option(help="Who asks.", show_default="user@host")] = None,
    command_id: Annotated[
        str | None,
        typer.Option("--id", help="The command's id: asked for again under the same id, it happens once."),
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", min=1, max=3600, help="Seconds to wait for it.")] = TIMEOUT_S,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Let every running worker judge by these rules, at once and after every restart, until others are loaded.

    Alerts of unchanged rules go on, those of removed rules are resolved. It ends with 0 once every partition goes by
    them, with 65 if the workers refused them, with 75 if that was not seen in time.
    """
    if (file is None) != default:
        raise ConfigError("rules load: say either a FILE, or --default to go back to the rules of the settings")
    text = None if file is None else backtest.read_rules(file)[1]
    settings = load(bootstrap, prefix)
    command = make(command_id or str(uuid.uuid4()), whoever() if by is None else by, text, note)
    with progress(f"waiting for {settings.topic_prefix}{COMMANDS.suffix} to be carried out"):
        done = asyncio.run(load_rules(connection(settings), settings.topic_prefix, command, timeout_s))
    if as_json:
        print_json(done.as_dict())
    elif done.outcome is Outcome.APPLIED:
        out.print(
            f"[green]version {done.version}[/green] holds in {len(done.partitions)} partitions, "
            f"seen after {done.took_ms} ms"
        )
    else:
        _explain(done)
    raise typer.Exit(EXIT_CODES[done.outcome])


def _explain(done: Done) -> None:
    if done.outcome is Outcome.REFUSED:
        err.print(f"[red]refused[/red] by the workers: {escape(done.reason or '')}")
        return
    behind = [name for name, version in done.partitions.items() if version is None or version < (done.version or 0)]
    what = f"accepted as version {done.version}" if done.version else f"published as {done.id}"
    where = f" by {', '.join(sorted(behind))}" if done.version and behind else ""
    err.print(
        f"{escape(what)}, but not seen to be used{escape(where)} within {(done.took_ms or 0) / 1000:.0f} s. "
        "It holds once workers run: agent-streams doctor"
    )


@app.command()
def show(
    text: Annotated[bool, typer.Option("--text", help="Print the rules themselves, to be kept in a file.")] = False,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Show which rules hold: the version that was loaded last, by whom, and which one every partition goes by."""
    settings = load(bootstrap, prefix)
    found = asyncio.run(standing(connection(settings), settings.topic_prefix))
    loaded = found.row.text if found.row is not None else None
    if text:
        typer.echo(wiring.rules_text(settings) if loaded is None else loaded, nl=False)
        return
    if as_json:
        print_json(_standing(found))
        return
    row = found.row
    if row is None:
        out.print("No rules were ever loaded: workers go by those of their settings (version 0).")
    else:
        told = "the rules of the settings" if loaded is None else _count(parse_rules(loaded))
        source = f"{told}, digest {row.digest}" if row.digest else told
        note = f": {row.note}" if row.note else ""
        at = datetime.fromtimestamp(row.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        out.print(f"version [bold]{row.version}[/bold]: {escape(source)}")
        out.print(f"loaded {at} by {escape(row.by)}{escape(note)}")
    versions = sorted({version for version in found.partitions.values() if version is not None})
    for version in versions:
        names = [name for name, known in sorted(found.partitions.items()) if known == version]
        out.print(f"{len(names)} partitions go by version {version}: {', '.join(names)}")


def _standing(found: Standing) -> dict[str, object]:
    row = found.row
    told: dict[str, object] = {"version": 0, "source": "settings", "partitions": found.partitions}
    if row is not None:
        told |= {
            "version": row.version,
            "source": "settings" if row.text is None else "command",
            "digest": row.digest or None,
            "at_ms": row.at_ms,
            "by": row.by,
            "note": row.note,
            "command": row.command,
        }
    return told


def _count(rules: RuleSet) -> str:
    groups = len({rule.group for rule in rules.rules})
    return f"{len(rules.rules)} rules in {groups} groups, {len(rules.breakers)} breakers"
