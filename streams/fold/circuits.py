"""How did the calls end that a circuit guards?  Gathered while events are folded, in their order, two bits per call.

Never decides whether a circuit opens, and exists only where a policy asks for it: without one an event costs nothing.
A late event says nothing about the present: it is in no window.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from streams.fold.measure import (
    AGENT,
    AGENT_TOOL,
    CIRCUIT_CALLS,
    CIRCUIT_FAILURES,
    CIRCUIT_SLOW,
    ENDPOINT,
    MODEL,
    PROVIDER,
    TOOL,
)
from streams.fold.rollup import Delta

FAILED: Final = 1  # of a code
SLOW: Final = 2
PER_BYTE: Final = 4  # codes
NEVER_SLOW: Final = -1

GUARDED: Final = {each.name: each for each in (TOOL, MODEL, PROVIDER, ENDPOINT, AGENT, AGENT_TOOL)}
_TOOLS: Final = (TOOL.name, AGENT_TOOL.name)
_MODELS: Final = (MODEL.name, PROVIDER.name)

Labels: TypeAlias = tuple[str, ...]


class Guarded:
    """What is to be known of the calls of one dimension, each judged by its own end.

    `verdicts` say by status whether a call failed (1) or not (0); a status that is missing does not count.
    `in_order` asks for codes in their order (count windows), else there are sums by pane (time windows).
    """

    __slots__ = ("dimension", "failure_codes", "ignored_codes", "in_order", "slow_us", "verdicts")

    def __init__(
        self,
        dimension: str,
        verdicts: Mapping[str, int],
        slow_us: int = NEVER_SLOW,
        failure_codes: Iterable[str] = (),
        ignored_codes: Iterable[str] = (),
        *,
        in_order: bool,
    ) -> None:
        self.dimension: str = dimension
        self.verdicts: dict[str, int] = dict(verdicts)
        self.slow_us: int = slow_us
        self.failure_codes: frozenset[str] = frozenset(failure_codes)
        self.ignored_codes: frozenset[str] = frozenset(ignored_codes)
        self.in_order: bool = in_order

    def code(self, status: str, error_code: str | None, us: int) -> int:
        """Return FAILED and SLOW as bits, −1 for a call that does not count; slow is longer than, never equal."""
        code = self.verdicts.get(status, -1)
        if error_code is not None:
            if error_code in self.ignored_codes:
                return -1
            if error_code in self.failure_codes:
                code = FAILED
        return code | SLOW if code >= 0 and 0 <= self.slow_us < us else code


class Outcomes:
    """The calls of one micro-batch that end under a guarded key; see the head of this file."""

    __slots__ = ("_agents", "_codes", "_models", "_sums", "_tools")

    def __init__(self, guarded: Sequence[Guarded]) -> None:
        self._tools: list[Guarded] = [each for each in guarded if each.dimension in _TOOLS]
        self._models: list[Guarded] = [each for each in guarded if each.dimension in _MODELS]
        self._agents: list[Guarded] = [each for each in guarded if each.dimension in {AGENT.name, ENDPOINT.name}]
        self._codes: dict[tuple[str, Labels], bytearray] = {}
        self._sums: dict[tuple[str, Labels, int], dict[str, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._codes) or bool(self._sums)

    def go_on(self, before: "Outcomes") -> None:
        """Keep what another has gathered and not handed over, because the policies have changed in between."""
        self._codes, self._sums = before.hand_over()

    def hand_over(self) -> tuple[dict[tuple[str, Labels], bytearray], dict[tuple[str, Labels, int], dict[str, int]]]:
        """Give away what was gathered: codes by key, sums by key and pane."""
        return self._codes, self._sums

    def tool(self, agent: str, name: str, status: str, us: int, pane_ms: int) -> None:
        """Note the end of a tool call."""
        for each in self._tools:
            labels: Labels = (name,) if each.dimension == "tool" else (agent, name)
            self._note(each, labels, each.code(status, None, us), pane_ms)

    def model(
        self, name: str, provider: str | None, status: str, error_code: str | None, us: int, pane_ms: int
    ) -> None:
        """Note the end of a call to a model."""
        for each in self._models:
            if each.dimension == "model":
                self._note(each, (name,), each.code(status, error_code, us), pane_ms)
            elif provider is not None:
                self._note(each, (provider,), each.code(status, error_code, us), pane_ms)

    def request(self, agent: str, endpoint: str | None, status: str, us: int, pane_ms: int) -> None:
        """Note the end of a request to an agent."""
        for each in self._agents:
            if each.dimension == "agent":
                self._note(each, (agent,), each.code(status, None, us), pane_ms)
            elif endpoint is not None:
                self._note(each, (endpoint,), each.code(status, None, us), pane_ms)

    def _note(self, guarded: Guarded, labels: Labels, code: int, pane_ms: int) -> None:
        if code < 0 or pane_ms < 0:
            return
        if guarded.in_order:
            codes = self._codes.get((guarded.dimension, labels))
            if codes is None:
                codes = self._codes[guarded.dimension, labels] = bytearray()
            codes.append(code)
            return
        sums = self._sums.get((guarded.dimension, labels, pane_ms))
        if sums is None:
            sums = self._sums[guarded.dimension, labels, pane_ms] = {
                CIRCUIT_CALLS: 0,
                CIRCUIT_FAILURES: 0,
                CIRCUIT_SLOW: 0,
            }
        sums[CIRCUIT_CALLS] += 1
        sums[CIRCUIT_FAILURES] += code & FAILED
        sums[CIRCUIT_SLOW] += code >> 1

    def attach(self, deltas: list[Delta]) -> list[Delta]:
        """Put codes with a delta of their key, and add one for every key and pane with sums; nothing is left here."""
        codes, self._codes = self._codes, {}
        sums, self._sums = self._sums, {}
        for delta in deltas if codes else ():
            found = codes.pop((delta.dimension, delta.labels), None)
            if found is not None:
                delta.outcomes = pack_codes(found)
        assert not codes, "a call that ended has a delta"
        for (dimension, labels, pane_ms), added in sums.items():
            deltas.append(Delta(dimension, labels, pane_ms, {name: value for name, value in added.items() if value}))
        return deltas


def pack_codes(codes: Sequence[int]) -> bytes:
    """Write codes: how many of the last byte's places are empty, then four codes per byte, the first one lowest."""
    empty = -len(codes) % PER_BYTE
    whole = bytes(codes) + bytes(empty)
    return bytes((empty, *(a | b << 2 | c << 4 | d << 6 for a, b, c, d in zip(*[iter(whole)] * PER_BYTE, strict=True))))


def unpack_codes(packed: bytes) -> list[int]:
    """Read codes in their order. ValueError: these are none."""
    if not packed:
        return []
    if packed[0] >= PER_BYTE or (packed[0] and len(packed) == 1):
        raise ValueError("no outcomes of calls: the first byte says how many places of the last one are empty")
    codes: list[int] = []
    for four in packed[1:]:
        codes += (four & 3, four >> 2 & 3, four >> 4 & 3, four >> 6)
    return codes[: len(codes) - packed[0]]


def named_circuit(name: str) -> tuple[str, Labels] | None:
    r"""Read the name of a circuit, `tool|search` (`|` and `\` in values are escaped); None when it names none."""
    parts: list[str] = [""]
    escaped = False
    for letter in name:
        if escaped:
            parts[-1] += letter
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == "|":
            parts.append("")
        else:
            parts[-1] += letter
    over = GUARDED.get(parts[0])
    labels = tuple(parts[1:])
    if escaped or over is None or len(labels) != len(over.columns) or not all(labels):
        return None
    return over.name, labels


def denied_circuit(target: str) -> tuple[str, Labels] | None:
    """Read what a guard denied a call to: the name of a circuit, or `tool:search` as callers write it."""
    kind, colon, name = target.partition(":")
    over = GUARDED.get(kind)
    if colon and name and over is not None and len(over.columns) == 1:
        return over.name, (name,)
    return named_circuit(target)
