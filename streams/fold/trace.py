"""What does an event tell of what is normal, and of its session going round in circles?  Fills norms and trails.

Never judges: `fold.findings` reads what is noted here.  Late events are not noted: a loop of the past is over.
"""

from typing import Any

from streams.fold.live import LiveRow
from streams.fold.norms import Norms
from streams.fold.trail import RETRIES_MAX, LiveTrail, code_of, error_number, error_of, result_of


def trace_tool(row: LiveRow, event: Any, name: str, failed: bool, us: int, norms: Norms, event_ms: int) -> None:
    """Note what a call of a tool tells of what is normal, and of going round in circles."""
    status: str = event.status
    attempt: int = event.attempt
    if event.session_id is None or status == "cancelled" or (failed and 1 < attempt <= RETRIES_MAX):
        return
    norm = norms.tool(name)
    if norm is not None and us:
        norm.observe(us)
    arguments: str | None = event.arguments_hash
    trail = row.trail
    if trail is None:
        if arguments is None and not failed:
            return
        trail = row.trail = LiveTrail()
    tokens = row.input_tokens + row.output_tokens
    result = b""
    if failed:
        number = error_number(name, status, event.error_message)
        trail.error(name, number, us // 1000, event_ms, tokens, row.cost_nano_usd)
        result = error_of(number)
    else:
        trail.went_well(name)
        if arguments is not None:
            result = result_of(event.result_hash, event.output_bytes)
    if arguments is not None:
        code = code_of(name) if norm is None else norm.code
        acknowledges = norm is not None and norm.acknowledges
        teaches = trail.call(
            name, code, arguments, result, event.parallel_group, failed, acknowledges, us // 1000, event_ms, tokens,
            row.cost_nano_usd,
        )  # fmt: skip
        if teaches and norm is not None:
            norm.answer(result)


def trace_model(row: LiveRow, event: Any, name: str, failed: bool, us: int, norms: Norms, event_ms: int) -> None:
    """Note what a call of a model tells of what is normal, and of the same error again."""
    trail = row.trail
    if failed:
        if event.session_id is None:
            return
        if trail is None:
            trail = row.trail = LiveTrail()
        number = error_number(name, event.error_code or event.status, None)
        trail.error(name, number, us // 1000, event_ms, row.input_tokens + row.output_tokens, row.cost_nano_usd)
        return
    if trail is not None and trail.wrong:
        trail.forgive(name)
    if us and event.status != "cancelled":
        norm = norms.model(name)
        if norm is not None:
            norm.observe(us)


def trace_error(row: LiveRow, event: Any, event_ms: int) -> None:
    """Note an error outside of calls that report their own."""
    if event.session_id is None:
        return
    trail = row.trail
    if trail is None:
        trail = row.trail = LiveTrail()
    name: str = event.component or event.error_type
    number = error_number(name, event.code or event.error_type, event.message)
    trail.error(name, number, 0, event_ms, row.input_tokens + row.output_tokens, row.cost_nano_usd)
