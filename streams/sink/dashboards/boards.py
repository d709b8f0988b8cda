"""Which dashboards are there, and what is the file of each called?  Data only."""

from collections.abc import Mapping
from typing import Final

from streams.sink.dashboards.agents import AGENTS
from streams.sink.dashboards.alerts import ALERTS
from streams.sink.dashboards.grafana import text
from streams.sink.dashboards.panel import Board
from streams.sink.dashboards.pipeline import PIPELINE
from streams.sink.dashboards.rest import rest
from streams.sink.dashboards.services import SERVICES
from streams.sink.dashboards.sessions import SESSIONS
from streams.sink.dashboards.tokens import TOKENS
from streams.sink.dashboards.tools import TOOLS

_CHOSEN: Final[Mapping[str, Board]] = {
    "agents": AGENTS,
    "tools": TOOLS,
    "tokens": TOKENS,
    "sessions": SESSIONS,
    "services": SERVICES,
    "alerts": ALERTS,
    "pipeline": PIPELINE,
}
BOARDS: Final[Mapping[str, Board]] = {**_CHOSEN, "rest": rest(_CHOSEN.values())}


def files() -> dict[str, str]:
    """Return all that belongs into the folder of dashboards: file name and text."""
    return {f"{name}.json": text(board) for name, board in BOARDS.items()}
