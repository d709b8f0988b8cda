"""What PydanticAI tells its capabilities, as events: runs, model requests with their tokens, tool calls.

    Agent(model, capabilities=[AgentStreamsCapability(emitter)])

Never raises into the agent, never waits, and never reports texts: sizes, hashes, names and the messages of errors.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import ModelResponse, ToolCallPart
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.run import AgentRunResult
from pydantic_ai.tools import ToolDefinition

from streams.feed.adapters.calls import Calls, harmless, usage_in, within
from streams.feed.adapters.guarded import Asks
from streams.feed.adapters.runs import Run
from streams.feed.guard.denial import CallDenied
from streams.feed.timers import Emits


class AgentStreamsCapability(AbstractCapability[Any]):
    """Reports every run of an agent to an emitter; given twice it reports once.

    With a guard (the argument, else the emitter's) the model reads why a tool was not called, and a model that is
    stopped raises CallDenied.

    The session is `session_id`, `conversation_id` or `thread_id` of the run's metadata, else the argument, else the
    conversation the run belongs to.  A run inside a tool is a request inside it.
    """

    def __init__(
        self,
        emitter: Emits,
        *,
        agent: str | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        tenant: str | None = None,
        guard: Asks | None = None,
    ) -> None:
        super().__init__()
        self._calls = Calls(emitter, agent=agent, session_id=session_id, user_id=user_id, tenant=tenant, guard=guard)

    # ---- runs --------------------------------------------------------------------------------------------------

    async def wrap_run(self, ctx: RunContext[Any], *, handler: Any) -> AgentRunResult[Any]:
        """Tell of a run from its beginning to its end."""
        self._begin_run(ctx)
        try:
            with within(ctx.run_id):
                result: AgentRunResult[Any] = await handler()
        except BaseException as error:
            self._end_run(ctx, error, None)
            raise
        self._end_run(ctx, None, result)
        return result

    @harmless
    def _begin_run(self, ctx: RunContext[Any]) -> None:
        about = ctx.metadata if isinstance(ctx.metadata, Mapping) else {}
        name = getattr(ctx.agent, "name", None)
        self._calls.begin_request(str(ctx.run_id), self._calls.around, name, about, otherwise=ctx.conversation_id)

    @harmless
    def _end_run(self, ctx: RunContext[Any], error: BaseException | None, result: Any) -> None:
        run_id = str(ctx.run_id)
        model = getattr(ctx.model, "model_name", None)
        self._calls.usage(run_id, usage_in("pydantic_ai", ctx.usage), scope="aggregate", model=model)
        self._calls.end_request(run_id, error, response=getattr(result, "output", None))

    def _run(self, ctx: RunContext[Any]) -> Run | None:
        return self._calls.get(str(ctx.run_id))

    # ---- models ------------------------------------------------------------------------------------------------

    async def wrap_model_request(
        self, ctx: RunContext[Any], *, request_context: ModelRequestContext, handler: Any
    ) -> ModelResponse:
        """Tell of a model request from its beginning to its end."""
        model = request_context.model
        denial = self._calls.denial(
            f"model:{model.model_name}", self._run(ctx), run_id=_request_id(ctx), provider=model.system
        )
        if denial is not None:
            raise CallDenied(denial)
        self._begin_model(ctx, request_context)
        try:
            response: ModelResponse = await handler(request_context)
        except BaseException as error:
            self._end_model(ctx, error, None)
            raise
        self._end_model(ctx, None, response)
        return response

    @harmless
    def _begin_model(self, ctx: RunContext[Any], request: ModelRequestContext) -> None:
        self._calls.begin_model(
            _request_id(ctx),
            self._calls.get(str(ctx.run_id)),
            model=request.model.model_name,
            provider=request.model.system,
            streaming=bool(getattr(request, "streaming", False)),
            temperature=(request.model_settings or {}).get("temperature"),
        )

    @harmless
    def _end_model(self, ctx: RunContext[Any], error: BaseException | None, response: ModelResponse | None) -> None:
        tokens = usage_in("pydantic_ai", getattr(response, "usage", None))
        reason = getattr(response, "finish_reason", None)
        asked = [part.tool_call_id for part in getattr(response, "parts", ()) if isinstance(part, ToolCallPart)]
        self._calls.note_asked(_request_id(ctx), asked)
        self._calls.end_model(_request_id(ctx), error, tokens=tokens, reason=reason)

    # ---- tools -------------------------------------------------------------------------------------------------

    async def wrap_tool_execute(
        self, ctx: RunContext[Any], *, call: ToolCallPart, tool_def: ToolDefinition, args: Any, handler: Any
    ) -> Any:
        """Tell of a tool call from its beginning to its end; of one that is denied the model is told why."""
        denial = self._calls.denial(f"tool:{tool_def.name}", self._run(ctx), run_id=_tool_id(ctx, call))
        if denial is not None:
            raise ToolFailed(str(denial))
        self._begin_tool(ctx, call, tool_def, args)
        try:
            with within(_tool_id(ctx, call)):
                result = await handler(args)
        except BaseException as error:
            self._end_tool(ctx, call, error, None)
            raise
        self._end_tool(ctx, call, None, result)
        return result

    async def on_tool_validate_error(
        self, ctx: RunContext[Any], *, call: ToolCallPart, tool_def: ToolDefinition, args: Any, error: Any
    ) -> NoReturn:
        """Tell of a tool call whose arguments did not fit: it never ran."""
        self._begin_tool(ctx, call, tool_def, args)
        self._end_invalid(ctx, call, error)
        raise error

    @harmless
    def _begin_tool(self, ctx: RunContext[Any], call: ToolCallPart, tool_def: ToolDefinition, args: Any) -> None:
        run = self._calls.get(str(ctx.run_id))
        self._calls.begin_tool(
            _tool_id(ctx, call), run, tool_def.name, args, attempt=ctx.retry + 1, asked=call.tool_call_id
        )

    @harmless
    def _end_tool(self, ctx: RunContext[Any], call: ToolCallPart, error: BaseException | None, result: Any) -> None:
        self._calls.end_tool(_tool_id(ctx, call), error, output=result)

    @harmless
    def _end_invalid(self, ctx: RunContext[Any], call: ToolCallPart, error: BaseException) -> None:
        self._calls.end_tool(_tool_id(ctx, call), error, status="validation_error")


def _request_id(ctx: RunContext[Any]) -> str:
    return f"{ctx.run_id}-model-{ctx.run_step}"


def _tool_id(ctx: RunContext[Any], call: ToolCallPart) -> str:
    return f"{ctx.run_id}-{ctx.run_step}-{call.tool_call_id}"
