"""What is on the board of tokens and cost: by agent, model, provider and tenant.  Data only."""

from typing import Final

from streams.sink.dashboards.panel import Ask, Board, Section, Target, Variable, bars, dial, lines, ratio, stat, table

_VARIABLES: Final = (
    Variable("agent", "Agent", "agent_events_total", "agent"),
    Variable("model", "Model", "agent_model_calls_started_total", "model"),
    Variable("provider", "Provider", "agent_provider_tokens_total", "provider"),
    Variable("tenant", "Tenant", "agent_tenant_events_total", "tenant"),
)
_ASK: Final = Ask(_VARIABLES)


def _hourly(target: Target) -> Target:
    return target._replace(expr=f"{target.expr} * 3600")


_OVERVIEW: Final = Section(
    "Overview",
    (
        stat("Tokens", "Tokens used within the range shown.", "short", _ASK.increase("agent_tokens_total")),
        stat("Cost", "What the priced calls within the range shown cost.", "currencyUSD",
             _ASK.increase("agent_cost_usd_total")),
        stat("Cost per hour", "What an hour costs at the present rate.", "currencyUSD",
             _hourly(_ASK.rate("agent_cost_usd_total"))),
        stat("Cost per request", "Cost within the range shown, per request that ended.", "currencyUSD",
             ratio(_ASK.increase("agent_cost_usd_total"), _ASK.increase("agent_requests_total"))),
        stat("Tokens per request", "Tokens within the range shown, per request that ended.", "short",
             ratio(_ASK.increase("agent_tokens_total"), _ASK.increase("agent_requests_total"))),
        stat("Without a price", "Usage reports within the range shown that no cost is known of.", "short",
             _ASK.increase("agent_unpriced_usage_reports_total"), steps=((1, "yellow"),)),
    ),
)  # fmt: skip
_TOKENS: Final = Section(
    "Tokens",
    (
        lines("Tokens by type", "Tokens per second; input includes what a cache served, output includes reasoning.",
              "short", _ASK.rate("agent_tokens_total", "type"), stacked=True),
        lines("Tokens by agent", "Tokens per second.", "short", _ASK.rate("agent_tokens_total", "agent"),
              stacked=True),
        lines("Tokens by model", "Tokens per second.", "short",
              _ASK.rate("agent_model_tokens_total", "model", "type"), stacked=True),
        lines("Tokens by tenant", "Tokens per second.", "short", _ASK.rate("agent_tenant_tokens_total", "tenant"),
              stacked=True),
        dial("Served by the prompt cache", "Share of the input tokens within the range shown that a cache served.",
             ratio(_ASK.increase("agent_cache_tokens_total", operation="read"),
                   _ASK.increase("agent_tokens_total", type="input"))),
        dial("Spent on reasoning", "Share of the output tokens within the range shown that was reasoning.",
             ratio(_ASK.increase("agent_reasoning_tokens_total"), _ASK.increase("agent_tokens_total", type="output"))),
        lines("Prompt cache by model", "Tokens that a prompt cache served or took in, per second.", "short",
              _ASK.rate("agent_model_cache_tokens_total", "model", "operation")),
    ),
)  # fmt: skip
_COST: Final = Section(
    "Cost",
    (
        lines("Cost by agent", "US dollars an hour, at the rate of the moment.", "currencyUSD",
              _hourly(_ASK.rate("agent_cost_usd_total", "agent")), stacked=True),
        lines("Cost by model", "US dollars an hour, at the rate of the moment.", "currencyUSD",
              _hourly(_ASK.rate("agent_model_cost_usd_total", "model")), stacked=True),
        lines("Cost by tenant", "US dollars an hour, at the rate of the moment.", "currencyUSD",
              _hourly(_ASK.rate("agent_tenant_cost_usd_total", "tenant")), stacked=True),
        bars("Cost by provider", "US dollars within the range shown.", "currencyUSD",
             _ASK.increase("agent_provider_cost_usd_total", "provider")),
    ),
)  # fmt: skip
_BUDGETS: Final = Section(
    "Budgets",
    (
        lines("Spent of each budget", "Share of the limit spent in this period, by budget and key.", "percentunit",
              ratio(_ASK.level("agent_budget_spent", "budget", "key", how="max"),
                    _ASK.level("agent_budget_limit", "budget", "key", how="max")), steps=((0.8, "yellow"), (1, "red"))),
        lines("Burn", "Multiple of the pace that spends a budget in just its period.", "short",
              _ASK.level("agent_budget_burn", "budget", "key", "window", how="max"), steps=((1, "yellow"),)),
        table("Left", "What is left in this period, in the unit of the budget.", "short",
              _ASK.level("agent_budget_remaining", "budget", "key", "unit", how="max")),
        table("Runs out in", "How long each budget lasts at the rate of its last hour.", "s",
              _ASK.level("agent_budget_run_out_seconds", "budget", "key", how="min")),
    ),
)  # fmt: skip
_TRUST: Final = Section(
    "How far they can be trusted",
    (
        dial("Computed cost", "Share of the cost within the range shown that was computed from a list of prices.",
             ratio(_ASK.increase("agent_computed_cost_usd_total"), _ASK.increase("agent_cost_usd_total")), width=12),
        lines("Reports of a whole and of its parts", "Tokens that wholes named beyond their parts (over) or short of "
              "them (under), per second.", "short", _ASK.rate("agent_aggregate_gap_tokens_total", "direction")),
    ),
)  # fmt: skip
_REPORTS: Final = Section(
    "Usage reports",
    (
        lines("Reports by model", "Usage reports that were added up, per second.", "cps",
              _ASK.rate("agent_model_usage_reports_total", "model")),
        lines("Reports that repeat others", "Usage reports of a whole that its parts had reported already, per second.",
              "cps", _ASK.rate("agent_model_aggregate_usage_reports_total", "model")),
    ),
)  # fmt: skip

TOKENS: Final = Board(
    "agent-streams-tokens",
    "AgentStreams / Tokens and cost",
    "Tokens and money: by agent, model, provider and tenant. What nobody priced adds nothing to the cost.",
    _VARIABLES,
    (_OVERVIEW, _TOKENS, _COST, _BUDGETS, _TRUST, _REPORTS),
)
