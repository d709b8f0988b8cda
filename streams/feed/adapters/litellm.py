"""What LiteLLM, the library or its proxy, tells its callbacks, as events: model calls with tokens and cost.

    litellm.callbacks = [AgentStreamsLogger(emitter)]

Never raises into the call, never waits, and never reports texts: sizes, hashes, names and the messages of errors.
"""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from litellm import get_llm_provider
from litellm.integrations.custom_logger import CustomLogger

from streams.feed.adapters.calls import Calls, harmless, usage_in
from streams.feed.adapters.guarded import Asks
from streams.feed.guard.denial import CallDenied
from streams.feed.timers import Emits


class AgentStreamsLogger(CustomLogger):
    """Reports every model call to an emitter; registered twice it reports once.

    The session is `session_id`, `conversation_id` or `thread_id` of the call's metadata, else its
    `litellm_session_id`, else the argument.  LiteLLM says nothing of a stream that is given up, nor of every attempt
    of a call it retries: those have a beginning only.

    With a guard (the argument, else the emitter's) `acompletion`, the router and the proxy raise CallDenied for a model
    that is stopped.  Before a plain `completion` LiteLLM asks nobody who could stop it.
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

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> None:  # noqa: ARG002
        """Raise CallDenied for a model that is stopped; LiteLLM asks before every awaited call, and in its proxy."""
        # A model that was given by its place is known to the call's log alone.
        given = kwargs.get("model") or getattr(kwargs.get("litellm_logging_obj"), "model", None)
        model, provider = _model_of(given, kwargs.get("custom_llm_provider"))
        about = _about({**kwargs, "litellm_params": kwargs})
        denial = self._calls.denial(f"model:{model}", self._calls.around, about, provider=provider)
        if denial is not None:
            raise CallDenied(denial)

    # The framework hands over arguments by these names.

    @harmless
    def log_pre_api_call(self, model: str, messages: Any, kwargs: Any) -> None:  # noqa: ARG002
        """Begin a model call, or one more attempt of it."""
        self._begin(self._calls.attempt(str(kwargs["litellm_call_id"]))[0], kwargs)

    @harmless
    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """End a model call that went well."""
        self._end(kwargs, response_obj, start_time, end_time, None)

    @harmless
    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """End a model call that failed; what it had answered by then was paid for."""
        error = kwargs.get("exception")
        if isinstance(error, CallDenied):  # nothing was called
            return
        known = isinstance(error, BaseException)
        self._end(kwargs, response_obj, start_time, end_time, error if known else RuntimeError(str(error)))

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """End a model call that went well."""
        self.log_success_event(kwargs, response_obj, start_time, end_time)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """End a model call that failed."""
        self.log_failure_event(kwargs, response_obj, start_time, end_time)

    # ---- attempts ----------------------------------------------------------------------------------------------

    def _begin(self, run_id: str, kwargs: Mapping[str, Any]) -> None:
        self._calls.begin_model(
            run_id,
            self._calls.around,
            model=kwargs.get("model"),
            provider=kwargs.get("custom_llm_provider"),
            streaming=bool(kwargs.get("stream")),
            temperature=(kwargs.get("optional_params") or {}).get("temperature"),
            about=_about(kwargs),
        )

    def _end(
        self, kwargs: Mapping[str, Any], response: Any, began: datetime, ended: datetime, error: BaseException | None
    ) -> None:
        # The same end may be told to several callbacks, after which it would look like one more attempt.
        told = f"{kwargs['litellm_call_id']}@{ended.timestamp()}"
        if not self._calls.mark(told):
            return
        run_id, _ = self._calls.attempt(str(kwargs["litellm_call_id"]))
        self._begin(run_id, kwargs)  # providers of one's own are only told of when they end
        run = self._calls.get(run_id)
        if run is None:
            return
        # Told later, from a queue: the call took what LiteLLM measured.
        run.began_ns = time.monotonic_ns() - round((ended - began).total_seconds() * 1e9)
        first = kwargs.get("completion_start_time")
        if run.about["streaming"] and isinstance(first, datetime) and first >= began:
            run.ending["first_token_ms"] = round((first - began).total_seconds() * 1000, 3)
        choices = getattr(response, "choices", None) or [None]
        usage = getattr(response, "usage", None)
        cost = (kwargs.get("standard_logging_object") or {}).get("response_cost") or 0
        self._calls.end_model(
            run_id,
            error,
            tokens=usage_in("litellm", usage.model_dump() if usage is not None else None),
            reason=getattr(choices[0], "finish_reason", None),
            cost_nano_usd=round(cost * 1e9) or None,
        )


def _model_of(given: Any, provider: Any) -> tuple[Any, Any]:
    """Return model and provider as LiteLLM tells them once the call is made: that is what circuits know."""
    try:
        model, provider, _, _ = get_llm_provider(model=given, custom_llm_provider=provider)
    except Exception:  # noqa: BLE001  an unknown model: the call itself will say so
        return given, provider
    return model, provider


def _about(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a call says about its session and its user."""
    params = kwargs.get("litellm_params") or {}
    about = dict(params.get("metadata") or {})
    for key, value in (
        ("session_id", params.get("litellm_session_id") or kwargs.get("litellm_session_id")),
        ("user_id", kwargs.get("user")),
    ):
        if value:
            about.setdefault(key, value)
    return about
