"""Which defaults suit whom?  Production is careful with words and load, development shows everything.  Data only.

Never more than defaults: whatever is set by its own variable holds in every profile.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

Profile: TypeAlias = Literal["production", "development"]
VARIABLE: Final = "AGENT_STREAMS_PROFILE"
PRODUCTION: Final = "production"
DEVELOPMENT: Final = "development"

# What differs from the defaults that the settings declare; the flush pace trades load for milliseconds.
WORKER_DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    PRODUCTION: {},
    DEVELOPMENT: {
        "log_level": "debug",
        "payloads": True,
        "flush_idle_ms": 10,
        "flush_busy_ms": 50,
        "flush_limit_ms": 250,
    },
}
# The same for an emitter's configuration; `batch.` leads into its batch policy.
EMITTER_DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    PRODUCTION: {"spool.size_bytes": 256 * 1024 * 1024},
    DEVELOPMENT: {"payloads": True, "payload_sample": 1.0, "batch.age_ms": 5},
}
