"""Was a life right?  Compares what the logs hold in the end with what was published.

Reads changelogs as a reader would who has never seen a worker; knows nothing of crashes or seeds.

While the broker keeps its promise everything is exact.  When it leaves the beginning of an aborted transaction visible
(a torn one: rows, but not the meta row that ends them), stamps still keep exact: the totals of every session but for
what of them was late, what was received, what was refused and its dead letters, and that the second stage holds what
the first has sent.  Lost are then the deltas of the torn flush: its events are counted as duplicates.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Final

from ledger import (
    OTHERS_TTL_MS,
    TTLS_MS,
    KeyTotals,
    Named,
    PartitionLedger,
    Place,
    Totals,
    dimension_totals,
    grow,
    joined,
    last_words,
    session_totals,
)
from rare import CUSTOMS
from rare_ledger import buckets
from simulation import circuits
from simulation.attended import follow_acknowledgements, held, left
from simulation.broker import COMMANDS, DEAD_LETTER, EVENTS, ROLLUPS, Broker, Record
from simulation.budgets import recount, wrong_accounts
from simulation.erasures import nothing_is_left, only_victims, without_refused
from simulation.orders import Recount, accepted, follow, orders_in, page_of, shown_of
from simulation.owner import SESSIONS
from simulation.rulings import RULES, UNTOUCHED, judged_by_none_older, nobody_else_lives, rules_hold, told_reasons
from simulation.traffic import MINUTE_MS
from simulation.verdicts import follow_alerts, follow_breakers, stored_alerts, stored_breakers
from simulation.world import World

from streams.fold import session
from streams.fold.baseline import reset_ms
from streams.fold.rollup import LifetimeRow, PaneRow
from streams.fold.session import OVERFLOW, SessionRow
from streams.rule.alert import RULE_REMOVED
from streams.stage import commands, rollup_rows, session_rows
from streams.stage.commands import CommandsPartition
from streams.stage.deadletter import LETTERS_PER_RECORD_MAX
from streams.stage.plan import StagePartition
from streams.stage.rollups import RollupsPartition
from streams.stage.sessions import SessionsPartition

FAMILIES: Final = {"requests": 0, "model_calls": 1, "tool_calls": 2, "a2a": 3}
# What a session spends between the start and the end of a request hangs on ticks, as starts and ends do.
SPENT: Final = {"request_tokens", "request_cost", "request_cycles"}
# Where a meta row has the version of the rules.
RULES_AT: Final = {
    SESSIONS: session_rows.Meta.__struct_fields__.index("rules"),
    ROLLUPS: rollup_rows.Meta.__struct_fields__.index("rules"),
}
SESSION_FIELDS: Final = (
    "events", "late", "errors", "heartbeats", "requests", "request_errors", "request_us", "model_calls", "model_errors",
    "model_us", "tool_calls", "tool_errors", "tool_us", "input_tokens", "output_tokens", "cache_read_tokens",
    "cache_write_tokens", "reasoning_tokens", "cost_nano_usd", "unpriced", "cycles",
)  # fmt: skip


class Judge:
    """Everything a life has left behind, and everything it must have left."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.broker: Broker = world.broker
        self.torn = world.nature.torn
        self.ledgers = [self._ledger(n) for n in range(world.partitions[SESSIONS])]
        self.sessions = [self._sessions(n) for n in range(world.partitions[SESSIONS])]
        self.rollups = [self._rollups(n) for n in range(world.partitions[ROLLUPS])]
        self.commands = CommandsPartition(0, world.partitions[ROLLUPS])
        self.commands.load(self._changelog(COMMANDS, 0))
        self.commands.loaded()
        self.happen, self.loaded, self.attended, self.told = accepted(world.told)
        self.rows: dict[Place, list[LifetimeRow]] = {}
        self.panes: dict[Place, list[PaneRow]] = {}
        for part in self.rollups:
            for keyed in part.keyed():
                place = keyed.row.dimension, keyed.row.labels
                self.rows.setdefault(place, []).append(keyed.row)
                self.panes.setdefault(place, []).extend(keyed.panes.rows.values())

    def judge(self) -> None:
        """Raise AssertionError when anything is not as it must be."""
        self.live_states_equal_loaded_ones()
        self.offsets_agree()
        self.erased_stay_gone()
        self.per_session()
        self.dead_letters()
        self.rollups_add_up_what_was_sent()
        self.commands_happen_once()
        self.attention_is_exact()
        self.resets_are_exact()
        self.circuits_are_what_the_log_says()
        self.exporters_agree()
        if self.torn:
            self.torn_counters()
            return
        self.counters()
        self.verdicts()
        self.conservation()
        self.per_key()
        self.budgets()
        self.in_flight()
        self.gauges()
        self.calls_reach_their_circuits()

    # ---- what there is ----------------------------------------------------------------------------------------------

    def _ledger(self, partition: int) -> PartitionLedger:
        ledger = PartitionLedger()
        published = self.world.published.get(partition, ())
        for one, erased in without_refused(partition, published, self.world.refused):
            ledger.take(one.timestamp, one.events, [*(reason for _, reason in one.refused), *["erased"] * erased])
        return ledger

    def _changelog(self, stage: str, partition: int) -> list[tuple[bytes, bytes | None]]:
        log = self.broker.log(f"{stage}.changelog", partition)
        records, position = log.read(0, log.end)
        assert position == log.end, "a transaction is open in the end"
        return [(record.key or b"", record.value) for record in records]

    def _rows(self, stage: str, partition: int) -> dict[bytes, bytes]:
        return {key: value for key, value in dict(self._changelog(stage, partition)).items() if value is not None}

    def _sessions(self, partition: int) -> SessionsPartition:
        part = SessionsPartition(
            partition, self.world.partitions[SESSIONS], self.world.partitions[ROLLUPS], customs=CUSTOMS
        )
        part.load(self._changelog(SESSIONS, partition))
        part.loaded()
        return part

    def _rollups(self, partition: int) -> RollupsPartition:
        part = RollupsPartition(partition, self.world.partitions[ROLLUPS])
        part.load(self._changelog(ROLLUPS, partition))
        part.loaded()
        return part

    # ---- states -----------------------------------------------------------------------------------------------------

    def live_states_equal_loaded_ones(self) -> None:
        """What a compacted changelog holds is what its owner holds."""
        for n, part in enumerate(self.sessions):
            live = self.world.owners[SESSIONS, n].state
            assert isinstance(live, SessionsPartition)
            same(_session_rows(part), _session_rows(live), f"rows of sessions {n}, loaded and live")
            same(_norms(part), _norms(live), f"norms of sessions {n}, loaded and live")
            same(part.counters(), live.counters(), f"counters of sessions {n}, loaded and live")
            same(part.watermark_ms, live.watermark_ms, f"watermark of sessions {n}, loaded and live")
        for n, other in enumerate(self.rollups):
            owned = self.world.owners[ROLLUPS, n].state
            assert isinstance(owned, RollupsPartition)
            same(_rollup_rows(other), _rollup_rows(owned), f"rows of rollups {n}, loaded and live")
        third = self.world.owners[COMMANDS, 0].state
        assert isinstance(third, CommandsPartition)
        same(self.commands.accepted(), third.accepted(), "accepted commands, loaded and live")
        same(self.commands.counters(), third.counters(), "counters of commands, loaded and live")
        same(held(self.commands), held(third), "acknowledgements and silences, loaded and live")

    def offsets_agree(self) -> None:
        """The group's offset, the meta row and the end of what may be read tell the same."""
        states: tuple[tuple[str, str, Sequence[StagePartition]], ...] = (
            (SESSIONS, EVENTS, self.sessions),
            (ROLLUPS, ROLLUPS, self.rollups),
            (COMMANDS, COMMANDS, [self.commands]),
        )
        for stage, topic, parts in states:
            for n, part in enumerate(parts):
                log = self.broker.log(topic, n)
                records, _ = log.read(0, 10**9)
                following = log.stable_end if records else None  # behind the last record there are marks
                same(part.next_offset, following, f"next offset of {stage} {n}")
                same(self.broker.offsets.get((topic, n)), following, f"committed offset of {stage} {n}")

    def verdicts(self) -> None:
        """Alerts and breakers were told exactly once, and their rows stand where the last record says."""
        self.rules = rules_hold(self._rows(COMMANDS, 0), self.loaded)
        alerts: dict[str, tuple[int, int, str]] = {}
        breakers: dict[str, tuple[int, str]] = {}
        for stage, n in self.world.slots:
            rows = self._rows(stage, n)
            alerts |= stored_alerts(rows, f"{stage}-{n}")
            breakers |= stored_breakers(rows)
            if stage != COMMANDS:
                nobody_else_lives(rows, self.rules)
                judged_by_none_older(self.broker, stage, n, RULES_AT[stage])
        same(follow_alerts(self.broker), alerts, "alerts told and stored")
        assert (UNTOUCHED, RULE_REMOVED) not in told_reasons(self.broker)
        same(follow_breakers(self.broker), breakers, "circuits told and stored")

    # ---- the first stage --------------------------------------------------------------------------------------------

    def counters(self) -> None:
        """Every partition has counted what was published to it, by outcome."""
        for n, (ledger, part) in enumerate(zip(self.ledgers, self.sessions, strict=True)):
            counted = part.counters()
            told = {name: counted.get(name, 0) for name in ledger.counters}
            same(told, ledger.counters, f"counters of sessions {n}")
            same(part.watermark_ms, ledger.watermark_ms, f"watermark of sessions {n}")

    def torn_counters(self) -> None:
        """Torn transactions lose counts of what applied, but nothing is counted twice and all of it was received."""
        for ledger, part in zip(self.ledgers, self.sessions, strict=True):
            counted, expected = part.counters(), ledger.counters
            assert counted.get("received", 0) == expected.get("received", 0)
            assert counted.get("rejected", 0) == expected.get("rejected", 0)
            assert counted.get("duplicate", 0) >= expected.get("duplicate", 0)

    def erased_stay_gone(self) -> None:
        """Nothing names who is forgotten, and nobody else was refused for it."""
        only_victims(self.world.refused)
        stages: dict[str, list[dict[bytes, bytes]]] = {stage: [] for stage in self.world.partitions}
        for stage, n in self.world.slots:
            stages[stage].append(self._rows(stage, n))
        nothing_is_left(self.world.victims, stages)

    def per_session(self) -> None:
        """The incarnations of a session add up to its events, those already forgotten included."""
        found: dict[str, Totals] = {}
        for partition in range(len(self.sessions)):
            for (session_id, _, _), row in self._incarnations(partition).items():
                totals = found.setdefault(session_id, {})
                for name in SESSION_FIELDS:
                    grow(totals, name, getattr(row, name))
                assert sum(tool.calls for tool in row.tools.values()) == row.tool_calls
                assert sum(tool.duration_us for tool in row.tools.values()) == row.tool_us
        expected = session_totals(one for ledger in self.ledgers for one in ledger.counted)
        if self.torn:  # a repeat skipped by its stamp may have moved the watermark
            for totals in (*found.values(), *expected.values()):
                totals.pop("late", None)
        for one in self.world.victims.told:  # their rows went before they were written, perhaps
            for name in self.world.victims.sessions_of(one):
                found.pop(name, None)
                expected.pop(name, None)
        same(found, expected, "totals by session")

    def _incarnations(self, partition: int) -> dict[tuple[str, int, int], SessionRow]:
        """Return the last version of every incarnation, by session, how often it was forgotten, and number."""
        last: dict[tuple[str, int, int], SessionRow] = {}
        closed: set[tuple[str, int, int]] = set()  # of which the last version is a closed row
        alive: dict[str, int] = {}
        forgotten: Counter[str] = Counter()
        for record in self.broker.history.get((f"{SESSIONS}.changelog", partition), ()):
            kind, raw = (record.key or b"").decode()[0], (record.key or b"").decode()[1:]
            if kind == "s" and record.value is None:
                forgotten[raw] += 1
            elif kind == "s" and record.value is not None:
                row = session.decode(record.value)
                alive[raw] = row.incarnation
                last[raw, forgotten[raw], row.incarnation] = row
                closed.discard((raw, forgotten[raw], row.incarnation))
            elif kind == "c":
                number, _, session_id = raw.partition(":")
                key = session_id, forgotten[session_id], int(number)
                if record.value is not None:
                    last[key] = session.decode(record.value)
                    closed.add(key)
                elif key in closed and int(number) >= alive.get(session_id, 0):
                    closed.discard(key)  # whoever erases it may say so twice
                    del last[key]  # a torn transaction had left it alone: its session closes once more
        return last

    def dead_letters(self) -> None:
        """What was refused is in the dead letter, each once, as far as a record may have letters; and nothing else."""
        expected = Counter(
            (partition, offset, position, reason, len(one.refused) - number if number == LETTERS_PER_RECORD_MAX else 0)
            for partition, published in self.world.published.items()
            for offset, one in published
            for number, (position, reason) in enumerate(one.refused[:LETTERS_PER_RECORD_MAX], 1)
        )
        found: Counter[tuple[int, int, int, str, int]] = Counter()
        refused = Counter(offset for offset, one in self.world.told if one.command is None)
        for record in self._committed(DEAD_LETTER, 0):
            letter = json.loads(record.value or b"")
            if letter["topic"] == COMMANDS:
                refused[letter["offset"]] -= 1
                continue
            place = (letter["partition"], letter["offset"], letter["position"])
            found[(*place, letter["reason"], letter.get("more", 0))] += 1
        same(found, expected, "dead letters")
        same({offset: count for offset, count in refused.items() if count}, {}, "dead letters of commands")

    def _committed(self, topic: str, partition: int) -> list[Record]:
        log = self.broker.log(topic, partition)
        return log.read(0, log.end)[0]

    # ---- the second stage -------------------------------------------------------------------------------------------

    def rollups_add_up_what_was_sent(self) -> None:
        """Lifetime rows are the sum of all deltas that were committed, whatever happened to the first stage."""
        for n, part in enumerate(self.rollups):
            sums: dict[str, Totals] = {}
            for record in self._committed(ROLLUPS, n):
                for dimension, labels, _, added, samples, histograms, *_ in json.loads(record.value or b"")["deltas"]:
                    totals = sums.setdefault(dimension, {})
                    for name, by in added.items():
                        grow(totals, name, by)
                    for name, values in samples.items():
                        grow(totals, f"{name}_us", sum(values))
                    for name, (sum_us, *_rest) in histograms.items():
                        grow(totals, f"{name}_us", sum_us)
                    assert len(labels) <= 3
            held: dict[str, Totals] = {}
            for keyed in part.keyed():
                totals = held.setdefault(keyed.row.dimension, {})
                for name, by in keyed.row.sums.items():
                    grow(totals, name, by)
                for name, histogram in keyed.row.histograms.items():
                    grow(totals, f"{name}_us", histogram.sum_us)
            same(held, sums, f"sums of rollups {n} and of the deltas sent to it")

    # ---- commands ---------------------------------------------------------------------------------------------------

    def commands_happen_once(self) -> None:
        """What was accepted is in the log of every partition it is about, once and in order; nothing else is."""
        if self.torn and commands.IDS_MAX < len(self.world.told):
            return  # a torn flush may leave the row of a later acceptance in place of an earlier one
        same(self.commands.counters(), {name: self.told[name] for name in commands.OUTCOMES}, "outcomes of commands")
        sent = [list(orders_in(self._committed(ROLLUPS, n))) for n in range(len(self.rollups))]
        order = [(one.command, one.at_ms) for one in self.happen]
        for told, one in zip(order, self.happen, strict=True):
            copies = 1 if one.single else len(self.rollups)
            same(sum(each.count(told) for each in sent), copies * order.count(told), f"orders of {one}")
        for n, each in enumerate(sent):
            same(each, [told for told in order if told in each], f"order of commands in rollups {n}")

    def attention_is_exact(self) -> None:
        """What was asked for and not taken back is there until its end, and the alert topic says the same, once."""
        found, expected = held(self.commands), left(self.attended)
        fast_ms = max(0, *self.world.clock_ms.values())
        lasting = {name: each for name, each in expected.items() if each[1] > self.world.now_ms + fast_ms}
        known = {name: each for name, each in found.items() if each[1] > self.world.now_ms + fast_ms}
        same(known, lasting, "acknowledgements and silences that last")
        assert found.items() <= expected.items(), "something nobody asked for, or that was taken back"
        over = [name for name, each in found.items() if each[1] <= self.world.now_ms - MINUTE_MS]
        assert not over, f"{over} should have ended"
        if self.torn:
            return
        believed, times = follow_acknowledgements(self.broker)
        same(believed, {name: each for name, each in found.items() if name[0] == "acknowledge"}, "the alert topic")
        asked = Counter(one.command for one in self.attended if one.kind == "acknowledge" and one.ends_ms is not None)
        same(times, asked, "acknowledgements told")

    def resets_are_exact(self) -> None:
        """What is exported of a row is what came since its last reset, at that place of the log; so is its begin."""
        for n, part in enumerate(self.rollups):
            rows = {(keyed.row.dimension, keyed.row.labels): keyed.row for keyed in part.keyed()}
            recount = Recount({place for place, row in rows.items() if row.ordinal >= 0}, self.happen)
            recount.read(self._committed(ROLLUPS, n))
            same(rows.keys(), recount.held.keys(), f"places of rollups {n}")
            for place, row in rows.items():
                same(shown_of(row), recount.shown(place), f"{place} since its reset")
                for name in ("events", "tool_retries", "tool_duration", "heartbeats"):
                    begun = recount.begun(place, name)
                    same(reset_ms(row, (name,)), -1 if begun is None else begun, f"{name} of {place} begun")

    def circuits_are_what_the_log_says(self) -> None:
        """A circuit that time does not move is what its calls and commands make of it, each once and in order.

        As long as its policy stays: a life in which the rules change says nothing of that.
        """
        if self.loaded:
            return
        for n in range(len(self.rollups)):
            rows = {key: value for key, value in dict(self._changelog(ROLLUPS, n)).items() if value is not None}
            same(circuits.stored(rows), circuits.recount(self._committed(ROLLUPS, n)), f"circuits of rollups {n}")

    def calls_reach_their_circuits(self) -> None:
        """Every request that ended in time is in the log of its agent's circuit, once, with what became of it."""
        if self.loaded:  # by rules that may not ask for it
            return
        logs = [self._committed(ROLLUPS, n) for n in range(len(self.rollups))]
        expected: dict[str, tuple[int, int]] = {}
        for (dimension, labels), totals in dimension_totals(
            one for ledger in self.ledgers for one in ledger.counted
        ).items():
            if dimension == "agent":
                success, error, timeout = (
                    totals.in_panes.get(f"requests_{status}", 0) for status in ("success", "error", "timeout")
                )
                if success + error + timeout:
                    expected[labels[0]] = success + error + timeout, error + timeout
        same(circuits.ended(logs), expected, "calls that circuits of agents have seen")

    def exporters_agree(self) -> None:
        """Two exporters show the same, however they read; named + overflow is everything since the resets."""
        early, late = follow(self.broker, len(self.rollups), Random(len(self.world.told)))
        for dimension in {place[0] for place in self.rows}:
            pages = [page_of(view, dimension) for view in (early, late)]
            same(pages[0], pages[1], f"pages of {dimension}")
            shown: Counter[str] = Counter()
            for numbers, _ in pages[0].values():
                shown.update(numbers)
            expected: Counter[str] = Counter()
            for rows in (rows for place, rows in self.rows.items() if place[0] == dimension):
                for row in rows:
                    expected.update(shown_of(row))
            same(shown, expected, f"named + overflow of {dimension}")

    # ---- both stages ------------------------------------------------------------------------------------------------

    def conservation(self) -> None:
        """In = applied + late + duplicate + rejected, lifetime = applied + late, in every partition and over all."""
        counted = 0
        for n, part in enumerate(self.sessions):
            counters = part.counters()
            outcomes = [counters.get(name, 0) for name in ("applied", "late", "duplicate", "rejected")]
            same(sum(outcomes), counters.get("received", 0), f"outcomes and received of sessions {n}")
            counted += outcomes[0] + outcomes[1]
            row = self.sums(("partition", (str(n),)))
            same(row, {name: value for name, value in counters.items() if value}, f"row of partition {n}")
        same(self.sums(("all", ())).get("events", 0), counted, "events of all, and applied + late")

    def sums(self, place: Place) -> Totals:
        """Add up a key's lifetime rows over all partitions."""
        totals: Totals = {}
        for row in self.rows.get(place, ()):
            for name, by in row.sums.items():
                grow(totals, name, by)
        return totals

    def per_key(self) -> None:
        """Every key with a row of its own holds exactly its events; the overflow row of a dimension holds the rest."""
        expected = dimension_totals(one for ledger in self.ledgers for one in ledger.counted)
        rest: dict[str, KeyTotals] = {}
        for place, totals in expected.items():
            if place in self.rows and all(row.ordinal >= 0 for row in self.rows[place]):
                self._hold(totals, place)
            else:
                _merge(rest.setdefault(place[0], KeyTotals()), totals)
        for place, rows in self.rows.items():
            if rows[0].ordinal < 0:
                assert set(place[1]) == {OVERFLOW}
                self._hold(rest.pop(place[0], KeyTotals()), place)
            elif place[0] != "partition":
                assert place in expected
        assert not rest

    def budgets(self) -> None:
        """Every account holds what was spent in its periods, however late it was told."""
        spent = recount((one for ledger in self.ledgers for one in ledger.counted), RULES)
        clock_ms = max(part.clock_ms for part in self.rollups)
        assert not (wrong := wrong_accounts(self.rows, clock_ms, spent, RULES)), "; ".join(wrong)

    def _hold(self, expected: KeyTotals, place: Place) -> None:
        sums = self.sums(place)
        same({name: sums.get(name, 0) for name in expected.sums}, expected.sums, f"lifetime of {place}")
        in_panes: Totals = {}
        for pane in self.panes[place]:
            for name, by in pane.sums.items():
                grow(in_panes, name, by)
        known = {name: by for name, by in in_panes.items() if name in expected.sums}
        same(known, expected.in_panes, f"panes of {place}")
        self._hold_durations(expected, place)

    def _hold_durations(self, expected: KeyTotals, place: Place) -> None:
        found: dict[str, tuple[int, list[int]]] = {}
        for row in self.rows[place]:
            for name, histogram in row.histograms.items():
                sum_us, known = found.get(name, (0, [0] * len(histogram.buckets)))
                found[name] = (
                    sum_us + histogram.sum_us,
                    [a + b for a, b in zip(known, histogram.buckets, strict=True)],
                )
        found = {name: each for name, each in found.items() if name not in SPENT}
        told = {name: (sum(us), buckets(name, us)) for name, us in expected.durations.items()}
        same(found, told, f"durations of {place}")
        bins: Totals = {}
        for pane in self.panes[place]:
            for name, binned in pane.histograms.items():
                if name not in SPENT:
                    grow(bins, name, sum(binned.bins.values()))
        same(bins, expected.in_bins, f"bins of {place}")

    def in_flight(self) -> None:
        """Started − ended − abandoned is what session rows have open, for every key that has a row of its own."""
        open_calls: Counter[tuple[str, Place]] = Counter()
        for part in self.sessions:
            for _, row in part.sessions():
                for family, agent, tenant, name, provider, _ in [call.values() for call in row.open.values()]:
                    noun = next(noun for noun, code in FAMILIES.items() if code == family)
                    open_calls.update((noun, place) for place in _open_places(noun, agent, tenant, name, provider))
        for place, rows in self.rows.items():
            sums = self.sums(place)
            for noun in FAMILIES:
                flying = (
                    sums.get(f"{noun}_started", 0) - sums.get(f"{noun}_ended", 0) - sums.get(f"{noun}_abandoned", 0)
                )
                same(max(flying, 0), flying, f"{noun} of {place} in flight")
                if rows[0].ordinal >= 0:
                    same(flying, open_calls[noun, place], f"{noun} of {place} in flight, and open in session rows")
        self._ends()
        self._lives()
        self._aggregates()

    def gauges(self) -> None:
        """Every gauge holds the last word of each source that is still alive, and nobody's that is not."""
        clock_ms = max(part.clock_ms for part in self.rollups)
        expected: dict[Named, tuple[int, int]] = {}
        alive: set[Named] = set()
        for (place, gauge, source), word in last_words(ledger.counted for ledger in self.ledgers).items():
            named = self._shown(place, gauge, source)
            before = expected.get(named)
            if before is not None:  # only peaks have one source for all of the keys that share a row
                assert source == ""
            if before is None or word.value > before[0]:
                expected[named] = word.value, word.event_ms
            if clock_ms < word.event_ms + TTLS_MS.get(gauge, OTHERS_TTL_MS):
                alive.add(named)
        found: dict[Named, tuple[int, int]] = {}
        for part in self.rollups:
            for row in part.gauges.rows().values():
                for source, one in row.sources.items():
                    named = (row.dimension, row.labels), row.gauge, source
                    assert part.clock_ms < one.event_ms + TTLS_MS.get(row.gauge, OTHERS_TTL_MS), f"{named} is dead"
                    told = one.value, one.event_ms
                    found[named] = max(told, found.get(named, told))  # a peak of several partitions' overflow
        same({named: word for named, word in expected.items() if named in found}, found, "gauges and last words")
        same(alive - found.keys(), set(), "sources that are alive and missing")

    def _shown(self, place: Place, gauge: str, source: str) -> Named:
        """Name the row and the source under which a key's gauge is kept."""
        if place in self.rows and all(row.ordinal >= 0 for row in self.rows[place]):
            return place, gauge, source
        shared = place[0], (OVERFLOW,) * len(place[1])
        return shared, gauge, source if source == "" else joined(place[1], source)

    def _ends(self) -> None:
        asked = [self.sums(place) for place in self.rows if place[0] == "a2a_agent"]
        met = sum(sums.get("a2a_ended", 0) + sums.get("a2a_unmatched", 0) for sums in asked)
        done = sum(self.sums(place).get("a2a_requests", 0) for place in self.rows if place[0] == "a2a")
        same(met, done, "ends of calls between agents")
        sums = self.sums(("all", ()))
        for noun in ("requests", "model_calls", "tool_calls"):
            statuses = ("success", "error", "timeout", "cancelled", "validation_error")
            ends = sum(sums.get(f"{noun}_{status}", 0) for status in statuses)
            same(sums.get(f"{noun}_ended", 0) + sums.get(f"{noun}_unmatched", 0), ends, f"ends of {noun}")

    def _aggregates(self) -> None:
        """Every call that an aggregate was reported for is settled once or waits; several reports of one are one."""
        sums = self.sums(("all", ()))
        waiting = sum(
            account.aggregate_tokens >= 0
            for part in self.sessions
            for _, row in part.sessions()
            for account in row.ledger.values()
        )
        told, settled = sums.get("usage_aggregates", 0), sums.get("aggregates_settled", 0)
        assert settled + waiting <= told, f"{settled} aggregates settled and {waiting} waiting, of {told}"
        assert (settled + waiting > 0) == (told > 0)
        assert sums.get("aggregates_leafless", 0) <= settled

    def _lives(self) -> None:
        sums = self.sums(("all", ()))
        alive = sum(
            1 for part in self.sessions for key, row in part.sessions() if isinstance(key, str) and not row.ended_ms
        )
        same(sums.get("sessions_started", 0) - sums.get("sessions_ended", 0), alive, "sessions alive")


def same(found: Any, expected: Any, what: object) -> None:
    """Raise AssertionError with what differs, key by key."""
    if found == expected:
        return
    lines = [f"found {found!r}, expected {expected!r}"]
    if isinstance(found, dict):
        keys = [key for key in {**found, **expected} if found.get(key) != expected.get(key)]
        lines = [f"{key!r}: found {found.get(key)!r}, expected {expected.get(key)!r}" for key in keys[:5]]
    raise AssertionError("\n  ".join([f"{what}:", *lines]))


def _session_rows(part: SessionsPartition) -> dict[Any, Any]:
    return {key: session.decode(row.pack()) for key, row in part.sessions()}


def _norms(part: SessionsPartition) -> dict[Any, Any]:
    norms = part._cells.norms
    return {
        (kind, name): (norm.bins, norm.calls, norm.deadline_ms, norm.told, norm.shared, norm.last)
        for kind, known in (("tool", norms.tools), ("model", norms.models))
        for name, norm in known.items()
    }


def _rollup_rows(part: RollupsPartition) -> dict[Any, Any]:
    gauges = {f"gauge {gauge} of {key}": row for (gauge, key), row in part.gauges.rows().items()}
    return {keyed.key: (keyed.row, keyed.panes.rows) for keyed in part.keyed()} | gauges


def _open_places(noun: str, agent: str, tenant: str | None, name: str | None, provider: str | None) -> Iterator[Place]:
    if noun == "a2a":
        yield "a2a_agent", (name or "",)
        return
    yield "all", ()
    yield "agent", (agent,)
    if tenant is not None:
        yield "tenant", (tenant,)
    if name is not None and noun == "tool_calls":
        yield "tool", (name,)
        yield "agent_tool", (agent, name)
    elif name is not None:
        yield "model", (name,)
        if provider is not None:
            yield "provider", (provider,)


def _merge(into: KeyTotals, more: KeyTotals) -> None:
    for mine, theirs in ((into.sums, more.sums), (into.in_panes, more.in_panes), (into.in_bins, more.in_bins)):
        for name, by in theirs.items():
            grow(mine, name, by)
    for name, us in more.durations.items():
        into.durations.setdefault(name, []).extend(us)
