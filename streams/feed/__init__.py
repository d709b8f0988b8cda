"""What runs inside an agent's process: it takes events without ever waiting and carries them to Kafka.

from streams.feed import Emitter, Session

emitter = Emitter()  # AGENT_STREAMS_KAFKA_BOOTSTRAP_SERVERS and so on
session = Session(emitter, agent="planner")
with session.request(), session.tool_call("search"):
...
"""

from streams.feed.batch import BatchPolicy
from streams.feed.config import EmitterConfig
from streams.feed.emitter import Emitter
from streams.feed.guard.client import Guard, GuardStats
from streams.feed.guard.denial import CallDenied, Denial
from streams.feed.guard.policy import GuardPolicy
from streams.feed.identity import new_id
from streams.feed.spool_policy import SpoolPolicy
from streams.feed.stats import EmitterStats
from streams.feed.timers import Session, current_call

__all__ = [
    "BatchPolicy",
    "CallDenied",
    "Denial",
    "Emitter",
    "EmitterConfig",
    "EmitterStats",
    "Guard",
    "GuardPolicy",
    "GuardStats",
    "Session",
    "SpoolPolicy",
    "current_call",
    "new_id",
]
