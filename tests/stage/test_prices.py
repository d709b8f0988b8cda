"""Costs in the first stage: by the time of the event, exact under any batching, restart and replay."""

import random
from typing import Any, Final

import pytest
from one_stage import T0, One, happen, totals
from truth import listed_cost, recount

from streams.fold.live import LiveRow
from streams.fold.price import Overrides, PriceBook
from streams.fold.pricelist import packaged_prices
from streams.rule.pricefile import parse_prices
from streams.stage.sessions import SessionsPartition

DAY_MS: Final = 86_400_000
MIDNIGHT: Final = T0 - T0 % DAY_MS + DAY_MS  # 2025-11-22
MINE: Final = PriceBook(
    Overrides(
        parse_prices("""
prices:
  - {model: mine, until: 2025-11-22, input: "1", output: "2"}
  - {model: mine, from: 2025-11-22, input: "3", output: "5"}
  - {model: gpt-5, input: "100", until: 2025-11-22}
""")
    ),
    packaged_prices(),
)


def one_of(pricer: PriceBook | None = MINE) -> One[SessionsPartition]:
    return One(lambda: SessionsPartition(0, 1, 1, pricer=pricer))


def usage(number: int, time_ms: int, name: str = "mine", **fields: Any) -> dict[str, Any]:
    return {"kind": "token_usage", "id": f"u{number}", "time": time_ms, "agent": "a", "session_id": "s", "model": name,
            "provider": "openai", "input_tokens": 1000, "output_tokens": 10, **fields}  # fmt: skip


def row(one: One[SessionsPartition]) -> LiveRow:
    return dict(one.state.sessions())["s"]


def sums(one: One[SessionsPartition], dimension: str = "all", *labels: str) -> dict[str, int]:
    one.flush()
    return totals(one.sent("rollups"))[dimension, labels]


def test_a_price_holds_from_and_until_its_day_by_the_time_of_the_event() -> None:
    """The second one comes after midnight and is of before it."""
    one = one_of()
    happen(one, usage(1, MIDNIGHT, input_tokens=1000), usage(2, MIDNIGHT - 1))

    assert 1000 * 3_000 + 10 * 5_000 + 1000 * 1_000 + 10 * 2_000 == row(one).cost_nano_usd
    assert row(one).cost_nano_usd == sums(one)["computed_cost_nano_usd"]


def test_a_named_cost_wins_and_is_told_apart() -> None:
    one = one_of()
    happen(one, usage(1, T0, cost_nano_usd=7), usage(2, T0), usage(3, T0, cost_nano_usd=0))
    found = sums(one, "model", "mine")

    assert 7 + 1_020_000 == found["cost_nano_usd"] == row(one).cost_nano_usd
    assert 1_020_000 == found["computed_cost_nano_usd"]
    assert "unpriced" not in found


def test_a_person_s_price_wins_over_the_list_while_it_holds() -> None:
    one = one_of()
    happen(one, usage(1, T0, "gpt-5"), usage(2, MIDNIGHT, "gpt-5"))

    assert 100_000_000 + 1_250_000 + 100_000 == row(one).cost_nano_usd


def test_an_unknown_model_is_unpriced_and_not_free() -> None:
    one = one_of()
    happen(one, usage(1, T0, "nobody-s"), usage(2, T0))
    found = sums(one, "model", "nobody-s")

    assert 1 == found["unpriced"] == row(one).unpriced
    assert not {"cost_nano_usd", "computed_cost_nano_usd"} & found.keys()


def test_without_prices_only_publishers_name_costs() -> None:
    one = one_of(None)
    happen(one, usage(1, T0), usage(2, T0, cost_nano_usd=5))

    assert (5, 1) == (row(one).cost_nano_usd, row(one).unpriced)
    assert "computed_cost_nano_usd" not in sums(one)


def test_a_late_report_costs_what_it_did_then() -> None:
    one = one_of()
    happen(one, usage(1, MIDNIGHT + 3_600_000), usage(2, MIDNIGHT - 1))

    assert 3_050_000 + 1_020_000 == sums(one)["computed_cost_nano_usd"]
    assert 1 == row(one).late


def story(seed: int) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    made = []
    for number in range(200):
        parts = {f"{name}_tokens": chance.randrange(9_000) for name in ("input", "output")}
        parts["cache_read_tokens"] = chance.randrange(parts["input_tokens"] + 1)
        named = {"cost_nano_usd": chance.randrange(10**6)} if chance.random() < 0.3 else {}
        name = chance.choice(("gpt-4o", "gpt-5-mini", "o3", "nobody-s"))
        made.append(usage(number, T0 + number * 1000, name, session_id=f"s{number % 3}", **parts, **named))
    return made


@pytest.mark.parametrize("seed", range(3))
def test_costs_are_those_of_a_recount_however_events_are_batched_and_whoever_restarts(seed: int) -> None:
    """The price list's own package is the recount's oracle."""
    events = story(seed)
    chance = random.Random(seed)
    at_once, in_bits = one_of(PriceBook(packaged_prices())), one_of(PriceBook(packaged_prices()))
    happen(at_once, *events)
    for made in events:
        happen(in_bits, made)
        if chance.random() < 0.2:
            in_bits.flush()
        if chance.random() < 0.05:
            in_bits.flush()
            in_bits.reload()
            in_bits.replay()
    expected, _ = recount(events, listed_cost)

    assert expected == {
        key: {name: count for name in expected[key] if (count := getattr(each, name))}
        for key, each in in_bits.state.sessions() if isinstance(key, str)
    }  # fmt: skip
    assert sums(at_once) == sums(in_bits)
    assert sum(each["cost_nano_usd"] for each in expected.values()) == sums(in_bits)["cost_nano_usd"]
