"""Does what README and docs tell people to type work?  Every block that can be is run, page by page, in order.

Servers that go on until a signal are running already, started by the same words; blocks that need what a test cannot
have say so on the page, and tests/docs/test_snippets.py holds them to it.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from langchain_core.messages import AIMessage
from langchain_scripted import agent
from snippets import PAGES, ROOT, RUN_BY, Snippet, snippets

from streams.feed import Emitter, Session

pytestmark = pytest.mark.kafka

TIMEOUT_S: Final = 300
SERVER: Final = re.compile(
    r"^\s*(?:[A-Z_]+=\S+ +)*agent-streams (?:worker|exporter|ingest-otlp|ingest-http|notify)\b.*$", re.MULTILINE
)
SHELLS: Final = ("sh", "bash")
# Names that a page uses and leaves to the reader.
GIVEN: Final[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    "agent": lambda _: agent(AIMessage("a coat"), tools=[]),
    "question": lambda _: {"messages": [("user", "What shall I wear?")]},
    "messages": lambda _: [{"role": "user", "content": "What shall I wear?"}],
    "emitter": lambda _: Emitter(),
    "session": lambda names: Session(names["emitter"], agent="planner", session_id="s-42"),
}


def blocks_of(page: Path) -> list[Snippet]:
    if page.relative_to(ROOT).as_posix() in RUN_BY:
        return []
    return [each for each in snippets(page) if each.needs is None and each.language in (*SHELLS, "python")]


def in_python(block: Snippet, names: dict[str, Any]) -> None:
    """Run a block in the names of its page, with what the page takes for granted."""
    code = compile(block.text, str(block), "exec")
    for name in ("emitter", *GIVEN):
        if name in {*code.co_names, "emitter"} and name not in names:
            names[name] = GIVEN[name](names)
    exec(code, names)  # noqa: S102  that is the test


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=lambda page: page.name)
def test_what_a_page_says_works(running: Any, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for example in (ROOT / "docs/examples").iterdir():
        if example.is_file():
            shutil.copy(example, tmp_path)
    environment = running.environment()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks_of(page):
        if block.language == "python":
            in_python(block, names)
            continue
        script = SERVER.sub("", running.here(block.text))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        assert 0 == done.returncode, f"{block}:\n{script}\n{done.stdout}{done.stderr}"
    if (emitter := names.get("emitter")) is not None:
        emitter.close(60_000)
        assert emitter.stats().acknowledged == emitter.stats().emitted
