"""The plugin by which Google's ADK tells of its runs.

    App(name="weather", root_agent=agent, plugins=[AgentStreamsPlugin(emitter)])

Never decides anything: `google_adk_calls` does.
"""

from typing import Any, Final

from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.genai.types import Content, Part

from streams.feed.adapters.google_adk_calls import AdkCalls
from streams.feed.adapters.guarded import Asks
from streams.feed.timers import Emits

NAME: Final = "agent_streams"
DENIED: Final = "CALL_DENIED"


class AgentStreamsPlugin(BasePlugin):  # type: ignore[misc]  # its package is not where the types are read
    """Reports every run of a runner to an emitter; two of them on one emitter report once.

    An agent's work is a request; one it hands over to, or calls as a tool, is a request inside it.  The session is
    ADK's, and the user is unless ADK names none.  With a guard (the argument, else the emitter's) a tool that is
    stopped is not called and the model reads why; a model that is stopped is not called and its agent answers why,
    with the error code CALL_DENIED.
    """

    def __init__(
        self,
        emitter: Emits,
        *,
        user_id: str | None = None,
        tenant: str | None = None,
        guard: Asks | None = None,
        name: str = NAME,
    ) -> None:
        super().__init__(name=name)
        self._calls = AdkCalls(emitter, user_id=user_id, tenant=tenant, guard=guard)

    async def before_agent_callback(self, *, agent: Any, callback_context: Any) -> None:  # noqa: ARG002  as the base class names them
        """Begin a request."""
        self._calls.begin_agent(callback_context)

    async def after_agent_callback(self, *, agent: Any, callback_context: Any) -> None:  # noqa: ARG002  as above
        """End a request."""
        self._calls.end_agent(callback_context)

    async def on_agent_error_callback(self, *, agent: Any, callback_context: Any, error: Exception) -> None:  # noqa: ARG002  as above
        """End a request that raised."""
        self._calls.end_agent(callback_context, error)

    async def after_run_callback(self, *, invocation_context: Any) -> None:
        """End what a run has left open."""
        self._calls.end_run(invocation_context.invocation_id)

    async def on_run_error_callback(self, *, invocation_context: Any, error: Exception) -> None:
        """End what a run that raised has left open."""
        self._calls.end_run(invocation_context.invocation_id, error)

    async def before_model_callback(self, *, callback_context: Any, llm_request: Any) -> Any:
        """Begin a call to a model, or answer why it is not made."""
        why = self._calls.begin_model(callback_context, llm_request)
        if why is None:
            return None
        content = Content(role="model", parts=[Part(text=why)])
        return LlmResponse(content=content, error_code=DENIED, error_message=why)

    async def after_model_callback(self, *, callback_context: Any, llm_response: Any) -> None:
        """Note an answer or a part of one."""
        self._calls.hear_model(callback_context, llm_response)

    async def on_model_error_callback(self, *, callback_context: Any, llm_request: Any, error: Exception) -> None:  # noqa: ARG002  as above
        """End a call to a model that raised."""
        self._calls.fail_model(callback_context, error)

    async def before_tool_callback(
        self, *, tool: Any, tool_args: dict[str, Any], tool_context: Any
    ) -> dict[str, Any] | None:
        """Begin a tool call, or answer why it is not made."""
        why = self._calls.begin_tool(tool, tool_args, tool_context)
        return None if why is None else {"error": why}

    async def after_tool_callback(
        self,
        *,
        tool: Any,
        tool_args: dict[str, Any],  # noqa: ARG002  as above
        tool_context: Any,
        result: Any,
    ) -> None:
        """End a tool call."""
        self._calls.end_tool(tool, tool_context, result)

    async def on_tool_error_callback(
        self,
        *,
        tool: Any,
        tool_args: dict[str, Any],  # noqa: ARG002  as above
        tool_context: Any,
        error: BaseException,
    ) -> None:
        """End a tool call that raised or was cancelled."""
        self._calls.end_tool(tool, tool_context, error=error)
