"""From bytes of a request to records of the events topic, and back to what the sender is told."""

import gzip
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_made import BEGAN_NS
from otlp_recording import GOLDEN

from streams.event.codec import decode_record
from streams.event.redact import REDACTOR
from streams.worker.ingest_codec import Translator, answer, failure, looks_like_json
from streams.worker.ingest_records import Signal, TooLarge, unpack

LIMIT = 10_000


def request(attributes: dict[str, Any], *, message: str = "") -> bytes:
    """Return a request with one failed call of a tool."""
    made = ExportTraceServiceRequest()
    span = made.resource_spans.add().scope_spans.add().spans.add(
        trace_id=b"\x01" * 16, span_id=b"\x02" * 8, name="x", start_time_unix_nano=BEGAN_NS,
        end_time_unix_nano=BEGAN_NS + 5, status={"code": 2, "message": message},
    )  # fmt: skip
    for key, value in attributes.items():
        kind = {str: "string_value", int: "int_value", float: "double_value", bool: "bool_value"}[type(value)]
        setattr(span.attributes.add(key=key).value, kind, value)
    return made.SerializeToString()


TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "mail"}


@pytest.mark.parametrize("name", [file.stem for file in sorted(GOLDEN.glob("*.pb"))])
def test_records_are_keyed_by_session_and_workers_take_every_event(name: str) -> None:
    carried = Translator(REDACTOR).carry(Signal.TRACES, (GOLDEN / f"{name}.pb").read_bytes(), as_json=False)
    decoded = [(record, decode_record(record.value)) for record in carried.records]

    assert not [each for _, found in decoded for each in found.rejected]
    assert carried.events == sum(len(found.events) for _, found in decoded) > 0
    assert 0 == carried.refused
    for record, found in decoded:
        assert {record.key.decode()} == {event.session_id for event in found.events}
        assert {(None, None)} == {(event.source, event.seq) for event in found.events}


def test_a_session_too_long_for_an_event_is_cut_in_the_key_too() -> None:
    (record,) = Translator(None).carry(Signal.TRACES, request({**TOOL, "session.id": "x" * 999}), as_json=False).records

    assert {record.key.decode()} == {event.session_id for event in decode_record(record.value).events}


def test_messages_of_errors_are_redacted() -> None:
    carried = Translator(REDACTOR).carry(Signal.TRACES, request(TOOL, message="to a@example.org"), as_json=False)

    assert b"example.org" not in carried.records[0].value
    assert b"[email]" in carried.records[0].value


@given(
    st.dictionaries(
        st.sampled_from([
            "gen_ai.operation.name", "gen_ai.request.model", "gen_ai.provider.name", "gen_ai.usage.input_tokens",
            "gen_ai.conversation.id", "gen_ai.agent.name", "gen_ai.tool.name", "gen_ai.request.temperature",
            "gen_ai.response.time_to_first_chunk", "error.type", "user.id", "tenant", "openinference.span.kind",
            "gen_ai.usage.cost", "gen_ai.tool.call.arguments", "llm.invocation_parameters", "mcp.method.name",
        ]),
        st.text(max_size=400) | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.booleans()
        | st.sampled_from(["chat", "execute_tool", "invoke_agent", "LLM", "tools/call", "{}"]),
    )
)  # fmt: skip
def test_whatever_attributes_hold_is_sent_as_workers_take_it_or_counted_as_refused(attributes: dict[str, Any]) -> None:
    carried = Translator(REDACTOR).carry(Signal.TRACES, request({**TOOL, **attributes}), as_json=False)

    for record in carried.records:
        assert not decode_record(record.value).rejected
    assert 1 == carried.items


def test_gzip_is_unpacked_up_to_the_limit_in_all_its_parts() -> None:
    assert b"ab" == unpack(gzip.compress(b"a") + gzip.compress(b"b"), LIMIT)
    assert bytes(LIMIT) == unpack(gzip.compress(bytes(LIMIT)), LIMIT)
    with pytest.raises(TooLarge):
        unpack(gzip.compress(bytes(LIMIT + 1)), LIMIT)
    with pytest.raises(TooLarge):
        unpack(gzip.compress(bytes(LIMIT)) + gzip.compress(b"b"), LIMIT)


@pytest.mark.parametrize(
    "body", [b"words", gzip.compress(b"cut", mtime=0)[:-3], gzip.compress(b"x", mtime=0) + b"rest"]
)
def test_what_is_no_gzip_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="gzip"):
        unpack(body, LIMIT)


def test_json_is_told_from_protobuf_by_its_first_byte() -> None:
    assert looks_like_json(b'{"resourceSpans": []}')
    assert not looks_like_json(request(TOOL))
    assert not looks_like_json(b"")


@pytest.mark.parametrize("signal", Signal)
def test_an_answer_names_what_was_rejected(signal: Signal) -> None:
    good = Translator(None).carry(signal, b"{}", as_json=True)
    bad = good._replace(rejected=2, reason="why")

    assert (b"{}", b"") == (answer(signal, good, as_json=True), answer(signal, good, as_json=False))
    assert "why" == json.loads(answer(signal, bad, as_json=True))["partialSuccess"]["errorMessage"]
    assert b"why" in answer(signal, bad, as_json=False)


def test_a_failure_is_a_status_of_grpc_however_long_the_reason() -> None:
    said = failure(3, "x" * 1000, as_json=False)

    assert b"\x08\x03\x12\xf4\x03" + b"x" * 500 == said
    assert {"code": 3, "message": "no"} == msgspec.json.decode(failure(3, "no", as_json=True))
