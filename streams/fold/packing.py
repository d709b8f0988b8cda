"""How is a row stored?  As MessagePack, whatever its numbers have grown to.

Never changes the row: a number that no longer fits is stored as the largest that does.
"""

from typing import Any, Final

import msgspec
from msgspec import Struct

# The largest integer of MessagePack. The bounds of events keep honest sums far below it: 16 million times 1 TiB.
STORED_MAX: Final = 2**64 - 1

_pack: Final = msgspec.msgpack.Encoder().encode


def pack(fields: object) -> bytes:
    """Return array-like rows or their fields as MessagePack; a sum beyond STORED_MAX stays there.

    One key whose numbers have outgrown the format must not end the process.
    """
    try:
        return _pack(fields)
    except OverflowError:
        return _pack(_fitting(fields))


def _fitting(value: Any) -> Any:
    if isinstance(value, Struct):
        value = msgspec.structs.astuple(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return min(value, STORED_MAX)
    if isinstance(value, dict):
        return {key: _fitting(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_fitting(each) for each in value]
    return value
