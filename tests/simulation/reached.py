"""What has happened in a life?  A simulation that never gets anywhere is always right."""

import json
from collections import Counter
from itertools import pairwise
from typing import Final

from simulation.attended import held, left
from simulation.broker import EVENTS, ROLLUPS
from simulation.circuits import ended
from simulation.erasures import seen
from simulation.judge import Judge
from simulation.orders import shown_of
from simulation.rulings import RULES, told_reasons
from simulation.verdicts import STATES, WORDS, told
from simulation.world import World

from streams.rule.alert import FOR_RAISED, RULE_REMOVED

_MONEY: Final = (
    "computed_cost_nano_usd", "unpriced", "usage_inconsistent", "aggregates_settled", "aggregates_leafless",
    "aggregate_over_tokens", "aggregate_under_tokens",
)  # fmt: skip
# Rules of rules.yaml; circles are too rare where every status is a matter of luck.
DETECTORS: Final = ("Repeats", "Nothing", "Errors", "Heap", "Overdue", "Dear")
# Each of these must happen in some life; most happen in most.
EXPECTED: Final = frozenset({
    "crash", "crash while loading", "crash within a flush", "pause", "fenced", "unknown outcome", "compacted",
    "aborted entry", "torn entry", "hole in the source", "batch of many deltas", "split flush",
    "received", "applied", "late", "duplicate", "rejected", "skewed", "misrouted", "reopened",
    "rejected_empty", "rejected_malformed", "rejected_unknown_kind", "rejected_unknown_schema", "rejected_invalid",
    "rejected_time", "rejected_undeclared", "session ended", "calls in flight", "abandoned", "unmatched", "relabelled",
    "rejected_erased", "forgotten session", "forgotten user", "session that went on", "crash while erasing",
    "gauge", "gauge of several sources", "gauge expired", "gauge of the overflow",
    "overflow row", "pane of 10000", "pane of 60000", "pane of 3600000",
    *_MONEY, "account", "account of two periods", "account charged late",
    "command accepted", "command repeated", "command rejected", "order for one", "order for all", "reset in part",
    "acknowledged", "silenced", "taken back", "ended by time",
    "row reset", "row that grew since", "rules changed", "rules loaded", "rules of the settings again",
    *(f"alert {reason}" for reason in (RULE_REMOVED, FOR_RAISED)), "circuit forgotten",
    "order to a circuit", "calls in their order", "rate exceeded in metrics only",
    *(f"found by {name}" for name in DETECTORS),
    *(f"rule {rule.name} firing" for rule in RULES.rules if rule.name != "Circles"),  # which need equal statuses
    *(f"alert {word}" for word in WORDS.values()), *(f"circuit {state}" for state in STATES.values()),
})  # fmt: skip


def reached(world: World) -> Counter[str]:
    """Count what can be seen of a life in its end."""
    judge = Judge(world)
    found = Counter(world.happened) + seen(world.victims)
    for part in judge.sessions:
        found.update(part.counters())
        for _, row in part.sessions():
            found["session ended"] += row.ended_ms > 0
            found["calls in flight"] += len(row.open)
            found["abandoned"] += row.abandoned
            found["unmatched"] += row.unmatched
    found.update({f"command {outcome}": count for outcome, count in judge.commands.counters().items()})
    there, asked = held(judge.commands), left(judge.attended)
    found["acknowledged"] += sum(kind == "acknowledge" for kind, _ in there)
    found["silenced"] += sum(kind == "silence" for kind, _ in there)
    found["taken back"] += sum(one.ends_ms is None for one in judge.attended)
    found["ended by time"] += len(asked) - len(there)
    for order in judge.happen:
        found["order for one" if order.single else "order for all"] += 1
        found["order to a circuit"] += order.breaker is not None
        found["reset in part"] += order.names is not None
    for one in judge.loaded:
        found["rules of the settings again" if one.text is None else "rules loaded"] += 1
    for place, rows in judge.rows.items():
        found["row reset"] += any(row.baseline is not None for row in rows)
        found["row that grew since"] += any(row.baseline is not None and shown_of(row) for row in rows)
        found["overflow row"] += rows[0].ordinal < 0
        for account in (account for row in rows for account in row.accounts.values()):
            found["account"] += 1
            found["account of two periods"] += account.per == "hour" and len(account.spent) > 1
            in_panes = sum(pane.sums.get(name, 0) for pane in judge.panes[place] for name in account.fields)
            found["account charged late"] += account.per == "day" and sum(account.spent.values()) > in_panes
        for pane in judge.panes[place]:
            found[f"pane of {pane.size_ms}"] += 1
    return found + _in_gauges(judge) + _in_sums(judge) + _in_logs(world) + _in_verdicts(world)


def _in_gauges(judge: Judge) -> Counter[str]:
    found: Counter[str] = Counter()
    for number, part in enumerate(judge.rollups):
        for row in part.gauges.rows().values():
            found["gauge"] += 1
            found["gauge of several sources"] += len(row.sources) > 1
            found["gauge of the overflow"] += row.ordinal < 0
        for record in judge.broker.history.get(("rollups.changelog", number), ()):
            found["gauge expired"] += (record.key or b"")[:1] == b"g" and record.value is None
    return found


def _in_sums(judge: Judge) -> Counter[str]:
    found: Counter[str] = Counter()
    for place in judge.rows:
        sums = judge.sums(place)
        for name in _MONEY:
            found[name] += sums.get(name, 0)
        if place[0] == "model":
            ends = sum(sums.get(f"model_calls_{status}", 0) for status in ("success", "error", "timeout", "cancelled"))
            began_here = sums.get("model_calls_ended", 0) + sums.get("model_calls_unmatched", 0)
            found["relabelled"] += began_here != ends
    return found


def _in_logs(world: World) -> Counter[str]:
    found: Counter[str] = Counter()
    for (topic, _), log in world.broker.logs.items():
        for entry in log.entries:
            found["torn entry"] += entry.torn
            found["aborted entry"] += entry.record is not None and not entry.visible
            found["hole in the source"] += topic == EVENTS and entry.record is None
        if topic == ROLLUPS:
            sources = [bytes(record.headers[0][1]) for record in log.read(0, log.end)[0]]
            found["calls in their order"] += len(ended([log.read(0, log.end)[0]]))
            found["split flush"] += sum(one == other for one, other in pairwise(sources))
            found["batch of many deltas"] += sum(len(record.value or b"") > 1_000 for record in log.read(0, log.end)[0])
    return found


def _in_verdicts(world: World) -> Counter[str]:
    found = Counter(f"alert {reason}" for _, reason in told_reasons(world.broker))
    for topic, noun in (("alerts", "alert"), ("breakers", "circuit")):
        for record in told(world.broker, topic):
            found["rate exceeded in metrics only"] += b'"events":["failure_rate_exceeded"]' in (record.value or b"")
            for word in (*WORDS.values(), *STATES.values()):
                found[f"{noun} forgotten"] += record.value is None
                found[f"{noun} {word}"] += f'"state":"{word}"'.encode() in (record.value or b"")
            for name in DETECTORS:
                found[f"found by {name}"] += f'"alert":"{name}","state":"firing"'.encode() in (record.value or b"")
    for record in told(world.broker, "alerts"):
        if record.value is not None and not (record.key or b"").startswith(b"ack/"):
            alert = json.loads(record.value)
            found[f"rule {alert['alert']} {alert['state']}"] += 1
    return found
