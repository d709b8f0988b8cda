"""`agent-streams topics`: plan, create and check the declared topics: what is missing, what differs, what is refused.

Never alters a topic that exists unless told to, and never a partition count: it names the way to another one.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.table import Table

from streams.errors import ConfigError
from streams.settings import Settings
from streams.topology import DAY_MS, PAYLOADS, TOPICS
from streams.worker import topic_plan, topic_rates, topics
from streams.worker.cli.options import Bootstrap, Json, Prefix, connection, load, out, partition_counts, print_json
from streams.worker.connection import KafkaConnection
from streams.worker.topic_plan import Change, Rate, Volume
from streams.worker.topics import DEFAULT_PARTITIONS, Created, Finding

EXAMPLES: Final = (
    "agent-streams topics plan --rate events=2000:350",
    "agent-streams topics create --partitions events=32 --partitions rollups=8 --replication 3",
    "agent-streams topics create --alter",
    "agent-streams topics check --json",
)
DIFFERENT: Final = 2  # exit status of a plan that has something to do, and of a check that found a difference
_STYLES: Final = {"create": "green", "alter": "yellow", "refuse": "bold red", "advise": "cyan"}
app: Final = typer.Typer(
    name="topics", help="Plan, create and check the topics that workers need.", no_args_is_help=True
)

Partitions = Annotated[
    list[str] | None,
    typer.Option(
        "--partitions",
        metavar="TOPIC=N",
        help="Partition count of `events`, `rollups` or `commands`; the other topics follow these. May be repeated.",
        show_default=", ".join(f"{name}={count}" for name, count in DEFAULT_PARTITIONS.items()),
    ),
]
Replication = Annotated[
    int | None,
    typer.Option(min=1, help="Copies of each partition.", show_default="3, or the number of brokers"),
]


@app.command()
def plan(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    partitions: Partitions = None,
    replication: Replication = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TOPIC=RECORDS/S:BYTES",
            help="How fast a topic will be written to, for what it will weigh; else its last hour. May be repeated.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what would be created (+), altered (~) or refused (!), and what the topics weigh; changes nothing.

    The exit status is 2 if there is anything to do, else 0.
    """
    settings = load(bootstrap, prefix, replication=replication)
    kafka, given = connection(settings), _rates(rate or [])
    cluster, changes = asyncio.run(_plan(kafka, settings, counts_of(partitions or [])))
    rates = asyncio.run(_measured(kafka, settings.topic_prefix, cluster)) | given
    weights = topic_plan.volumes(cluster, settings.topic_prefix, rates, settings.replication)
    if as_json:
        print_json({"changes": [each.as_dict() for each in changes], "volumes": [each.as_dict() for each in weights]})
    else:
        _show_changes(changes)
        _show_volumes(weights)
    if changes:
        raise typer.Exit(DIFFERENT)


@app.command()
def create(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    partitions: Partitions = None,
    replication: Replication = None,
    alter: Annotated[
        bool, typer.Option("--alter", help="Also set what differs in topics that exist, as `plan` marks with ~.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Create the topics that are missing, then check all; running it again changes nothing."""
    settings = load(bootstrap, prefix, replication=replication)
    kafka = connection(settings)
    counts = partition_counts(settings) | counts_of(partitions or [])
    retention = {PAYLOADS.suffix: settings.payload_retention_ms}

    async def act() -> tuple[Created, list[Finding]]:
        done = await topics.create(kafka, settings.topic_prefix, counts, settings.replication, retention)
        if alter:
            cluster, changes = await _plan(kafka, settings, counts)
            await topics.alter(kafka, topic_plan.alterations(changes, cluster, settings.topic_prefix))
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
    """Compare the brokers' topics with what workers need.

    The exit status is 78 if workers cannot run with them, 2 if something else differs, else 0.
    """
    settings = load(bootstrap, prefix)
    findings = asyncio.run(topics.check(connection(settings), settings.topic_prefix, counts_of(partitions or [])))
    if as_json:
        print_json({"ok": not any(finding.fault for finding in findings), "findings": _rows(findings)})
    else:
        _show(findings)
    _end(findings)
    if findings:
        raise typer.Exit(DIFFERENT)


async def _plan(
    kafka: KafkaConnection, settings: Settings, counts: Mapping[str, int]
) -> tuple[topics.Cluster, list[Change]]:
    cluster = await topics.look(kafka, settings.topic_prefix)
    retention = {PAYLOADS.suffix: settings.payload_retention_ms}
    wanted = partition_counts(settings) | dict(counts)
    return cluster, topic_plan.plan(cluster, settings.topic_prefix, wanted, settings.replication, retention)


async def _measured(kafka: KafkaConnection, prefix: str, cluster: topics.Cluster) -> dict[str, Rate]:
    counts = {name: seen.partitions for name, seen in cluster.topics.items()}
    found = await topic_rates.measure(kafka, counts, int(time.time() * 1000)) if counts else {}
    return {name.removeprefix(prefix): rate for name, rate in found.items()}


def _rates(pairs: Sequence[str]) -> dict[str, Rate]:
    """Read TOPIC=RECORDS/S:BYTES."""
    known, found = [topic.suffix for topic in TOPICS], {}
    for pair in pairs:
        name, _, rest = pair.partition("=")
        records, _, size = rest.partition(":")
        try:
            found[name] = Rate(float(records), float(size))
        except ValueError:
            raise ConfigError(f"--rate: {pair!r} given, expected TOPIC=RECORDS/S:BYTES, as events=2000:350") from None
        if name not in known or not (0 <= found[name].records_per_s < 1e12 and 0 <= found[name].record_bytes < 1e12):
            raise ConfigError(f"--rate: {pair!r} given, expected a topic of {', '.join(known)} and natural numbers")
    return found


def counts_of(pairs: Sequence[str]) -> dict[str, int]:
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


def _show_changes(changes: Sequence[Change]) -> None:
    for change in changes:
        what = "" if change.what == "topic" else f" {change.what}"
        out.print(
            f"[{_STYLES[change.action]}]{change.sign}[/] {escape(change.topic)}{escape(what)}: "
            f"{escape(change.found)} → {escape(change.expected)}"
        )
    for step in dict.fromkeys(step for change in changes for step in change.steps):
        out.print(f"  → {escape(step)}")
    done = {action: sum(change.action == action for change in changes) for action in _STYLES}
    words = {"create": "to create", "alter": "to alter", "refuse": "refused", "advise": "to think about"}
    said = ", ".join(f"{count} {words[action]}" for action, count in done.items() if count)
    out.print(said or "[green]Nothing to do: all topics are as declared.[/green]")


def _show_volumes(weights: Sequence[Volume]) -> None:
    if not weights:
        return
    table = Table("topic", "records/s", "bytes each", "copies", "per day", "kept", "in all", box=None, pad_edge=False)
    for each in weights:
        days = "compacted" if each.retention_ms is None else _days(each.retention_ms)
        total = "what lives" if each.kept_bytes is None else _size(each.kept_bytes)
        rate = (f"{each.rate.records_per_s:,.4g}", f"{each.rate.record_bytes:,.0f}")
        table.add_row(escape(each.topic), *rate, str(each.copies), _size(each.bytes_per_day), days, total)
    out.print(table)
    out.print("records/s x bytes x copies x 86,400 s, for as long as records are kept; before compression.")


def _days(retention_ms: int) -> str:
    return "for ever" if retention_ms < 0 else f"{retention_ms / DAY_MS:g} d"


def _size(count: int) -> str:
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"


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
