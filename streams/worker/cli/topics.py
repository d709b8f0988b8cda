"""`agent-streams topics`: create the declared topics, and say where the brokers differ from the declaration.

Never changes a topic that exists: it names the command that would.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.table import Table

from streams.errors import ConfigError
from streams.topology import PAYLOADS
from streams.worker import topics
from streams.worker.cli.options import Bootstrap, Json, Prefix, connection, load, out, partition_counts, print_json
from streams.worker.topics import DEFAULT_PARTITIONS, Created, Finding

EXAMPLES: Final = (
    "agent-streams topics create",
    "agent-streams topics create --partitions events=32 --partitions rollups=8 --replication 3",
    "agent-streams topics check --json",
)
app: Final = typer.Typer(name="topics", help="Create and check the topics that workers need.", no_args_is_help=True)

Partitions = Annotated[
    list[str] | None,
    typer.Option(
        "--partitions",
        metavar="TOPIC=N",
        help="Partition count of `events`, `rollups` or `commands`; the other topics follow these. May be repeated.",
        show_default=", ".join(f"{name}={count}" for name, count in DEFAULT_PARTITIONS.items()),
    ),
]


@app.command()
def create(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    partitions: Partitions = None,
    replication: Annotated[
        int | None,
        typer.Option(min=1, help="Copies of each partition.", show_default="3, or the number of brokers"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Create the topics that are missing, then check all; running it again changes nothing."""
    settings = load(bootstrap, prefix, replication=replication)
    kafka = connection(settings)
    counts = partition_counts(settings) | _counts(partitions or [])
    retention = {PAYLOADS.suffix: settings.payload_retention_ms}

    async def act() -> tuple[Created, list[Finding]]:
        done = await topics.create(kafka, settings.topic_prefix, counts, settings.replication, retention)
        return done, await topics.check(kafka, settings.topic_prefix, counts)

    done, findings = asyncio.run(act())
    if as_json:
        print_json({"created": done.created, "existing": done.existing, "findings": _rows(findings)})
    else:
        for name in done.created:
            out.print(f"[green]created[/green]  {escape(name)}")
        for name in done.existing:
            out.print(f"existing {escape(name)}")
        _show(findings)
    _end(findings)


@app.command()
def check(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    partitions: Partitions = None,
    as_json: Json = False,
) -> None:
    """Compare the brokers' topics with what workers need; the exit status is 78 if they cannot run with them."""
    settings = load(bootstrap, prefix)
    findings = asyncio.run(topics.check(connection(settings), settings.topic_prefix, _counts(partitions or [])))
    if as_json:
        print_json({"ok": not any(finding.fault for finding in findings), "findings": _rows(findings)})
    else:
        _show(findings)
    _end(findings)


def _counts(pairs: Sequence[str]) -> dict[str, int]:
    """Read TOPIC=N pairs; `topics.create` judges names and numbers."""
    counts: dict[str, int] = {}
    for pair in pairs:
        name, _, count = pair.partition("=")
        if not count.isdecimal():
            raise ConfigError(f"--partitions: {pair!r} given, expected TOPIC=N, such as events=8")
        counts[name] = int(count)
    return counts


def _rows(findings: Iterable[Finding]) -> list[dict[str, object]]:
    return [finding.as_dict() for finding in findings]


def _show(findings: Sequence[Finding]) -> None:
    if not findings:
        out.print("[green]All topics are as declared.[/green]")
        return
    table = Table("", "topic", "what", "found", "expected", box=None, pad_edge=False)
    for finding in findings:
        mark = "[red]fault[/red]" if finding.fault else "[yellow]advice[/yellow]"
        table.add_row(mark, *map(escape, (finding.topic, finding.what, finding.found, finding.expected)))
    out.print(table)
    for step in dict.fromkeys(finding.next_step for finding in findings):
        out.print(f"→ {escape(step)}")


def _end(findings: Iterable[Finding]) -> None:
    if any(finding.fault for finding in findings):
        raise typer.Exit(ConfigError.exit_code)
