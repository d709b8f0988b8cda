"""What an object holds, by the way to it: how many things are in its dicts, lists, deques and sets, deep down."""

from collections import Counter, deque
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

_PLAIN: Final = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, str, bytes, int, float, type(None))


def held(root: Any) -> Counter[str]:
    """Count what is held under each path of attributes; what is reached by two ways counts once."""
    found: Counter[str] = Counter()
    met = set[int]()
    waiting: list[tuple[str, Any]] = [(type(root).__name__, root)]
    while waiting:
        path, each = waiting.pop()
        if isinstance(each, _PLAIN) or id(each) in met:
            continue
        met.add(id(each))
        if isinstance(each, dict | list | tuple | set | frozenset | deque):
            found[path] += len(each)
            parts = [*each, *each.values()] if isinstance(each, dict) else each
            waiting += [(f"{path}[]", part) for part in parts]
        else:
            waiting += [(f"{path}.{name}", part) for name, part in _attributes(each)]
    return found


def _attributes(each: Any) -> Iterator[tuple[str, Any]]:
    names = {name for kind in type(each).__mro__ for name in getattr(kind, "__slots__", ())}
    names |= getattr(each, "__dict__", {}).keys() | set(getattr(each, "__struct_fields__", ()))
    for name in sorted(names):
        if hasattr(each, name):
            yield name, getattr(each, name)
