"""Which figures are made of other figures?  One row each: its formula in words, its inputs, and the function.

Never a figure of nothing: where a denominator is zero or an input is missing there is no series, not 0 and not NaN.
Text, JSON and documentation read this list.  Inputs are exact integers of one key since its first event, and what its
live sources say now; a float is made once, at the end.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal

from streams.event.model import CALL_STATUSES
from streams.fold.gauges import MICRO, Level
from streams.fold.measure import (
    AGENT,
    AGENT_TOOL,
    CACHE,
    DISCOVERY,
    EXECUTION,
    FEEDBACK,
    FILTERING,
    MODEL,
    SKILL,
    TOOL,
    Dimension,
)
from streams.fold.rollup import LifetimeRow
from streams.sink.metric import NANO_PER_USD, US_PER_SECOND, Formula, Input, Metric


def worth(formula: Formula, row: LifetimeRow, gauges: Mapping[str, Level]) -> float | None:
    """Return what a formula makes of one key's integers; None when it makes nothing of them."""
    values: list[int | None] = []
    for each in formula.inputs:
        value = _value(each, row, gauges)
        if value is None and not formula.partial:
            return None
        values.append(value)
    return formula.of(*values)


def _value(each: Input, row: LifetimeRow, gauges: Mapping[str, Level]) -> int | None:
    what, name = each
    if what == "measure":
        return row.sums.get(name, 0)
    if what in {"gauge", "sources"}:
        level = gauges.get(name)
        if level is None:
            return None
        return level.value if what == "gauge" else level.sources
    seen = row.histograms.get(name)
    if seen is None:
        return None
    if what == "count":
        return sum(seen.buckets)
    if what == "sum":
        return seen.sum_us
    extreme = seen.min_us if what == "min" else seen.max_us
    return extreme if extreme >= 0 else None


# ---- formulas --------------------------------------------------------------------------------------------------


def share(part: int, *others: int) -> float | None:
    """Return part / (part + others)."""
    whole = part + sum(others)
    return part / whole if whole else None


def ratio(over: int, under: int) -> float | None:
    """Return over / under."""
    return over / under if under else None


def mean_seconds(sum_us: int, count: int) -> float | None:
    """Return the mean of durations."""
    return sum_us / (count * US_PER_SECOND) if count else None


def seconds(us: int) -> float:
    """Return µs as seconds."""
    return us / US_PER_SECOND


def mean_share(total_millionths: int, count: int) -> float | None:
    """Return the mean of scores."""
    return total_millionths / (count * MICRO) if count else None


def tokens_per_request(input_tokens: int, output_tokens: int, *requests: int) -> float | None:
    """Return the tokens per request that has ended."""
    return ratio(input_tokens + output_tokens, sum(requests))


def usd_per_request(nano_usd: int, *requests: int) -> float | None:
    """Return the US dollars per request that has ended."""
    return ratio(nano_usd, NANO_PER_USD * sum(requests))


def tokens_per_dollar(input_tokens: int, output_tokens: int, nano_usd: int) -> float | None:
    """Return the tokens that one US dollar has bought."""
    return ratio((input_tokens + output_tokens) * NANO_PER_USD, nano_usd)


def busiest(
    threads_busy: int | None, threads_total: int | None, pool_active: int | None, pool_idle: int | None
) -> float | None:
    """Return the utilisation of whichever is used most, of those that are known."""
    known = [
        None if threads_busy is None or threads_total is None else ratio(threads_busy, threads_total),
        None if pool_active is None or pool_idle is None else share(pool_active, pool_idle),
    ]
    return max([each for each in known if each is not None], default=None)


def removed(before: int, after: int) -> float | None:
    """Return the share of what went in that did not come out; below 0 when more came out."""
    return (before - after) / before if before else None


def reuse(saved: int, *executions: int) -> float | None:
    """Return executions per saved skill."""
    return ratio(sum(executions), saved)


# Requests are what somebody has asked for; tool and model calls are means, and a retry may have made them good.
HEALTH_WEIGHTS: Final = {"requests": 2, "model_calls": 1, "tool_calls": 1}
_FAILED: Final = {
    "requests": ("requests_error", "requests_timeout"),
    "model_calls": ("model_calls_error", "model_calls_timeout"),
    "tool_calls": ("tool_calls_error", "tool_calls_timeout", "tool_calls_validation_error"),
    "executions": ("executions_error", "executions_timeout"),
    "skills": ("skills_error", "skills_timeout"),
}


def health(*counts: int) -> float | None:
    """Return the weighted mean of the success ratios of requests, model calls and tool calls, of those there are.

    `counts` are the successes and the failures of each, in the order of HEALTH_WEIGHTS.
    """
    over = weights = 0.0
    at = 0
    for noun, weight in HEALTH_WEIGHTS.items():
        width = 1 + len(_FAILED[noun])
        success = share(*counts[at : at + width])
        at += width
        if success is not None:
            over += weight * success
            weights += weight
    return over / weights if weights else None


# ---- rows ------------------------------------------------------------------------------------------------------


def derived(
    name: str,
    dimension: Dimension,
    help_text: str,
    formula: Formula,
    *,
    unit: str = "",
    seeds: tuple[str, ...] = (),
) -> Metric:
    """Return a metric that is made of others."""
    return Metric(name, "gauge", unit, help_text, dimension, dimension.columns, formula=formula, seed_names=seeds)


def measures(*names: str) -> tuple[Input, ...]:
    """Return inputs that are measures."""
    return tuple(Input("measure", name) for name in names)


def success(name: str, dimension: Dimension, what: str, noun: str, *, seeds: tuple[str, ...] = ()) -> Metric:
    """Return the share of calls that succeeded; cancelled ones are neither."""
    failed = " + ".join(each.removeprefix(f"{noun}_") for each in _FAILED[noun])
    return derived(
        name,
        dimension,
        f"Share of {what} that succeeded; cancelled ones count neither way.",
        Formula(f"success / (success + {failed})", measures(f"{noun}_success", *_FAILED[noun]), share),
        seeds=seeds,
    )


def spread(prefix: str, dimension: Dimension, what: str, histogram: str) -> tuple[Metric, ...]:
    """Return mean, shortest and longest of a histogram of durations."""
    total, count = Input("sum", histogram), Input("count", histogram)
    return (
        derived(
            f"{prefix}_mean_seconds",
            dimension,
            f"Mean duration of {what}.",
            Formula("sum of durations / their count", (total, count), mean_seconds),
            unit="seconds",
        ),
        *(
            derived(
                f"{prefix}_{each}_seconds",
                dimension,
                f"{word} duration of {what}, of all that were ever counted.",
                Formula(f"{word.lower()} of the durations", (extreme,), seconds),
                unit="seconds",
            )
            for each, word, extreme in (
                ("min", "Shortest", Input("min", histogram)),
                ("max", "Longest", Input("max", histogram)),
            )
        ),
    )


_REQUESTS: Final = tuple(f"requests_{status}" for status in CALL_STATUSES)
_TOKENS: Final = ("input_tokens", "output_tokens")

_MEMORY: Final[
    tuple[tuple[str, str, str, tuple[Literal["sum", "count", "max"], ...], Callable[..., float | None]], ...]
] = (
    ("mean", "Mean of the most memory that each run of code has used.", "sum / count", ("sum", "count"), ratio),
    ("max", "The most memory that any run of code has used.", "highest of all", ("max",), float),
)

DERIVED: Final = (
    derived(
        "agent_health_score",
        AGENT,
        "How well an agent works, from 0 to 1: the mean of its success ratios, requests counting twice.",
        Formula(
            "(2 × requests + 1 × model calls + 1 × tool calls) / 4, each as success / (success + failed); "
            "what has not ended any call is left out of both sums",
            measures(*(name for noun in HEALTH_WEIGHTS for name in (f"{noun}_success", *_FAILED[noun]))),
            health,
        ),
        seeds=("agent_health_score",),
    ),
    success("agent_request_success_ratio", AGENT, "requests", "requests"),
    success("agent_model_call_success_ratio", MODEL, "model calls", "model_calls"),
    success("agent_tool_call_success_ratio", TOOL, "tool calls", "tool_calls", seeds=("agent_tool_success_rate",)),
    success("agent_tool_use_success_ratio", AGENT_TOOL, "an agent's calls of a tool", "tool_calls"),
    *spread("agent_request_duration", AGENT, "requests", "request_duration"),
    *spread("agent_tool_call_duration", TOOL, "tool calls", "tool_duration"),
    *spread("agent_tool_use_duration", AGENT_TOOL, "an agent's calls of a tool", "tool_duration"),
    derived(
        "agent_tokens_per_request",
        AGENT,
        "Tokens per request that has ended, in whatever way.",
        Formula("(input + output tokens) / ended requests", measures(*_TOKENS, *_REQUESTS), tokens_per_request),
    ),
    derived(
        "agent_cost_per_request_usd",
        AGENT,
        "US dollars per request that has ended, in whatever way; what was not priced adds nothing.",
        Formula("cost / ended requests", measures("cost_nano_usd", *_REQUESTS), usd_per_request),
        unit="usd",
    ),
    *(
        derived(
            name,
            dimension,
            f"Tokens per US dollar{by}; too high while some reports are not priced.",
            Formula("(input + output tokens) / cost", measures(*_TOKENS, "cost_nano_usd"), tokens_per_dollar),
            seeds=seeds,
        )
        for name, dimension, by, seeds in (
            ("agent_tokens_per_dollar", AGENT, "", ("agent_tokens_per_dollar",)),
            ("agent_model_tokens_per_dollar", MODEL, ", by model", ()),
        )
    ),
    derived(
        "agent_prompt_cache_hit_ratio",
        AGENT,
        "Share of the input tokens that a prompt cache served.",
        Formula("cache-read tokens / input tokens", measures("cache_read_tokens", "input_tokens"), ratio),
    ),
    derived(
        "agent_thread_pool_utilization_ratio",
        AGENT,
        "Share of the threads that are busy, over all processes of an agent.",
        Formula("busy threads / threads", (Input("gauge", "threads_busy"), Input("gauge", "threads_total")), ratio),
        seeds=("agent_thread_pool_utilization",),
    ),
    derived(
        "agent_connection_pool_utilization_ratio",
        AGENT,
        "Share of the connections that are in use, over all processes of an agent.",
        Formula("active / (active + idle)", (Input("gauge", "pool_active"), Input("gauge", "pool_idle")), share),
    ),
    derived(
        "agent_resource_utilization_ratio",
        AGENT,
        "Utilization of what an agent uses most: its threads or its connections, whichever it reports.",
        Formula(
            "the greater of busy threads / threads and active / (active + idle) connections",
            tuple(Input("gauge", name) for name in ("threads_busy", "threads_total", "pool_active", "pool_idle")),
            busiest,
            partial=True,
        ),
        seeds=("agent_resource_utilization",),
    ),
    derived(
        "agent_batch_efficiency_ratio",
        AGENT,
        "How full batches are, the mean over the processes of an agent that say so.",
        Formula(
            "sum of what processes say / their number",
            (Input("gauge", "batch_efficiency"), Input("sources", "batch_efficiency")),
            mean_share,
        ),
        seeds=("agent_batch_processing_efficiency",),
    ),
    derived(
        "agent_processes",
        AGENT,
        "Processes of an agent that have said lately how much memory they use.",
        Formula("number of live sources", (Input("sources", "memory_bytes"),), float),
    ),
    derived(
        "agent_task_completion_ratio",
        FEEDBACK,
        "Share of the tasks that were completed, of those that somebody has said it of.",
        Formula("completed / (completed + not completed)", measures("tasks_completed", "tasks_failed"), share),
        seeds=("agent_task_completion_rate",),
    ),
    *(
        derived(
            name,
            FEEDBACK,
            f"Mean of the {what} that was given, from 0 to 1.",
            Formula("sum of scores / their number", (Input("sum", scores), Input("count", scores)), mean_share),
            seeds=seeds,
        )
        for name, scores, what, seeds in (
            ("agent_response_quality_mean", "quality", "quality", ()),
            ("agent_user_satisfaction_mean", "satisfaction", "satisfaction", ("agent_user_satisfaction",)),
            ("agent_response_relevance_mean", "relevance", "relevance", ()),
        )
    ),
    derived(
        "agent_cache_hit_ratio",
        CACHE,
        "Share of the questions to a cache that it could answer; those that failed count neither way.",
        Formula("hits / (hits + misses)", measures("cache_hit", "cache_miss"), share),
    ),
    derived(
        "agent_discovery_hit_ratio",
        DISCOVERY,
        "Share of the searches for tools that found any.",
        Formula("found / (found + empty)", measures("discovery_found", "discovery_empty"), share),
        seeds=("vtcode_discovery_hit_rate",),
    ),
    success("agent_execution_success_ratio", EXECUTION, "runs of code", "executions"),
    *spread("agent_execution_duration", EXECUTION, "runs of code", "execution_duration"),
    *(
        derived(
            f"agent_execution_memory_{each}_bytes",
            EXECUTION,
            help_text,
            Formula(text, tuple(Input(what, "execution_memory") for what in inputs), of),
            unit="bytes",
        )
        for each, help_text, text, inputs, of in _MEMORY
    ),
    derived(
        "agent_filtering_reduction_ratio",
        FILTERING,
        "Share of the bytes that filtering took away.",
        Formula(
            "(input bytes - output bytes) / input bytes",
            measures("filtering_input_bytes", "filtering_output_bytes"),
            removed,
        ),
    ),
    derived(
        "agent_skill_reuse_ratio",
        SKILL,
        "Executions of a skill per time that it was saved.",
        Formula(
            "executions / saved",
            measures("skills_saved", *(f"skills_{status}" for status in CALL_STATUSES)),
            reuse,
        ),
        seeds=("vtcode_skill_reuse_ratio",),
    ),
    success("agent_skill_success_ratio", SKILL, "executions of a skill", "skills"),
    *spread("agent_skill_duration", SKILL, "executions of a skill", "skill_duration"),
)


def reference() -> str:
    """Return the table of all derived metrics as Markdown."""
    lines = ["| metric | by | what it is | formula | made of |", "|---|---|---|---|---|"]
    for metric in DERIVED:
        assert metric.formula is not None
        by = ", ".join(metric.columns)
        made_of = ", ".join(dict.fromkeys(_told(each) for each in metric.formula.inputs))
        lines.append(f"| `{metric.name}` | {by} | {metric.help} | {metric.formula.text} | {made_of} |")
    return "\n".join(lines) + "\n"


def _told(each: Input) -> str:
    kind = {"measure": "", "gauge": "gauge ", "sources": "live sources of gauge "}.get(each.what, f"{each.what} of ")
    return f"{kind}`{each.name}`"
