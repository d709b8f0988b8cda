"""Who is to be told about which alerts, and how?  A YAML text into frozen receivers, with every fault at once.

Never opens a file and never holds a secret: those are named by the files they are in.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from streams.rule.faults import Faults, Form
from streams.rule.inhibition import RULES_MAX, Inhibition, read_inhibition
from streams.rule.linear import Linear
from streams.rule.records import AlertRecord
from streams.rule.yamltext import load_yaml

RECEIVERS_MAX: Final = 32  # each has a connection and a memory of every alert it was told
MATCHERS_MAX: Final = 16
VALUES_MAX: Final = 64
TEXT_CHARS_MAX: Final = 2_048
NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")  # it is a label of metrics and a part of keys
HTTP_URL: Final = re.compile(r"https?://[^\s/?#]+[^\s#]*")
REDIS_URL: Final = re.compile(r"(rediss?|unix)://\S+")
RESEND_MS: Final = 60_000  # Prometheus's own
TIMEOUT_MS: Final = 10_000
BACKOFF_LIMIT_MS: Final = 60_000

ReceiverKind: TypeAlias = Literal["alertmanager", "webhook", "slack", "redis"]
KINDS: Final[tuple[ReceiverKind, ...]] = ("alertmanager", "webhook", "slack", "redis")
RESENT: Final = ("alertmanager", "redis")  # they hold what fires, and may lose it; people are told once
REPEAT_LEAST_MS: Final = 60_000  # more often than every minute nobody reads it
_COMMON: Final = (
    "name", "kind", "url", "url_file", "equals", "matches", "send_resolved", "send_suppressed", "timeout",
    "retry_limit",
)  # fmt: skip
_OF_KIND: Final[Mapping[str, tuple[str, ...]]] = {
    "alertmanager": ("bearer_token_file", "resend"),
    "webhook": ("bearer_token_file", "secret_file", "repeat"),
    "slack": ("repeat",),
    "redis": ("resend",),
}


class Matcher(Struct, frozen=True):
    """What one label must be: one of `values`, or what `expression` matches; a missing label is empty."""

    label: str
    values: tuple[str, ...] = ()
    expression: Linear | None = None

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Say whether these labels have it."""
        value = labels.get(self.label, "")
        return value in self.values if self.expression is None else self.expression.matches(value)


class Receiver(Struct, frozen=True, kw_only=True):
    """One receiver; without matchers it gets everything. Exactly one of `url` and `url_file` is there."""

    name: str
    kind: ReceiverKind
    url: str = ""
    url_file: str = ""
    secret_file: str = ""
    bearer_token_file: str = ""
    generator_url: str = ""
    matchers: tuple[Matcher, ...] = ()
    send_resolved: bool = True
    send_suppressed: bool = False  # also what is silenced or inhibited
    resend_ms: int = 0  # what holds state is told again this often; 0: each state is sent once
    repeat_ms: int = 0  # people are told again this often what still fires and nobody has acknowledged; 0: once
    timeout_ms: int = TIMEOUT_MS
    backoff_limit_ms: int = BACKOFF_LIMIT_MS

    def wants(self, record: AlertRecord) -> bool:
        """Say whether every matcher holds for this alert."""
        if not self.matchers:
            return True
        labels = routing_labels(record)
        return all(matcher.holds(labels) for matcher in self.matchers)


def routing_labels(record: AlertRecord) -> dict[str, str]:
    """Return what matchers can name: the alert's labels, `alert` (or `alertname`), `severity` and `over`."""
    own = {"alert": record.alert, "alertname": record.alert, "severity": record.severity, "over": record.over}
    return {**record.labels, **own}


class Notices(NamedTuple):
    """What a receivers file says: who is told, and what is not told while something else fires."""

    receivers: tuple[Receiver, ...] = ()
    inhibitions: tuple[Inhibition, ...] = ()


def parse_receivers(text: str) -> tuple[Receiver, ...]:
    """Read a receivers file. Raises ConfigError with every fault."""
    faults = Faults()
    found = read_receivers(text, faults)
    faults.settle("the receivers cannot be used")
    return found


def read_receivers(text: str, faults: Faults) -> tuple[Receiver, ...]:
    """Read the receivers of a receivers file; what is wrong is noted."""
    return read_notices(text, faults).receivers


def read_notices(text: str, faults: Faults) -> Notices:
    """Read a receivers file; what is wrong is noted."""
    data = load_yaml(text, faults, "receivers")
    if faults:
        return Notices()
    if not isinstance(data, dict):
        faults.note("receivers", data, "a mapping with a list called receivers", "write receivers: and the list below")
        return Notices()
    top = Form(faults, "the file", data)
    top.only(("receivers", "generator_url", "inhibit_rules"))
    return Notices(_receivers(top, faults), _inhibitions(top, faults))


def _inhibitions(top: Form, faults: Faults) -> tuple[Inhibition, ...]:
    entries = top.raw("inhibit_rules")
    if entries is None:
        return ()
    if not isinstance(entries, list) or len(entries) > RULES_MAX:
        top.fault("inhibit_rules", f"a list of up to {RULES_MAX} rules", "write - source_matchers: … below it")
        return ()
    found: list[Inhibition] = []
    for number, entry in enumerate(entries, 1):
        if isinstance(entry, dict):
            found.append(read_inhibition(Form(faults, f"inhibit_rules {number}", entry)))
        else:
            step = "write source_matchers: and target_matchers:"
            faults.note(f"inhibit_rules {number}", entry, "a mapping", step)
    return tuple(found)


def _receivers(top: Form, faults: Faults) -> tuple[Receiver, ...]:
    link = _url(top, "generator_url", HTTP_URL, "http:// or https://") if top.has("generator_url") else ""
    entries = top.raw("receivers")
    if not isinstance(entries, list) or not 0 < len(entries) <= RECEIVERS_MAX:
        top.fault("receivers", f"a list of 1 to {RECEIVERS_MAX} receivers", "write - name: … below receivers:")
        return ()
    found: list[Receiver] = []
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            faults.note(f"receiver {number}", entry, "a mapping", "write name:, kind: and url:")
            continue
        receiver = _receiver(Form(faults, f"receiver {entry.get('name', number)}", entry), link)
        if receiver.name and any(other.name == receiver.name for other in found):
            faults.note(f"receiver {number}, name", receiver.name, "each name once", "rename one of the two")
        found.append(receiver)
    return tuple(found)


def _receiver(form: Form, link: str) -> Receiver:
    kind: Any = form.choice("kind", KINDS, None)
    form.only((*_COMMON, *_OF_KIND.get(kind, ("bearer_token_file", "secret_file", "resend", "repeat"))))
    name = form.text("name", None, chars_max=64)
    if name and not NAME.fullmatch(name):
        form.fault("name", "letters, digits, - and _", "rename it")
    url, url_file = _where(form, kind)
    if kind == "webhook" and not form.has("secret_file"):
        form.fault("secret_file", "a file with the secret that signs", "write secret_file: and its path")
    resend_ms = form.duration("resend", RESEND_MS, least_ms=1_000) if kind in RESENT else 0
    repeats = kind not in RESENT and form.has("repeat")
    return Receiver(
        name=name,
        kind=kind,
        url=url,
        url_file=url_file,
        secret_file=form.text("secret_file", "", chars_max=TEXT_CHARS_MAX),
        bearer_token_file=form.text("bearer_token_file", "", chars_max=TEXT_CHARS_MAX),
        generator_url=link,
        matchers=(*_equals(form), *_matches(form)),
        send_resolved=_switch(form, "send_resolved"),
        # A Redis is read by programs: what is silenced for people still is so.
        send_suppressed=_switch(form, "send_suppressed", default=kind == "redis"),
        resend_ms=resend_ms,
        repeat_ms=form.duration("repeat", 0, least_ms=REPEAT_LEAST_MS) if repeats else 0,
        timeout_ms=form.duration("timeout", TIMEOUT_MS, least_ms=100),
        backoff_limit_ms=form.duration("retry_limit", BACKOFF_LIMIT_MS, least_ms=500),
    )


def _where(form: Form, kind: str) -> tuple[str, str]:
    if form.has("url") == form.has("url_file"):
        step = "leave one of the two out" if form.has("url") else "write url: and the address"
        form.faults.note(f"{form.place}, url", None, "either url or url_file", step)
        return "", ""
    if form.has("url_file"):
        return "", form.text("url_file", None, chars_max=TEXT_CHARS_MAX)
    shape, words = url_shape(kind)
    return _url(form, "url", shape, words), ""


def url_shape(kind: str) -> tuple[re.Pattern[str], str]:
    """Return what an address of this kind looks like, and that in words."""
    return (REDIS_URL, "redis://, rediss:// or unix://") if kind == "redis" else (HTTP_URL, "http:// or https://")


def _url(form: Form, key: str, shape: re.Pattern[str], words: str) -> str:
    url = form.text(key, None, chars_max=TEXT_CHARS_MAX)
    authority = url.partition("://")[2].partition("/")[0]
    if url and "@" in authority:
        # The value is not repeated: it holds a password.
        place, wanted = f"{form.place}, {key}", "an address without a login"
        form.faults.note(place, "(hidden)", wanted, f"put the whole address into a file and write {key}_file:")
    elif url and not shape.fullmatch(url):
        form.fault(key, f"an address that begins with {words}", f"correct {key}:")
    return url


def _switch(form: Form, key: str, *, default: bool = True) -> bool:
    value = form.raw(key)
    if value is not None and not isinstance(value, bool):
        form.fault(key, "true or false", f"write {key}: true")
    return value if isinstance(value, bool) else default


def _matcher_table(form: Form, key: str) -> dict[str, Any]:
    value = form.raw(key)
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > MATCHERS_MAX or not all(isinstance(each, str) for each in value):
        form.fault(key, f"labels and what they must be, up to {MATCHERS_MAX}", f"write {key}: {{severity: …}}")
        return {}
    return value


def _equals(form: Form) -> tuple[Matcher, ...]:
    found = []
    for label, given in _matcher_table(form, "equals").items():
        values = given if isinstance(given, list) else [given]
        if not 0 < len(values) <= VALUES_MAX or not all(isinstance(each, str) for each in values):
            expected = f"a text, or a list of up to {VALUES_MAX} texts"
            form.faults.note(f"{form.place}, equals, {label}", given, expected, "put each value in quotes")
            continue
        found.append(Matcher(label, tuple(values)))
    return tuple(found)


def _matches(form: Form) -> tuple[Matcher, ...]:
    found = []
    for label, given in _matcher_table(form, "matches").items():
        place, expected = f"{form.place}, matches, {label}", "an expression that matches in linear time"
        if not isinstance(given, str):
            form.faults.note(place, given, expected, "put it in quotes")
            continue
        try:
            found.append(Matcher(label, expression=Linear(given)))
        except ValueError as error:
            form.faults.note(place, given, expected, f"correct it ({error})")
    return tuple(found)
