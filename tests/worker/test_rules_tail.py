"""A worker never judges state by older rules than the state was judged by."""

import asyncio

import pytest

from streams.errors import StateRefused
from streams.rule.model import RuleSet
from streams.stage.ruling import RULES_KEY, RulesRow, Ruling, encode_rules
from streams.worker.config import WorkerConfig
from streams.worker.connection import KafkaConnection
from streams.worker.rules_tail import RulesTail


def config(stuck_ms: int) -> WorkerConfig:
    return WorkerConfig(connection=KafkaConnection(bootstrap="localhost:9092"), stuck_ms=stuck_ms)


def row(version: int) -> tuple[bytes, bytes]:
    return RULES_KEY, encode_rules(RulesRow(version, "", 0, "ops", None, None, "c"))


async def test_it_waits_for_rules_that_others_know_already() -> None:
    ruling = Ruling(RuleSet())
    tail = RulesTail(config(60_000), ruling)
    await tail.at_least(0)
    waiting = asyncio.ensure_future(tail.at_least(2))
    ruling.take([row(1)])
    await asyncio.sleep(0)
    assert not waiting.done()
    ruling.take([row(2)])

    async with asyncio.timeout(10):
        await waiting


async def test_rules_that_never_come_end_the_worker_with_the_next_step() -> None:
    with pytest.raises(StateRefused, match=r"version 2 of the rules, but agent\.commands\.changelog knows 0 only"):
        await RulesTail(config(1), Ruling(RuleSet())).at_least(2)
