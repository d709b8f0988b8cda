"""The receivers file: what it says, and every fault of it at once."""

import pytest
from noticed import record

from streams.errors import ConfigError
from streams.rule.faults import Faults
from streams.rule.inhibition import Inhibition
from streams.rule.linear import Linear
from streams.rule.matcher import read_matcher
from streams.rule.receivers import Matcher, parse_receivers, read_notices

WHOLE = """
generator_url: https://grafana.example/d/agents
receivers:
  - {name: prom, kind: alertmanager, url: "http://localhost:9093", resend: 30s, bearer_token_file: /t}
  - name: oncall
    kind: webhook
    url_file: /run/url
    secret_file: /run/secret
    equals: {severity: [critical, page], tool: search}
    matches: {alert: "Tool.*"}
    timeout: 2s
  - {name: chat, kind: slack, url_file: /run/slack, send_resolved: false}
  - {name: agents, kind: redis, url: "redis://localhost:6379/0"}
"""


def test_a_file_is_read() -> None:
    prom, oncall, chat, agents = parse_receivers(WHOLE)

    assert ("alertmanager", "http://localhost:9093", 30_000, "/t") == (
        prom.kind, prom.url, prom.resend_ms, prom.bearer_token_file,
    )  # fmt: skip
    assert "https://grafana.example/d/agents" == prom.generator_url
    assert (
        Matcher("severity", ("critical", "page")),
        Matcher("tool", ("search",)),
        Matcher("alert", expression=Linear("Tool.*")),
    ) == oncall.matchers
    assert ("/run/url", "/run/secret", 2_000, 0) == (
        oncall.url_file, oncall.secret_file, oncall.timeout_ms, oncall.resend_ms,
    )  # fmt: skip
    assert not chat.send_resolved
    assert 60_000 == agents.resend_ms


def test_every_matcher_must_hold_and_a_missing_label_is_empty() -> None:
    (_, oncall, chat, _) = parse_receivers(WHOLE)

    assert oncall.wants(record("search"))
    assert not oncall.wants(record("search", severity="warning"))
    assert not oncall.wants(record("other"))
    assert not oncall.wants(record("search", alert="SessionSlow"))
    assert chat.wants(record("anything"))
    assert Matcher("team", ("",)).holds({})
    assert not Matcher("team", expression=Linear(".+")).holds({})


def test_all_faults_are_named_at_once_and_no_password_is() -> None:
    text = """
recievers: 1
receivers:
  - {name: "a b", kind: webhook, url: "ftp://x"}
  - {name: twice, kind: pager, url: "http://x"}
  - {name: twice, kind: slack, url: "https://me:hunter2@x/", url_file: /x}
  - {name: login, kind: redis, url: "redis://:hunter2@localhost"}
  - {name: regex, kind: slack, url: "http://x", matches: {tool: "(a)\\\\1", team: 3}, equals: {severity: [1]}}
  - {name: keys, kind: slack, url: "http://x", resend: 1m, secret_file: /x, send_resolved: maybe}
  - 7
"""
    with pytest.raises(ConfigError) as raised:
        parse_receivers(text)
    said = str(raised.value)

    for place in (
        "the file, recievers", "receiver a b, name", "receiver a b, url", "receiver a b, secret_file",
        "receiver twice, kind", "receiver twice, url", "name = 'twice'", "receiver login, url = '(hidden)'",
        "receiver regex, matches, tool", "receiver regex, matches, team", "receiver regex, equals, severity",
        "receiver keys, resend", "receiver keys, secret_file", "receiver keys, send_resolved", "receiver 7",
    ):  # fmt: skip
        assert place in said
    assert "hunter2" not in said


@pytest.mark.parametrize("text", ["", "[]", "receivers: []", "receivers: 3", "receivers: [", "receivers: {}"])
def test_a_file_without_receivers_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="receivers"):
        parse_receivers(text)


def test_inhibition_and_repeats_are_read_beside_the_receivers() -> None:
    faults = Faults()
    notices = read_notices(
        WHOLE.replace("send_resolved: false", "send_resolved: false, repeat: 4h, send_suppressed: true")
        + """
inhibit_rules:
  - {source_matchers: [severity=critical], target_matchers: ['severity=~"warning|info"'], equal: [tool]}
""",
        faults,
    )
    prom, oncall, chat, agents = notices.receivers

    assert not faults
    assert [
        Inhibition((read_matcher("severity=critical"),), (read_matcher("severity=~warning|info"),), ("tool",))
    ] == list(notices.inhibitions)
    assert [0, 0, 4 * 3_600_000, 0] == [each.repeat_ms for each in notices.receivers]
    assert [False, False, True, True] == [each.send_suppressed for each in (prom, oncall, chat, agents)]


def test_faults_of_inhibition_and_of_repeats_are_named_with_those_of_receivers() -> None:
    text = """
receivers:
  - {name: am, kind: alertmanager, url: "http://x", repeat: 1h}
  - {name: chat, kind: slack, url: "http://x", repeat: 1s, send_suppressed: perhaps}
inhibit_rules:
  - {source_matchers: ["severity"], target_matchers: ["tool=~(a)\\\\1"], equal: tool, sources: []}
  - all
"""
    faults = Faults()
    read_notices(text, faults)

    assert {
        "receiver am, repeat", "receiver chat, repeat", "receiver chat, send_suppressed",
        "inhibit_rules 1, source_matchers", "inhibit_rules 1, target_matchers", "inhibit_rules 1, equal",
        "inhibit_rules 1, sources", "inhibit_rules 2",
    } == {fault.place for fault in faults}  # fmt: skip
