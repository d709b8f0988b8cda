"""`agent-streams notify`: tells receivers about alerts, each state at least once, through outages on either side.

Never judges: what fires is decided by the workers; what is silenced or inhibited is held back.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import typer

from streams.errors import ConfigError
from streams.rule.matcher import LabelMatcher
from streams.settings import variable
from streams.worker import logs, wiring
from streams.worker.cli.options import Bootstrap, Prefix, connection, load, out
from streams.worker.notify import NotifyConfig, run
from streams.worker.notify_senders import load_targets

EXAMPLES: Final = (
    "agent-streams notify --receivers receivers.yaml --check",
    "agent-streams notify --receivers receivers.yaml",
    "curl http://127.0.0.1:8466/metrics",
)


def notify(
    receivers: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Who is told (YAML); without it AGENT_STREAMS_RECEIVERS_FILE.", show_default=False
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read the receivers and every file they name, and end.")
    ] = False,
    group: Annotated[
        str | None, typer.Option(help="Replicas of one group: one of them sends.", show_default="notify")
    ] = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    host: Annotated[
        str | None, typer.Option(help="Where to listen; 0.0.0.0 for everywhere.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.", show_default="8466")
    ] = None,
) -> None:
    """Tell Alertmanager, webhooks, chats and Redis about alerts, until a signal.

    Several with the same --group stand by for each other: one of them sends, and another goes on when it dies.
    """
    settings = load(bootstrap, prefix, receivers_file=receivers, notify_host=host, notify_port=port, notify_group=group)
    path, named = settings.receivers_file, variable("receivers_file")
    if path is None:
        raise ConfigError(f"no receivers are named: write --receivers FILE, or set {named} (docs/notify.md)")
    told = load_targets(path, named)
    if check:
        for target in told.targets:
            out.print(f"{target.receiver.name}: {target.receiver.kind}", markup=False)
        for rule in told.inhibitions:
            out.print(f"{_all(rule.sources)} mutes {_all(rule.targets)}", markup=False)
        return
    logs.configure(settings.log_level, settings.log_format)
    config = NotifyConfig(
        connection=connection(settings),
        targets=told.targets,
        inhibitions=told.inhibitions,
        prefix=settings.topic_prefix,
        group=settings.notify_group,
        web=wiring.web(settings, host=settings.notify_host, port=settings.notify_port),
    )
    code = run(config)
    if code:
        raise typer.Exit(code)


def _all(matchers: Iterable[LabelMatcher]) -> str:
    return "{" + ", ".join(map(str, matchers)) + "}"
