"""What do good records look like?  One of each kind, for the schemas: every field of its own has a value.

Never read by a stage: only who writes clients looks at these.
"""

from hashlib import sha256
from typing import Any, Final

import msgspec

from streams.event.command import (
    Acknowledge,
    Breaker,
    Purge,
    Reset,
    Rules,
    Scope,
    SilenceAlerts,
    SilenceMatcher,
    Unacknowledge,
    Unsilence,
)
from streams.fold.gauges import GaugeDelta, Observation
from streams.fold.rollup import Delta, Histogram, RollupBatch
from streams.fold.streamtime import LATE_PANE, PANE_MS
from streams.rule.acknowledgement import AcknowledgementRecord
from streams.rule.records import AlertRecord, BreakerRecord, Completeness
from streams.sink.document import Document, DocumentMetric, DocumentPlace, DocumentRanking, DocumentSeries
from streams.stage.deadletter import DeadLetter
from streams.stage.payloads import PayloadRecord

TIME_MS: Final = 1_763_724_000_000  # 2025-11-21T11:20:00Z
_MINUTE_MS: Final = 60_000

ENVELOPE: Final[dict[str, Any]] = {
    "id": "018f9c2e-7d1a-7b60-9c55-1f0b6f2f8a11",
    "time": "2025-11-21T11:20:00.250Z",
    "agent": "planner",
    "session_id": "session-42",
    "call_id": "call-7",
    "parent_id": "call-1",
    "source": "planner-5d9c-1",
    "seq": 4711,
    "user_id": "user-9",
    "tenant": "acme",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "attributes": {"region": "eu-west-1", "retries": 2, "sampled": True},
}
_MODEL: Final[dict[str, Any]] = {"model": "gpt-5", "provider": "openai"}

EVENTS: Final[dict[str, dict[str, Any]]] = {
    "session_start": {},
    "session_end": {"reason": "user_left"},
    "agent_start": {"streaming": True, "endpoint": "/v1/chat"},
    "agent_end": {
        "status": "success", "duration_ms": 8250, "streaming": True, "response_bytes": 5120, "completed": True,
        "endpoint": "/v1/chat",
    },
    "heartbeat": {"partial_tokens": 128},
    "model_start": {**_MODEL, "streaming": True, "temperature": 0.2},
    "model_end": {
        **_MODEL, "status": "error", "error_code": "overloaded", "duration_ms": 2210.5, "first_token_ms": 310,
        "finish_reason": "error", "streaming": True, "temperature": 0.2,
    },
    "token_usage": {
        **_MODEL, "input_tokens": 1800, "output_tokens": 420, "cache_read_tokens": 1200, "cache_write_tokens": 64,
        "reasoning_tokens": 96, "cost_nano_usd": 6_450_000, "scope": "leaf",
    },
    "model_switch": {"from_model": "gpt-5", "to_model": "claude-4"},
    "parameter_change": {"parameter": "temperature", "before": 0.2, "after": 0.7},
    "tool_start": {
        "tool": "search", "attempt": 1, "arguments_hash": "9f86d081884c7d65", "parallel_group": "group-3",
        "queue_depth": 2,
    },
    "tool_end": {
        "tool": "search", "status": "timeout", "duration_ms": 30_000, "attempt": 2, "input_bytes": 180,
        "output_bytes": 0, "arguments_hash": "9f86d081884c7d65", "parallel_group": "group-3", "queue_depth": 1,
        "error_message": "no answer within 30 s", "result_hash": "e3b0c44298fc1c14",
    },
    "cycle": {"phase": "planning", "number": 3, "duration_ms": 140},
    "message": {
        "role": "user", "characters": 212, "tokens": 48, "context_tokens": 9200, "context_limit": 200_000, "turn": 5,
    },
    "feedback": {"quality": 0.9, "relevance": 0.8, "satisfaction": 1, "task_completed": True},
    "error": {
        "error_type": "network", "component": "retriever", "code": "ECONNRESET", "message": "connection reset by peer",
    },
    "rate_limit": {
        "endpoint": "/v1/chat/completions", "result": "denied", "workspace": "research", "retry_after_ms": 1500,
    },
    "degraded": {"reason": "stale_index", "component": "retriever"},
    "guard": {
        "target": "tool:search", "denied_by": "breaker", "reason": "open",
        "verdict_id": "0b5e6c1d9a7f4c3e8d2b1a0f9e8d7c6b", "count": 3,
    },
    "cache": {"cache": "embeddings", "operation": "get", "result": "hit", "duration_ms": 0.4},
    "resource": {
        "memory_bytes": 734_003_200, "pool_active": 6, "pool_idle": 2, "threads_busy": 3, "threads_total": 8,
        "async_tasks": 41, "queue_depth": 12, "batch_efficiency": 0.85, "uptime_ms": 86_400_000, "cpu": 1.5,
    },
    "discovery": {
        "keyword_hash": "2c26b46b68ffc68f", "detail_level": "summary", "results": 7, "duration_ms": 35,
        "cache_hit": True, "continued": False,
    },
    "execution": {
        "language": "python", "status": "error", "exit_code": 1, "duration_ms": 920, "peak_memory_bytes": 52_428_800,
        "result_bytes": 1024,
    },
    "sdk_generation": {"duration_ms": 640, "tools": 24},
    "filtering": {
        "operation": "summarise", "input_bytes": 48_000, "output_bytes": 2400, "tokens_saved": 11_000,
        "duration_ms": 22,
    },
    "skill": {
        "skill": "weekly-report", "action": "executed", "language": "python", "status": "success", "duration_ms": 1800,
    },
    "security": {"action": "pii_detected", "pattern": "email", "severity": "medium", "count": 2},
    "a2a_start": {"target": "reviewer", "operation": "review"},
    "a2a_end": {
        "target": "reviewer", "operation": "review", "status": "success", "duration_ms": 4100, "response_bytes": 2048,
    },
    "ccr": {
        "provider": "anthropic", "task_type": "code", "status": "success", "duration_ms": 3300, "input_tokens": 2100,
        "output_tokens": 640,
    },
    "payload": {"direction": "response", "body": "The meeting is on Tuesday.", "cut_bytes": 0},
    "custom": {
        "metric": "documents_indexed", "metric_kind": "counter", "value": 12, "labels": {"corpus": "handbook"},
    },
}  # fmt: skip


def event(kind: str) -> dict[str, Any]:
    """Return a whole event of a kind."""
    return {"kind": kind, **ENVELOPE, **EVENTS[kind]}


ROLLUPS: Final = RollupBatch(
    source=3,
    sequence=118,
    events=52_400,
    watermark_ms=TIME_MS + 250,
    deltas=[
        Delta(
            "tool",
            ("search",),
            TIME_MS - TIME_MS % PANE_MS,
            {"events": 2, "tool_calls_success": 1, "tool_calls_timeout": 1, "tool_calls_ended": 2},
            {"tool_duration": [12_000, 30_000_000]},
            {},
            gauges={
                "tool_queue_depth": GaugeDelta({"planner|planner-5d9c-1": Observation(4, TIME_MS + 250, 3, 52_399)})
            },
        ),
        Delta(
            "all",
            (),
            LATE_PANE,
            {"events": 1},
            {},
            {"model_duration": Histogram(2_210_500, {9: 1}, {}, 2_210_500, 2_210_500)},
        ),
    ],
    late=4,
    duplicate=11,
    rejected=2,
)
_REFUSED: Final = b'{"kind": "tool_end", "id": "1", "time": 1763724000000, "agent": "planner", "tool": null}'
LETTER: Final = DeadLetter(
    reason="invalid",
    detail="Expected `str`, got `null` - at `$.tool`",
    topic="events",
    partition=3,
    offset=52_399,
    position=0,
    timestamp_ms=TIME_MS,
    value_bytes=len(_REFUSED),
    value_sha256=sha256(_REFUSED).hexdigest(),
    excerpt=_REFUSED.decode(),
)
ALERT: Final = AlertRecord(
    id="1226f03929fc12cae3c69542f6d9ba15",
    fingerprint="a6da7a25162675441802b9094b5b5e30",
    alert="ToolErrorRatioHigh",
    state="firing",
    severity="warning",
    over="tool",
    labels={"tool": "search"},
    value=0.42,
    value_text="42%",
    count=50,
    unit="ratio",
    limit=0.3,
    limit_text="30%",
    comparison="above",
    window_ms=5 * _MINUTE_MS,
    for_ms=_MINUTE_MS,
    keep_firing_for_ms=2 * _MINUTE_MS,
    time_ms=TIME_MS,
    active_since_ms=TIME_MS - _MINUTE_MS,
    fired_ms=TIME_MS,
    resolved_ms=None,
    reason=None,
    summary="42% of the calls of search fail",
    description="42% of 50 calls within 5m failed; the limit is 30%.",
    incarnation=TIME_MS - _MINUTE_MS,
    transition=2,
    completeness=Completeness(late=4, duplicate=11),
)
BREAKER: Final = BreakerRecord(
    id="bc7683fcf06a413f06d7d4c1bc0e9a3f",
    breaker="tool|search",
    over="tool",
    labels={"tool": "search"},
    state="open",
    code=1,
    previous="closed",
    reason="failure_rate_exceeded",
    since_ms=TIME_MS,
    open_until_ms=TIME_MS + _MINUTE_MS // 2,
    failure_rate=0.6,
    failure_rate_limit=0.5,
    calls=20,
    failures=12,
    window_ms=_MINUTE_MS,
    half_open_calls=10,
    transition=1,
    time_ms=TIME_MS,
    events=("failure_rate_exceeded", "state_transition"),
    slow_call_rate=0.1,
    slow_call_rate_limit=0.8,
    slow_call_ms=5_000.0,
    slow_calls=2,
    attempts=1,
)
RESET: Final = Reset(
    id="3f0c9b1e-5d0a-4a7e-9d5b-0f4a2f6f1c55",
    time="2025-11-21T11:20:00Z",
    by="ops@example.com",
    note="after the load test",
    scope=Scope("tool", {"tool": "search"}),
    metrics=["agent_tool_calls_total", "agent_tool_call_duration_*"],
)
PURGE: Final = Purge(
    id="1f0a7c52-9c1e-4a43-8f38-6f3f6b9d2e71",
    time="2025-11-21T11:30:00Z",
    by="privacy@example.com",
    note="asked for on 20 November",
    scope="user",
    digest="3a9c2ed3b4a0c5f6d0d9bb86f0b9d3f0a7f5d1a6bb5f1a3e0f3b2c1d4e5f6a7b",
)
RULES: Final = Rules(
    id="7d4c1f3a-52b8-4c0e-a1f6-0b9a6f0f2a10",
    time="2025-11-21T11:25:00Z",
    by="ops@example.com",
    note="tools may fail five times",
    text="groups:\n  - name: tools\n    rules:\n      - alert: ToolFailing\n        over: tool\n"
    "        value: {sum: tool_calls_error}\n        window: 1m\n        above: 5\n",
)
ACKNOWLEDGE: Final = Acknowledge(
    id="6f1d2c80-0f3b-4a39-9d0e-6c1f4be0a0d1",
    time="2025-11-21T11:20:30Z",
    by="ada@example.com",
    note="the provider is down, ticket 4711",
    fingerprint=ALERT.fingerprint,
    incarnation=ALERT.incarnation,
    until="2025-11-21T15:00:00Z",
)
UNACKNOWLEDGE: Final = Unacknowledge(
    id="e3a1b6f4-1b8c-4c0e-8a53-7f2b60d8a0d2",
    time="2025-11-21T12:00:00Z",
    by="ada@example.com",
    note="handed over",
    fingerprint=ALERT.fingerprint,
)
SILENCE: Final = SilenceAlerts(
    id="0b7cf7ac-8a31-4c6a-8a0c-2a1fd80c11d3",
    time="2025-11-21T11:20:00Z",
    by="ops@example.com",
    note="the search index is rebuilt",
    matchers=[
        SilenceMatcher("tool", "search"),
        SilenceMatcher("severity", "critical", is_equal=False),
        SilenceMatcher("alertname", "Tool.*", is_regex=True),
    ],
    starts_at="2025-11-21T12:00:00Z",
    until="2025-11-21T14:00:00Z",
)
UNSILENCE: Final = Unsilence(
    id="9d2f0a66-6a52-4ac0-b1c4-30f6a3c7d4e4",
    time="2025-11-21T13:00:00Z",
    by="ops@example.com",
    note="the index is back",
    silence=SILENCE.id,
)
ACKNOWLEDGEMENT: Final = AcknowledgementRecord(
    id=ACKNOWLEDGE.id,
    fingerprint=ALERT.fingerprint,
    incarnation=ALERT.incarnation,
    by=ACKNOWLEDGE.by,
    note=ACKNOWLEDGE.note,
    time_ms=TIME_MS + 30_000,
    ends_ms=TIME_MS + 220 * _MINUTE_MS,
)
CIRCUIT: Final = Breaker(
    id="b2f7d0a4-0c0e-4c55-8f0e-6f1f4b9f2a10",
    time="2025-11-21T11:20:00Z",
    by="ops@example.com",
    note="the vendor is down",
    breaker="tool|search",
    action="force-open",
)


PAYLOAD: Final = PayloadRecord(
    id="018f9c2e-7d1a-7b60-9c55-1f0b6f2f8a11",
    time_ms=TIME_MS,
    agent="planner",
    direction="request",
    body="Write to [email] about Tuesday.… [3904 bytes cut]",
    body_bytes=8_000,
    cut_bytes=3_904,
    partition=3,
    offset=128_903,
    session_id="session-42",
    call_id="call-7",
    parent_id="call-1",
    user_id="user-9",
    tenant="acme",
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    redacted={"email": 1},
)
DOCUMENT: Final = Document(
    schema=1,
    time_ms=TIME_MS,
    metrics=[
        DocumentMetric(
            "agent_tool_retries_total",
            "counter",
            "",
            "Tool calls that were not the first attempt.",
            [DocumentSeries({"tool": "search"}, value=5, created_ms=TIME_MS - _MINUTE_MS)],
        ),
        DocumentMetric(
            "agent_tool_call_duration_seconds",
            "histogram",
            "seconds",
            "How long tool calls took.",
            [DocumentSeries({"tool": "search"}, count=3, sum=0.25, buckets={"0.08": 2, "0.16": 3, "+Inf": 3})],
        ),
    ],
    top=[DocumentRanking("tool", "calls", "", [DocumentPlace({"tool": "search"}, 3)])],
)


def record(example: msgspec.Struct) -> dict[str, Any]:
    """Return an example as JSON has it."""
    shown: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(example))
    return shown
