"""Is a dashboard what Grafana's own published models say it is?  Read strictly, which they do not do themselves.

They drop what they do not know and check no type: here every key must survive the way through them, and every value
must be of the type they declare.
"""

import enum
import json
import types
import typing
from collections.abc import Iterator
from typing import Any, Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

UNITS: Final = frozenset(value for name, value in vars(units).items() if name.isupper() or name[:1].isupper())


def faults(given: dict[str, Any]) -> list[str]:
    """Say where a dashboard departs from the models; nothing when it does not."""
    register_default_plugins()
    read = Dashboard.from_json(given)
    written = json.loads(JSONEncoder().encode(read))
    return [*_changed(given, written, ""), *_of_object(read, "")]


def _changed(given: Any, written: Any, where: str) -> Iterator[str]:
    """Yield what did not survive being read and written."""
    if isinstance(given, dict) and isinstance(written, dict):
        for key, value in given.items():
            if key in written:
                yield from _changed(value, written[key], f"{where}.{key}")
            else:
                yield f"{where}.{key} is unknown"
    elif isinstance(given, list) and isinstance(written, list) and len(given) == len(written):
        for number, (before, after) in enumerate(zip(given, written, strict=True)):
            yield from _changed(before, after, f"{where}[{number}]")
    elif given != written:
        yield f"{where}: {given!r} was read as {written!r}"


def _of_object(value: Any, where: str) -> Iterator[str]:
    for name, hint in typing.get_type_hints(type(value)).items():
        if hasattr(value, name):
            yield from _mistyped(getattr(value, name), hint, f"{where}.{name}")


def _mistyped(value: Any, hint: Any, where: str) -> Iterator[str]:
    """Yield what is not of its declared type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        attempts = [list(_mistyped(value, each, where)) for each in inner]
        if all(attempts):  # of the attempts, the one that got furthest says most
            yield from max(attempts, key=lambda found: found[0].partition(":")[0].count("."))
    elif origin is typing.Literal:
        if value not in inner:
            yield f"{where}: {value!r} is none of {inner}"
    elif origin is list and isinstance(value, list):
        for number, each in enumerate(value):
            yield from _mistyped(each, inner[0], f"{where}[{number}]")
    elif origin is dict and isinstance(value, dict):
        for key, each in value.items():
            yield from _mistyped(each, inner[1], f"{where}.{key}")
    elif hasattr(type(value), "from_json") and (hint is object or isinstance(value, hint)):
        yield from _of_object(value, where)
    elif not _is_a(value, hint):
        yield f"{where}: {value!r} is no {getattr(hint, '__name__', hint)}"


def _is_a(value: Any, hint: Any) -> bool:
    if hint is object or hint is Any:
        return True
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return value in [each.value for each in hint]
    return isinstance(hint, type) and isinstance(value, hint)
