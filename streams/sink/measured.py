"""Which gauges do sources report?  Rows of the catalogue: what each process, conversation or tool queue said last.

Never a figure that is made of others: those are `streams.sink.derived`.
"""

from typing import Final

from streams.fold.gauges import GAUGES as KEPT
from streams.fold.gauges import MICRO
from streams.fold.measure import AGENT, AGENT_TOOL, TOOL
from streams.fold.streamtime import MINUTE_MS
from streams.sink.metric import level, own

GAUGES: Final = (
    level(
        "agent_memory_usage_bytes",
        AGENT,
        "Memory in use, the sum over an agent's processes.",
        "memory_bytes",
        unit="bytes",
        seeds=("agent_memory_usage_bytes", "crew_memory_usage_bytes"),
    ),
    level(
        "agent_memory_peak_bytes",
        AGENT,
        "The most memory that any one process of an agent has ever reported.",
        "memory_peak_bytes",
        unit="bytes",
    ),
    level(
        "agent_connection_pool_active",
        AGENT,
        "Connections in use, the sum over an agent's processes.",
        "pool_active",
        seeds=("agent_connection_pool_active",),
    ),
    level(
        "agent_connection_pool_idle",
        AGENT,
        "Connections open and not in use, the sum over an agent's processes.",
        "pool_idle",
        seeds=("agent_connection_pool_idle",),
    ),
    level("agent_threads_busy", AGENT, "Threads at work, the sum over an agent's processes.", "threads_busy"),
    level("agent_threads", AGENT, "Threads of all pools, the sum over an agent's processes.", "threads_total"),
    level(
        "agent_async_tasks",
        AGENT,
        "Asynchronous tasks under way, the sum over an agent's processes.",
        "async_tasks",
        seeds=("agent_async_tasks_active",),
    ),
    level("agent_queue_depth", AGENT, "Work that waits, the sum over an agent's processes.", "queue_depth"),
    level(
        "agent_uptime_seconds",
        AGENT,
        "How long the oldest process of an agent had been running when it last said so.",
        "uptime_us",
        unit="seconds",
        seeds=("agent_uptime_seconds",),
    ),
    level("agent_cpu_cores", AGENT, "Processor cores in use, the sum over an agent's processes.", "cpu", divisor=MICRO),
    level(
        "agent_context_longest_tokens",
        AGENT,
        "Tokens in the longest context of an agent's live conversations.",
        "context_tokens",
        unit="tokens",
    ),
    level(
        "agent_context_limit_tokens",
        AGENT,
        "The largest context limit among an agent's live conversations.",
        "context_limit_tokens",
        unit="tokens",
    ),
    level(
        "agent_context_fullest_ratio",
        AGENT,
        "How full the fullest context of an agent's live conversations is.",
        "context_used",
        divisor=MICRO,
    ),
    level("agent_temperature", AGENT, "The sampling temperature chosen last.", "temperature", divisor=MICRO),
    level(
        "agent_tool_queue_depth",
        TOOL,
        "Calls that wait for a tool, the sum over processes.",
        "tool_queue_depth",
        seeds=("agent_tool_queue_depth",),
    ),
    level(
        "agent_tool_use_queue_depth",
        AGENT_TOOL,
        "Calls of an agent that wait for a tool, the sum over processes.",
        "tool_queue_depth",
    ),
    own(
        "agent_sources_forgotten_total",
        "counter",
        "Sources of gauges that were left out because a key had too many: sums are too low while this grows.",
        "view",
    ),
)


def reference() -> str:
    """Return the table of all gauges that sources report as Markdown."""
    lines = ["| metric | by | what it is | of several sources | holds for |", "|---|---|---|---|---|"]
    for metric in GAUGES:
        if metric.gauge is not None:
            ttl_ms = KEPT[metric.gauge].ttl_ms
            holds = f"{ttl_ms // MINUTE_MS} min" if ttl_ms else "ever"
            lines.append(
                f"| `{metric.name}` | {', '.join(metric.columns)} | {metric.help} | {metric.merge} | {holds} |"
            )
    return "\n".join(lines) + "\n"
