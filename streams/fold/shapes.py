"""Which explicit buckets does each histogram have, and in which unit are its observations?  Data, and one look-up.

Never a float: bounds and observations are integers in the stored unit (µs, bytes, tokens, nano-USD, millionths).
A custom histogram carries its bounds in its name, so that whoever adds it up needs no declaration, and a declaration
with other buckets begins another histogram instead of mixing with the old one.
"""

from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias

from streams.fold.sketch import DURATION_BOUNDS, Bounds

StoredUnit: TypeAlias = Literal["us", "bytes", "tokens", "nano_usd", "millionths", "count"]

MILLION: Final = 1_000_000
NANO: Final = 1_000_000_000
CUSTOM_PREFIX: Final = "custom:"
CUSTOM_SHAPES_MAX: Final = 1_024  # parsed names kept; a deployment declares a few dozen


class Shape(NamedTuple):
    """The buckets of a histogram and the unit it is stored in."""

    bounds: Bounds
    unit: StoredUnit


def _seconds(*uppers: float) -> Shape:
    return Shape(Bounds(tuple(round(upper * MILLION) for upper in uppers)), "us")


def _millionths(*uppers: float) -> Shape:
    return Shape(Bounds(tuple(round(upper * MILLION) for upper in uppers)), "millionths")


_DURATION: Final = Shape(DURATION_BOUNDS, "us")
_QUICK: Final = _seconds(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_RUN: Final = _seconds(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)
# OpenTelemetry GenAI's advised boundaries for token counts: powers of 4.
_TOKENS: Final = Shape(Bounds(tuple(4**n for n in range(14))), "tokens")
# From a hundredth of a cent to ten dollars.
_CENTS: Final = NANO // 100
_COST: Final = Shape(
    Bounds((_CENTS // 100, _CENTS // 10, _CENTS // 2, *(_CENTS * n for n in (1, 5, 10, 50, 100, 500, 1_000)))),
    "nano_usd",
)
_SCORE: Final = _millionths(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
_SIZE: Final = Shape(Bounds((100, 500, 1_000, 5_000, 10_000, 50_000, 100_000)), "bytes")
_LARGE_SIZE: Final = Shape(Bounds((100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)), "bytes")
_MEMORY: Final = Shape(Bounds(tuple(4**n * 1024 * 1024 for n in range(1, 9))), "bytes")  # 4 MiB to 64 GiB
_STEPS: Final = Shape(Bounds(tuple(2**n for n in range(8))), "count")

SHAPES: Final[dict[str, Shape]] = {
    "request_duration": _DURATION,
    "request_tokens": _TOKENS,
    "request_cost": _COST,
    "request_cycles": _STEPS,
    "response_bytes": _LARGE_SIZE,
    "model_duration": _DURATION,
    "first_token": _DURATION,
    "temperature": _millionths(0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1, 1.5, 2),
    "tool_duration": _DURATION,
    "cycle_duration": _DURATION,
    "context_tokens": _TOKENS,
    "context_used": _millionths(0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1),
    "quality": _SCORE,
    "relevance": _SCORE,
    "satisfaction": _SCORE,
    "retry_after": _seconds(0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
    "cache_duration": _seconds(0.001, 0.005, 0.01, 0.025, 0.05, 0.1),
    "discovery_duration": _QUICK,
    "execution_duration": _RUN,
    "execution_memory": _MEMORY,
    "execution_result": _LARGE_SIZE,
    "sdk_duration": _DURATION,
    "filtering_duration": _QUICK,
    "skill_duration": _RUN,
    "a2a_duration": _seconds(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    "a2a_response": _SIZE,
    "ccr_duration": _seconds(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
}  # fmt: skip


def custom_histogram(metric: str, uppers: tuple[int, ...]) -> str:
    """Name a declared histogram: its metric and its bounds, in millionths."""
    return f"{CUSTOM_PREFIX}{metric}:{','.join(map(str, uppers))}"


def shape_of(histogram: str) -> Shape:
    """Return the shape of a histogram. Raises LookupError for one that this release does not have."""
    shape = SHAPES.get(histogram)
    return _custom(histogram) if shape is None else shape


def bounds_of(histogram: str) -> Bounds:
    """Return the buckets of a histogram. Raises LookupError, as `shape_of` does."""
    return shape_of(histogram).bounds


@lru_cache(CUSTOM_SHAPES_MAX)
def _custom(histogram: str) -> Shape:
    _, colon, uppers = histogram.removeprefix(CUSTOM_PREFIX).partition(":")
    if not histogram.startswith(CUSTOM_PREFIX) or not colon:
        raise LookupError(f"no histogram is called {histogram!r}")
    return Shape(Bounds(tuple(int(upper) for upper in uppers.split(","))), "millionths")
