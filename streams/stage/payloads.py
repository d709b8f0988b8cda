"""What becomes of the bodies of requests and responses?  Nothing but a count, unless somebody has switched them on.

Never lets a body out that was not redacted here, whatever its publisher has done, and never a longer one than allowed:
the record says how much there was and how much was cut.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec
from msgspec import Struct

from streams.errors import ConfigError
from streams.event.model import Payload
from streams.event.redact import BODY_CHARS_MAX, REDACTOR, Redactor
from streams.stage.plan import Send
from streams.topology import PAYLOADS

SCHEMA: Final = 1
CHARS_MAX: Final = 4_096  # a page of text: enough to see what went wrong
CHARS_MIN: Final = 256
# A waiting body counts as a record for every so many of its bytes: a driver that flushes after 200,000 records then
# never holds more than 50 MB of them.
BYTES_PER_RECORD: Final = 256

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class PayloadPolicy:
    """Whether bodies are written, and how; a limit out of bounds raises ConfigError.

    `redactor` also holds for what is refused.
    """

    chars_max: int = CHARS_MAX
    redactor: Redactor = field(default=REDACTOR, repr=False)
    on: bool = True

    def __post_init__(self) -> None:
        if not CHARS_MIN <= self.chars_max <= BODY_CHARS_MAX:
            raise ConfigError(
                f"characters of a payload: {self.chars_max} given, expected {CHARS_MIN} to {BODY_CHARS_MAX}"
            )


OFF: Final = PayloadPolicy(on=False)


class PayloadRecord(Struct, omit_defaults=True):
    """The body of one request or response, redacted and cut by the worker.

    `cut_bytes` of `body_bytes` are missing at the end, those that the publisher cut included; `redacted` counts what
    this worker has replaced, by pattern.
    """

    id: str
    time_ms: int
    agent: str
    direction: Literal["request", "response"]
    body: str
    body_bytes: int
    cut_bytes: int
    partition: int
    offset: int
    session_id: str | None = None
    call_id: str | None = None
    parent_id: str | None = None
    user_id: str | None = None
    tenant: str | None = None
    trace_id: str | None = None
    redacted: dict[str, int] = {}
    schema: int = SCHEMA


class Payloads:
    """The bodies of one source partition: made into records, or counted and dropped."""

    __slots__ = ("_partition", "_policy", "_waiting_bytes", "sends")

    def __init__(self, partition: int, policy: PayloadPolicy) -> None:
        self._partition = partition
        self._policy = policy
        self._waiting_bytes = 0
        self.sends: list[Send] = []

    @property
    def pending(self) -> int:
        """How many records the waiting bodies weigh."""
        return self._waiting_bytes // BYTES_PER_RECORD

    def take(self, event: Payload, *, event_ms: int, offset: int, counted: dict[str, int]) -> None:
        """Take one body that is no duplicate; what was done is added to `counted`."""
        policy = self._policy
        if not policy.on:
            _count(counted, "payloads_dropped", 1)
            return
        record = payload_record(event, policy, event_ms=event_ms, partition=self._partition, offset=offset)
        value = _encode(record)
        key = event.session_id or event.source or event.agent
        self.sends.append(Send(PAYLOADS.suffix, None, key.encode(), value))
        self._waiting_bytes += len(value)
        _count(counted, "payloads_logged", 1)
        _count(counted, "payload_cut_bytes", record.cut_bytes)
        _count(counted, "payload_redactions", sum(record.redacted.values()))

    def hand_over(self) -> list[Send]:
        """Return what the next transaction writes."""
        sends, self.sends, self._waiting_bytes = self.sends, [], 0
        return sends


def payload_record(
    event: Payload, policy: PayloadPolicy, *, event_ms: int, partition: int, offset: int
) -> PayloadRecord:
    """Redact and cut one body; what lies far beyond the cut is not even read."""
    text = event.body
    (body, redacted), cut_chars = policy.redactor.cut(text, chars_max=policy.chars_max)
    cut_bytes = event.cut_bytes
    if cut_chars:
        cut_bytes += len(text[-cut_chars:].encode())
        body = f"{body}… [{cut_bytes} bytes cut]"
    return PayloadRecord(
        id=event.id,
        time_ms=event_ms,
        agent=event.agent,
        direction=event.direction,
        body=body,
        body_bytes=event.cut_bytes + len(text.encode()),
        cut_bytes=cut_bytes,
        partition=partition,
        offset=offset,
        session_id=event.session_id,
        call_id=event.call_id,
        parent_id=event.parent_id,
        user_id=event.user_id,
        tenant=event.tenant,
        trace_id=event.trace_id,
        redacted=dict(redacted),
    )


def _count(counted: dict[str, int], name: str, count: int) -> None:
    if count:
        counted[name] = counted.get(name, 0) + count
