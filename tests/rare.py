"""An event of every rare kind and of every optional field, and what the exporter must then show.

The numbers were added up by hand.  Never imports what it tests, but for the shape of a declaration.
"""

from typing import Any, Final

from streams.event.custom import CustomMetric

Sample = tuple[str, dict[str, str]]

CUSTOMS: Final = {
    "orders": CustomMetric("orders", "counter", ("shop", "size")),
    "basket_value": CustomMetric("basket_value", "histogram", ("shop",), (1_000_000, 10_000_000)),
    "stock": CustomMetric("stock", "gauge", ("shop",)),
}
CUSTOMS_JSON: Final = (
    '[{"name":"orders","kind":"counter","labels":["shop","size"]},'
    '{"name":"basket_value","kind":"histogram","labels":["shop"],"buckets":[1,10]},'
    '{"name":"stock","kind":"gauge","labels":["shop"]}]'
)
_MODEL: Final = {"model": "m-1", "provider": "p-1"}
_A2A: Final = {"target": "herald", "operation": "run"}


def rare_events(session: str = "rare") -> list[dict[str, Any]]:
    """Return the events in order; `time` counts seconds from a fixed start."""
    made: list[dict[str, Any]] = []

    def add(kind: str, **fields: Any) -> None:
        number = len(made)
        made.append({
            "kind": kind, "id": f"{session}-{number}", "time": 1_763_724_000_000 + number * 100, "agent": "writer",
            "session_id": session, "tenant": "globex", **fields,
        })  # fmt: skip

    add("session_start")
    add("agent_start", call_id="q1")
    add("cycle", phase="reasoning", number=1, duration_ms=20)
    add("cycle", phase="planning", number=2, duration_ms=500)
    add("cycle", phase="planning", number=3, duration_ms=700)
    add("cycle", phase="reflection", number=4, duration_ms=3)
    add("message", role="user", characters=40, tokens=10, context_tokens=1_000, context_limit=4_000, turn=1)
    add("message", role="assistant", characters=60, tokens=20, context_tokens=3_900, context_limit=4_000)
    add("model_start", call_id="m1", temperature=0.7, **_MODEL)
    add("model_end", call_id="m1", streaming=True, temperature=0.7, finish_reason="max_tokens", duration_ms=9, **_MODEL)
    add("model_end", status="error", error_code="overloaded", finish_reason="stop", **_MODEL)
    add("model_end", status="timeout", **_MODEL)
    add("token_usage", input_tokens=100, output_tokens=28, cost_nano_usd=20_000_000, **_MODEL)
    add("model_switch", from_model="m-1", to_model="m-2")
    add("parameter_change", parameter="temperature", before=0.7, after=0.2)
    add("tool_start", tool="grep", call_id="t1", parallel_group="g", queue_depth=2)
    add("tool_end", tool="grep", call_id="t1", parallel_group="g", queue_depth=1, duration_ms=5)
    add("error", error_type="timeout", component="api", code="504", message="slow")
    add("error", error_type="other", component="store")
    add("rate_limit", endpoint="/v1", result="denied", workspace="w-1", retry_after_ms=1_500)
    add("rate_limit", endpoint="/v1", result="allowed")
    add("degraded", reason="slow disk", component="store")
    add("guard", target="grep", denied_by="breaker", reason="open", verdict_id="v-1", count=3)
    add("cache", cache="prompts", operation="get", result="hit", duration_ms=2)
    add("cache", cache="prompts", operation="get", result="miss", duration_ms=30)
    add("cache", cache="prompts", operation="set", result="error", duration_ms=200)
    add("resource", memory_bytes=1_000, pool_active=1, pool_idle=2, threads_busy=3, threads_total=4, async_tasks=5,
        queue_depth=6, batch_efficiency=0.5, uptime_ms=7_000, cpu=0.25)  # fmt: skip
    add("feedback", quality=0.85, relevance=0.5, satisfaction=1.0, task_completed=True)
    add("feedback", quality=0.1, task_completed=False)
    add("discovery", keyword_hash="h", detail_level="full", results=3, duration_ms=45, cache_hit=True)
    add("discovery", keyword_hash="h", detail_level="full", results=0, duration_ms=5, continued=True)
    add("execution", language="python", duration_ms=900, exit_code=0, peak_memory_bytes=5_000_000, result_bytes=2_000)
    add("execution", language="python", status="error", duration_ms=100, exit_code=2)
    add("sdk_generation", duration_ms=80, tools=12)
    add("filtering", operation="map", input_bytes=10_000, output_bytes=2_000, tokens_saved=2_000, duration_ms=4)
    add("skill", skill="summary", action="saved", language="python")
    add("skill", skill="summary", action="executed", language="python", duration_ms=300)
    add("skill", skill="summary", action="executed", language="python", status="error")
    add("security", action="pii_detected", pattern="email", severity="info", count=3)
    add("security", action="tokenized", pattern="email", severity="info", count=2)
    add("security", action="detokenized", pattern="email", severity="info")
    add("security", action="audit", severity="high")
    add("a2a_start", call_id="a1", **_A2A)
    add("a2a_start", call_id="a2", **_A2A)
    add("a2a_start", call_id="a3", target="scribe", operation="run", session_id=f"{session}-open")
    add("a2a_end", call_id="a1", duration_ms=70, response_bytes=600, **_A2A)
    add("a2a_end", call_id="never", status="error", duration_ms=20_000, response_bytes=200_000, **_A2A)
    add("ccr", provider="p-1", task_type="chat", duration_ms=200, input_tokens=50, output_tokens=9)
    add("ccr", provider="p-1", task_type="code", status="timeout", duration_ms=9_000)
    add("payload", direction="request", body="é" * 10)
    add("payload", direction="response", body="12345", cut_bytes=95)
    add("custom", metric="orders", metric_kind="counter", value=2.5, labels={"size": "L", "shop": "x|y"})
    add("custom", metric="orders", metric_kind="counter", value=1, labels={"shop": "x|y", "size": "L"})
    add("custom", metric="basket_value", metric_kind="histogram", value=7.25, labels={"shop": "x|y"})
    add("custom", metric="stock", metric_kind="gauge", value=-3, labels={"shop": "x|y"})
    add("heartbeat", call_id="q1", partial_tokens=5)
    add("agent_end", call_id="q1", streaming=True, response_bytes=1_234, completed=True, endpoint="/ask",
        duration_ms=4_000)  # fmt: skip
    add("agent_end", endpoint="/ask", status="error", duration_ms=10)
    return made


def session_end(session: str = "rare") -> dict[str, Any]:
    """Return the event that ends the session: one call to another agent is given up."""
    return {
        "kind": "session_end", "id": f"{session}-end", "time": 1_763_724_000_000 + 9_000, "agent": "writer",
        "session_id": session, "tenant": "globex", "reason": "done",
    }  # fmt: skip


def undeclared(session: str = "rare") -> list[dict[str, Any]]:
    """Return custom events that are refused: of no declared metric, of another kind, labels or range."""
    fields: tuple[dict[str, Any], ...] = (
        {"metric": "visits", "metric_kind": "counter", "value": 1},
        {"metric": "orders", "metric_kind": "gauge", "value": 1, "labels": {"shop": "a", "size": "b"}},
        {"metric": "orders", "metric_kind": "counter", "value": 1, "labels": {"shop": "a"}},
        {"metric": "orders", "metric_kind": "counter", "value": -1, "labels": {"shop": "a", "size": "b"}},
        {"metric": "orders", "metric_kind": "counter", "value": 2e9, "labels": {"shop": "a", "size": "b"}},
    )
    return [
        {"kind": "custom", "id": f"{session}-u{number}", "time": 1_763_724_005_000, "agent": "writer",
         "session_id": session, **each}
        for number, each in enumerate(fields)
    ]  # fmt: skip


# What the page says of `rare_events`, `session_end` and nothing else.
_SHOP: Final = {"shop": "x|y"}
_WRITER: Final = {"agent": "writer"}
_HERALD: Final = {"agent": "herald"}
_M1: Final = {"model": "m-1"}
_PY: Final = {"language": "python"}
_SUMMARY: Final = {"skill": "summary", "language": "python"}
_EMAIL: Final = {"pattern": "email", "severity": "info"}
_FULL: Final = {"detail_level": "full"}
EXPECTED: Final[dict[str, list[tuple[dict[str, str], float]]]] = {
    "agent_request_modes_total": [({**_WRITER, "mode": "streaming"}, 1), ({**_WRITER, "mode": "batch"}, 1)],
    "agent_request_tokens_sum": [(_WRITER, 128)],
    "agent_request_tokens_bucket": [({**_WRITER, "le": "64.0"}, 0), ({**_WRITER, "le": "256.0"}, 1)],
    "agent_request_cost_usd_sum": [(_WRITER, 0.02)],
    "agent_request_cost_usd_bucket": [({**_WRITER, "le": "0.01"}, 0), ({**_WRITER, "le": "0.05"}, 1)],
    "agent_request_cycles_sum": [(_WRITER, 4)],
    "agent_response_size_bytes_sum": [(_WRITER, 1_234)],
    "agent_endpoint_requests_total": [
        ({"endpoint": "/ask", "status": "success"}, 1),
        ({"endpoint": "/ask", "status": "error"}, 1),
    ],
    "agent_endpoint_request_duration_seconds_sum": [({"endpoint": "/ask"}, 4.01)],
    "agent_tool_parallel_calls_total": [({"tool": "grep"}, 1)],
    "agent_tool_parallel_uses_total": [({"agent": "writer", "tool": "grep"}, 1)],
    "agent_cycles_total": [({**_WRITER, "phase": "planning"}, 2), ({**_WRITER, "phase": "reflection"}, 1)],
    "agent_cycle_duration_seconds_sum": [({**_WRITER, "phase": "planning"}, 1.2)],
    "agent_messages_total": [({**_WRITER, "role": "user"}, 1), ({**_WRITER, "role": "assistant"}, 1)],
    "agent_conversation_turns_total": [(_WRITER, 1)],
    "agent_message_characters_total": [(_WRITER, 100)],
    "agent_message_tokens_total": [(_WRITER, 30)],
    "agent_context_length_tokens_sum": [(_WRITER, 4_900)],
    "agent_context_used_ratio_bucket": [({**_WRITER, "le": "0.25"}, 1), ({**_WRITER, "le": "0.95"}, 1)],
    "agent_feedback_total": [(_WRITER, 2)],
    "agent_response_quality_score_sum": [(_WRITER, 0.95)],
    "agent_response_quality_score_bucket": [({**_WRITER, "le": "0.1"}, 1), ({**_WRITER, "le": "0.9"}, 2)],
    "agent_response_relevance_score_sum": [(_WRITER, 0.5)],
    "agent_user_satisfaction_score_count": [(_WRITER, 1)],
    "agent_tasks_total": [({**_WRITER, "outcome": "completed"}, 2), ({**_WRITER, "outcome": "failed"}, 1)],
    "agent_task_completion_ratio": [(_WRITER, 2 / 3)],
    "agent_response_quality_mean": [(_WRITER, 0.475)],
    "agent_payloads_total": [({**_WRITER, "direction": "request"}, 1), ({**_WRITER, "direction": "response"}, 1)],
    "agent_payload_size_bytes_total": [({**_WRITER, "direction": "request"}, 20)],
    "agent_payload_cut_bytes_total": [({**_WRITER, "direction": "response"}, 95)],
    "agent_resource_reports_total": [(_WRITER, 1)],
    "agent_session_end_events_total": [({"reason": "done"}, 1)],
    "agent_model_call_modes_total": [({**_M1, "mode": "streaming"}, 1), ({**_M1, "mode": "batch"}, 2)],
    "agent_model_max_tokens_hits_total": [(_M1, 1)],
    "agent_model_sampling_temperature_sum": [(_M1, 0.7)],
    "agent_model_finishes_total": [({**_M1, "reason": "max_tokens"}, 1), ({**_M1, "reason": "stop"}, 1)],
    "agent_model_errors_total": [({**_M1, "code": "overloaded"}, 1), ({**_M1, "code": "timeout"}, 1)],
    "agent_model_switches_total": [({"from_model": "m-1", "to_model": "m-2"}, 1)],
    "agent_parameter_changes_total": [({**_WRITER, "parameter": "temperature"}, 1)],
    "agent_component_errors_total": [
        ({"component": "api", "type": "timeout"}, 1),
        ({"component": "store", "type": "other"}, 1),
    ],
    "agent_degraded_events_total": [({"component": "store", "reason": "slow disk"}, 1)],
    "agent_guard_denials_total": [({"target": "grep", "denied_by": "breaker"}, 3)],
    "agent_a2a_requests_total": [
        ({**_HERALD, "operation": "run", "status": "success"}, 1),
        ({**_HERALD, "operation": "run", "status": "error"}, 1),
    ],
    "agent_a2a_request_duration_seconds_bucket": [
        ({**_HERALD, "operation": "run", "status": "success", "le": "0.05"}, 0),
        ({**_HERALD, "operation": "run", "status": "success", "le": "0.1"}, 1),
        ({**_HERALD, "operation": "run", "status": "error", "le": "10.0"}, 0),
        ({**_HERALD, "operation": "run", "status": "error", "le": "+Inf"}, 1),
    ],
    "agent_a2a_active_tasks": [(_HERALD, 0), ({"agent": "scribe"}, 1)],
    "agent_a2a_started_total": [(_HERALD, 2)],
    "agent_a2a_abandoned_total": [(_HERALD, 1)],
    "agent_a2a_unmatched_total": [(_HERALD, 1)],
    "agent_a2a_response_size_bytes_bucket": [({**_HERALD, "le": "1000.0"}, 1), ({**_HERALD, "le": "100000.0"}, 1)],
    "agent_cache_operations_total": [
        ({"cache": "prompts", "operation": "get", "result": "hit"}, 1),
        ({"cache": "prompts", "operation": "get", "result": "miss"}, 1),
        ({"cache": "prompts", "operation": "set", "result": "error"}, 1),
    ],
    "agent_cache_latency_seconds_bucket": [
        ({"cache": "prompts", "operation": "get", "le": "0.005"}, 1),
        ({"cache": "prompts", "operation": "get", "le": "0.05"}, 2),
        ({"cache": "prompts", "operation": "set", "le": "0.1"}, 0),
    ],
    "agent_rate_limit_hits_total": [
        ({"endpoint": "/v1", "workspace_id": "w-1", "result": "denied"}, 1),
        ({"endpoint": "/v1", "workspace_id": "globex", "result": "allowed"}, 1),
    ],
    "agent_rate_limit_retry_after_seconds_sum": [({"endpoint": "/v1", "workspace_id": "w-1"}, 1.5)],
    "agent_ccr_requests_total": [
        ({"provider": "p-1", "task_type": "chat", "status": "success"}, 1),
        ({"provider": "p-1", "task_type": "code", "status": "timeout"}, 1),
    ],
    "agent_ccr_latency_seconds_bucket": [({"provider": "p-1", "le": "0.25"}, 1), ({"provider": "p-1", "le": "2.5"}, 1)],
    "agent_ccr_tokens_total": [
        ({"provider": "p-1", "direction": "input"}, 50),
        ({"provider": "p-1", "direction": "output"}, 9),
    ],
    "agent_discovery_queries_total": [({**_FULL, "result": "found"}, 1), ({**_FULL, "result": "empty"}, 1)],
    "agent_discovery_results_total": [(_FULL, 3)],
    "agent_discovery_cache_hits_total": [(_FULL, 1)],
    "agent_discovery_continued_total": [(_FULL, 1)],
    "agent_discovery_duration_seconds_sum": [(_FULL, 0.05)],
    "agent_executions_total": [({**_PY, "status": "success"}, 1), ({**_PY, "status": "error"}, 1)],
    "agent_execution_failed_exits_total": [(_PY, 1)],
    "agent_execution_duration_seconds_sum": [(_PY, 1.0)],
    "agent_execution_memory_bytes_sum": [(_PY, 5_000_000)],
    "agent_execution_result_bytes_sum": [(_PY, 2_000)],
    "agent_sdk_generations_total": [(_WRITER, 1)],
    "agent_sdk_tools_total": [(_WRITER, 12)],
    "agent_sdk_generation_duration_seconds_sum": [(_WRITER, 0.08)],
    "agent_filtering_operations_total": [({"operation": "map"}, 1)],
    "agent_filtering_input_bytes_total": [({"operation": "map"}, 10_000)],
    "agent_filtering_output_bytes_total": [({"operation": "map"}, 2_000)],
    "agent_context_saved_tokens_total": [({"operation": "map"}, 2_000)],
    "agent_filtering_duration_seconds_sum": [({"operation": "map"}, 0.004)],
    "agent_skills_saved_total": [(_SUMMARY, 1)],
    "agent_skill_executions_total": [({**_SUMMARY, "status": "success"}, 1), ({**_SUMMARY, "status": "error"}, 1)],
    "agent_skill_duration_seconds_sum": [(_SUMMARY, 0.3)],
    "agent_pii_detections_total": [(_EMAIL, 3)],
    "agent_pii_tokenized_total": [(_EMAIL, 2)],
    "agent_pii_detokenized_total": [(_EMAIL, 1)],
    "agent_security_audits_total": [({"pattern": "unknown", "severity": "high"}, 1)],
    "agent_custom_orders_total": [({**_SHOP, "size": "L"}, 3.5)],
    "agent_custom_basket_value_bucket": [({**_SHOP, "le": "1.0"}, 0), ({**_SHOP, "le": "10.0"}, 1)],
    "agent_custom_basket_value_sum": [(_SHOP, 7.25)],
}
