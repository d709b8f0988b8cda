"""What became of all events that an emitter was given: one frozen value.

Never changes; ask the emitter again.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EmitterStats:
    """What became of all events given to an emitter: emitted = acknowledged + dropped + waiting."""

    source: str
    connected: bool
    emitted: int
    acknowledged: int
    waiting: int
    waiting_bytes: int  # of those that are encoded
    dropped: Mapping[str, int]
    redacted: Mapping[str, int]
    records: int
    sent_bytes: int
    failures: int
    last_failure: str | None  # of the connection; None while there is one
    sends: int  # requests that were acknowledged
    send_us: int  # all of them together
    send_us_max: int
    caller_ns: int  # what an event costs the thread that hands it over: the mean of some, lately
    caller_ns_max: int
    sample: float  # the share of sessions that is sent; what is left out is `dropped` as sampled
    handler_failures: int
    spooled: int  # events that were put on disk; those that wait there are among `waiting`
    spool_bytes: int
    spool_failures: int
    spool_torn_bytes: int
    left_acknowledged: int  # events that processes which are no more had left on disk; no other number has them
    left_lost: int
