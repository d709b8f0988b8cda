"""What agents do to a topic: calls that begin and end, late and skewed clocks, retries, reordering, and rubbish.

Every record is made together with the truth about it, so that nobody has to parse it to know what it means.
"""

import json
from collections import deque
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final, NamedTuple

from hostile import BAD_BYTES, BAD_EVENTS, BAD_RECORDS
from ledger import Event, Judged
from rare import rare_events, undeclared

START_MS: Final = 1_763_724_000_000
MINUTE_MS: Final = 60_000
RETRY_MS: Final = 20 * MINUTE_MS  # nobody sends again later than that
MODELS: Final = (("m-1", "p-1"), ("m-2", "p-1"), ("m|3\\", None), ("m-1", None))
ERROR_TYPES: Final = ("rate_limit", "timeout", "network", "other")
_OF_CALLS: Final = frozenset({"call_id", "parent_id", "agent", "session_id", "tenant", "user_id"})
# What these would say of calls is said by events of our own.
_CALLS: Final = {"agent", "model", "tool", "token", "session", "heartbeat", "a2a"}
_ENVELOPE: Final = {"id", "time", "agent", "session_id", "tenant"}
_RARE: Final = [
    {name: value for name, value in event.items() if name not in _ENVELOPE}
    for event in rare_events()
    if event["kind"].partition("_")[0] not in _CALLS or event["kind"] == "model_switch"
]
_UNDECLARED: Final = [json.dumps(event).encode() for event in undeclared()]
_SMALL_BYTES: Final = 4_000
_SMALL_RECORDS: Final = [bad for bad in BAD_RECORDS if bad.value is None or len(bad.value) < _SMALL_BYTES]
_SMALL_BYTES_BAD: Final = [bad for bad in BAD_BYTES if bad.value is not None and len(bad.value) < _SMALL_BYTES]


class Published(NamedTuple):
    """One record and what it means: events in their order, with their times, and what must be refused, by position."""

    partition: int
    timestamp: int
    value: bytes | None
    events: tuple[Judged, ...]
    refused: tuple[tuple[int, str], ...]


class Item(NamedTuple):
    """One event or one piece of rubbish, encoded."""

    part: bytes
    event: Judged | None
    reason: str = ""


class Traffic:
    """Records of a small fleet; the same random numbers give the same records."""

    def __init__(self, random: Random, partitions: int) -> None:
        self._random = random
        self._partitions = partitions
        self._sessions = [f"s-{n}" for n in range(random.randint(1, 7))]
        self._sources = [f"host-{n}" for n in range(random.randint(1, 3))]
        self._seen = 0
        self._tools = [f"tool-{n}" for n in range(random.randint(1, 6))]
        self._seqs = dict.fromkeys(self._sources, 0)
        self._open: list[dict[str, Any]] = []
        self._sent: deque[tuple[int, Published]] = deque(maxlen=40)
        self._held: list[Published] = []
        self._count = 0
        self._messy = random.random() < 0.8

    def records(self, now_ms: int) -> list[Published]:
        """Make what is published at one moment: nothing, one record or a few."""
        random = self._random
        luck = random.random() if self._messy else 1.0
        if luck < 0.08:
            return self._retry(now_ms)
        if luck < 0.13:
            return [self._rubbish(now_ms)]
        made = self._record(now_ms)
        if luck < 0.18:
            self._held.append(made)  # overtaken by the next ones
            return []
        held, self._held = self._held, []
        for one in (made, *held):
            self._sent.append((now_ms, one))
        return [made, *(one._replace(timestamp=now_ms) for one in held)]

    def left(self, now_ms: int) -> list[Published]:
        """Hand over what was held back."""
        held, self._held = self._held, []
        return [one._replace(timestamp=now_ms) for one in held]

    # ---- records ----------------------------------------------------------------------------------------------------

    def _retry(self, now_ms: int) -> list[Published]:
        recent = [one for at, one in self._sent if now_ms - at < RETRY_MS]
        return [one._replace(timestamp=now_ms) for one in self._random.sample(recent, min(len(recent), 2))]

    def _rubbish(self, now_ms: int) -> Published:
        random = self._random
        bad = random.choice(random.choice((_SMALL_RECORDS, _SMALL_BYTES_BAD, BAD_EVENTS)))
        return Published(random.randrange(self._partitions), now_ms, bad.value, (), ((0, bad.reason),))

    def _record(self, now_ms: int) -> Published:
        random = self._random
        number = random.randrange(len(self._sessions))
        # Another client partitions differently now and then; the same session may then live in two partitions.
        partition = (number + (random.random() < 0.05)) % self._partitions
        source = self._sources[number % len(self._sources)] + f".{partition}"
        count = random.choice((1, 1, 1, 2, 5, 12))
        lines = random.random() < 0.3
        items = [self._item(now_ms, self._sessions[number], source, lines=lines) for _ in range(count)]
        if count == 1 and (items[0].event is not None or not lines):
            value = items[0].part if random.random() < 0.9 else b"[" + items[0].part + b"]"
        elif lines and any(item.event is not None for item in items):
            value = random.choice((b"\n", b"\r\n", b"\n\n")).join(item.part for item in items)
        else:
            items = [item for item in items if item.event is not None or _is_json(item.part)]
            value = b"[" + b", ".join(item.part for item in items) + b"]"
        if not items:
            return Published(partition, now_ms, b"[]", (), ((0, "empty"),))
        events = tuple(item.event for item in items if item.event is not None)
        refused = tuple((at, item.reason) for at, item in enumerate(items) if item.event is None)
        return Published(partition, now_ms, value, events, refused)

    def _item(self, now_ms: int, session: str, source: str, *, lines: bool) -> Item:
        random = self._random
        if self._messy and random.random() < 0.04:
            bad = random.choice(BAD_EVENTS if not lines else (*BAD_EVENTS, *_SMALL_BYTES_BAD))
            assert bad.value is not None
            return Item(bad.value, None, bad.reason)
        if self._messy and random.random() < 0.01:
            return Item(random.choice(_UNDECLARED), None, "undeclared")
        event = self._event(now_ms, session)
        self._identify(event, source)
        event_ms = self._event_ms(now_ms)
        event["time"], event_ms = self._written(event_ms)
        return Item(json.dumps(event).encode(), Judged(event, event_ms))

    def _identify(self, event: Event, source: str) -> None:
        self._count += 1
        event["id"] = f"e{self._count}"
        luck = self._random.random()
        if luck < 0.7:
            event["source"] = source
            event["seq"] = self._seqs[source] = self._seqs.get(source, 0) + 1
        elif luck < 0.8:
            event["source"] = source
        elif luck < 0.85:
            event["seq"] = self._count

    def _event_ms(self, now_ms: int) -> int:
        random = self._random
        luck = random.random() if self._messy else 1.0
        if luck < 0.06:
            return now_ms - random.randint(5 * MINUTE_MS, 50 * MINUTE_MS)
        if luck < 0.1:
            return now_ms - random.choice((300_000, 300_001, 299_999, 290_000, 310_000))
        if luck < 0.14:
            return now_ms + random.choice((60_000, 60_001, 30_000, 3_600_000, 10**11, 250_000_000_000))
        return now_ms - random.choice((0, 1, 40, 900, 3_000, 12_000))

    def _written(self, event_ms: int) -> tuple[int | str, int]:
        """Choose how a publisher writes a time; returns what it then means."""
        luck = self._random.random()
        if luck < 0.8 or event_ms > START_MS + 10**10:
            return event_ms, event_ms
        if luck < 0.85:
            return event_ms * 1_000_000 + 123_456, event_ms
        if luck < 0.9:
            return event_ms * 1_000 + 7, event_ms
        if luck < 0.93:
            return str(event_ms), event_ms
        moment = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=event_ms)
        text = moment.isoformat(timespec="milliseconds").replace("+00:00", "")
        return text + self._random.choice(("Z", "z", "+00:00")), event_ms

    # ---- events -----------------------------------------------------------------------------------------------------

    def _event(self, now_ms: int, session: str) -> Event:
        random = self._random
        self._seen += 1
        event: Event = {"agent": f"agent-{random.choice('ab')}"}
        if random.random() < 0.93:
            event["session_id"] = session
        if random.random() < 0.6:
            event["tenant"] = f"tenant-{random.choice('xy')}"
        if random.random() < 0.4:
            event["user_id"] = f"user-{random.choice('pqr')}"
        if self._open and random.random() < 0.45:
            return self._ended(event, now_ms)
        event |= random.choice(_BEGINNINGS)(self)
        if event["kind"] == "heartbeat" and self._open:
            event["call_id"] = self._open[-1]["call_id"]
        elif "call_id" in event and event["kind"] != "token_usage":
            self._open.append(event.copy())
        return event

    def _ended(self, event: Event, now_ms: int) -> Event:
        """End some call; mostly as it began, sometimes under another name, as another kind, or twice."""
        random = self._random
        began = self._open[random.randrange(len(self._open))]
        if random.random() < 0.9:
            self._open.remove(began)
        noun = began["kind"].removesuffix("_start")
        ended = {name: value for name, value in began.items() if name in _OF_CALLS}
        if random.random() < 0.05:
            noun = random.choice(("agent", "model", "tool"))
        if random.random() < 0.1:
            ended |= event
        if noun == "tool":
            ended["tool"] = began.get("tool", "tool-0") if random.random() < 0.95 else random.choice(self._tools)
            ended["status"] = random.choice(("success", "success", "error", "timeout", "validation_error", "cancelled"))
            ended |= {"attempt": random.choice((1, 1, 2)), "output_bytes": random.choice((0, 7))}
            self._sometimes(ended, parallel_group="g")
            # Without a choice, so that seeds mean what they meant: now few calls, now many, with few results.
            asked = self._seen if self._seen % 60 < 30 else self._seen % 2
            ended |= {"arguments_hash": f"{asked:016x}"} if self._seen % 9 else {}
            ended |= {"result_hash": f"{self._seen // 60:016x}"} if self._seen % 7 else {}
        else:
            ended["status"] = random.choice(("success", "success", "error", "timeout", "cancelled"))
        if noun == "a2a":
            ended |= {name: began[name] for name in ("target", "operation") if name in began}
            ended |= {"target": f"agent-{random.choice('ab')}"} if random.random() < 0.05 else {}
            self._sometimes(ended, response_bytes=random.randrange(2_000))
        if noun == "agent":
            self._sometimes(ended, streaming=True, response_bytes=7, endpoint="/ask", completed=random.random() < 0.5)
        if noun == "model":
            reason, code = random.choice(("stop", "max_tokens", "length")), random.choice(("429", "503"))
            self._sometimes(ended, streaming=True, finish_reason=reason, error_code=code, temperature=0.3)
            ended |= {name: began[name] for name in ("model", "provider") if name in began} or {"model": "m-9"}
            if random.random() < 0.05:
                ended["model"] = "m-1-renamed"
            if random.random() < 0.4:
                ended["first_token_ms"] = random.choice((0, 3, 250.5))
        if random.random() < 0.1:
            ended.pop("call_id", None)
        return {**ended, "kind": f"{noun}_end", "duration_ms": self._duration(now_ms)}

    def _sometimes(self, event: Event, **fields: Any) -> None:
        """Add each optional field now and then."""
        event |= {name: value for name, value in fields.items() if self._random.random() < 0.2}

    def _duration(self, now_ms: int) -> float:
        random = self._random
        return random.choice((0, 1, 10, 10.0005, 80, random.randrange(100_000), random.random() * 5_000, now_ms % 977))

    def _begin(self, kind: str, **fields: Any) -> Event:
        event = {"kind": kind, **fields}
        if self._random.random() < 0.95:
            event["call_id"] = f"c{self._random.randrange(300)}"
        if self._open and self._random.random() < 0.3:
            event["parent_id"] = self._random.choice(self._open)["call_id"]
        return event

    def _agent_start(self) -> Event:
        return self._begin("agent_start")

    def _model_start(self) -> Event:
        model, provider = self._random.choice(MODELS)
        chosen = {"temperature": self._random.choice((0, 0.3, 1))} if self._random.random() < 0.1 else {}
        return self._begin("model_start", model=model, **({"provider": provider} if provider else {}), **chosen)

    def _tool_start(self) -> Event:
        waiting = {"queue_depth": self._random.randrange(9)} if self._random.random() < 0.2 else {}
        return self._begin("tool_start", tool=self._random.choice(self._tools), **waiting)

    def _a2a_start(self) -> Event:
        return self._begin("a2a_start", target=f"agent-{self._random.choice('abc')}", operation="run")

    def _rare(self) -> Event:
        event = self._random.choice(_RARE).copy()
        if "duration_ms" in event:
            event["duration_ms"] = self._duration(0)
        return event

    def _usage(self) -> Event:
        random = self._random
        model, provider = random.choice(MODELS)
        usage = {"kind": "token_usage", "model": model, "input_tokens": random.randrange(4_000)}
        usage |= {"output_tokens": random.randrange(900), "cache_read_tokens": random.randrange(3)}
        if provider:
            usage["provider"] = provider
        if random.random() < 0.7:
            usage["cost_nano_usd"] = random.randrange(10**9)
        around = [f"c{random.randrange(300)}" for _ in range(2)]
        if self._open and random.random() < 0.7:
            around[0] = random.choice(self._open)["call_id"]
        if random.random() < 0.2:
            usage |= {"scope": "aggregate", "call_id": around[0], "parent_id": around[1]}
        elif random.random() < 0.8:
            usage["parent_id"] = around[0]
        return usage

    def _other(self) -> Event:
        return {
            **self._random.choice((
                {"kind": "error", "error_type": self._random.choice(ERROR_TYPES)},
                {"kind": "heartbeat"},
                {"kind": "cycle", "phase": "planning"},
                {"kind": "session_start"},
                {"kind": "session_end", "reason": "done"},
                {"kind": "cache", "cache": "c", "operation": "get", "result": "hit"},
                {"kind": "resource", "memory_bytes": self._random.randrange(10**9), "cpu": 0.5, "uptime_ms": 7},
                {"kind": "resource", "threads_busy": self._random.randrange(5), "threads_total": 4, "pool_idle": 0},
                {"kind": "message", "role": "user", "context_tokens": self._random.randrange(99), "context_limit": 70},
                {"kind": "parameter_change", "before": 0.2, "after": self._random.choice((0, 0.25, 2))},
            ))
        }  # fmt: skip


_BEGINNINGS: Final = (
    Traffic._agent_start, Traffic._model_start, Traffic._tool_start, Traffic._tool_start, Traffic._usage,
    Traffic._usage, Traffic._other, Traffic._rare, Traffic._a2a_start,
)  # fmt: skip


def _is_json(part: bytes) -> bool:
    try:
        json.loads(part)
    except (ValueError, RecursionError):
        return False
    return not any(mark in part for mark in (b"NaN", b"Infinity", b"1e999", b"\\ud800", b"\xef\xbb\xbf"))
