"""What each kind of event adds: to its session's row, to the minute it falls in, and to the cells of the batch.

Never decides whether an event counts: late, duplicate and rejected are settled before; what arrives counts once.
A late event has no minute (`pane` None) and its cell has the pane −1.

This is the path of every event, so functions are flat and repeat a few lines instead of calling helpers.
"""

from collections.abc import Sequence
from typing import Any, Final

from streams.event import model
from streams.event.custom import Observation
from streams.fold import ledger
from streams.fold.cells import Cells, ExtrasCell, LedgerCell, UsageCell
from streams.fold.extras import model_ended, request_ended, request_spent, tool_ended
from streams.fold.kinds import CONTRIBUTE, a2a_call
from streams.fold.live import LiveCall, LivePane, LiveRow
from streams.fold.measure import (
    ERROR,
    FIRST_TOKEN,
    HEARTBEAT,
    LEDGER,
    MATCHED,
    MODEL_ABANDONED,
    MODEL_CLOSED,
    MODEL_ENDED,
    MODEL_STARTED,
    OTHER_EVENT,
    RELABELLED,
    REQUEST_ABANDONED,
    REQUEST_CLOSED,
    REQUEST_ENDED,
    REQUEST_STARTED,
    SESSION_ENDED,
    TOOL_ABANDONED,
    TOOL_CLOSED,
    TOOL_ENDED,
    TOOL_EXTRAS,
    TOOL_STARTED,
    UNMATCHED,
    USAGE,
    USAGE_AGGREGATE,
)
from streams.fold.session import A2A, ENDED, MODEL, OPEN_MAX, REQUEST, TOOL
from streams.fold.trace import trace_error, trace_model, trace_tool
from streams.fold.trail import LiveTrail

ABANDONED: Final = {REQUEST: REQUEST_ABANDONED, MODEL: MODEL_ABANDONED, TOOL: TOOL_ABANDONED}
CLOSED: Final = {REQUEST: REQUEST_CLOSED, MODEL: MODEL_CLOSED, TOOL: TOOL_CLOSED}


def _by_match(codes: dict[tuple[str, int], int]) -> list[dict[str, int]]:
    """Return codes by how the end found its start, then by status."""
    return [
        {status: code for (status, match), code in codes.items() if match == wanted}
        for wanted in (UNMATCHED, MATCHED, RELABELLED)
    ]


_REQUEST_ENDED: Final = _by_match(REQUEST_ENDED)
_MODEL_ENDED: Final = _by_match(MODEL_ENDED)
_TOOL_ENDED: Final = _by_match(TOOL_ENDED)
_CALL_FAILED: Final = frozenset({"error", "timeout"})
_TOOL_FINE: Final = frozenset({"success", "cancelled"})

# Kinds in the order of how often they come.
_TOOL_END: Final = 1
_TOOL_START: Final = 2
_MODEL_END: Final = 3
_MODEL_START: Final = 4
_TOKEN_USAGE: Final = 5
_AGENT_END: Final = 6
_AGENT_START: Final = 7
_ERROR: Final = 8
_HEARTBEAT: Final = 9
_SESSION_END: Final = 10
_RARE: Final = 11
_CYCLE: Final = 12
_A2A_START: Final = 13
_A2A_END: Final = 14
_OTHER: Final = 0
_KINDS: Final[dict[type, int]] = dict.fromkeys(model.KINDS.values(), _OTHER) | {
    **dict.fromkeys(CONTRIBUTE, _RARE),
    Observation: _RARE,
    model.Cycle: _CYCLE,
    model.A2AStart: _A2A_START,
    model.A2AEnd: _A2A_END,
    model.ToolEnd: _TOOL_END,
    model.ToolStart: _TOOL_START,
    model.ModelEnd: _MODEL_END,
    model.ModelStart: _MODEL_START,
    model.TokenUsage: _TOKEN_USAGE,
    model.AgentEnd: _AGENT_END,
    model.AgentStart: _AGENT_START,
    model.Error: _ERROR,
    model.Heartbeat: _HEARTBEAT,
    model.SessionEnd: _SESSION_END,
}


def apply(row: LiveRow, pane: LivePane | None, event: Any, cells: Cells, pane_ms: int, event_ms: int) -> None:
    """Fold one event; `pane` is its minute in the row and `pane_ms` its pane in the cells (None and −1: late)."""
    kind = _KINDS[type(event)]
    if kind == _TOOL_END:
        _tool_end(row, pane, event, cells, pane_ms, event_ms)
    elif kind == _TOOL_START:
        _tool_start(row, event, cells, pane_ms, event_ms)
    elif kind == _MODEL_END:
        _model_end(row, pane, event, cells, pane_ms, event_ms)
    elif kind == _MODEL_START:
        _model_start(row, event, cells, pane_ms, event_ms)
    elif kind == _TOKEN_USAGE:
        _token_usage(row, pane, event, cells, pane_ms, event_ms)
    elif kind == _AGENT_END:
        _agent_end(row, pane, event, cells, pane_ms)
    elif kind == _AGENT_START:
        _agent_start(row, event, cells, pane_ms, event_ms)
    elif kind == _ERROR:
        _error(row, pane, event, cells, pane_ms, event_ms)
    elif kind == _HEARTBEAT:
        row.heartbeats += 1
        cells.of(HEARTBEAT, pane_ms, event.agent, event.tenant, None, None).one()
        if event.call_id in row.open and event_ms > row.beats.get(event.call_id, 0):
            row.beats[event.call_id] = event_ms
    elif kind == _SESSION_END:
        _session_end(row, event, cells, pane_ms, event_ms)
    else:
        cells.of(OTHER_EVENT, pane_ms, event.agent, event.tenant, None, None).one()
        if kind != _OTHER:
            _rare(row, kind, event, cells, pane_ms, event_ms)


def _rare(row: LiveRow, kind: int, event: Any, cells: Cells, pane_ms: int, event_ms: int) -> None:
    """Add what is told apart by its kind and not by its agent alone (see `kinds`)."""
    cells.contribute(pane_ms, CONTRIBUTE[type(event)](event))
    cells.gauges.observe(event, event_ms)
    if kind == _CYCLE:
        row.cycles += 1
    elif kind == _A2A_START:
        call = LiveCall(A2A, event.agent, event.tenant, event.target, event.operation, event_ms)
        _open(row, event.call_id, call, cells, pane_ms)
    elif kind == _A2A_END:
        _close_a2a(row, event, cells, pane_ms)


def _close_a2a(row: LiveRow, event: Any, cells: Cells, pane_ms: int) -> None:
    """End a call to another agent, with the agent that its start named."""
    call_id: str | None = event.call_id
    call = None if call_id is None else row.open.get(call_id)
    if call_id is None or call is None or call.family != A2A:
        row.unmatched += 1
        cells.contribute(pane_ms, (a2a_call(event.target, "a2a_unmatched"),))
    else:
        del row.open[call_id]
        row.beats.pop(call_id, None)
        cells.contribute(pane_ms, (a2a_call(call.name or "", "a2a_ended"),))


def _open(row: LiveRow, call_id: str | None, call: LiveCall, cells: Cells, pane_ms: int) -> None:
    """Note a start; a start without a call id, or with one in use, can never be matched and is given up at once."""
    calls = row.open
    if call_id is None or call_id in calls:
        row.abandoned += 1
        _give_up(call, cells, pane_ms)
        return
    if len(calls) >= OPEN_MAX:
        abandon(row, next(iter(calls)), cells, pane_ms)
    calls[call_id] = call
    trail = row.trail
    if trail is not None and trail.strays and trail.strayed(call_id):
        row.beats[call_id] = ENDED


def abandon(row: LiveRow, call_id: str, cells: Cells, pane_ms: int) -> None:
    """Give up on a call in flight: it counts as neither success nor error."""
    row.abandoned += 1
    call = row.open.pop(call_id)
    row.beats.pop(call_id, None)
    if call.family == REQUEST:
        row.begun.pop(call_id, None)
    _give_up(call, cells, pane_ms)


def _give_up(call: LiveCall, cells: Cells, pane_ms: int) -> None:
    if call.family == A2A:
        cells.contribute(pane_ms, (a2a_call(call.name or "", "a2a_abandoned"),))
    else:
        _count(call, ABANDONED[call.family], cells, pane_ms)


def _count(call: LiveCall, code: int, cells: Cells, pane_ms: int) -> None:
    cells.of(code, pane_ms, call.agent, call.tenant, call.name, call.provider).one()


def _close(
    row: LiveRow,
    call_id: str | None,
    family: int,
    agent: str,
    tenant: str | None,
    name: str | None,
    provider: str | None,
    cells: Cells,
    pane_ms: int,
) -> int:
    """Take a call out of what is in flight, and tell how its end found its start.

    A call that began under other labels ends where it began; one of another family is not what ended.
    """
    if call_id is None:
        row.unmatched += 1
        return UNMATCHED
    call = row.open.get(call_id)
    if call is None or call.family != family:
        row.unmatched += 1
        if row.trail is None:
            row.trail = LiveTrail()
        row.trail.stray(call_id)
        return UNMATCHED
    del row.open[call_id]
    if row.beats:
        row.beats.pop(call_id, None)
    if call.agent == agent and call.tenant == tenant and call.name == name and call.provider == provider:
        return MATCHED
    _count(call, CLOSED[family], cells, pane_ms)
    return RELABELLED


def _settle(row: LiveRow, settled: Sequence[ledger.Settled | None], cells: Cells, pane_ms: int) -> None:
    """Count what became of the accounts of calls."""
    for each in settled:
        if each is not None:
            agent, tenant, *amounts = each
            if not agent:  # no aggregate has named one
                agent, tenant = row.agent, row.tenant
            cell = cells.of(LEDGER, pane_ms, agent, tenant, None, None)
            assert isinstance(cell, LedgerCell)
            cell.settle(*amounts)


def _settle_call(row: LiveRow, event: Any, cells: Cells, pane_ms: int) -> None:
    """A call with an account is over: note it, and settle those that have been over for long."""
    gone = ledger.end_call(row.ledger, event.call_id, event.parent_id, row.last_ms)
    _settle(row, (gone, *ledger.due(row.ledger, row.last_ms)), cells, pane_ms)


def _aggregate(row: LiveRow, event: Any, cells: Cells, pane_ms: int) -> None:
    """Hold a sum of others' tokens against what they reported themselves."""
    agent: str = event.agent
    tenant: str | None = event.tenant
    call_id: str | None = event.call_id
    cells.of(USAGE_AGGREGATE, pane_ms, agent, tenant, event.model, event.provider).one()
    if call_id is None:
        _settle(row, (ledger.Settled(agent, tenant, aggregates=1, leafless=1),), cells, pane_ms)
        return
    tokens: int = event.input_tokens + event.output_tokens
    settled = ledger.add_aggregate(row.ledger, call_id, event.parent_id, tokens, row.last_ms, agent, tenant)
    _settle(row, (*settled, *ledger.due(row.ledger, row.last_ms)), cells, pane_ms)


def end(row: LiveRow, end_ms: int, reason: str, cells: Cells, pane_ms: int) -> None:
    """End a row: what is in flight is abandoned, and only totals and marks stay."""
    for call_id in list(row.open):
        abandon(row, call_id, cells, pane_ms)
    if row.ledger:
        _settle(row, ledger.close(row.ledger), cells, pane_ms)
    row.ended_ms = max(end_ms, 1)
    row.end_reason = reason
    row.panes = []
    row.trail = None


def count_session(row: LiveRow, code: int, cells: Cells, pane_ms: int) -> None:
    """Count the beginning or the end of a session."""
    cells.of(code, pane_ms, row.agent, row.tenant, None, None).one()


def _agent_start(row: LiveRow, event: Any, cells: Cells, pane_ms: int, event_ms: int) -> None:
    agent: str = event.agent
    tenant: str | None = event.tenant
    cells.of(REQUEST_STARTED, pane_ms, agent, tenant, None, None).one()
    call_id: str | None = event.call_id
    fresh = call_id is not None and call_id not in row.open
    _open(row, call_id, LiveCall(REQUEST, agent, tenant, None, None, event_ms), cells, pane_ms)
    if call_id is not None and fresh:
        row.begun[call_id] = (row.input_tokens + row.output_tokens, row.cost_nano_usd, row.cycles)


def _agent_end(row: LiveRow, pane: LivePane | None, event: Any, cells: Cells, pane_ms: int) -> None:
    agent: str = event.agent
    tenant: str | None = event.tenant
    status: str = event.status
    us = int(event.duration_ms * 1000 + 0.5)
    call_id: str | None = event.call_id
    match = _close(row, call_id, REQUEST, agent, tenant, None, None, cells, pane_ms)
    if call_id is not None and match != UNMATCHED:
        begun = row.begun.pop(call_id, None)
        if begun is not None:
            tokens = row.input_tokens + row.output_tokens - begun[0]
            request_spent(event, tokens, row.cost_nano_usd - begun[1], row.cycles - begun[2], cells, pane_ms)
    failed = status in _CALL_FAILED
    row.requests += 1
    row.request_us += us
    if failed:
        row.request_errors += 1
    if pane is not None:
        pane.requests += 1
        if failed:
            pane.request_errors += 1
    cells.of(_REQUEST_ENDED[match][status], pane_ms, agent, tenant, None, None).observe(us)
    user_id: str | None = event.user_id
    if user_id is not None:
        cells.user(pane_ms, user_id).requests += 1
    if cells.outcomes is not None:
        cells.outcomes.request(agent, event.endpoint, status, us, pane_ms)
    if event.call_id in row.ledger:
        _settle_call(row, event, cells, pane_ms)
    if event.streaming or event.response_bytes or event.endpoint is not None or event.completed is not None:
        request_ended(event, cells, pane_ms)


def _model_start(row: LiveRow, event: Any, cells: Cells, pane_ms: int, event_ms: int) -> None:
    agent: str = event.agent
    tenant: str | None = event.tenant
    name: str = event.model
    provider: str | None = event.provider
    cells.of(MODEL_STARTED, pane_ms, agent, tenant, name, provider).one()
    if event.temperature is not None:
        cells.gauges.observe(event, event_ms)
    _open(row, event.call_id, LiveCall(MODEL, agent, tenant, name, provider, event_ms), cells, pane_ms)


def _model_end(row: LiveRow, pane: LivePane | None, event: Any, cells: Cells, pane_ms: int, event_ms: int) -> None:
    agent: str = event.agent
    tenant: str | None = event.tenant
    name: str = event.model
    provider: str | None = event.provider
    status: str = event.status
    us = int(event.duration_ms * 1000 + 0.5)
    match = _close(row, event.call_id, MODEL, agent, tenant, name, provider, cells, pane_ms)
    failed = status in _CALL_FAILED
    row.model_calls += 1
    row.model_us += us
    if failed:
        row.model_errors += 1
    if pane is not None:
        pane.model_calls += 1
        if failed:
            pane.model_errors += 1
        trace_model(row, event, name, failed, us, cells.norms, event_ms)
    cells.of(_MODEL_ENDED[match][status], pane_ms, agent, tenant, name, provider).observe(us)
    user_id: str | None = event.user_id
    if user_id is not None:
        cells.user(pane_ms, user_id).model_calls += 1
    if cells.outcomes is not None:
        cells.outcomes.model(name, provider, status, event.error_code, us, pane_ms)
    first_token_ms = event.first_token_ms
    if first_token_ms is not None:
        first_us = int(first_token_ms * 1000 + 0.5)
        cells.of(FIRST_TOKEN, pane_ms, agent, tenant, name, provider).observe(first_us)
    if (
        failed
        or event.finish_reason is not None
        or event.streaming
        or event.temperature is not None
        or event.error_code is not None
    ):
        model_ended(event, failed, cells, pane_ms)
    if event.temperature is not None:
        cells.gauges.observe(event, event_ms)


def _token_usage(row: LiveRow, pane: LivePane | None, event: Any, cells: Cells, pane_ms: int, event_ms: int) -> None:
    agent: str = event.agent
    tenant: str | None = event.tenant
    name: str = event.model
    provider: str | None = event.provider
    if event.scope == "aggregate":  # repeats what the leaves said: counted as an event, never added up
        _aggregate(row, event, cells, pane_ms)
        return
    input_tokens: int = event.input_tokens
    output_tokens: int = event.output_tokens
    cache_read: int = event.cache_read_tokens
    cache_write: int = event.cache_write_tokens
    reasoning: int = event.reasoning_tokens
    told: int | None = event.cost_nano_usd
    computed = unpriced = 0
    if told is None and cells.pricer is not None:
        told = cells.pricer.price(
            provider, name, event_ms, input_tokens, output_tokens, cache_read, cache_write, reasoning
        )
        computed = 0 if told is None else told
    cost: int = 0 if told is None else told
    if told is None:
        unpriced = 1
    owner_id: str | None = event.parent_id
    if owner_id is None and event.call_id is not None:
        call = row.open.get(event.call_id)
        if call is not None and call.family != MODEL:
            owner_id = event.call_id
    if owner_id is not None:
        gone = ledger.add_leaf(row.ledger, owner_id, input_tokens + output_tokens)
        if gone is not None:
            _settle(row, (gone,), cells, pane_ms)
    row.input_tokens += input_tokens
    row.output_tokens += output_tokens
    row.cache_read_tokens += cache_read
    row.cache_write_tokens += cache_write
    row.reasoning_tokens += reasoning
    row.cost_nano_usd += cost
    row.unpriced += unpriced
    if pane is not None:
        pane.input_tokens += input_tokens
        pane.output_tokens += output_tokens
        pane.cost_nano_usd += cost
    cell = cells.of(USAGE, pane_ms, agent, tenant, name, provider)
    assert isinstance(cell, UsageCell)
    inconsistent = 1 if cache_read + cache_write > input_tokens or reasoning > output_tokens else 0
    cell.use(input_tokens, output_tokens, cache_read, cache_write, reasoning, cost, unpriced, computed, inconsistent)
    user_id: str | None = event.user_id
    if user_id is not None:
        cells.user(pane_ms, user_id).use(input_tokens, output_tokens, cost, unpriced)


def _tool_start(row: LiveRow, event: Any, cells: Cells, pane_ms: int, event_ms: int) -> None:
    agent: str = event.agent
    tenant: str | None = event.tenant
    name: str = event.tool
    cells.of(TOOL_STARTED, pane_ms, agent, tenant, name, None).one()
    if event.queue_depth is not None:
        cells.gauges.observe(event, event_ms)
    _open(row, event.call_id, LiveCall(TOOL, agent, tenant, name, None, event_ms), cells, pane_ms)


def _tool_end(row: LiveRow, pane: LivePane | None, event: Any, cells: Cells, pane_ms: int, event_ms: int) -> None:
    agent: str = event.agent
    tenant: str | None = event.tenant
    name: str = event.tool
    status: str = event.status
    us = int(event.duration_ms * 1000 + 0.5)
    match = _close(row, event.call_id, TOOL, agent, tenant, name, None, cells, pane_ms)
    failed = status not in _TOOL_FINE
    tool = row.tools.get(name)
    if tool is None:
        tool = row.tool(name)
    tool.calls += 1
    tool.duration_us += us
    row.tool_calls += 1
    row.tool_us += us
    if failed:
        tool.errors += 1
        row.tool_errors += 1
    if pane is not None:
        pane.tool_calls += 1
        if failed:
            pane.tool_errors += 1
        trace_tool(row, event, name, failed, us, cells.norms, event_ms)
    cells.of(_TOOL_ENDED[match][status], pane_ms, agent, tenant, name, None).observe(us)
    user_id: str | None = event.user_id
    if user_id is not None:
        cells.user(pane_ms, user_id).tool_calls += 1
    if cells.outcomes is not None:
        cells.outcomes.tool(agent, name, status, us, pane_ms)
    attempt: int = event.attempt
    input_bytes: int = event.input_bytes
    output_bytes: int = event.output_bytes
    if attempt > 1 or input_bytes or output_bytes:
        cell = cells.of(TOOL_EXTRAS, pane_ms, agent, tenant, name, None)
        assert isinstance(cell, ExtrasCell)
        cell.add(1 if attempt > 1 else 0, input_bytes, output_bytes)
    if event.call_id in row.ledger:
        _settle_call(row, event, cells, pane_ms)
    if event.parallel_group is not None:
        tool_ended(event, cells, pane_ms)
    if event.queue_depth is not None:
        cells.gauges.observe(event, event_ms)


def _error(row: LiveRow, pane: LivePane | None, event: Any, cells: Cells, pane_ms: int, event_ms: int) -> None:
    row.errors += 1
    if pane is not None:
        pane.errors += 1
        trace_error(row, event, event_ms)
    cells.of(ERROR[event.error_type], pane_ms, event.agent, event.tenant, None, None).one()
    cells.contribute(pane_ms, CONTRIBUTE[model.Error](event))


def _session_end(row: LiveRow, event: Any, cells: Cells, pane_ms: int, event_ms: int) -> None:
    cells.of(OTHER_EVENT, pane_ms, event.agent, event.tenant, None, None).one()
    cells.contribute(pane_ms, CONTRIBUTE[model.SessionEnd](event))
    if event.session_id is not None:
        reason: str | None = event.reason
        end(row, event_ms, reason or "session_end", cells, pane_ms)
        count_session(row, SESSION_ENDED, cells, pane_ms)
