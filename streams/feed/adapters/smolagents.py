"""How agents of smolagents are watched: their runs, models and tools, each where the agent itself calls it.

    agent = watch(ToolCallingAgent(model=model, tools=[weather]), emitter)

Never raises into the agent (but for what a guard has stopped), never waits, and never reports texts. Its step callbacks
come when a step is over and know neither beginnings nor single tools, so the calls themselves are told of.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from streams.feed.adapters.calls import within
from streams.feed.adapters.guarded import Asks
from streams.feed.adapters.smolagents_calls import SmolCalls
from streams.feed.guard.denial import CallDenied
from streams.feed.identity import new_id
from streams.feed.timers import Emits

CODE: Final = "python_interpreter"  # what smolagents itself calls the running of code that a model wrote
_ANSWER: Final = "final_answer"  # the tool by which a model gives its answer: the end of the request, not a call
_WATCHED: Final = "agent_streams_emitter"  # how what is watched is known again
_WATCHED_MAX: Final = 1_000  # layers that are looked through for ours: nobody wraps a method so often
_PROVIDERS: Final = {
    "OpenAIModel": "openai",
    "AzureOpenAIModel": "azure",
    "AmazonBedrockModel": "aws",
    "InferenceClientModel": "huggingface",
}
_PARAMETERS: Final = ("task", "stream", "reset")  # of a run, in this order
_OVER: Final = object()
_Agent = TypeVar("_Agent")


def watch(
    agent: _Agent,
    emitter: Emits,
    *,
    name: str | None = None,
    session_id: str | None = None,
    user_id: str | None = None,
    tenant: str | None = None,
    guard: Asks | None = None,
) -> _Agent:
    """Report what an agent and those it manages do, and return it; watched twice it reports once.

    The session is the argument, else the agent's conversation: a run begins a new one unless it says `reset=False`.
    With a guard (the argument, else the emitter's) a tool that is stopped answers why, and a model that is stopped ends
    the run with AgentGenerationError, whose cause is CallDenied.
    """
    calls = SmolCalls(emitter, agent=name, session_id=session_id, user_id=user_id, tenant=tenant, guard=guard)
    _watch(agent, calls, emitter)
    return agent


def _watch(agent: Any, calls: SmolCalls, emitter: Emits) -> None:
    if not _is_watched(agent.run, emitter):
        _Watch(agent, calls, emitter)
    for managed in agent.managed_agents.values():
        if not _is_watched(managed.run, emitter):
            _watch(managed, calls, emitter)


def _is_watched(method: Any, emitter: Emits) -> bool:
    for _ in range(_WATCHED_MAX):
        if method is None or getattr(method, _WATCHED, None) is emitter:
            break
        method = getattr(method, "__wrapped__", None)
    return method is not None


class _Watch:
    """Stands where one agent runs, asks its model and calls its tools."""

    def __init__(self, agent: Any, calls: SmolCalls, emitter: Emits) -> None:
        self._agent, self._calls, self._emitter = agent, calls, emitter
        self._conversation = new_id()
        self._asked: str | None = None  # how the tools of the last answer are known
        self._put(agent, "run", self._run)
        model = agent.model
        self._put(model, "generate", functools.partial(_generate, calls, model))
        if hasattr(model, "generate_stream"):
            self._put(model, "generate_stream", functools.partial(_generate_stream, calls, model))
        if hasattr(agent, "execute_tool_call"):
            self._put(agent, "process_tool_calls", self._process)
            self._put(agent, "execute_tool_call", self._execute)
        if hasattr(agent, "python_executor"):
            agent.python_executor = Executor(agent.python_executor, calls)

    def _put(self, on: Any, name: str, ours: Callable[..., Any]) -> None:
        """Put ours in front of a method of theirs, unless it is there already."""
        made = getattr(on, name)
        if _is_watched(made, self._emitter):
            return

        @functools.wraps(made)
        def watched(*args: Any, **kwargs: Any) -> Any:
            return ours(made, *args, **kwargs)

        setattr(watched, _WATCHED, self._emitter)
        setattr(on, name, watched)

    # ---- runs --------------------------------------------------------------------------------------------------

    def _run(self, made: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        said = {**dict(zip(_PARAMETERS, args, strict=False)), **kwargs}
        if said.get("reset", True):
            self._conversation = new_id()
        if said.get("stream"):
            return self._steps(made(*args, **kwargs))
        run_id = self._begin()
        try:
            with within(run_id):
                result = made(*args, **kwargs)
        except BaseException as error:
            self._end(run_id, error)
            raise
        self._end(run_id, output=getattr(result, "output", result))
        return result

    def _steps(self, steps: Any) -> Iterator[Any]:
        """Hand a streamed run on, from its first step to its end or to where it is given up."""
        run_id, output = self._begin(), None
        try:
            while True:
                with within(run_id):
                    step = next(steps, _OVER)
                if step is _OVER:
                    break
                output = getattr(step, "output", None)
                yield step
        except GeneratorExit as given_up:
            try:
                with within(run_id):
                    steps.close()
            finally:
                self._end(run_id, given_up)
            raise
        except BaseException as error:
            self._end(run_id, error)
            raise
        self._end(run_id, output=output)

    def _begin(self) -> str:
        run_id, agent = new_id(), self._agent
        name = getattr(agent, "name", None) or type(agent).__name__
        self._calls.begin_run(run_id, name, self._conversation)
        return run_id

    def _end(self, run_id: str, error: BaseException | None = None, *, output: Any = None) -> None:
        agent = self._agent
        # An interruption has no kind of its own: it is the agent's plain error while its switch is thrown.
        stopped = type(error).__name__ == "AgentError" and bool(getattr(agent, "interrupt_switch", False))
        steps = agent.memory.steps
        last = type(getattr(steps[-1], "error", None)).__name__ if steps else ""
        self._calls.end_run(run_id, error, output=output, stopped=stopped, unfinished=last == "AgentMaxStepsError")

    # ---- tools -------------------------------------------------------------------------------------------------

    def _process(self, made: Callable[..., Any], message: Any, *args: Any, **kwargs: Any) -> Any:
        names = [each.function.name for each in message.tool_calls or () if each.function.name != _ANSWER]
        self._asked = new_id()
        self._calls.ask_together(names, self._asked)
        return made(message, *args, **kwargs)

    def _execute(self, made: Callable[..., Any], tool_name: str, arguments: Any, *args: Any, **kwargs: Any) -> Any:
        if tool_name == _ANSWER:
            return made(tool_name, arguments, *args, **kwargs)
        run_id = new_id()
        denial = self._calls.begin_tool(run_id, tool_name, arguments, asked=self._asked)
        if denial is not None:
            return str(denial)
        return _told(self._calls, run_id, functools.partial(made, tool_name, arguments, *args, **kwargs))


class Executor:
    """What runs the code that a model wrote, and the tools that this code calls; for everything else it is theirs.

    Tools that run in a sandbox elsewhere are out of sight: of these the code alone is told.
    """

    def __init__(self, made: Any, calls: SmolCalls) -> None:
        self._made, self._calls = made, calls
        self._code: str | None = None  # the code that runs: smolagents runs it in a thread that knows of nothing around

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # of a copy that is being made there is nothing yet
            raise AttributeError(name)
        return getattr(self._made, name)

    def __call__(self, code: str, *args: Any, **kwargs: Any) -> Any:
        """Run code: a tool call, of the name smolagents gives it."""
        run_id = new_id()
        denial = self._calls.begin_tool(run_id, CODE, code)
        if denial is not None:
            raise CallDenied(denial)
        self._code = run_id
        try:
            return _told(self._calls, run_id, functools.partial(self._made, code, *args, **kwargs), _output)
        finally:
            self._code = None

    def send_tools(self, tools: dict[str, Any]) -> None:
        """Hand over tools, each of which tells of its calls."""
        if hasattr(self._made, "static_tools"):  # code runs in this process
            tools = {name: tool if name == _ANSWER else self._telling(name, tool) for name, tool in tools.items()}
        self._made.send_tools(tools)

    def _telling(self, name: str, tool: Any) -> Callable[..., Any]:
        parameters = list(getattr(tool, "inputs", None) or ())

        @functools.wraps(tool, updated=())
        def called(*args: Any, **kwargs: Any) -> Any:
            run_id = new_id()
            with within(self._code):
                denial = self._calls.begin_tool(run_id, name, {**dict(zip(parameters, args, strict=False)), **kwargs})
            if denial is not None:
                raise CallDenied(denial)
            return _told(self._calls, run_id, functools.partial(tool, *args, **kwargs))

        return called


def _told(
    calls: SmolCalls, run_id: str, call: Callable[[], Any], output: Callable[[Any], Any] = lambda result: result
) -> Any:
    try:
        with within(run_id):
            result = call()
    except BaseException as error:
        calls.end_tool(run_id, error)
        raise
    calls.end_tool(run_id, result=output(result))
    return result


def _output(ran: Any) -> Any:
    return getattr(ran, "output", ran)


# ---- models ----------------------------------------------------------------------------------------------------


def _generate(calls: SmolCalls, model: Any, made: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    run_id = _begin(calls, model, kwargs, streaming=False)
    try:
        with within(run_id):
            message = made(*args, **kwargs)
    except BaseException as error:
        calls.end_model(run_id, error)
        raise
    calls.end_model(run_id, usage=_quiet(_usage, message), reason=_quiet(_reason, getattr(message, "raw", None)))
    return message


def _generate_stream(
    calls: SmolCalls, model: Any, made: Callable[..., Any], *args: Any, **kwargs: Any
) -> Iterator[Any]:
    run_id = _begin(calls, model, kwargs, streaming=True)
    usage: dict[str, int] = {}
    try:
        for part in made(*args, **kwargs):
            calls.first_token(run_id)
            for name, count in (_quiet(_counts, part) or {}).items():
                usage[name] = usage.get(name, 0) + count
            yield part
    except BaseException as error:
        calls.end_model(run_id, error, usage=usage)
        raise
    calls.end_model(run_id, usage=usage)


def _begin(calls: SmolCalls, model: Any, kwargs: Mapping[str, Any], *, streaming: bool) -> str:
    run_id = new_id()
    name = str(getattr(model, "model_id", None) or type(model).__name__)
    provider = next((_PROVIDERS[kind.__name__] for kind in type(model).__mro__ if kind.__name__ in _PROVIDERS), None)
    always = getattr(model, "kwargs", None) or {}
    temperature = always.get("temperature", kwargs.get("temperature"))
    denial = calls.begin_model(run_id, name, provider=provider, streaming=streaming, temperature=temperature)
    if denial is not None:
        raise CallDenied(denial)
    return run_id


def _part(whole: Any, name: str) -> Any:
    return whole.get(name) if isinstance(whole, Mapping) else getattr(whole, name, None)


def _quiet(read: Callable[[Any], Any], what: Any) -> Any:
    """Read what is anybody's object; None when it is not as expected."""
    try:
        return read(what)
    except Exception:  # noqa: BLE001  an agent never fails because of its telemetry
        return None


def _usage(message: Any) -> Mapping[str, Any] | None:
    """Return the provider's usage, which knows of cached and reasoning tokens too, else what smolagents counts."""
    usage = _part(getattr(message, "raw", None), "usage")
    dump = getattr(usage, "model_dump", None)
    found = dump() if callable(dump) else usage
    return found if isinstance(found, Mapping) else _counts(message)


def _counts(message: Any) -> dict[str, int] | None:
    usage = getattr(message, "token_usage", None)
    return (
        None if usage is None else {"input_tokens": int(usage.input_tokens), "output_tokens": int(usage.output_tokens)}
    )


def _reason(raw: Any) -> Any:
    choices = _part(raw, "choices")
    if isinstance(choices, list | tuple) and choices:
        return _part(choices[0], "finish_reason")
    return _part(raw, "stopReason")
