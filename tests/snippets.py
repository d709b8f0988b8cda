"""What do README and docs tell people to type?  Their fenced blocks, and what may keep one from being run as it stands.

A block says why it is not run here with `needs=…` behind its language; each reason has a mark that the block must bear.
"""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from streams.__main__ import COMMANDS, build

ROOT: Final = Path(__file__).parent.parent
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
# Why a block is only parsed, and what it must contain for that to be true.
NEEDS: Final = {
    "acls": re.compile(r"kafka-acls"),  # a broker with an authorizer, and Kafka's own programs
    "agent": re.compile(r"claude|CLAUDE|OTEL_|traceloop"),  # somebody else's program
    "archive": re.compile(r"pip install|uv pip|uv tool|\.whl"),  # tests/test_package.py installs what is built
    "browser": re.compile(r"--install-completion|\bsource\b"),  # changes the shell that reads it
    "cluster": re.compile(r"kubectl|helm|--replication [2-9]"),
    "docker": re.compile(r"docker"),
    "hosts": re.compile(r"example\.(com|org)|/etc/|/run/secrets|/var/lib|broker-\d|localhost:4318"),  # yours
    "java": re.compile(r"KafkaProducer|confluent"),  # compiled, where a compiler and the client are
    "operator": re.compile(r"reset|alerts (show|ack|silence)|breakers force|rules load|purge|replay"),  # changes all
    "terminal": re.compile(r"board|--watch|--follow"),  # goes on until Ctrl-C
    "tests": re.compile(r"tests/"),  # these very tests
    "time": re.compile(r"demo|worker|exporter|notify|ingest|backtest|rules"),  # its own tests run it for longer
}
# Pages whose blocks a test of their own runs, with what they need around them; `no-run` is a word of theirs.
RUN_BY: Final = {
    "docs/emitter.md": "tests/feed/test_handlers.py",
    "docs/ingest-http.md": "tests/worker/test_ingest_http.py",
}
_FENCE: Final = re.compile(r"^```(\S*)(.*)$")
_INLINE: Final = re.compile(r"`agent-streams ([^`\n]+)`")
_ENDS: Final = frozenset({"|", "||", "&", "&&", ";", ">", ">>", "<", "(", ")", "2"})


class Snippet(NamedTuple):
    """One fenced block."""

    page: str
    line: int
    language: str
    needs: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def snippets(page: Path) -> Iterator[Snippet]:
    """Yield the fenced blocks of a page."""
    language, needs, began, inside = "", None, 0, False
    lines: list[str] = []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = _FENCE.match(line)
        if fence is None:
            lines.append(line)
        elif inside:
            yield Snippet(page.relative_to(ROOT).as_posix(), began, language, needs, "\n".join(lines) + "\n")
            inside = False
        else:
            theirs = page.relative_to(ROOT).as_posix() in RUN_BY
            words = [word for word in fence[2].split() if not (theirs and word == "no-run")]
            said = dict(word.partition("=")[::2] for word in words)
            assert set(said) <= {"needs"}, f"{page.name}:{number}: {fence[2]!r}, expected needs=… or nothing"
            language, needs, began, inside, lines = fence[1], said.get("needs"), number, True, []
    assert not inside, f"{page.name}:{began}: the block has no end"


def all_snippets(*languages: str) -> list[Snippet]:
    """Return every block in these languages, of all pages."""
    return [each for page in PAGES for each in snippets(page) if each.language in languages]


def commands_in(script: str) -> Iterator[list[str]]:
    """Yield the arguments of every `agent-streams` in a shell script."""
    for line in re.sub(r"\\\n", " ", script).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.commenters, lexer.whitespace_split = "", True  # a comment sign within quotes would end them
        try:
            words = list(lexer)
        except ValueError:  # a quote over several lines: none of ours
            continue
        for at, word in enumerate(words):
            if word == "agent-streams" and (at == 0 or words[at - 1] in _ENDS or "=" in words[at - 1]):
                rest = words[at + 1 :]
                ends = [index for index, each in enumerate(rest) if each in _ENDS or each.startswith(("#", "$("))]
                yield rest[: ends[0]] if ends else rest


def inline_commands(page: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the commands that a page names between its blocks, with their lines."""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        for named in _INLINE.findall(line):
            words = shlex.split(named.replace("…", ""))
            yield number, words


@cache
def program() -> TyperGroup:
    """Return the whole program as its parser."""
    made = typer.main.get_command(build(list(COMMANDS)))
    assert isinstance(made, TyperGroup)
    return made


def mistake(arguments: list[str], *, whole: bool = True) -> str | None:
    """Return what the program would say against arguments; `whole` when nothing may be missing."""
    command: Any = program()
    context = command.make_context("agent-streams", [], resilient_parsing=True)
    rest = list(arguments)
    while isinstance(command, TyperGroup) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest[0])
        if found is None:
            return f"{rest[0]!r} is no command"
        command, context = found, found.make_context(rest.pop(0), [], parent=context, resilient_parsing=True)
    return _refused(command, rest) if whole else _unknown(command, rest)


def _refused(command: Any, rest: list[str]) -> str | None:
    if isinstance(command, TyperGroup):
        known = {"--help", "-h", *(name for parameter in command.params for name in parameter.opts)}
        return None if set(rest) <= known else f"{rest[0]!r} is no option"
    if {"--help", "-h"} & set(rest):
        return None
    try:
        command.make_context(command.name or "", rest)
    except TyperException as error:
        return str(error.format_message())
    return None


def _unknown(command: Any, rest: list[str]) -> str | None:
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "-h", "--version", "--install-completion", "--show-completion"}
    strange = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in known]
    return f"{strange[0]!r} is no option of {command.name}" if strange else None
