"""What frameworks told their adapters in scripted runs, recorded: read, and handed over again in any fair order."""

import json
import random
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Final

from environments import ROOT

Said = dict[str, Any]

MODEL: Final = ["ModelStart gpt-x", "TokenUsage gpt-x", "ModelEnd gpt-x"]
ADD: Final = ["ToolStart add", "ToolEnd add"]
ONE_TOOL: Final = ["AgentStart planner", *MODEL, *ADD, *MODEL, "AgentEnd planner"]


def recorded(framework: str, name: str = "heard") -> list[Said]:
    """Return what one run heard, in order."""
    text = (ROOT / "tests/golden" / framework / f"{name}.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def interleaved(told: list[Said], which: Callable[[Said], str], tell: Callable[[Said], object], seed: int) -> None:
    """Hand over what runs told as if they ran at once: each in its own context and order, their turns by a seed."""
    order, waiting = random.Random(seed), dict[str, list[Said]]()
    for said in told:
        waiting.setdefault(which(said), []).append(said)
    contexts = {name: copy_context() for name in waiting}
    while waiting:
        name = order.choice(sorted(waiting))
        contexts[name].run(tell, waiting[name].pop(0))
        if not waiting[name]:
            del waiting[name]


def outermost(told: list[Said]) -> Callable[[Said], str]:
    """Return what names the outermost run around something told, where each says what it is `around`."""
    around = {each["run_id"]: each.get("around") for each in told if each["method"].startswith("begin")}

    def name(said: Said) -> str:
        place = said.get("around") or said["run_id"]
        while around.get(place):
            place = around[place]
        return str(place)

    return name
