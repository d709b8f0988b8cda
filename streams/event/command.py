"""What can an operator ask of running workers, and how do bytes become that?  One command per record.

Never raises on input, and never knows which dimensions, metrics or rules there are: the stage that takes it does.
"""

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from streams.event.codec import Reason, Rejected, explain, time_ms
from streams.event.model import NAME_CHARS_MAX, Id, Name, Time

COMMAND_BYTES_MAX: Final = 64 * 1024  # the largest valid one is about 30 kB, most of it patterns
COMMAND_SCHEMA: Final = 1
NOTE_CHARS_MAX: Final = 1024
LABELS_MAX: Final = 8  # no dimension has as many columns
PATTERNS_MAX: Final = 64
RULES_CHARS_MAX: Final = 48 * 1024  # three quarters of a command: JSON writes line ends and quotes as two bytes
MATCHERS_MAX: Final = 16  # each is held against every alert
MATCHER_CHARS_MAX: Final = 512  # as long as an expression may be

Note: TypeAlias = Annotated[str, Meta(max_length=NOTE_CHARS_MAX)]
Labels: TypeAlias = Annotated[dict[Name, Annotated[str, Meta(max_length=NAME_CHARS_MAX)]], Meta(max_length=LABELS_MAX)]
Patterns: TypeAlias = Annotated[list[Name], Meta(min_length=1, max_length=PATTERNS_MAX)]
Fingerprint: TypeAlias = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class Command(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every command carries, whatever its kind.

    `id` makes it happen once: a second command with the id of an accepted one is ignored.
    `time` is epoch milliseconds, epoch nanoseconds, or RFC 3339 text with an offset; `by` says who asks, `note` why.
    A field that is not known is refused: a misspelt label must never widen what a command is about.
    """

    id: Id
    time: Time
    by: Name
    note: Note | None = None
    schema: Annotated[int, Meta(ge=1, le=COMMAND_SCHEMA)] = COMMAND_SCHEMA


class Scope(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The keys of one dimension that have all of these labels; without labels, every key of the dimension."""

    dimension: Name
    labels: Labels = {}


class Reset(Command, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag="reset"):
    """Let counters and histograms begin anew: the exporter shows what is added from here on, created at `time`.

    Nothing is forgotten: lifetime numbers, windows, alerts and gauges stay as they are.
    `metrics` are names of exported metrics, where * stands for any text; without them all of the scope begin anew.
    """

    scope: Literal["all"] | Scope
    metrics: Patterns | None = None


class Rules(Command, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag="rules"):
    """Let every worker judge by these alert rules and breaker policies: a whole rule text (YAML), instead of any other.

    Without a text the rules of the workers' own settings hold again.
    """

    text: Annotated[str, Meta(min_length=1, max_length=RULES_CHARS_MAX)] | None = None


class Acknowledge(
    Command, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag="acknowledge"
):
    """Take an alert on: it is shown as acknowledged, and its notices are not repeated.

    Only this life of it, until `until` or 30 days after `time`: when it fires anew, it is news again.
    """

    fingerprint: Fingerprint
    incarnation: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    until: Time | None = None


class Unacknowledge(
    Command, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag="unacknowledge"
):
    """Take an acknowledgement back; without one nothing happens."""

    fingerprint: Fingerprint


class SilenceMatcher(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What one label must be, as in Alertmanager: a missing label is empty, an expression means the whole value.

    Labels are the alert's, and `alertname`, `severity` and `over`.
    """

    name: Name
    value: Annotated[str, Meta(max_length=MATCHER_CHARS_MAX)]
    is_regex: bool = msgspec.field(name="isRegex", default=False)
    is_equal: bool = msgspec.field(name="isEqual", default=True)


class SilenceAlerts(Command, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag="silence"):
    """Let nobody be told of the alerts that all matchers mean, from `startsAt` (without it at once) to `until`.

    The command's id is the silence's; the same silence again under another id is another one.
    """

    matchers: Annotated[list[SilenceMatcher], Meta(min_length=1, max_length=MATCHERS_MAX)]
    until: Time
    starts_at: Time | None = msgspec.field(name="startsAt", default=None)


class Unsilence(Command, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag="unsilence"):
    """End a silence before its time; without one nothing happens."""

    silence: Id


class Breaker(Command, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag="breaker"):
    """Put circuits into a state: they stay there until the next command, or go on by themselves once closed.

    `breaker` is the name of a circuit, such as `tool|search`, or a pattern, where * stands for any text; a pattern is
    about the keys there are at that moment.  `force-open` lets no call through and `disable` every call, whatever
    happens; `metrics-only` lets every call through and goes on measuring; `force-close` and `reset` begin anew, closed.
    """

    breaker: Name
    action: Literal["force-open", "force-close", "disable", "metrics-only", "reset"]


class Purge(Command, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag="purge"):
    """Let go of everything that is kept of one session or user, and take no event of theirs from before ever again.

    `digest` is the SHA-256, in lower-case hexadecimal digits, of the scope, a colon and the id: no topic ever holds the
    id itself.
    """

    scope: Literal["session", "user"]
    digest: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


COMMANDS: Final[dict[str, type[Command]]] = {
    "reset": Reset,
    "rules": Rules,
    "acknowledge": Acknowledge,
    "unacknowledge": Unacknowledge,
    "silence": SilenceAlerts,
    "unsilence": Unsilence,
    "breaker": Breaker,
    "purge": Purge,
}


class _Kind(Struct):
    """What is read first: a decoder of one type would accept a command without its kind."""

    kind: str


_decode_kind: Final = msgspec.json.Decoder(_Kind).decode
_decoders: Final = {kind: msgspec.json.Decoder(command) for kind, command in COMMANDS.items()}


def decode_command(value: bytes | None) -> Command | Rejected:
    """Decode one record of the commands topic."""
    if value is None or not value.strip():
        return Rejected(Reason.EMPTY, 0, "no value" if value is None else "no text", value or b"")
    if len(value) > COMMAND_BYTES_MAX:
        return Rejected(Reason.TOO_LARGE, 0, f"{len(value)} bytes, at most {COMMAND_BYTES_MAX}", value)
    try:
        kind = _decode_kind(value).kind
        if kind not in _decoders:
            return Rejected(Reason.UNKNOWN_KIND, 0, f"no command is called {kind[:NAME_CHARS_MAX]!r}", value)
        command = _decoders[kind].decode(value)
    except Exception as error:  # noqa: BLE001  any bytes must end as a value; msgspec raises more than its own errors
        reason, detail = explain(error)
        return Rejected(reason, 0, detail, value)
    if time_ms(command.time) is None:
        return Rejected(Reason.TIME, 0, "time is neither epoch milliseconds nor RFC 3339 with an offset", value)
    return command


def command_ms(command: Command, recorded_ms: int, *, skew_ms: int) -> int:
    """Return when a command holds: its time, or its record's when that is further than `skew_ms` behind."""
    told_ms = time_ms(command.time)
    if told_ms is None or 0 <= recorded_ms < told_ms - skew_ms:
        return recorded_ms
    return told_ms
