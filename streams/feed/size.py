"""How large are arguments and results, and are two of them the same?  Sizes and hashes leave the agent, never values.

Pure; never raises, whatever the object.
"""

from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

_DIGEST_BYTES: Final = 16
_RESULT_BYTES: Final = 8  # tells whether two results of a session are the same, and little else
_sorted: Final = msgspec.json.Encoder(order="deterministic", enc_hook=lambda thing: type(thing).__name__).encode


_strict: Final = msgspec.json.Encoder(order="deterministic").encode


class Digest(NamedTuple):
    """What identifies arguments: equal ones have equal hashes in every process."""

    hash: str
    size_bytes: int


def _json(thing: Any) -> bytes:
    try:
        return _sorted(thing)
    except Exception:  # noqa: BLE001  keys that are no keys, cycles, text that is no UTF-8: the type has to do
        return type(thing).__name__.encode("utf-8", "replace")


def digest(arguments: Any) -> Digest:
    """Hash arguments by their JSON with sorted keys; what has no JSON counts by the name of its type."""
    data = _json(arguments)
    return Digest(blake2b(data, digest_size=_DIGEST_BYTES).hexdigest(), len(data))


def result_hash(result: Any) -> str | None:
    """Hash a result: text and bytes as they are, else its JSON; None for nothing and for what has no JSON of its own.

    Objects of one type are no equal results: a name in place of a value would make a loop of honest work.
    """
    if result is None:
        return None
    try:
        data = result.encode("utf-8", "replace") if isinstance(result, str) else result
        if not isinstance(data, (bytes, bytearray, memoryview)):
            data = _strict(data)
        return blake2b(data, digest_size=_RESULT_BYTES).hexdigest()
    except Exception:  # noqa: BLE001  as above
        return None


def size_bytes(result: Any) -> int:
    """Return the bytes of a result: of text in UTF-8, of anything else as JSON; None has none."""
    if result is None:
        return 0
    if isinstance(result, str):
        return len(result) if result.isascii() else len(result.encode("utf-8", "replace"))
    if isinstance(result, (bytes, bytearray, memoryview)):
        return len(result)
    return len(_json(result))


def text_of(thing: Any) -> str:
    """Return a body as text: text itself, bytes as UTF-8, anything else as JSON, or the name of a type without any."""
    if isinstance(thing, str):
        return thing
    if isinstance(thing, (bytes, bytearray)):
        return thing.decode("utf-8", "replace")
    return _json(thing).decode("utf-8", "replace")
