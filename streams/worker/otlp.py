"""How do metrics get to an OpenTelemetry collector?  A task that pushes them now and then, and retries with patience.

Never disturbs anything else: whatever the collector does is counted, logged once per change, and waited out.
Retries follow the OTLP specification: 429, 502, 503, 504 and lost connections, with exponential back-off and jitter, or
after as long as `Retry-After` says; everything else is not sent again.
"""

import asyncio
import gzip
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import aiohttp

from streams.clock import now_ms
from streams.errors import ConfigError

PATH: Final = "/v1/metrics"
RETRYABLE: Final = frozenset({429, 502, 503, 504})
BACKOFF_S: Final = 1.0
BACKOFF_LIMIT_S: Final = 30.0
ANSWER_BYTES_MAX: Final = 64 * 1024  # an answer holds a count and a sentence
_REASON_CHARS: Final = 200
_HEADERS: Final = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OtlpConfig:
    """Where metrics are pushed, how often, and under which names; `headers` may hold a login."""

    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    interval_ms: int = 60_000
    timeout_ms: int = 10_000
    genai: str = "v1.41"
    backoff_s: float = BACKOFF_S

    def __post_init__(self) -> None:
        if faults := "; ".join(self._faults()):
            raise ConfigError(faults)

    @property
    def url(self) -> str:
        """Name the address of metrics, as the specification makes it of an endpoint."""
        base = self.endpoint.rstrip("/")
        return base if base.endswith(PATH) else base + PATH

    def _faults(self) -> Iterator[str]:
        if not self.endpoint.startswith(("http://", "https://")):
            yield "OTLP endpoint: expected an address that begins with http:// or https://"
        for name in ("interval_ms", "timeout_ms", "backoff_s"):
            if getattr(self, name) <= 0:
                yield f"OTLP {name}: {getattr(self, name)} given, expected more than 0"


def headers_of(text: str) -> dict[str, str]:
    """Read `name=value,name=value`, as the specification writes headers in a variable."""
    pairs = (each.partition("=") for each in text.split(",") if each.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}


class Request(Protocol):
    """One request, ready to be sent."""

    @property
    def body(self) -> bytes:
        """Protobuf."""

    @property
    def points(self) -> int:
        """How many data points it holds."""


@dataclass(slots=True)
class PushCounters:
    """What became of all points, and how often an attempt has failed."""

    accepted: int = 0
    rejected: int = 0  # by a receiver that answered: they are not sent again
    given_up: int = 0  # nobody took them in time; the next push says the same numbers anew
    failures: int = 0
    pushed_ms: int = -1  # when a push was last taken whole


class _Answer(NamedTuple):
    """What came of one attempt: taken, or whether and after how long to try again."""

    taken: bool
    retry: bool = False
    after_s: float | None = None
    reason: str = ""
    rejected: int = 0


class Pusher:
    """Pushes what `make` returns; `rejected_points` reads a receiver's answer."""

    def __init__(
        self,
        config: OtlpConfig,
        make: Callable[[], Awaitable[Sequence[Request]]],
        rejected_points: Callable[[bytes], tuple[int, str]],
    ) -> None:
        self._config = config
        self._make = make
        self._rejected_points = rejected_points
        self._well: bool | None = None  # how the last push went; None before the first
        self.counters = PushCounters()

    async def run(self) -> None:
        """Push for ever, a first time at once; failures are counted and never raised."""
        interval_s = self._config.interval_ms / 1000
        loop = asyncio.get_running_loop()
        due = loop.time()
        timeout = aiohttp.ClientTimeout(total=self._config.timeout_ms / 1000)
        async with aiohttp.ClientSession(timeout=timeout, headers={**_HEADERS, **self._config.headers}) as session:
            while True:
                due = max(due + interval_s, loop.time())
                await self._push(session, due)
                await asyncio.sleep(max(0.0, due - loop.time()))

    async def _push(self, session: aiohttp.ClientSession, until: float) -> None:
        """Send everything as it is now; what is not taken until the next push is given up."""
        requests = await self._make()
        counters = self.counters
        given_up, rejected = 0, counters.rejected
        for request in requests:
            answer = await self._deliver(session, request.body, until)
            if answer.taken:
                counters.accepted += request.points - answer.rejected
                counters.rejected += answer.rejected
            elif answer.retry:
                given_up += request.points
            else:
                counters.rejected += request.points
            self._note(answer)
        counters.given_up += given_up
        if requests and not given_up and counters.rejected == rejected:
            counters.pushed_ms = now_ms()

    async def _deliver(self, session: aiohttp.ClientSession, body: bytes, until: float) -> _Answer:
        packed = await asyncio.to_thread(gzip.compress, body, 1, mtime=0)
        delay_s = self._config.backoff_s
        while True:
            answer = await self._attempt(session, packed)
            if answer.taken or not answer.retry:
                return answer
            self.counters.failures += 1
            # Half of it is left to chance, so that exporters that failed together do not come back together.
            wait_s = delay_s * (0.5 + random.random() / 2) if answer.after_s is None else answer.after_s  # noqa: S311  no secret hangs on it
            if asyncio.get_running_loop().time() + wait_s >= until:
                return answer
            self._note(answer)
            await asyncio.sleep(wait_s)
            delay_s = min(delay_s * 2, BACKOFF_LIMIT_S)

    async def _attempt(self, session: aiohttp.ClientSession, packed: bytes) -> _Answer:
        try:
            async with session.post(self._config.url, data=packed, allow_redirects=False) as response:
                said = await response.content.read(ANSWER_BYTES_MAX)
                if response.status == 200:
                    rejected, reason = self._rejected_points(said)
                    return _Answer(taken=True, rejected=rejected, reason=reason[:_REASON_CHARS])
                retry = response.status in RETRYABLE
                after_s = _seconds(response.headers.get("Retry-After")) if retry else None
                return _Answer(taken=False, retry=retry, after_s=after_s, reason=f"status {response.status}")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            # The text may hold the address, and that a login; the kind of error is enough.
            return _Answer(taken=False, retry=True, reason=type(error).__name__)

    def _note(self, answer: _Answer) -> None:
        """Log a change for better or worse once."""
        well = answer.taken and not answer.rejected
        if well == self._well:
            return
        self._well = well
        if well:
            _log.info("otlp_pushed")
        else:
            _log.warning("otlp_failed retry=%s rejected=%d reason=%s", answer.retry, answer.rejected, answer.reason)


def _seconds(header: str | None) -> float | None:
    """Read `Retry-After` when it is a number; a date is treated as if nothing was said."""
    return float(header) if header is not None and header.strip().isdecimal() else None
