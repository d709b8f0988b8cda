"""`agent-streams alerts`: taking them on and silencing them, by commands that wait until the workers accept or refuse.

Never changes an alert: who is told what is all that they change.
"""

import asyncio
import os
import uuid
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from streams.clock import now_ms
from streams.errors import ConfigError
from streams.event.codec import time_ms
from streams.event.command import Acknowledge, Command, SilenceAlerts, SilenceMatcher, Unacknowledge, Unsilence
from streams.rule.amount import duration_ms, duration_text
from streams.rule.matcher import LabelMatcher, read_matcher
from streams.rule.receivers import routing_labels
from streams.rule.records import AlertRecord, rfc3339
from streams.rule.silence import Silence, fault_of
from streams.settings import Settings
from streams.topology import COMMANDS
from streams.worker.asking import Answer, Asked, ask, checked
from streams.worker.cli.alerts_look import app, end, found
from streams.worker.cli.options import Bootstrap, Json, Prefix, connection, err, load, out, print_json, progress
from streams.worker.cli.reset import whoever
from streams.worker.looking import read_whole
from streams.worker.situation import SUFFIXES, Situation, shown

TIMEOUT_S: Final = 30.0
# What a script can tell apart; Kafka that fails ends with 69, a wrong option with 78, as everywhere.
EXIT_CODES: Final = {
    Answer.ACCEPTED: 0,
    Answer.REFUSED: os.EX_DATAERR,  # 65
    Answer.WAITING: os.EX_TEMPFAIL,  # 75
}
EXAMPLES: Final = (
    "agent-streams alerts",
    "agent-streams alerts show 3f0c9b1e",
    "agent-streams alerts ack 3f0c9b1e --note 'ticket 4711'",
    "agent-streams alerts silence 'tool=~\"web_.*\"' severity=warning --for 2h",
    "agent-streams alerts watch --json | jq -c '{state, alert, labels}'",
)

Ids = Annotated[
    list[str], typer.Argument(metavar="ID…", help="Alerts: their ids, or as much of each as no other begins with.")
]
Note = Annotated[str | None, typer.Option(help="Why, for whoever looks at it later.")]
By = Annotated[str | None, typer.Option(help="Who asks.", show_default="user@host")]
For = Annotated[str | None, typer.Option("--for", metavar="DURATION", help="For how long: 30m, 2h, 1d12h.")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Until when: 2025-11-21T14:00:00Z.")]
Timeout = Annotated[float, typer.Option("--timeout", min=1, max=3600, help="Seconds to wait for the workers.")]


@app.command()
def ack(
    ids: Ids,
    note: Note = None,
    for_: For = None,
    until: Until = None,
    by: By = None,
    timeout_s: Timeout = TIMEOUT_S,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Take alerts on: everybody sees who, and their notices are not repeated; when they fire anew they are news again.

    It ends with 0 once the workers have accepted it, with 66 if there is no such alert or it is over, with 65 if an
    id is one of several or the workers refused it, with 75 if none was seen to accept it in time.
    """
    settings = load(bootstrap, prefix)
    situation = _look(settings)
    records = [found(lambda each=each: situation.find(each)) for each in ids]  # type: ignore[misc]  # bound at once
    for record in records:
        if record.state == "resolved":
            end(os.EX_NOINPUT, f"{_name(record)} is over since {rfc3339(record.time_ms)}: there is nothing to take on")
    moment_ms = now_ms()
    ends = None if for_ is None and until is None else _ends(for_, until, moment_ms, None)
    commands = [
        Acknowledge(
            id=str(uuid.uuid4()), time=moment_ms, by=whoever() if by is None else by, note=note,
            fingerprint=record.fingerprint, incarnation=record.incarnation, until=ends,
        )
        for record in records
    ]  # fmt: skip
    done = [_ask(settings, command, command.fingerprint, timeout_s) for command in commands]
    said = [f"[green]taken on[/green] {escape(_name(record))} by {escape(commands[0].by)}" for record in records]
    _tell(done, said, as_json=as_json)


@app.command()
def unack(
    ids: Ids,
    note: Note = None,
    by: By = None,
    timeout_s: Timeout = TIMEOUT_S,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Give alerts back: nobody is at them any more, and their notices are repeated again.

    It ends as `ack` does; with 66 if nobody has taken it on.
    """
    settings = load(bootstrap, prefix)
    situation = _look(settings)
    records = [found(lambda each=each: situation.find(each)) for each in ids]  # type: ignore[misc]  # bound at once
    moment_ms = now_ms()
    for record in records:
        if situation.entry(record, moment_ms).why.acknowledged is None:
            end(os.EX_NOINPUT, f"nobody has taken {_name(record)} on: nothing was asked of the workers")
    asker = whoever() if by is None else by
    commands = [
        Unacknowledge(id=str(uuid.uuid4()), time=moment_ms, by=asker, note=note, fingerprint=record.fingerprint)
        for record in records
    ]
    done = [_ask(settings, command, command.fingerprint, timeout_s) for command in commands]
    _tell(done, [f"[green]given back[/green] {escape(_name(record))}" for record in records], as_json=as_json)


@app.command()
def silence(
    matchers: Annotated[
        list[str],
        typer.Argument(
            metavar="MATCHER…|ID",
            help="What every silenced alert has: tool=search, tool=~web_.*, severity!=critical; or an alert's id.",
        ),
    ],
    for_: For = None,
    until: Until = None,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="From when on.", show_default="now")] = None,
    note: Note = None,
    by: By = None,
    timeout_s: Timeout = TIMEOUT_S,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Let nobody be told of the alerts that all matchers mean, for a while; they are shown as silenced.

    Labels are the alert's, and alertname, severity and over. What still fires when it ends is told then. It ends as
    `ack` does; --json has the silence's id.
    """
    settings = load(bootstrap, prefix)
    moment_ms = now_ms()
    begins_ms = moment_ms if start is None else _moment("--start", start)
    ends_ms = _ends(for_, until, begins_ms, "a silence ends by itself: say --for 2h, or --until TIME")
    situation = _look(settings)
    chosen = _matchers(matchers, situation)
    fault = fault_of(chosen)
    if fault is not None:
        raise ConfigError(f"silence: {fault}, such as tool=search")
    given = [SilenceMatcher(each.name, each.value, each.regex, each.equal) for each in chosen]
    command = SilenceAlerts(
        id=str(uuid.uuid4()), time=moment_ms, by=whoever() if by is None else by, note=note, matchers=given,
        starts_at=None if start is None else begins_ms, until=ends_ms,
    )  # fmt: skip
    asked = _ask(settings, command, command.id, timeout_s)
    made = Silence(command.id, chosen, begins_ms, ends_ms, moment_ms, command.by, note)
    meant = [entry.record for entry in situation.entries(moment_ms) if made.means(routing_labels(entry.record))]
    words = f"{len(meant)} alert{'' if len(meant) == 1 else 's'} of now"
    said = f"[green]silenced[/green] {escape(_written(chosen))} until {rfc3339(ends_ms)} as {command.id}: {words}"
    _tell([asked], [said], as_json=as_json)


@app.command()
def unsilence(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Silences, as `alerts silences` shows.")],
    note: Note = None,
    by: By = None,
    timeout_s: Timeout = TIMEOUT_S,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """End silences before their time: what still fires is told. It ends as `ack` does."""
    settings = load(bootstrap, prefix)
    situation = _look(settings)
    ended = [found(lambda each=each: situation.find_silence(each)) for each in ids]  # type: ignore[misc]  # bound at once
    asker, moment_ms = whoever() if by is None else by, now_ms()
    commands = [Unsilence(id=str(uuid.uuid4()), time=moment_ms, by=asker, note=note, silence=one.id) for one in ended]
    done = [_ask(settings, command, command.silence, timeout_s) for command in commands]
    _tell(
        done, [f"[green]ended[/green] the silence {escape(_written(one.matchers))}" for one in ended], as_json=as_json
    )


@app.command()
def silences(bootstrap: Bootstrap = None, prefix: Prefix = None, as_json: Json = False) -> None:
    """Show the silences that hold or are to begin, who made them, and what each keeps from being told."""
    situation, moment_ms = _look(load(bootstrap, prefix)), now_ms()
    there = situation.silences(moment_ms)
    if as_json:
        print_json({"silences": [_as_dict(one, muted, moment_ms) for one, muted in there]})
        return
    if not there:
        out.print("No alert is silenced.")
        return
    ids = shown([one.id for one, _ in there])
    table = Table("id", "state", "matchers", "ends in", "by", "note", "mutes", box=None, pad_edge=False)
    for one, muted in there:
        left = duration_text(max(0, one.ends_ms - moment_ms) // 1000 * 1000)
        cells = (ids[one.id], one.state(moment_ms), _written(one.matchers), left, one.by, one.note or "")
        table.add_row(*map(Text, cells), Text(", ".join(sorted({record.alert for record in muted})) or "nothing now"))
    out.print(table)


def _as_dict(one: Silence, muted: list[AlertRecord], moment_ms: int) -> dict[str, Any]:
    return {
        "id": one.id,
        "state": one.state(moment_ms),
        "matchers": [
            {"name": each.name, "value": each.value, "isRegex": each.regex, "isEqual": each.equal}
            for each in one.matchers
        ],
        "starts_ms": one.starts_ms,
        "ends_ms": one.ends_ms,
        "created_ms": one.created_ms,
        "by": one.by,
        "note": one.note,
        "mutes": [record.fingerprint for record in muted],
    }


# ---- what they share ---------------------------------------------------------------------------------------------


def _look(settings: Settings) -> Situation:
    situation = Situation()
    asyncio.run(read_whole(connection(settings), settings.topic_prefix, SUFFIXES, situation.take))
    return situation


def _ask(settings: Settings, command: Command, key: str, timeout_s: float) -> Asked:
    with progress(f"waiting for {settings.topic_prefix}{COMMANDS.suffix} to be taken"):
        return asyncio.run(ask(connection(settings), settings.topic_prefix, checked(command), key, timeout_s))


def _tell(done: list[Asked], said: list[str], *, as_json: bool) -> None:
    """Say what became of commands, and end with the code of the worst."""
    if as_json:
        print_json({"commands": [asked.as_dict() for asked in done]})
    for asked, text in zip(done, said, strict=True):
        if as_json:
            continue
        if asked.answer is Answer.ACCEPTED:
            out.print(text)
        elif asked.answer is Answer.REFUSED:
            err.print(f"[red]refused[/red] by the workers: {escape(asked.reason or '')}")
        else:
            err.print(
                f"published as {asked.id}, but no worker took it within {asked.took_ms / 1000:.0f} s. "
                "It happens once one runs: agent-streams doctor"
            )
    code = max(EXIT_CODES[asked.answer] for asked in done)
    if code:
        raise typer.Exit(code)


def _ends(for_: str | None, until: str | None, begins_ms: int, missing: str | None) -> int:
    """Return an end in epoch ms. ConfigError says what is wrong with it."""
    if (for_ is None) == (until is None):
        raise ConfigError(missing if missing and for_ is None else "say one of --for and --until")
    if until is not None:
        return _moment("--until", until)
    length_ms = duration_ms(for_)
    if not length_ms:
        raise ConfigError(f"--for: {for_!r} given, expected a duration such as 30m, 2h or 1d12h")
    return begins_ms + length_ms


def _moment(option: str, text: str) -> int:
    found_ms = time_ms(text)
    if found_ms is None:
        raise ConfigError(f"{option}: {text!r} given, expected a time with an offset, such as 2025-11-21T14:00:00Z")
    return found_ms


def _matchers(given: list[str], situation: Situation) -> tuple[LabelMatcher, ...]:
    """Read matchers, or make those of the one alert whose id is given."""
    if len(given) == 1 and "=" not in given[0] and "~" not in given[0]:
        record = found(lambda: situation.find(given[0]))
        named = {"alertname": record.alert, "over": record.over, **record.labels}
        return tuple(LabelMatcher.of(name, value) for name, value in named.items())
    chosen: list[LabelMatcher] = []
    for text in given:
        try:
            chosen.append(read_matcher(text))
        except ValueError as error:
            raise ConfigError(
                f"matcher {text!r}: {error}; expected one such as tool=search, tool!=search, tool=~web_.*"
            ) from error
    return tuple(chosen)


def _written(matchers: tuple[LabelMatcher, ...]) -> str:
    return "{" + ", ".join(map(str, matchers)) + "}"


def _name(record: AlertRecord) -> str:
    labels = ", ".join(f"{name}={value}" for name, value in record.labels.items())
    return f"{record.alert}{{{labels}}}"
