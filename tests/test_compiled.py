"""The compiled build does what the plain source does: same plans for the same records, exact in the simulation."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from compiled import ROOT, build

PLANS = """
import sys
from hashlib import blake2b
from random import Random
from hostile import BAD_BYTES, BAD_EVENTS, BAD_RECORDS
from one_stage import Record
from fleet import Fleet
import msgspec
from streams.fold import live
from streams.fold.price import PriceBook
from streams.fold.pricelist import packaged_prices
from streams.rule.defaults import default_rules
from streams.rule.parse import parse_rules
from streams.stage.sessions import SessionsPartition

assert live.__file__.endswith(".so") == (sys.argv[1] == "compiled"), live.__file__
random = Random(7)
rules = default_rules()
if sys.argv[2] == "circuits":
    rules = parse_rules('''breakers:
      - {over: tool, window: 100 calls, slow_call: 200ms}
      - {over: agent_tool, window: 20 calls}
      - {over: model, window: 1m, ignored_codes: [content_filter], slow_call: 1s}
      - {over: agent, window: 50 calls}''')
part = SessionsPartition(0, 1, 4, rules, PriceBook(packaged_prices()))
digest = blake2b()
values = [msgspec.json.encode(event) for event in Fleet(7, sessions=40, step_ms=50.0).events(20_000)]
values += [bad.value for bad in (*BAD_EVENTS, *BAD_BYTES, *BAD_RECORDS)]
random.shuffle(values)
now_ms = 1_763_724_000_000
for offset, value in enumerate(values):
    part.feed([Record(offset, now_ms, None, value)])
    if random.random() < 0.02:
        now_ms += random.choice((10, 70_000, 4_000_000))
        part.tick(now_ms)
    if random.random() < 0.05 and (plan := part.plan()):
        digest.update(repr(plan).encode())
print(digest.hexdigest())
"""


def run(code: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{code}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=code, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("compiled"))


@pytest.mark.parametrize("rules", ["defaults", "circuits"])
def test_plain_and_compiled_plan_the_same(compiled: Path, rules: str) -> None:
    assert run(ROOT, "-c", PLANS, "plain", rules) == run(compiled, "-c", PLANS, "compiled", rules)


def test_compiled_lives_end_with_exact_numbers(compiled: Path) -> None:
    assert "100 lives" in run(compiled, "-m", "simulation", "0-99")
