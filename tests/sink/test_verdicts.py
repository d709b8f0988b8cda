"""Who has taken what on: counted beside the alerts, never as one of them."""

import msgspec
from noticed import record

from streams.rule.acknowledgement import StoredAcknowledgement, acknowledged_message, unacknowledged_message
from streams.sink.metric import Sample
from streams.sink.verdicts import Alerts


def taken_on(fingerprint: str, incarnation: int = 1) -> StoredAcknowledgement:
    return StoredAcknowledgement(0, "c", fingerprint, incarnation, 0, 1_000, "ada")


def taken(alerts: Alerts) -> list[Sample]:
    return alerts.samples()["agent_alerts_acknowledged"]


def test_an_acknowledged_alert_counts_while_this_life_of_it_fires() -> None:
    alerts = Alerts(0)
    alerts.take(b"a", msgspec.json.encode(record("a")))
    message = acknowledged_message(taken_on("a"))
    assert [Sample(("ToolFailing", "critical"), 0)] == taken(alerts)
    alerts.take(message.key, message.value)
    assert [Sample(("ToolFailing", "critical"), 1)] == taken(alerts)
    assert 1 == sum(sample.value for sample in alerts.samples()["agent_alerts"])

    alerts.take(b"a", msgspec.json.encode(record("a", "resolved", 2)))
    assert [Sample(("ToolFailing", "critical"), 0)] == taken(alerts)
    alerts.take(b"a", msgspec.json.encode(record("a", incarnation=2)))
    assert [Sample(("ToolFailing", "critical"), 0)] == taken(alerts), "a new life is news"


def test_what_is_given_back_or_cannot_be_read_does_not_count() -> None:
    alerts = Alerts(0)
    alerts.take(b"a", msgspec.json.encode(record("a")))
    for message in (acknowledged_message(taken_on("a")), unacknowledged_message(taken_on("a"), 5)):
        alerts.take(message.key, message.value)
    alerts.take(b"ack/a", b"{}")

    assert [Sample(("ToolFailing", "critical"), 0)] == taken(alerts)
    assert 1 == alerts.unreadable
