"""What events of rare kinds and rare fields must add, and where: told from the published dictionaries.

Shares no code with the product, and no table either: buckets are written out as they were promised.
"""

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

Event = dict[str, Any]
MILLION: Final = 1_000_000
DURATION: Final = [10_000 * 2**n for n in range(14)]
SECONDS: Final = {
    "cycle_duration": DURATION,
    "sdk_duration": DURATION,
    "request_duration": DURATION,
    "retry_after": [0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
    "cache_duration": [0.001, 0.005, 0.01, 0.025, 0.05, 0.1],
    "discovery_duration": [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
    "filtering_duration": [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
    "execution_duration": [0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300],
    "skill_duration": [0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300],
    "a2a_duration": [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    "ccr_duration": [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
}
SHARES: Final = {
    "context_used": [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1],
    "temperature": [0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1, 1.5, 2],
    **{name: [n / 10 for n in range(1, 11)] for name in ("quality", "relevance", "satisfaction")},
}
BOUNDS: Final[dict[str, list[int]]] = {
    **{name: [int(b * MILLION + 0.5) if b < 1_000 else int(b) for b in uppers] for name, uppers in SECONDS.items()},
    **{name: [int(b * MILLION + 0.5) for b in uppers] for name, uppers in SHARES.items()},
    "context_tokens": [4**n for n in range(14)],
    "response_bytes": [10**n for n in range(2, 8)],
    "execution_result": [10**n for n in range(2, 8)],
    "execution_memory": [2**n for n in range(22, 37, 2)],
    "a2a_response": [100, 500, 1_000, 5_000, 10_000, 50_000, 100_000],
}


class Part(NamedTuple):
    """What an event adds to one key."""

    dimension: str
    labels: tuple[str, ...]
    sums: dict[str, int]
    samples: dict[str, int]


def micros(event: Event, name: str = "duration_ms") -> int:
    return int(event.get(name, 0) * 1000 + 0.5)


def rare_parts(event: Event) -> Iterator[Part]:
    """Yield what an event adds to the keys of rare dimensions; how calls between agents were matched is left out."""
    for dimension, labels, sums, samples in _parts(event):
        named = tuple(label if label is not None else "unknown" for label in labels)
        yield Part(dimension, named, {"events": 1, **{name: by for name, by in sums.items() if by}}, samples)


def _parts(event: Event) -> Iterator[tuple[str, tuple[str | None, ...], dict[str, int], dict[str, int]]]:
    kind, agent, get = event["kind"], event["agent"], event.get
    status = get("status", "success")
    match kind:
        case "cycle":
            yield "cycle", (agent, event["phase"]), {"cycles": 1}, {"cycle_duration": micros(event)}
        case "message":
            samples = {}
            if "context_tokens" in event:
                samples["context_tokens"] = event["context_tokens"]
                if get("context_limit"):
                    samples["context_used"] = event["context_tokens"] * MILLION // event["context_limit"]
            sums = {"message_characters": get("characters", 0), "message_tokens": get("tokens", 0)}
            yield "conversation", (agent,), {f"messages_{event['role']}": 1, **sums}, samples
        case "model_switch":
            yield "model_switch", (event["from_model"], event["to_model"]), {"model_switches": 1}, {}
        case "parameter_change":
            yield "parameter", (agent, get("parameter", "temperature")), {"parameter_changes": 1}, {}
        case "feedback":
            scores = {name: get(name) for name in ("quality", "relevance", "satisfaction")}
            samples = {name: int(score * MILLION + 0.5) for name, score in scores.items() if score is not None}
            yield "feedback", (agent,), {"feedback": 1, **_task(get("task_completed"))}, samples
        case "payload":
            direction, size = event["direction"], len(event["body"].encode())
            sums = {f"payload_bytes_{direction}": size, f"payload_cut_bytes_{direction}": get("cut_bytes", 0)}
            yield "payload", (agent,), {f"payloads_{direction}": 1, **sums}, {}
        case "session_end":
            yield "session_end", (get("reason"),), {"session_ends": 1}, {}
        case "error":
            sums = {"errors": 1, f"errors_{get('error_type', 'other')}": 1}
            yield "component", (get("component"),), sums, {}
        case "rate_limit":
            samples = {"retry_after": micros(event, "retry_after_ms")} if "retry_after_ms" in event else {}
            limited = event["endpoint"], get("workspace", get("tenant"))
            yield "rate_limit", limited, {f"rate_limit_{event['result']}": 1}, samples
        case "degraded":
            yield "degraded", (get("component"), event["reason"]), {"degraded": 1}, {}
        case "guard":
            yield "guard", (event["target"],), {f"denied_by_{event['denied_by']}": event.get("count", 1)}, {}
        case "cache":
            sums = {f"cache_{event['result']}": 1}
            yield "cache", (event["cache"], event["operation"]), sums, {"cache_duration": micros(event)}
        case "resource":
            yield "resource", (agent,), {"resource_reports": 1}, {}
        case "ccr":
            tokens = {f"ccr_{way}_tokens": get(f"{way}_tokens", 0) for way in ("input", "output")}
            yield "ccr", (event["provider"], event["task_type"]), {f"ccr_{status}": 1}, {}
            yield "ccr_provider", (event["provider"],), tokens, {"ccr_duration": micros(event)}
        case "a2a_start":
            yield "a2a_agent", (event["target"],), {"a2a_started": 1}, {}
        case "a2a_end":
            place = event["target"], event["operation"], status
            yield "a2a", place, {"a2a_requests": 1}, {"a2a_duration": micros(event)}
            yield "a2a_agent", (event["target"],), {}, {"a2a_response": get("response_bytes", 0)}
        case "custom":
            yield from _custom(event)
        case "agent_end":
            if "endpoint" in event:
                yield "endpoint", (event["endpoint"],), {f"requests_{status}": 1}, {"request_duration": micros(event)}
            if "completed" in event:
                yield "feedback", (agent,), _task(event["completed"]), {}
        case "model_end":
            if "finish_reason" in event:
                yield "model_finish", (event["model"], event["finish_reason"]), {"model_finishes": 1}, {}
            if "error_code" in event or status in {"error", "timeout"}:
                yield "model_error", (event["model"], get("error_code", status)), {"model_errors": 1}, {}
        case _:
            yield from _code(event)


def _code(event: Event) -> Iterator[tuple[str, tuple[str | None, ...], dict[str, int], dict[str, int]]]:
    get, status = event.get, event.get("status", "success")
    match event["kind"]:
        case "discovery":
            found = get("results", 0)
            sums = {"discovery_found": int(found > 0), "discovery_empty": int(not found), "discovery_results": found}
            sums |= {"discovery_cache_hits": int(get("cache_hit", False))}
            sums |= {"discovery_continued": int(get("continued", False))}
            yield "discovery", (get("detail_level"),), sums, {"discovery_duration": micros(event)}
        case "execution":
            sums = {f"executions_{status}": 1, "execution_failed_exits": int(get("exit_code", 0) != 0)}
            samples = {"execution_duration": micros(event), "execution_result": get("result_bytes", 0)}
            if "peak_memory_bytes" in event:
                samples["execution_memory"] = event["peak_memory_bytes"]
            yield "execution", (event["language"],), sums, samples
        case "sdk_generation":
            sums = {"sdk_generations": 1, "sdk_tools": get("tools", 0)}
            yield "sdk", (event["agent"],), sums, {"sdk_duration": micros(event)}
        case "filtering":
            sums = {f"filtering_{way}_bytes": get(f"{way}_bytes", 0) for way in ("input", "output")}
            sums |= {"filterings": 1, "tokens_saved": get("tokens_saved", 0)}
            yield "filtering", (event["operation"],), sums, {"filtering_duration": micros(event)}
        case "skill":
            saved = event["action"] == "saved"
            sums = {"skills_saved": 1} if saved else {f"skills_{status}": 1}
            samples = {} if saved else {"skill_duration": micros(event)}
            yield "skill", (event["skill"], get("language")), sums, samples
        case "security":
            yield "security", (get("pattern"), get("severity")), {event["action"]: get("count", 1)}, {}


def _custom(event: Event) -> Iterator[tuple[str, tuple[str | None, ...], dict[str, int], dict[str, int]]]:
    """The declarations are those of `rare`: labels by name, a histogram of two buckets."""
    metric, value = event["metric"], int(event["value"] * MILLION + 0.5)
    order = {"orders": ("shop", "size")}.get(metric, ("shop",))
    values = json.dumps([event["labels"][name] for name in order], separators=(",", ":"), ensure_ascii=False)
    name = f"custom:{metric}"
    if event["metric_kind"] == "counter":
        yield "custom", (metric, values), {name: value}, {}
    elif event["metric_kind"] == "histogram":
        yield "custom", (metric, values), {}, {f"{name}:1000000,10000000": value}
    else:
        yield "custom", (metric, values), {}, {}


BOUNDS["custom:basket_value:1000000,10000000"] = [1_000_000, 10_000_000]


def _task(completed: bool | None) -> dict[str, int]:
    return {} if completed is None else {"tasks_completed": int(completed), "tasks_failed": int(not completed)}


def buckets(name: str, values: list[int]) -> list[int]:
    """Count values by the first upper bound that they do not exceed."""
    uppers = BOUNDS.get(name, DURATION)
    counts = [0] * (len(uppers) + 1)
    for value in values:
        counts[sum(1 for upper in uppers if value > upper)] += 1
    return counts
