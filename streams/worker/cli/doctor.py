"""`agent-streams doctor`: is everything as it should be, and what is there to do?  One line per finding.

Only looks.
"""

import asyncio
from typing import Final

import typer
from rich.text import Text

from streams.worker import doctor as look
from streams.worker.cli.options import Bootstrap, Json, Prefix, connection, load, out, print_json, progress

EXAMPLES: Final = ("agent-streams doctor", "agent-streams doctor --bootstrap broker-1:9092 --json")
_STYLES: Final = {"ok": "green", "advice": "yellow", "fault": "bold red"}


def doctor(bootstrap: Bootstrap = None, prefix: Prefix = None, as_json: Json = False) -> None:
    """Look at brokers, topics, workers, states, lag, conservation, clocks and Redis; the exit status is 1 for a fault.

    Each finding says what was found, what was expected, and the next step.
    """
    settings = load(bootstrap, prefix)
    url = settings.redis_url.get_secret_value() if settings.redis_url else None
    group = f"{settings.topic_prefix}{settings.app_id}"
    with progress("looking"):
        findings = asyncio.run(look.examine(connection(settings), settings.topic_prefix, group, url))
    healthy = not any(finding.level == "fault" for finding in findings)
    if as_json:
        print_json({"ok": healthy, "findings": [finding.as_dict() for finding in findings]})
    else:
        for finding in findings:
            out.print(Text.assemble((f"{finding.level:7}", _STYLES[finding.level]), str(finding)))
    if not healthy:
        raise typer.Exit(1)
