"""What do the optional fields of everyday events add?  Called only where one of them is set.

Never decides whether an event counts, and never touches a session's row.
"""

from typing import Final

from streams.event import model
from streams.fold import measure
from streams.fold.cells import Cells
from streams.fold.kinds import microseconds, millionths, one, task
from streams.fold.measure import REQUEST_COST, REQUEST_CYCLES, REQUEST_TOKENS

MAX_TOKENS: Final = frozenset({"max_tokens", "length", "max_output_tokens", "MAX_TOKENS"})  # as providers call it


def request_ended(event: model.AgentEnd, cells: Cells, pane_ms: int) -> None:
    """Add how a request was answered: streamed, how large, at which endpoint, and whether its task was completed."""
    leaf = (pane_ms, event.agent, event.tenant, None, None)
    if event.streaming:
        cells.of(measure.REQUEST_STREAMING, *leaf).one()
    if event.response_bytes:
        cells.of(measure.RESPONSE_BYTES, *leaf).observe(event.response_bytes)
    if event.endpoint is not None:
        sums = {f"requests_{event.status}": 1}
        spent = {"request_duration": microseconds(event.duration_ms)}
        cells.contribute(pane_ms, (one(measure.ENDPOINT, (event.endpoint,), sums, spent),))
    if event.completed is not None:
        cells.contribute(pane_ms, (one(measure.FEEDBACK, (event.agent,), task(event.completed)),))


def request_spent(
    event: model.AgentEnd, tokens: int, cost_nano_usd: int, cycles: int, cells: Cells, pane_ms: int
) -> None:
    """Add what a request took; what nobody reported is not observed as zero."""
    agent, tenant = event.agent, event.tenant
    if tokens > 0:
        cells.of(REQUEST_TOKENS, pane_ms, agent, tenant, None, None).observe(tokens)
    if cost_nano_usd > 0:
        cells.of(REQUEST_COST, pane_ms, agent, tenant, None, None).observe(cost_nano_usd)
    if cycles > 0:
        cells.of(REQUEST_CYCLES, pane_ms, agent, tenant, None, None).observe(cycles)


def model_ended(event: model.ModelEnd, failed: bool, cells: Cells, pane_ms: int) -> None:
    """Add how a model call went: streamed, why it finished, how it failed, and its temperature."""
    leaf = (pane_ms, event.agent, event.tenant, event.model, event.provider)
    if event.streaming:
        cells.of(measure.MODEL_STREAMING, *leaf).one()
    if event.temperature is not None:
        cells.of(measure.MODEL_TEMPERATURE, *leaf).observe(millionths(event.temperature))
    if event.finish_reason is not None:
        if event.finish_reason in MAX_TOKENS:
            cells.of(measure.MODEL_MAX_TOKENS, *leaf).one()
        labels = event.model, event.finish_reason
        cells.contribute(pane_ms, (one(measure.MODEL_FINISH, labels, {"model_finishes": 1}),))
    if failed or event.error_code is not None:
        labels = event.model, event.error_code or event.status
        cells.contribute(pane_ms, (one(measure.MODEL_ERROR, labels, {"model_errors": 1}),))


def tool_ended(event: model.ToolEnd, cells: Cells, pane_ms: int) -> None:
    """Add that a tool call ran beside others."""
    if event.parallel_group is not None:
        cells.of(measure.TOOL_PARALLEL, pane_ms, event.agent, event.tenant, event.tool, None).one()
