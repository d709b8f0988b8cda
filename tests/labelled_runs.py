"""A thousand runs of agents, sane and runaway, each with what is wrong with it: the yardstick of the detectors.

Knows nothing of how anything is detected: it tells what agents do, in the events a publisher would send, with what
gets in the way in real life: parallel calls, missing hashes, repeats, events out of order.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from typing import Any, Final, NamedTuple

Event = dict[str, Any]
START_MS: Final = 1_763_724_000_000
DAY_PART_MS: Final = 6 * 3_600_000  # runs begin within
FAULTS: Final = ("repeat", "cycle", "same_error", "no_result", "stuck", "error_cluster")


class Tool(NamedTuple):
    """A tool of the fleet: how long it takes (median ms), whether its results tell apart what was asked."""

    name: str
    median_ms: int
    acknowledges: bool = False  # "ok" whatever was asked


TOOLS: Final = (
    Tool("search", 900), Tool("fetch_page", 1_500), Tool("read_file", 60), Tool("query", 300), Tool("grep", 150),
    Tool("write_file", 40, acknowledges=True), Tool("send_mail", 500, acknowledges=True), Tool("run_code", 4_000),
    Tool("deploy", 150_000),
)  # fmt: skip
READERS: Final = tuple(tool for tool in TOOLS if not tool.acknowledges and tool.median_ms < 10_000)
ERRORS: Final = (
    "connection refused", "permission denied", "no such table", "disk quota exceeded", "bad gateway", "invalid syntax",
    "index out of range", "certificate expired", "schema mismatch", "unknown host", "broken pipe", "division by zero",
    "unsupported media type", "lock not granted", "payload too large", "null reference", "name not found",
    "stale handle", "checksum differs", "quota reached", "unexpected end", "version conflict", "not authorised",
    "too many files", "assertion failed", "encoding error",
)  # fmt: skip


def hashed(*parts: object) -> str:
    """Hash as a publisher would: of the JSON."""
    return blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


@dataclass
class Run:
    """One session: what a broker gets of it (arrival, event), what must be found in it, and what may be."""

    session_id: str
    scenario: str
    must: frozenset[str]
    may: frozenset[str]
    arrivals: list[tuple[int, Event]] = field(default_factory=list)


class Story:
    """Tells one run, line by line; time moves as things take theirs."""

    def __init__(self, random: Random, number: int, start_ms: int) -> None:
        self.random = random
        self.number = number
        self.now_ms = start_ms
        self.events: list[Event] = []
        self.calls = 0
        self.hashes = True  # this publisher tells hashes of results
        self.blind = random.random() < 0.03  # this one tells no hashes at all

    # ---- words --------------------------------------------------------------------------------------------------

    def say(self, kind: str, at_ms: int | None = None, **fields: Any) -> None:
        """Publish an event."""
        event = {
            "kind": kind, "id": f"r{self.number}-{len(self.events)}", "agent": f"agent-{self.number % 7}",
            "session_id": f"run-{self.number}", "time": self.now_ms if at_ms is None else at_ms,
        }  # fmt: skip
        self.events.append(event | {name: value for name, value in fields.items() if value is not None})

    def wait(self, least_ms: float, most_ms: float) -> None:
        """Let time pass."""
        self.now_ms += int(self.random.uniform(least_ms, most_ms))

    def call_id(self) -> str:
        """Name a new call."""
        self.calls += 1
        return f"c{self.number}-{self.calls}"

    def unique(self) -> str:
        """Return something nobody has said before."""
        return f"{self.number}:{len(self.events)}:{self.random.random()}"

    def took_ms(self, tool: Tool) -> int:
        """Return how long a call takes: log-normal, at most some 5 times the median."""
        return max(1, int(tool.median_ms * min(self.random.lognormvariate(0, 0.5), 5)))

    def think(self) -> None:
        """Ask the model what to do next."""
        call, began_ms = self.call_id(), self.now_ms
        self.say("model_start", call_id=call, model="m-1")
        self.wait(600, 4_000)
        self.say("model_end", call_id=call, model="m-1", duration_ms=self.now_ms - began_ms)
        self.say(
            "token_usage", call_id=call, model="m-1", input_tokens=self.random.randrange(800, 4_000),
            output_tokens=self.random.randrange(20, 400), cost_nano_usd=self.random.randrange(10**6, 10**7),
        )  # fmt: skip

    def call(
        self, tool: Tool, arguments: object, result: object, *, error: str | None = None, thought: bool = True,
        **about: Any,
    ) -> None:  # fmt: skip
        """Think, then call a tool and wait for it."""
        if thought:
            self.think()
        known = None if self.blind or self.random.random() < 0.03 else hashed(tool.name, arguments)
        call, took_ms = self.call_id(), self.took_ms(tool)
        self.say("tool_start", call_id=call, tool=tool.name, arguments_hash=known, **about)
        self.now_ms += took_ms
        answer = None if error or self.blind or not self.hashes or self.random.random() < 0.03 else hashed(result)
        self.say(
            "tool_end", call_id=call, tool=tool.name, arguments_hash=known, duration_ms=took_ms, result_hash=answer,
            status="error" if error else "success", error_message=error, output_bytes=len(str(result)), **about,
        )  # fmt: skip

    def together(self, calls: Sequence[tuple[Tool, object, object]], group: str) -> None:
        """Call tools in parallel."""
        self.think()
        began_ms, ends = self.now_ms, []
        for tool, arguments, result in calls:
            call, took_ms, known = self.call_id(), self.took_ms(tool), hashed(tool.name, arguments)
            self.say("tool_start", call_id=call, tool=tool.name, arguments_hash=known, parallel_group=group)
            ends.append((took_ms, call, tool, known, hashed(result)))
        for took_ms, call, tool, known, answer in sorted(ends, key=lambda end: end[0]):
            self.now_ms = began_ms + took_ms
            self.say(
                "tool_end", call_id=call, tool=tool.name, arguments_hash=known, duration_ms=took_ms,
                result_hash=answer, parallel_group=group, output_bytes=40,
            )  # fmt: skip

    # ---- what sane agents do ------------------------------------------------------------------------------------

    def work(self, least: int = 2, most: int = 12) -> None:
        """Do different things, now and then in vain."""
        for _ in range(self.random.randint(least, most)):
            tool = self.random.choice(TOOLS[:-1])
            error = self.random.choice(ERRORS) if self.random.random() < 0.03 else None
            self.call(tool, self.unique(), "ok" if tool.acknowledges else self.unique(), error=error)

    def aside(self, share: float) -> None:
        """Do something else in between, with some probability; perhaps in parallel."""
        if self.random.random() < share:
            if self.random.random() < 0.3:
                self.together([(self.random.choice(READERS), self.unique(), self.unique()) for _ in range(2)],
                              self.unique()[:60])  # fmt: skip
            else:
                self.call(self.random.choice(READERS), self.unique(), self.unique())

    def retries(self) -> None:
        """Try again after a failure, waiting longer each time; frameworks count their attempts, models do not."""
        tool, arguments, error = self.random.choice(READERS), self.unique(), self.random.choice(ERRORS)
        counted = self.random.random() < 0.7
        tries = self.random.randint(2, 6 if counted else 5)
        delay_ms = self.random.choice((500, 1_000, 2_000))
        for attempt in range(1, tries + 1):
            last = attempt == tries
            self.call(tool, arguments, self.unique(), error=None if last else error, thought=not counted,
                      attempt=attempt if counted else None)  # fmt: skip
            self.wait(delay_ms * 0.8, delay_ms * 1.2)
            delay_ms *= 2

    def poll(self) -> None:
        """Ask for the state of a job until it is done: it moves from time to time."""
        job, percent = self.unique(), 0
        every_ms = self.random.choice((3_000, 10_000, 30_000))
        while percent < 100:
            for _ in range(self.random.choice((1, 1, 1, 2, 3))):
                self.call(TOOLS[3], ("job", job), f"{percent}% of {job}")
                self.wait(every_ms * 0.9, every_ms * 1.1)
            percent += self.random.randint(4, 25)

    def patient(self) -> None:
        """Wait for something that says the same until it is there."""
        job, every_ms = self.unique(), self.random.choice((15_000, 30_000, 60_000))
        for _ in range(self.random.randint(3, 6)):
            self.call(TOOLS[3], ("job", job), "pending")
            self.wait(every_ms * 0.9, every_ms * 1.1)
        self.call(TOOLS[3], ("job", job), self.unique())

    def batch(self) -> None:
        """Do the same to many things."""
        tool = self.random.choice(TOOLS[:-1])
        many = [(tool, self.unique() + str(n), "ok" if tool.acknowledges else self.unique() + str(n))
                for n in range(self.random.randint(8, 40))]  # fmt: skip
        if self.random.random() < 0.5:
            width = self.random.randint(2, 8)
            for at in range(0, len(many), width):
                self.together(many[at : at + width], self.unique()[:60])
        else:
            for one in many:
                self.call(*one, thought=self.random.random() < 0.5)

    def pages(self) -> None:
        """Turn the pages of a list."""
        what, tool = self.unique(), self.random.choice(READERS)
        for page in range(self.random.randint(5, 40)):
            self.call(tool, (what, page), self.unique(), thought=self.random.random() < 0.3)

    def long_call(self) -> None:
        """Wait for something slow that says it is alive."""
        tool, call, began_ms = self.random.choice(READERS), self.call_id(), self.now_ms
        self.say("tool_start", call_id=call, tool=tool.name, arguments_hash=hashed(self.unique()))
        for _ in range(self.random.randint(20, 70)):
            self.wait(8_000, 20_000)
            self.say("heartbeat", call_id=call)
        self.say("tool_end", call_id=call, tool=tool.name, duration_ms=self.now_ms - began_ms,
                 result_hash=hashed(self.unique()))  # fmt: skip

    def edit_and_test(self) -> None:
        """Change code until its tests pass: the same call again and again, after something new each time."""
        suite, failing = self.unique(), self.random.randint(4, 9)
        while failing:
            self.call(TOOLS[5], self.unique(), "ok")
            self.call(TOOLS[7], ("pytest", suite), f"{failing} of {suite} failed")
            failing -= self.random.choice((0, 1, 1, 2)) if failing > 1 else 1

    def look_up(self) -> None:
        """Look at the same notes between different steps."""
        notes = self.unique()
        for _ in range(self.random.randint(4, 9)):
            self.call(TOOLS[2], ("notes", notes), notes)
            self.work(1, 3)

    def limited(self) -> None:
        """Be refused by a provider, and wait longer each time."""
        delay_ms = self.random.choice((1_000, 2_000, 4_000))
        for _ in range(self.random.randint(3, 7)):
            self.say("error", error_type="rate_limit", component="model", code="429", message="rate limit reached")
            self.wait(delay_ms * 0.9, delay_ms * 1.1)
            delay_ms *= 2

    def phases(self) -> None:
        """Plan, act and reflect: the same three tools in turn, about something else each time."""
        plan, reflect = Tool("plan", 5), Tool("reflect", 5)
        for _ in range(self.random.randint(5, 12)):
            self.call(plan, self.unique(), "noted" if self.random.random() < 0.5 else self.unique())
            self.call(self.random.choice(READERS), self.unique(), self.unique())
            self.call(reflect, self.unique(), self.unique())

    def samples(self) -> None:
        """Ask the same thing several times at once to compare the answers."""
        for _ in range(self.random.randint(1, 3)):
            what, tool = self.unique(), self.random.choice(READERS)
            self.together([(tool, what, self.unique() + str(n)) for n in range(self.random.randint(3, 6))],
                          self.unique()[:60])  # fmt: skip
            self.work(1, 2)

    def slow(self) -> None:
        """Use what is always slow."""
        for _ in range(self.random.randint(1, 3)):
            self.call(TOOLS[8], self.unique(), self.unique())

    def mishaps(self) -> None:
        """Fail now and then, differently, and go on."""
        for _ in range(self.random.randint(10, 40)):
            error = self.random.choice(ERRORS) if self.random.random() < 0.1 else None
            self.call(self.random.choice(READERS), self.unique(), self.unique(), error=error)

    # ---- what goes wrong ----------------------------------------------------------------------------------------

    def repeat(self) -> None:
        """The same call again and again, and the same answer."""
        tool, arguments, answer = self.random.choice(READERS), self.unique(), self.unique()
        self.blind = False
        self.hashes = self.random.random() < 0.8
        noise = self.random.choice((0, 0, 0.1, 0.2))
        for _ in range(self.random.randint(10, 30) if self.hashes else self.random.randint(18, 40)):
            self.call(tool, arguments, answer)
            self.aside(noise)

    def cycle(self) -> None:
        """Two to five calls in turn, and the same answers."""
        self.blind = False
        ring = [(self.random.choice(READERS), self.unique() + str(n), self.unique())
                for n in range(self.random.randint(2, 5))]  # fmt: skip
        noise = self.random.choice((0, 0, 0.05, 0.1))
        for _ in range(self.random.randint(7, 18)):
            for step in ring:
                self.call(*step)
                self.aside(noise)

    def same_error(self) -> None:
        """One failure, whatever is tried; its text names something new each time."""
        tool, error = self.random.choice(READERS), self.random.choice(ERRORS)
        same = self.unique() if self.random.random() < 0.3 else None
        noise = self.random.choice((0, 0, 0.1, 0.2))
        for _ in range(self.random.randint(9, 25)):
            told = f"{error}: request {self.random.randrange(10**6)} at {self.now_ms}"
            self.call(tool, same or self.unique(), None, error=told)
            self.aside(noise)

    def no_result(self) -> None:
        """Ask in ever other words, and get the same answer."""
        tool, nothing = self.random.choice(READERS), "nothing found"
        self.blind = False
        noise = self.random.choice((0, 0, 0.1, 0.15))
        for _ in range(self.random.randint(14, 35)):
            self.call(tool, self.unique(), nothing)
            self.aside(noise)

    def stuck(self) -> None:
        """A call that never ends; the agent waits, or goes on without it."""
        call = self.call_id()
        if self.random.random() < 0.3:
            self.say("model_start", call_id=call, model="m-1")
        else:
            self.say("tool_start", call_id=call, tool=self.random.choice(READERS).name,
                     arguments_hash=hashed(self.unique()))  # fmt: skip
        goes_on = self.random.random() < 0.5
        until_ms = self.now_ms + self.random.randint(13, 25) * 60_000
        while self.now_ms < until_ms:
            if goes_on:
                self.work(1, 2)
            self.wait(30_000, 120_000)

    def error_cluster(self) -> None:
        """Everything fails at once, each in its own way."""
        for error in self.random.sample(ERRORS, self.random.randint(12, 24)):
            if self.random.random() < 0.5:
                self.say("error", error_type="other", component=error.split()[0], message=error)
                self.wait(100, 4_000)
            else:
                self.call(self.random.choice(READERS), self.unique(), None, error=error,
                          thought=self.random.random() < 0.3)  # fmt: skip
            self.aside(0.1)


SANE: Final[dict[str, Callable[[Story], None]]] = {
    "work": Story.work, "retries": Story.retries, "poll": Story.poll, "patient": Story.patient, "batch": Story.batch,
    "pages": Story.pages, "long_call": Story.long_call, "edit_and_test": Story.edit_and_test,
    "look_up": Story.look_up, "limited": Story.limited, "phases": Story.phases, "samples": Story.samples,
    "slow": Story.slow, "mishaps": Story.mishaps,
}  # fmt: skip
WRONG: Final[dict[str, Callable[[Story], None]]] = {
    "repeat": Story.repeat, "cycle": Story.cycle, "same_error": Story.same_error, "no_result": Story.no_result,
    "stuck": Story.stuck, "error_cluster": Story.error_cluster,
}  # fmt: skip
# What else is true of a fault: the same error in a row is also many errors, perhaps of the same call.
MAY: Final = {"same_error": frozenset({"error_cluster", "repeat"})}


def runs(seed: int, count: int = 1_000) -> list[Run]:
    """Tell runs: two in five go wrong, after and amid sane work."""
    return [_run(Random(f"{seed} {number}"), number) for number in range(count)]


def _run(random: Random, number: int) -> Run:
    story = Story(random, number, START_MS + random.randrange(DAY_PART_MS))
    story.say("session_start")
    patterns = random.sample(sorted(SANE), random.randint(1, 3))
    fault = random.choice(FAULTS) if random.random() < 0.4 else None
    for name in patterns:
        SANE[name](story)
        story.wait(1_000, 20_000)
    if fault is not None:
        WRONG[fault](story)
        if random.random() < 0.3:
            story.work(1, 4)
    story.wait(1_000, 5_000)
    if random.random() < 0.7:
        story.say("session_end", reason="done")
    must = frozenset({fault} if fault else ())
    may = MAY.get(fault or "", frozenset())
    name = "+".join([*patterns, *([fault.upper()] if fault else [])])
    return Run(f"run-{number}", name, must, may, list(_delivered(random, story.events)))


def _delivered(random: Random, events: list[Event]) -> Iterator[tuple[int, Event]]:
    """Say when what arrives: mostly in order, some late by a second, some twice; a session's end comes last."""
    jitter_ms = random.choice((0, 0, 300, 1_500))
    for event in events:
        arrival_ms = event["time"] + random.randrange(20, 120)
        last = event["kind"] == "session_end"
        if jitter_ms and not last and random.random() < 0.1:
            arrival_ms += random.randrange(jitter_ms)
        yield arrival_ms + (2_000 if last else 0), event
        if random.random() < 0.02 and not last:
            yield arrival_ms + random.randrange(1, 5_000), event


def arrivals(told: list[Run]) -> list[tuple[int, Event]]:
    """Put what all runs publish into one line, by arrival."""
    return sorted((each for run in told for each in run.arrivals), key=lambda each: each[0])
