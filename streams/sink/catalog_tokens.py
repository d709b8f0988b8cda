"""Which metrics say how far tokens and money can be trusted?  Rows of the catalogue.

Never tokens or money themselves: those stand in the catalogue beside what they are by.
"""

from typing import Final

from streams.fold.measure import AGENT, MODEL, Dimension
from streams.sink.metric import Metric, by, plain


def computed_cost(prefix: str, dimension: Dimension) -> Metric:
    """Return how much of the cost of one dimension nobody named."""
    return plain(
        f"{prefix}_computed_cost_usd_total",
        dimension,
        "Cost in US dollars that was computed from a list of prices; part of the cost.",
        ("computed_cost_nano_usd",),
        unit="usd",
    )


OF_USAGE: Final = (
    plain(
        "agent_model_inconsistent_usage_reports_total",
        MODEL,
        "Usage reports with more cached than input or more reasoning than output tokens: counted as they came.",
        ("usage_inconsistent",),
    ),
)

OF_LEDGER: Final = (
    plain(
        "agent_aggregates_reconciled_total",
        AGENT,
        "Calls whose aggregate usage report was held against the reports of its leaves.",
        ("aggregates_settled",),
    ),
    plain(
        "agent_aggregates_without_leaves_total",
        AGENT,
        "Reconciled aggregates beneath which no leaf had reported, or that named no call: their tokens count nowhere.",
        ("aggregates_leafless",),
    ),
    by(
        "agent_aggregate_gap_tokens_total",
        AGENT,
        "Tokens by which aggregates named more (over) or fewer (under) than their leaves.",
        "direction",
        {"over": "aggregate_over_tokens", "under": "aggregate_under_tokens"},
        unit="tokens",
    ),
    plain(
        "agent_ledger_calls_forgotten_total",
        AGENT,
        "Calls in flight whose leaves were given up before an aggregate could come: too many at once in a session.",
        ("ledger_forgotten",),
    ),
)
