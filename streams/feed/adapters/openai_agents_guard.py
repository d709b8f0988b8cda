"""How runs of the OpenAI Agents SDK learn that a call is stopped: tools by a guardrail, models by a hook.

    guard = RunGuard(emitter)
    agent = Agent(name="planner", tools=guard.tools([search, weather]))
    await Runner.run(agent, "...", hooks=guard)

Never lets a tool or a model that is stopped be called: the model reads why a tool was not, the caller why a model was
not.
"""

from collections.abc import Iterable
from typing import Any, Final

from agents import Agent, FunctionTool, RunHooks, Tool, ToolGuardrailFunctionOutput, ToolInputGuardrail
from agents.models import get_default_model
from agents.tool_guardrails import ToolInputGuardrailData
from agents.tracing import get_current_span, get_current_trace

from streams.feed.adapters.calls import Calls
from streams.feed.adapters.guarded import Asks
from streams.feed.adapters.openai_agents import DENIED
from streams.feed.adapters.runs import RUNS_MAX
from streams.feed.guard.denial import CallDenied, Denial
from streams.feed.timers import Emits

GUARDRAIL: Final = "agent_streams_guard"


class RunGuard(RunHooks[Any]):
    """Holds tools and models against a guard: the argument, else the emitter's.

    Sessions are found as `AgentStreamsProcessor` finds them.  Tools that are not wrapped by `tools` are held against it
    too, but a denial then ends the run: with the SDK's UserError, whose cause is CallDenied.
    """

    def __init__(
        self,
        emitter: Emits,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        tenant: str | None = None,
        guard: Asks | None = None,
    ) -> None:
        self._calls = Calls(emitter, session_id=session_id, user_id=user_id, tenant=tenant, guard=guard)
        self.guardrail: ToolInputGuardrail[Any] = ToolInputGuardrail(self._guard_tool, name=GUARDRAIL)

    def tools(self, tools: Iterable[Tool]) -> list[Tool]:
        """Return the tools, each function tool with our guardrail in front of its own."""
        found = list(tools)
        for tool in found:
            if isinstance(tool, FunctionTool) and not _guarded(tool):
                tool.tool_input_guardrails = [self.guardrail, *(tool.tool_input_guardrails or ())]
        return found

    async def on_llm_start(self, context: Any, agent: Agent[Any], system_prompt: Any, input_items: Any) -> None:  # noqa: ARG002  as the base class names them
        """Raise CallDenied for a model that is stopped."""
        model = agent.model
        name = model if isinstance(model, str) else getattr(model, "model", None) or get_default_model()
        denial = self._denial(f"model:{name}", agent)
        if denial is not None:
            raise CallDenied(denial)

    async def on_tool_start(self, context: Any, agent: Any, tool: Tool) -> None:  # noqa: ARG002  as above
        """Raise CallDenied for a tool that is stopped and has no guardrail of ours."""
        if isinstance(tool, FunctionTool) and _guarded(tool):
            return
        denial = self._denial(f"tool:{tool.name}", agent)
        if denial is not None:
            raise CallDenied(denial)

    def _guard_tool(self, data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        denial = self._denial(f"tool:{data.context.tool_name}", data.agent)
        if denial is None:
            return ToolGuardrailFunctionOutput.allow()
        if (span := get_current_span()) is not None:
            DENIED[span.span_id] = None
            if len(DENIED) > RUNS_MAX:
                del DENIED[next(iter(DENIED))]
        return ToolGuardrailFunctionOutput.reject_content(str(denial))

    def _denial(self, target: str, agent: Any) -> Denial | None:
        trace = get_current_trace()
        about = dict(getattr(trace, "metadata", None) or {})
        if group := getattr(trace, "group_id", None):
            about["session_id"] = group
        name, otherwise = getattr(agent, "name", None), getattr(trace, "trace_id", None)
        return self._calls.denial(target, None, about, agent=name, otherwise=otherwise)


def _guarded(tool: FunctionTool) -> bool:
    return any(each.get_name() == GUARDRAIL for each in tool.tool_input_guardrails or ())
