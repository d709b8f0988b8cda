"""What checks a call before a block or a function runs: `with`, `async with`, or a decorator of functions of any kind.

Never runs anything of a call that is denied, and never changes what a call that is not does.
"""

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Generator
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Guarding:
    """One target of one caller; may be used any number of times, and asks each time."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def __enter__(self) -> Self:
        self._check()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return None

    async def __aenter__(self) -> Self:
        self._check()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        return None

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return the function with a check before each call; of a generator, before its first item."""
        return cast("Callable[_P, _R]", functools.wraps(function)(self._checked(function)))

    def _checked(self, function: Callable[..., Any]) -> Callable[..., Any]:
        check = self._check
        if inspect.iscoroutinefunction(function):

            async def awaited(*args: Any, **kwargs: Any) -> Any:
                check()
                return await function(*args, **kwargs)

            return awaited
        if inspect.isasyncgenfunction(function):

            async def streamed(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
                check()
                async for item in function(*args, **kwargs):
                    yield item

            return streamed
        if inspect.isgeneratorfunction(function):

            def yielded(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
                check()
                return (yield from function(*args, **kwargs))

            return yielded

        def called(*args: Any, **kwargs: Any) -> Any:
            check()
            return function(*args, **kwargs)

        return called
