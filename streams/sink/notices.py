"""What is a receiver told about an alert?  Records into the bodies that Alertmanager, webhooks and Slack take.  Pure.

Never sends anything and never reads a clock: the moment of sending is an argument.
Alertmanager: its API v2. Webhooks: Standard Webhooks 1.0 (id, timestamp, HMAC-SHA256 over both and the body).
"""

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from streams.rule.records import AlertRecord, rfc3339

ALERTMANAGER_PATH: Final = "/api/v2/alerts"
STALE_AFTER: Final = 4  # resends that may fail before Alertmanager holds an alert for resolved: Prometheus's own
SECRET_PREFIX: Final = "whsec_"  # noqa: S105  how Standard Webhooks marks a secret in base64
SECRET_BYTES_MIN: Final = 16
TEXT_CHARS_MAX: Final = 3_000  # Slack's own limit of a block of text
JSON: Final = "application/json"
# What chats show as colours; a severity we do not know is grey.
_COLOURS: Final = {"critical": "#d32f2f", "error": "#d32f2f", "warning": "#f9a825", "info": "#1976d2"}
_RESOLVED_COLOUR: Final = "#2e7d32"
_GREY: Final = "#757575"

_encode: Final = msgspec.json.Encoder().encode


# ---- Alertmanager ----------------------------------------------------------------------------------------------


def alertmanager_body(records: Sequence[AlertRecord], *, now_ms: int, resend_ms: int, generator_url: str = "") -> bytes:
    """Return the body of POST /api/v2/alerts.

    What fires ends in the future, STALE_AFTER resends from now; what is resolved ended when it was, but never later
    than now, because event time may be ahead of Alertmanager's clock.
    """
    return _encode([_posted(record, now_ms, resend_ms, generator_url) for record in records])


def _posted(record: AlertRecord, now_ms: int, resend_ms: int, generator_url: str) -> dict[str, Any]:
    if record.state == "resolved":
        ended_ms = record.time_ms if record.resolved_ms is None else record.resolved_ms
        ends_ms = min(ended_ms, now_ms)
    else:
        ends_ms = now_ms + STALE_AFTER * resend_ms
    since_ms = record.active_since_ms if record.fired_ms is None else record.fired_ms
    posted = {
        "labels": alertmanager_labels(record),
        "annotations": _annotations(record),
        "startsAt": rfc3339(min(since_ms, ends_ms)),
        "endsAt": rfc3339(ends_ms),
    }
    return {**posted, "generatorURL": generator_url} if generator_url else posted


def alertmanager_labels(record: AlertRecord) -> dict[str, str]:
    """Return an alert's identity there; Prometheus calls its name `alertname`."""
    own = {"alertname": record.alert, "severity": record.severity, "over": record.over}
    return {name: value for name, value in {**record.labels, **own}.items() if value}


def _annotations(record: AlertRecord) -> dict[str, str]:
    given = {
        "summary": record.summary,
        "description": record.description,
        "value": record.value_text,
        "limit": record.limit_text,
        "reason": record.reason,
        "fingerprint": record.fingerprint,
    }
    return {name: value for name, value in given.items() if value}


# ---- webhooks --------------------------------------------------------------------------------------------------


def webhook_body(record: AlertRecord) -> bytes:
    """Return what a webhook gets: the type of event, when it was, and the record of the alert topic as it is."""
    return _encode({"type": f"alert.{record.state}", "timestamp": rfc3339(record.time_ms), "data": record})


def webhook_headers(record: AlertRecord, body: bytes, key: bytes, *, now_ms: int) -> dict[str, str]:
    """Return the headers that name, date and sign a body; every attempt is dated anew, the id stays."""
    stamp = str(now_ms // 1000)
    return {
        "Content-Type": JSON,
        "webhook-id": record.id,
        "webhook-timestamp": stamp,
        "webhook-signature": signature(record.id, stamp, body, key),
    }


def signature(message_id: str, stamp: str, body: bytes, key: bytes) -> str:
    """Sign as Standard Webhooks 1.0 says: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`."""
    digest = hmac.digest(key, b".".join([message_id.encode(), stamp.encode(), body]), "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"


def signing_key(secret: str) -> bytes:
    """Return the key of a secret: base64 after `whsec_`, else the text itself. Raises ValueError, without the value."""
    if not secret.startswith(SECRET_PREFIX):
        key = secret.encode()
    else:
        try:
            key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except binascii.Error:
            raise ValueError(f"what follows {SECRET_PREFIX} is no base64") from None
    if len(key) < SECRET_BYTES_MIN:
        raise ValueError(f"{len(key)} bytes, fewer than {SECRET_BYTES_MIN}")
    return key


# ---- chats -----------------------------------------------------------------------------------------------------


def slack_body(record: AlertRecord) -> bytes:
    """Return what Slack's incoming webhooks take, and Mattermost's, Rocket.Chat's and others' that follow them."""
    over = record.state == "resolved"
    head = _text(f"{'Resolved' if over else record.severity.capitalize()}: {record.alert}")
    fields = {
        **record.labels,
        "value": record.value_text,
        "limit": record.limit_text or "",
        "reason": record.reason or "",
    }
    shown = [{"title": _text(name), "value": _text(value), "short": True} for name, value in fields.items() if value]
    since_ms = record.active_since_ms if record.fired_ms is None else record.fired_ms
    return _encode(
        {
            "text": head,
            "attachments": [
                {
                    "color": _RESOLVED_COLOUR if over else _COLOURS.get(record.severity, _GREY),
                    "fallback": _text(f"{record.alert}: {record.summary}"),
                    "title": _text(record.summary or record.alert),
                    "text": _text(record.description),
                    "fields": shown,
                    "footer": f"since {rfc3339(since_ms)} · {record.fingerprint}",
                    "ts": record.time_ms // 1000,
                }
            ],
        }
    )


def _text(text: str) -> str:
    """Escape what Slack would read as a link or a mention, and cut what it would refuse."""
    cut = text if len(text) <= TEXT_CHARS_MAX else text[: TEXT_CHARS_MAX - 1] + "…"
    return cut.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
