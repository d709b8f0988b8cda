"""Where does a guard read what is stopped, and what does it do while it cannot know?  One frozen value.

Never shows the address of Redis, which may hold a password.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from streams.errors import ConfigError
from streams.variables import GUARD_SOURCES, UNKNOWN_WAYS

SourceName: TypeAlias = Literal["off", "redis", "kafka"]
WhenUnknown: TypeAlias = Literal["allow", "deny", "keep"]
# Both sources say every second that they are there; two may get lost before anybody is alarmed.
STALE_AFTER_MS_MIN: Final = 3_000
STALE_AFTER_MS_MAX: Final = 3_600_000
_REDIS_URL: Final = re.compile(r"(rediss?|unix)://.+")


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """What a guard needs besides the Kafka connection; a value out of bounds raises ConfigError with every fault.

    `when_unknown` says what holds before the first reading and once the source was silent for `stale_after_ms`:
    allow every call, deny every call, or keep to what was known last.
    """

    source: SourceName = "off"
    when_unknown: WhenUnknown = "allow"
    stale_after_ms: int = 10_000
    redis_url: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if faults := "; ".join(self._faults()):
            raise ConfigError(faults)

    def _faults(self) -> Iterator[str]:
        for what, value, known in (
            ("guard", self.source, GUARD_SOURCES),
            ("guard when unknown", self.when_unknown, UNKNOWN_WAYS),
        ):
            if value not in known:
                yield f"{what}: {value!r} given, expected one of {', '.join(known)}"
        if not STALE_AFTER_MS_MIN <= self.stale_after_ms <= STALE_AFTER_MS_MAX:
            yield (
                f"guard stale_after_ms: {self.stale_after_ms} given, "
                f"expected {STALE_AFTER_MS_MIN} to {STALE_AFTER_MS_MAX}"
            )
        if self.source == "redis" and not self.redis_url:
            yield "a guard that reads Redis needs its address: set AGENT_STREAMS_REDIS_URL, or choose kafka"
        if self.redis_url and not _REDIS_URL.fullmatch(self.redis_url):
            yield "the address of Redis cannot be used: expected redis://, rediss:// or unix://, such as redis://localhost:6379/0"
