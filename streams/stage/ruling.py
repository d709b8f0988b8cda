"""Which rules hold, as operators have loaded them?  The row that says so, and what makes a text a rule set.

Never decides who goes by them or when: whoever runs partitions does.  Version 0 is what settings say, which no row
tells; every accepted command makes the next version, also one that goes back to the settings.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Final, Literal

import msgspec
from msgspec import Struct

from streams.errors import ConfigError, StateRefused
from streams.event.codec import Reason, Rejected
from streams.event.command import Rules
from streams.rule.model import RuleSet
from streams.rule.parse import parse_rules
from streams.stage.plan import Row

RULES_KEY: Final = b"r"  # of the one row in the commands changelog
RULES_PARTITION: Final = 0  # of the commands topic, however many it has
FAULTS_CHARS_MAX: Final = 16_384  # of a dead letter's detail: some fifty faults, and no letter is a quarter of a batch
DIGEST_CHARS: Final = 12  # enough to tell two texts apart by eye


class RulesRow(Struct, frozen=True, array_like=True):
    """One accepted command; `text` None: the rules of the settings hold."""

    version: int
    digest: str
    at_ms: int
    by: str
    note: str | None
    text: str | None
    command: str


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(RulesRow).decode


def digest_of(text: str) -> str:
    """Tell one rule text from another, whoever holds it: the beginning of its SHA-256."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_CHARS]


def accept_rules(command: Rules, version: int, at_ms: int, part: bytes) -> RulesRow | Rejected:
    """Make the row of a command, or say with every fault why its text is no rule set."""
    text = command.text
    if text is not None:
        try:
            parse_rules(text)
        except ConfigError as error:
            return Rejected(Reason.INVALID, 0, str(error)[:FAULTS_CHARS_MAX], part)
    digest = "" if text is None else digest_of(text)
    return RulesRow(version, digest, at_ms, command.by, command.note, text, command.id)


def encode_rules(row: RulesRow) -> bytes:
    """Write the row."""
    return _encode(row)


def decode_rules(stored: bytes) -> RulesRow:
    """Read the row."""
    return _decode(stored)


def rules_of(row: RulesRow, settings: RuleSet) -> RuleSet:
    """Return the rules that a row says hold; StateRefused when this release cannot read them."""
    if row.text is None:
        return settings
    try:
        return parse_rules(row.text)
    except ConfigError as error:
        raise StateRefused(
            f"rules version {row.version}, loaded by {row.by}, cannot be read by this release: {error}\n"
            "A newer release has accepted them: run that release, or load other rules: agent-streams rules load"
        ) from error


class Ruling:
    """Which rules hold for one process: those of its settings, until rows say others."""

    def __init__(self, settings: RuleSet, digest: str = "") -> None:
        self._settings, self._settings_digest = settings, digest
        self.rules = settings
        self.row: RulesRow | None = None

    @property
    def version(self) -> int:
        """0 while no rules have been loaded."""
        return 0 if self.row is None else self.row.version

    @property
    def source(self) -> Literal["settings", "command"]:
        """Where they come from."""
        return "settings" if self.row is None or self.row.text is None else "command"

    @property
    def digest(self) -> str:
        """The digest of their text; empty for settings whose text nobody has told."""
        return self._settings_digest if self.row is None or self.row.text is None else self.row.digest

    def take(self, rows: Iterable[Row]) -> bool:
        """Take rows of the commands changelog in log order; returns whether other rules hold than before.

        Never goes back to an older version: a torn transaction may leave the row of a later one alone for a while.
        StateRefused: this release cannot read them.
        """
        newest = self.row
        for key, value in rows:
            if key == RULES_KEY and value is not None:
                row = decode_rules(value)
                if newest is None or row.version > newest.version:
                    newest = row
        if newest is None or newest is self.row:
            return False
        self.rules, self.row = rules_of(newest, self._settings), newest
        return True
