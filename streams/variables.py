"""Which environment variables does the emitter read, and which are nobody's?  A table and two questions.  Pure.

Never imports anything large: it is read inside the agents' processes, and by the settings that name all variables.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Final, NamedTuple

PREFIX: Final = "AGENT_STREAMS_"
EMITTER_PREFIX: Final = PREFIX + "EMITTER_"
COMPRESSIONS: Final = ("auto", "none", "gzip", "lz4", "zstd", "snappy")
SHARE: Final = "a number from 0 to 1"
SWITCH: Final = "true or false"
GUARD_SOURCES: Final = ("off", "redis", "kafka")
UNKNOWN_WAYS: Final = ("allow", "deny", "keep")
FOLDER: Final = "a folder, made when it is needed"
_NEAR: Final = 0.7  # of 1; a name less alike was not meant

# What Kubernetes sets in every pod for a Service whose name begins with agent-streams.
_SERVICE_LINK: Final = re.compile(
    r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)?)"
)


class EmitterVariable(NamedTuple):
    """A variable that only the emitter reads; `field` is where its configuration keeps it."""

    name: str
    field: str
    default: str
    bounds: tuple[int, int | None] | None  # None: one of COMPRESSIONS, or what `words` say
    meaning: str
    words: str | None = None

    @property
    def takes(self) -> str:
        """Say in words what it takes."""
        if self.words is not None:
            return self.words
        if self.bounds is None:
            return f"one of {', '.join(COMPRESSIONS)}"
        least, most = self.bounds
        return f"a whole number, {least} or more" if most is None else f"a whole number from {least} to {most}"


EMITTER: Final = (
    EmitterVariable(
        EMITTER_PREFIX + "AGE_MS", "batch.age_ms", "20", (0, 30_000),
        "How long an event waits for company; alerts are later by as much.",
    ),
    EmitterVariable(
        EMITTER_PREFIX + "RECORD_EVENTS", "batch.record_events", "500", (1, 10_000),
        "Events per Kafka record at most.",
    ),
    EmitterVariable(
        EMITTER_PREFIX + "RECORD_BYTES", "batch.record_bytes", "262144", (1, 1_048_576),
        "Bytes per Kafka record at most, before compression.",
    ),
    EmitterVariable(
        EMITTER_PREFIX + "QUEUE_EVENTS", "batch.queue_events", "20000", (1, 10_000_000),
        "Events that wait at most while no broker answers; what comes then is dropped and counted.",
    ),
    EmitterVariable(
        EMITTER_PREFIX + "QUEUE_BYTES", "batch.queue_bytes", "16777216", (1, 2**40),
        "The same in bytes.",
    ),
    EmitterVariable(
        EMITTER_PREFIX + "COMPRESSION", "compression", "auto", None,
        "How records are compressed; auto is zstd, which needs brokers of Kafka 2.1 or later.",
    ),
    EmitterVariable(
        EMITTER_PREFIX + "SEND_TIMEOUT_MS", "send_timeout_ms", "30000", (1_000, None),
        "An answer of a broker that takes longer counts as lost: the same records go again.",
    ),
    EmitterVariable(
        EMITTER_PREFIX + "EXIT_FLUSH_MS", "exit_flush_ms", "3000", (0, None),
        "How long the end of a process may wait for what is queued; 0 sends nothing more.",
    ),
    EmitterVariable(
        EMITTER_PREFIX + "SPOOL_BYTES", "spool.size_bytes", "268435456", (0, 2**40),
        "Bytes on disk at most, of all processes of the user, for events that no broker takes; then the oldest are "
        "dropped and counted. 0 is none, as in the development profile.",
    ),
    EmitterVariable(
        EMITTER_PREFIX + "SPOOL_FOLDER", "spool.folder", "", None,
        "Where they are. Without it: agent-streams/spool in the user's state directory.", FOLDER,
    ),
    EmitterVariable(
        EMITTER_PREFIX + "SPOOL_AFTER_MS", "spool.after_ms", "1000", (0, 3_600_000),
        "How long no broker has to answer before events are put on disk.",
    ),
    EmitterVariable(
        EMITTER_PREFIX + "SAMPLE", "sample", "1.0", None,
        "Share of the sessions that are sent, each as a whole; failures and ends always are.", SHARE,
    ),
    EmitterVariable(
        EMITTER_PREFIX + "PAYLOADS", "payloads", "false", None,
        "Send the bodies of requests and responses, redacted. On in the development profile.", SWITCH,
    ),
    EmitterVariable(
        EMITTER_PREFIX + "PAYLOAD_SAMPLE", "payload_sample", "0.1", None,
        "Share of the calls whose bodies are sent, where they are; 1 in the development profile.", SHARE,
    ),
    EmitterVariable(
        EMITTER_PREFIX + "GUARD", "guard.source", "off", None,
        "Where guards read what is stopped: Redis, as the exporter mirrors it to AGENT_STREAMS_REDIS_URL, or Kafka. "
        "Off lets every call through.", f"one of {', '.join(GUARD_SOURCES)}",
    ),
    EmitterVariable(
        EMITTER_PREFIX + "GUARD_WHEN_UNKNOWN", "guard.when_unknown", "allow", None,
        "What guards do before they have read anything, and while nothing is heard: allow every call, deny every "
        "call, or keep to what was known last.", f"one of {', '.join(UNKNOWN_WAYS)}",
    ),
    EmitterVariable(
        EMITTER_PREFIX + "GUARD_STALE_AFTER_MS", "guard.stale_after_ms", "10000", (3_000, 3_600_000),
        "How long nothing has to be heard for a guard to know nothing any more. Silence while nothing changes is not "
        "meant: both sources are asked every second.",
    ),
)  # fmt: skip


def unknown(names: Iterable[str], prefixes: Sequence[str], known: Sequence[str]) -> Iterator[str]:
    """Yield, in order, the names that begin as ours do and are nobody's; Kubernetes sets some that are no fault."""
    for name in sorted(names):
        ours = name.upper()
        if ours.startswith(tuple(prefixes)) and ours not in known and not _SERVICE_LINK.fullmatch(name):
            yield name


def meant(name: str, known: Sequence[str]) -> str | None:
    """Return the known variable that a misspelt one is most like, if any is."""
    near = get_close_matches(name.upper().removeprefix(PREFIX), [each.removeprefix(PREFIX) for each in known], 1, _NEAR)
    return PREFIX + near[0] if near else None
