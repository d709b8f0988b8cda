"""One session's row as it is stored: what it holds and how it is read and written.

Never changes a row: `fold.live` is the form that events are folded into.
"""

import struct
from typing import Final, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from streams.fold.packing import pack as packed

PANES_MAX: Final = 61  # an hour of minutes, and the one that is open
TOOLS_MAX: Final = 64  # tools with numbers of their own in a session's row; the rest share OVERFLOW
OPEN_MAX: Final = 256  # calls in flight in one session; the oldest is abandoned beyond that
OVERFLOW: Final = "__other__"  # folded together beyond a cap

GAP_MS: Final = 30 * 60_000  # silence that ends a session
CLOSED_KEPT_MS: Final = 60 * 60_000  # how long an ended session's marks and totals stay

UNKNOWN_DEADLINE_MS: Final = 10 * 60_000  # of a call whose tool or model is hardly known
ENDED: Final = 2**53  # no heartbeat: the end of this call came before its start

REQUEST: Final = 0
MODEL: Final = 1
TOOL: Final = 2
A2A: Final = 3

# a session's id; (source or agent,) for events without a session; (session id, number) of a closed incarnation
RowKey: TypeAlias = str | tuple[str] | tuple[str, str]


# A call in flight: its family, agent, tenant, name and provider as its start gave them, and when it started (ms).
# A plain tuple, because making a named one costs six times as much and every start makes one.
OpenCall: TypeAlias = tuple[int, str, str | None, str | None, str | None, int]


class Pane(Struct, array_like=True, gc=False):
    """One minute of a session, by event time."""

    start_ms: int
    events: int = 0
    errors: int = 0
    requests: int = 0
    request_errors: int = 0
    model_calls: int = 0
    model_errors: int = 0
    tool_calls: int = 0
    tool_errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano_usd: int = 0


class ToolTotals(Struct, array_like=True, gc=False):
    """What one session did with one tool."""

    calls: int = 0
    errors: int = 0
    duration_us: int = 0


class Account(Struct, array_like=True, gc=False):
    """What was reported beneath one call, and what it said of itself; tokens are input and output together."""

    leaves: int = 0
    leaf_tokens: int = 0
    parent: str | None = None
    done_ms: int = 0  # when the call or its last aggregate came; 0: it still goes on
    aggregate_tokens: int = -1  # the largest sum reported; −1: none
    agent: str = ""  # whose the aggregate was
    tenant: str | None = None


class Loop(Struct, array_like=True, gc=False):
    """Something that happens again and again; the fields of `trail.LiveLoop`."""

    name: str
    count: int
    score: int
    at: int
    since_ms: int
    last_ms: int
    gap_ms: int
    tokens: int
    cost_nano_usd: int


class Trail(Struct, array_like=True, gc=False):
    """What a session's calls and errors of late have been; the fields of `trail.LiveTrail`."""

    steps: int
    hot: int
    group: int
    signs: bytes
    results: bytes
    loops: dict[int, Loop]
    same: dict[int, Loop]
    wrong: dict[int, Loop]
    cycle: Loop | None
    cluster: Loop | None
    fine: int
    strays: bytes
    last_ms: int


class Norm(Struct, array_like=True, gc=False):
    """What is normal for a tool or a model; the fields of `norms.LiveNorm`."""

    bins: dict[int, int]  # calls by half octave of their µs
    calls: int = 0
    deadline_ms: int = UNKNOWN_DEADLINE_MS
    told: int = 0  # results that were compared with those of other calls
    shared: int = 0  # and were the same
    last: bytes = b""  # the latest result


class Finding(NamedTuple):
    """What was found: `value` is what rules judge, the rest explains it."""

    value: int
    signature: str
    times: int
    since_ms: int
    tokens: int = 0  # used since
    cost_nano_usd: int = 0


class SessionRow(Struct, array_like=True, gc=False):
    """All that is known of a session, or of a process for events that belong to none.

    Counters are of this incarnation; `marks` ((source → [highest seq, bits])) outlive it.
    """

    agent: str
    tenant: str | None
    user_id: str | None
    started_ms: int
    last_ms: int
    seen_ms: int  # the partition's clock when it was last touched: idleness counts from here
    incarnation: int = 1
    ended_ms: int = 0  # 0: alive
    end_reason: str | None = None
    stamp: int = -1  # highest source offset folded in
    events: int = 0
    late: int = 0
    errors: int = 0
    requests: int = 0
    request_errors: int = 0
    model_calls: int = 0
    model_errors: int = 0
    tool_calls: int = 0
    tool_errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano_usd: int = 0
    unpriced: int = 0  # usage reports without a cost
    heartbeats: int = 0
    abandoned: int = 0
    unmatched: int = 0
    request_us: int = 0
    model_us: int = 0
    tool_us: int = 0
    tools: dict[str, ToolTotals] = {}
    open: dict[str, OpenCall] = {}
    marks: dict[str, list[int]] = {}
    panes: list[Pane] = []
    ledger: dict[str, Account] = {}  # what leaves and aggregates reported, by call
    cycles: int = 0
    begun: dict[str, tuple[int, int, int]] = {}  # by request in flight: tokens, nano-USD and cycles when it began
    trail: Trail | None = None
    beats: dict[str, int] = {}  # by call in flight: its latest heartbeat (ms), or ENDED


# A stored row starts with what a load needs to see without decoding the rest.
# codec version, ended?, calls open?, stamp, seen_ms
_HEAD: Final = struct.Struct(">B??qq")
ROW_CODEC: Final = 1
HEAD_BYTES: Final = _HEAD.size
unpack_head: Final = _HEAD.unpack_from  # the fields of `Head` as a plain tuple, for whoever looks at a million of them

_decoder: Final = msgspec.msgpack.Decoder(SessionRow)


class Head(NamedTuple):
    """The first bytes of a stored row."""

    codec: int
    ended: bool
    in_flight: bool
    stamp: int
    seen_ms: int


def encode(row: SessionRow) -> bytes:
    """Return a row as stored: a fixed head, then the fields as a MessagePack array."""
    return pack(row, row.ended_ms != 0, bool(row.open), row.stamp, row.seen_ms)


def pack(fields: object, ended: bool, in_flight: bool, stamp: int, seen_ms: int) -> bytes:
    """Return a row as stored, of the fields of a `SessionRow` in their order."""
    return _HEAD.pack(ROW_CODEC, ended, in_flight, stamp, seen_ms) + packed(fields)


def head(stored: bytes) -> Head:
    """Read the head of a stored row."""
    return Head._make(_HEAD.unpack_from(stored))


def decode(stored: bytes) -> SessionRow:
    """Read a stored row."""
    return _decoder.decode(memoryview(stored)[HEAD_BYTES:])
