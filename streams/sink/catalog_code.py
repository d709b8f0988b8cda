"""Which metrics tell how agents that write code do: search, execution, filtering, skills, personal data.  Data only."""

from typing import Final

from streams.event.model import CALL_STATUSES
from streams.fold.measure import DISCOVERY, EXECUTION, FILTERING, SDK, SECURITY, SKILL
from streams.sink.metric import by, durations, observed, plain

OF_CODE: Final = (
    by(
        "agent_discovery_queries_total",
        DISCOVERY,
        "Searches for tools, by whether they found any.",
        "result",
        {"found": "discovery_found", "empty": "discovery_empty"},
        seeds=("vtcode_discovery_queries_total",),
    ),
    plain("agent_discovery_results_total", DISCOVERY, "Tools that searches have found.", ("discovery_results",)),
    plain(
        "agent_discovery_cache_hits_total",
        DISCOVERY,
        "Searches for tools that a cache answered.",
        ("discovery_cache_hits",),
    ),
    plain(
        "agent_discovery_continued_total",
        DISCOVERY,
        "Searches for tools that went on from an earlier one.",
        ("discovery_continued",),
    ),
    durations("agent_discovery_duration_seconds", DISCOVERY, "How long searches for tools took.", "discovery_duration"),
    by(
        "agent_executions_total",
        EXECUTION,
        "Pieces of code that were run.",
        "status",
        {status: f"executions_{status}" for status in CALL_STATUSES},
    ),
    plain(
        "agent_execution_failed_exits_total",
        EXECUTION,
        "Pieces of code that ended with an exit code other than 0.",
        ("execution_failed_exits",),
    ),
    durations(
        "agent_execution_duration_seconds",
        EXECUTION,
        "How long pieces of code ran.",
        "execution_duration",
        seeds=("vtcode_execution_duration_ms",),
    ),
    observed(
        "agent_execution_memory_bytes", EXECUTION, "The most memory that a piece of code had.", "execution_memory"
    ),
    observed("agent_execution_result_bytes", EXECUTION, "How large the results of code were.", "execution_result"),
    plain("agent_sdk_generations_total", SDK, "SDKs generated for sets of tools.", ("sdk_generations",)),
    plain("agent_sdk_tools_total", SDK, "Tools that SDKs were generated for.", ("sdk_tools",)),
    durations("agent_sdk_generation_duration_seconds", SDK, "How long it took to generate an SDK.", "sdk_duration"),
    plain(
        "agent_filtering_operations_total",
        FILTERING,
        "Times that data was reduced before a model saw it.",
        ("filterings",),
    ),
    plain(
        "agent_filtering_input_bytes_total",
        FILTERING,
        "Data before it was reduced.",
        ("filtering_input_bytes",),
        unit="bytes",
    ),
    plain(
        "agent_filtering_output_bytes_total",
        FILTERING,
        "Data after it was reduced.",
        ("filtering_output_bytes",),
        unit="bytes",
    ),
    plain(
        "agent_context_saved_tokens_total",
        FILTERING,
        "What models did not have to read because data was reduced.",
        ("tokens_saved",),
        unit="tokens",
        seeds=("vtcode_context_tokens_saved",),
    ),
    durations("agent_filtering_duration_seconds", FILTERING, "How long reducing data took.", "filtering_duration"),
    plain("agent_skills_saved_total", SKILL, "Times that a skill was saved.", ("skills_saved",)),
    by(
        "agent_skill_executions_total",
        SKILL,
        "Times that a skill was executed.",
        "status",
        {status: f"skills_{status}" for status in CALL_STATUSES},
    ),
    durations("agent_skill_duration_seconds", SKILL, "How long executions of a skill took.", "skill_duration"),
    plain(
        "agent_pii_detections_total",
        SECURITY,
        "Pieces of personal data that were found.",
        ("pii_detected",),
        seeds=("vtcode_pii_detections_total",),
    ),
    plain("agent_pii_tokenized_total", SECURITY, "Pieces of data replaced by a token.", ("tokenized",)),
    plain("agent_pii_detokenized_total", SECURITY, "Tokens replaced by the data they stand for.", ("detokenized",)),
    plain("agent_security_audits_total", SECURITY, "Lines written to an audit.", ("audit",)),
)
