"""What would be worth doing, by the numbers of the last hours?  A table of advice: what to look at, when, what to do.

Never speaks of little data: every row has a number of observations below which it says nothing.  Never raises an alarm:
those are the rules'.  Numbers are those of windows, so what was put right yesterday is not repeated today.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from streams.event.model import CALL_STATUSES, TOOL_STATUSES
from streams.fold.measure import (
    AGENT,
    CACHE,
    CONVERSATION,
    DISCOVERY,
    EXECUTION,
    FILTERING,
    MODEL,
    PARTITION,
    RATE_LIMIT,
    SECURITY,
    SKILL,
    TOOL,
    Dimension,
)
from streams.fold.session import OVERFLOW
from streams.rule.amount import amount_text, duration_text
from streams.rule.reading import Unit

KEYS_SHOWN: Final = 5  # of one row: who reads the sixth has not done the first


class Figures(NamedTuple):
    """One key within a window: sums by measure, and (count, sum) by histogram, all in stored units."""

    labels: tuple[str, ...]
    sums: Mapping[str, int]
    seen: Mapping[str, tuple[int, int]] = {}

    def sum(self, names: Sequence[str]) -> int:
        """Add up measures."""
        return sum(self.sums.get(name, 0) for name in names)


class Found(NamedTuple):
    """A value, and the number of observations behind it."""

    value: float
    observed: int


Look: TypeAlias = Callable[[Figures, Figures], Found | None]  # at one key, and at all of its dimension together


class Advice(NamedTuple):
    """One row: `look` at every key, or at the `whole` dimension; above or below the limit it says what to do.

    `says` may name {key}, {value}, {limit} and {count}.
    """

    name: str
    dimension: Dimension
    look: Look
    above: bool
    limit: float
    unit: Unit
    least: int
    counted: str
    says: str
    todo: str
    whole: bool = False


class Given(NamedTuple):
    """A piece of advice, with its evidence."""

    name: str
    dimension: str
    labels: Mapping[str, str]
    value: float
    unit: Unit
    limit: float
    above: bool
    observed: int
    least: int
    counted: str
    says: str
    todo: str
    more: int  # keys of which the same could be said, beyond those shown


def advise(figures: Mapping[str, Sequence[Figures]], rows: Sequence["Advice"] | None = None) -> list[Given]:
    """Return all advice that the figures of dimensions, by name, give reason for; of each row the worst keys first."""
    given: list[Given] = []
    for row in ADVICE if rows is None else rows:
        keys = figures.get(row.dimension.name, ())
        all_of_them = together(keys)
        looked = [all_of_them] if row.whole else [key for key in keys if OVERFLOW not in key.labels]
        found = [
            (key, seen) for key in looked if (seen := row.look(key, all_of_them)) is not None and _holds(row, seen)
        ]
        found.sort(key=lambda each: (-each[1].value if row.above else each[1].value, each[0].labels))
        more = max(len(found) - KEYS_SHOWN, 0)
        given.extend(_given(row, key, seen, more) for key, seen in found[:KEYS_SHOWN])
    return given


def together(keys: Sequence[Figures]) -> Figures:
    """Add up all keys of a dimension."""
    sums: dict[str, int] = {}
    seen: dict[str, tuple[int, int]] = {}
    for key in keys:
        for name, by in key.sums.items():
            sums[name] = sums.get(name, 0) + by
        for name, (count, total) in key.seen.items():
            known = seen.get(name, (0, 0))
            seen[name] = known[0] + count, known[1] + total
    return Figures((), sums, seen)


def _holds(row: Advice, found: Found) -> bool:
    return found.observed >= row.least and (found.value > row.limit if row.above else found.value < row.limit)


def _given(row: Advice, key: Figures, found: Found, more: int) -> Given:
    words = {
        "key": " ".join(key.labels),
        "value": amount_text(found.value, row.unit),
        "limit": amount_text(row.limit, row.unit),
        "count": f"{found.observed:,}",
    }
    labels = dict(zip(row.dimension.columns, key.labels, strict=False))
    return Given(
        row.name, row.dimension.name, labels, found.value, row.unit, row.limit, row.above, found.observed, row.least,
        row.counted, row.says.format(**words), row.todo, more,
    )  # fmt: skip


def evidence(given: Given, window_ms: int) -> str:
    """Say in one line what a piece of advice rests on."""
    side = "above" if given.above else "below"
    value, limit = amount_text(given.value, given.unit), amount_text(given.limit, given.unit)
    return (
        f"{value}, {side} {limit}, over {given.observed:,} {given.counted} within {duration_text(window_ms)} "
        f"(nothing is said below {given.least:,})"
    )


def reference() -> str:
    """Return the table as Markdown."""
    lines = ["| advice | of each | speaks | least | what to do |", "|---|---|---|---|---|"]
    for row in ADVICE:
        each = "all together" if row.whole else " × ".join(row.dimension.columns)
        said = row.says.format(key="…", value="*x*", limit="", count="")
        when = f"{said} *x* {'above' if row.above else 'below'} {amount_text(row.limit, row.unit)}"
        lines.append(f"| `{row.name}` | {each} | {when} | {row.least:,} {row.counted} | {row.todo} |")
    return "\n".join(lines) + "\n"


# ---- ways to look ----------------------------------------------------------------------------------------------


def ratio(of: Sequence[str], to: Sequence[str], less: Sequence[str] = ()) -> Look:
    """Divide sums; `less` is taken off what is divided by."""

    def look(key: Figures, _: Figures) -> Found | None:
        count = key.sum(to) - key.sum(less)
        return Found(key.sum(of) / count, count) if count > 0 else None

    return look


def mean(histogram: str) -> Look:
    """Take the mean of a histogram."""

    def look(key: Figures, _: Figures) -> Found | None:
        count, total = key.seen.get(histogram, (0, 0))
        return Found(total / count, count) if count else None

    return look


def part(of: Sequence[str]) -> Look:
    """Take a key's part of what all keys of its dimension have done, of which the observations are."""

    def look(key: Figures, every: Figures) -> Found | None:
        count = every.sum(of)
        return Found(key.sum(of) / count, count) if count else None

    return look


def part_of_time(histogram: str) -> Look:
    """Take a key's part of the time of all keys of its dimension, when there are others."""

    def look(key: Figures, every: Figures) -> Found | None:
        (mine, us), (count, total) = (each.seen.get(histogram, (0, 0)) for each in (key, every))
        return Found(us / total, count) if total and count > mine else None

    return look


# ---- the table -------------------------------------------------------------------------------------------------

_TOOL_ENDS: Final = tuple(f"tool_calls_{status}" for status in TOOL_STATUSES)
_TOOL_JUDGED: Final = tuple(name for name in _TOOL_ENDS if not name.endswith("_cancelled"))
_TOOL_FAILED: Final = tuple(name for name in _TOOL_JUDGED if not name.endswith("_success"))
_MODEL_ENDS: Final = tuple(f"model_calls_{status}" for status in CALL_STATUSES)
_MODEL_JUDGED: Final = ("model_calls_success", "model_calls_error", "model_calls_timeout")
_RUNS: Final = tuple(f"executions_{status}" for status in CALL_STATUSES)
_SKILL_RUNS: Final = tuple(f"skills_{status}" for status in CALL_STATUSES)
_SECONDS_2: Final = 2_000_000  # in µs

ADVICE: Final = (
    # code execution: what finds, runs, keeps and guards it
    Advice(
        "discovery-misses", DISCOVERY, ratio(("discovery_found",), ("discovery_found", "discovery_empty")), False, 0.8,
        "ratio", 20, "searches", "Searches for tools often find nothing: {value} found any.",
        "Give tools the names that agents search for, add aliases, and say in their descriptions what they are for.",
        whole=True,
    ),
    Advice(
        "execution-slow", EXECUTION, mean("execution_duration"), True, _SECONDS_2, "us", 20, "runs",
        "Running {key} code takes {value} on average.",
        "Generate the SDK once and keep it, keep the interpreter warm, and cache what runs fetch again and again.",
    ),
    Advice(
        "execution-fails", EXECUTION, ratio(("executions_error", "executions_timeout"), _RUNS), True, 0.2, "ratio", 20,
        "runs", "{value} of the runs of {key} code fail.",
        "Look at the exit codes and at what the code assumes to be installed; give agents a working example.",
    ),
    Advice(
        "skill-unused", SKILL, part(_SKILL_RUNS), False, 0.1, "ratio", 50, "executions of all skills",
        "Skill {key} is hardly used: {value} of all executions.",
        "Say more clearly what it is for, so that agents find it, or remove it.",
    ),
    Advice(
        "detection-low", SECURITY, ratio(("pii_detected",), ("audit",)), False, 0.95, "ratio", 20, "audited pieces",
        "Personal data is found in only {value} of what is audited.",
        "Add expressions for your own kinds of identifiers, and widen those that let variants of a format pass.",
        whole=True,
    ),
    Advice(
        "filtering-weak", FILTERING, ratio(("filtering_output_bytes",), ("filtering_input_bytes",)), True, 0.8, "ratio",
        1_000_000, "bytes that went in", "Filtering by {key} leaves {value} of the bytes.",
        "Filter more narrowly before results go into a context, or leave this step out.",
    ),
    # tools
    Advice(
        "tool-fails", TOOL, ratio(_TOOL_FAILED, _TOOL_JUDGED), True, 0.3, "ratio", 10, "calls",
        "{value} of the calls of {key} fail.",
        "See what they are called with when they fail, make the error text say how to do it right, or take the tool "
        "away from agents until it works.",
    ),
    Advice(
        "tool-retried", TOOL, ratio(("tool_retries",), _TOOL_ENDS, ("tool_retries",)), True, 2, "count", 10,
        "first attempts", "Calls of {key} are repeated {value} times on average.",
        "Handle errors where they arise: tell those apart that a retry cannot cure, and wait longer between attempts.",
    ),
    Advice(
        "tool-dominates", TOOL, part_of_time("tool_duration"), True, 0.5, "ratio", 50, "calls of all tools",
        "{key} takes {value} of the time that all tools take together.",
        "Make this one faster first: cache its answers, call it in parallel, or give it a time limit.",
    ),
    Advice(
        "tool-unpaired", TOOL, ratio(("tool_calls_unmatched",), _TOOL_ENDS), True, 0.05, "ratio", 50, "calls",
        "{value} of the calls of {key} end without a start that could be found.",
        "Publish a start for every call and the same call_id at both ends: hung calls are only seen that way.",
    ),
    # models, tokens and money
    Advice(
        "model-fails", MODEL, ratio(("model_calls_error", "model_calls_timeout"), _MODEL_JUDGED), True, 0.1, "ratio",
        20, "calls", "{value} of the calls of {key} fail.",
        "Look at the error codes by model; spread the load, or name another model to fall back to.",
    ),
    Advice(
        "answers-cut-off", MODEL, ratio(("model_calls_max_tokens",), _MODEL_ENDS), True, 0.05, "ratio", 50, "calls",
        "{value} of the answers of {key} end at the limit of output tokens.",
        "Raise the limit or ask for shorter answers: what is cut off is paid for and mostly asked for again.",
    ),
    Advice(
        "prompt-cache-unused", MODEL, ratio(("cache_read_tokens",), ("input_tokens",)), False, 0.1, "ratio", 1_000_000,
        "input tokens", "Prompt caches serve {value} of the input of {key}.",
        "Keep the beginning of prompts the same from call to call, mark it for caching where the provider asks for "
        "that, and put what changes at the end.",
    ),
    Advice(
        "reasoning-heavy", MODEL, ratio(("reasoning_tokens",), ("output_tokens",)), True, 0.6, "ratio", 100_000,
        "output tokens", "{value} of the output of {key} is reasoning.",
        "Ask for less effort where tasks are simple, or send those to a smaller model.",
    ),
    Advice(
        "unpriced", MODEL, ratio(("unpriced",), ("usage_reports",)), True, 0.01, "ratio", 20, "usage reports",
        "No price is known for {value} of the calls of {key}: its cost is too low by that.",
        "Add the model to your price file (docs/prices.md), or let publishers send the cost.",
    ),
    Advice(
        "usage-inconsistent", MODEL, ratio(("usage_inconsistent",), ("usage_reports",)), True, 0.01, "ratio", 20,
        "usage reports", "{value} of the usage reports of {key} have parts larger than the whole.",
        "Correct the publisher: input includes what a cache served or took in, output includes reasoning.",
    ),
    Advice(
        "context-full", CONVERSATION, mean("context_used"), True, 800_000, "millionths", 20, "messages",
        "Contexts of {key} are {value} full on average (1 is the limit).",
        "Summarise or drop old turns and tool results earlier.",
    ),
    # services
    Advice(
        "cache-misses", CACHE, ratio(("cache_hit",), ("cache_hit", "cache_miss")), False, 0.5, "ratio", 100, "look-ups",
        "The cache {key} has an answer for {value} of the questions.",
        "Look at what the keys are made of: leave out what changes from call to call, or keep entries for longer.",
    ),
    Advice(
        "rate-limited", RATE_LIMIT, ratio(("rate_limit_denied",), ("rate_limit_denied", "rate_limit_allowed")), True,
        0.05, "ratio", 50, "requests", "{value} of the requests to {key} are denied by a rate limit.",
        "Ask for a higher limit, spread calls over time, or let callers wait as long as the answer says.",
    ),
    Advice(
        "requests-abandoned", AGENT, ratio(("requests_abandoned",), ("requests_started",)), True, 0.05, "ratio", 20,
        "requests", "{value} of the requests of {key} never end.",
        "Find out whether its processes die or its end events are lost: publish the end in a finally block, and flush "
        "before the process leaves.",
    ),
    # the stream itself
    Advice(
        "events-late", PARTITION, ratio(("late",), ("received",)), True, 0.01, "ratio", 1_000, "events",
        "{value} of the events of partition {key} come too late for any window.",
        "Let publishers send sooner (smaller batches, shorter waits), and see whether one of them replays or has a "
        "clock that is behind.",
    ),
    Advice(
        "events-skewed", PARTITION, ratio(("skewed",), ("received",)), True, 0.001, "ratio", 1_000, "events",
        "{value} of the events of partition {key} are dated in the future.", "Synchronise the clocks of publishers.",
    ),
    Advice(
        "events-rejected", PARTITION, ratio(("rejected",), ("received",)), True, 0.001, "ratio", 1_000, "events",
        "{value} of the events of partition {key} are refused.",
        "Read the dead-letter topic: it says of each one why it was refused, and where it stood.",
    ),
    Advice(
        "events-repeated", PARTITION, ratio(("duplicate",), ("received",)), True, 0.05, "ratio", 1_000, "events",
        "{value} of the events of partition {key} had been seen before; they count once.",
        "Let publishers wait longer for an acknowledgement before they send again, or make their producer idempotent.",
    ),
)  # fmt: skip
