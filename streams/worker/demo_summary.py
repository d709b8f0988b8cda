"""Do the tables say what was published, and was noticed what was made to go wrong?  Pure: a ledger and a picture in.

Never forgives a difference: every total that is not the published one is named.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from streams.event.model import TOOL_STATUSES
from streams.fold.measure import OUTCOMES
from streams.worker.crew import BAD_TOOL, RUNAWAY, Ledger
from streams.worker.picture import Picture

TOOL_ALERT: Final = "ToolFailing"
SESSION_ALERT: Final = "SessionTokenVelocityHigh"
FAULTS_SHOWN: Final = 20


@dataclass(slots=True)
class Summary:
    """What a run has shown; `faults` says where the tables differ from what was published."""

    seed: int
    published: int
    received: int
    applied: int
    late: int
    duplicate: int
    rejected: int
    sessions: int
    tools: dict[str, dict[str, int]]  # calls by status
    alerts: list[str]  # names of those that have fired
    breaker_changes: list[dict[str, Any]]
    planted: dict[str, bool]  # what was made to go wrong: was it noticed?
    exact: bool
    faults: list[str]
    seconds: float = 0.0  # from the first event to the last
    first_numbers_s: float | None = None  # from the start until a table said something

    @property
    def passed(self) -> bool:
        """Is every total what was published, and was everything noticed that was made to go wrong?"""
        return self.exact and all(self.planted.values())

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        return {**asdict(self), "passed": self.passed}


def summarise(seed: int, ledger: Ledger, picture: Picture, *, expect_faults: bool) -> Summary:
    """Compare the tables with the ledger; without `expect_faults` only the totals are judged."""
    outcomes = picture.tables.sessions.outcomes()
    faults = list(differences(ledger, picture))
    return Summary(
        seed=seed,
        published=ledger.published,
        received=outcomes["received"],
        applied=outcomes["applied"],
        late=outcomes["late"],
        duplicate=outcomes["duplicate"],
        rejected=outcomes["rejected"],
        sessions=picture.tables.sessions.count,
        tools={entry.labels[0]: _calls(entry.row.sums) for entry in picture.tables.rollups.entries("tool")},
        alerts=sorted(picture.fired),
        breaker_changes=[
            {"breaker": each.breaker, "from": each.previous, "to": each.state, "time_ms": each.since_ms}
            for each in picture.breaker_changes
        ],
        planted=noticed(picture) if expect_faults else {},
        exact=not faults,
        faults=faults[:FAULTS_SHOWN],
    )


def noticed(picture: Picture) -> dict[str, bool]:
    """Say of everything that the crew makes go wrong whether it was noticed."""
    fired = {(record.alert, *record.labels.values()) for record in picture.alert_changes if record.state == "firing"}
    opened = {record.labels.get("tool") for record in picture.breaker_changes if record.state == "open"}
    return {
        f"{TOOL_ALERT} {BAD_TOOL}": any(alert[0] == TOOL_ALERT and BAD_TOOL in alert for alert in fired),
        f"breaker {BAD_TOOL}": BAD_TOOL in opened,
        f"{SESSION_ALERT} {RUNAWAY}": any(alert[0] == SESSION_ALERT and RUNAWAY in alert for alert in fired),
    }


def differences(ledger: Ledger, picture: Picture) -> Iterator[str]:
    """Name every total that is not the published one: of outcomes, tools, sessions and the whole."""
    outcomes = picture.tables.sessions.outcomes()
    yield from _compare("events", outcomes, {name: ledger.outcomes[name] for name in OUTCOMES})
    entries = {entry.labels[0]: entry for entry in picture.tables.rollups.entries("tool")}
    for tool, published in sorted(ledger.tools.items()):
        entry = entries.get(tool)
        yield from _compare(f"tool {tool}", _calls(entry.row.sums) if entry else {}, published)
    for session_id, events in sorted(ledger.sessions.items()):
        row = picture.tables.sessions.get(session_id)
        yield from _compare(f"session {session_id}", {"events": row.events if row else 0}, {"events": events})
    everything = picture.tables.rollups.get("all")
    counted = ledger.outcomes["applied"] + ledger.outcomes["late"]
    yield from _compare("all", everything.row.sums if everything else {}, {**ledger.totals, "events": counted})


def _compare(what: str, found: dict[str, int], published: dict[str, int]) -> Iterator[str]:
    for name, expected in published.items():
        if found.get(name, 0) != expected:
            yield f"{what}: {name} is {found.get(name, 0):,}, published {expected:,}"


def _calls(sums: dict[str, int]) -> dict[str, int]:
    """Return a tool's calls by status, those that happened."""
    return {status: sums[f"tool_calls_{status}"] for status in TOOL_STATUSES if sums.get(f"tool_calls_{status}")}
