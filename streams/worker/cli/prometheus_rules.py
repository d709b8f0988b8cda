"""`agent-streams prometheus-rules`: our rules, and alerts on the pipeline itself, for a Prometheus to evaluate.

Never asks a broker or a Prometheus: the rules are those that a worker with the same settings would judge by.
"""

from pathlib import Path
from typing import Annotated, Final

import typer

from streams.sink.rulefiles.files import HEALTH_FILE, RULES_FILE, files
from streams.sink.rulefiles.health import Watch
from streams.sink.rulefiles.model import RUNBOOKS
from streams.worker import wiring
from streams.worker.cli.folder import write
from streams.worker.cli.options import load

EXAMPLES: Final = (
    "agent-streams prometheus-rules > agent-streams.rules.yaml",
    "agent-streams prometheus-rules pipeline --workers 3",
    "AGENT_STREAMS_RULES_FILE=rules.yaml agent-streams prometheus-rules --to /etc/prometheus/rules",
)
_FILES: Final = {"rules": RULES_FILE, "pipeline": HEALTH_FILE}


def prometheus_rules(
    of: Annotated[
        str, typer.Argument(metavar="rules|pipeline", help="Alerts of the rule set, or on the pipeline itself.")
    ] = "rules",
    to: Annotated[
        Path | None, typer.Option(help="Write both files into this folder instead.", show_default=False)
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="How many workers are expected to be ready at any time.")] = 1,
    runbooks: Annotated[
        str, typer.Option(metavar="URL", help="Where the runbooks are published; alerts link to their sections.")
    ] = RUNBOOKS,
) -> None:
    """Print Prometheus recording and alert rules, made of the rules that workers judge by."""
    if of not in _FILES:
        raise typer.BadParameter(f"{of!r} is neither of {', '.join(_FILES)}")
    made = files(wiring.rules(load()), Watch(workers), runbooks)
    if to is None:
        typer.echo(made[_FILES[of]], nl=False)
    else:
        write(to, made)
