"""Is what README and docs show right?  Every block is parsed by what reads it: shell, Python, the real file formats."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
import tree_sitter_go
import tree_sitter_java
import tree_sitter_javascript
import yaml
from snippets import NEEDS, PAGES, ROOT, RUN_BY, Snippet, all_snippets, commands_in, inline_commands, mistake, snippets
from tree_sitter import Language, Parser

from streams.event.codec import Rejected, decode_record
from streams.event.command import decode_command
from streams.rule.parse import parse_rules
from streams.rule.pricefile import parse_prices
from streams.rule.receivers import parse_receivers
from streams.settings import reference
from streams.stage.casefile import parse_cases

LANGUAGES: Final = {
    "sh", "bash", "zsh", "fish", "python", "yaml", "json", "go", "java", "js", "toml", "text", "promql", "",
}  # fmt: skip


def _scrape(text: str) -> None:
    for job in yaml.safe_load(text)["scrape_configs"]:
        assert job["job_name"]
        assert job["static_configs"][0]["targets"]


A_RECEIVER: Final = "receivers: [{name: r, kind: alertmanager, url: http://localhost:9093}]\n"
# The first key that a text has says what reads it.
READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "groups": parse_rules,
    "breakers": parse_rules,
    "budgets": parse_rules,
    "detectors": parse_rules,
    "receivers": parse_receivers,
    "inhibit_rules": lambda text: parse_receivers(f"{A_RECEIVER}{text}"),
    "prices": parse_prices,
    "tests": parse_cases,
    "scrape_configs": _scrape,
}


GRAMMARS: Final = {"go": tree_sitter_go, "java": tree_sitter_java, "js": tree_sitter_javascript}


def _values(text: str) -> Iterator[Any]:
    """Yield the values of a text that may hold several, one after the other."""
    decoder, rest = json.JSONDecoder(), text.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        yield value
        rest = rest[end:].lstrip()


def ids(snippet: Snippet) -> str:
    return str(snippet)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_names_its_language_and_a_true_reason_not_to_be_run(page: Path) -> None:
    for block in snippets(page):
        assert block.language in LANGUAGES, f"{block}: {block.language!r}, expected one of {sorted(LANGUAGES)}"
        if block.needs is not None:
            assert block.needs in NEEDS, f"{block}: needs={block.needs}, expected one of {sorted(NEEDS)}"
            assert NEEDS[block.needs].search(block.text), f"{block}: nothing in it needs {block.needs}"


@pytest.mark.parametrize("block", all_snippets("sh", "bash"), ids=ids)
def test_a_shell_block_is_shell_and_names_only_commands_and_options_there_are(block: Snippet) -> None:
    shell = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True, check=False)

    assert (shell.returncode, shell.stderr) == (0, ""), str(block)
    for arguments in commands_in(block.text):
        assert mistake(arguments) is None, f"{block}: agent-streams {' '.join(arguments)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_command_within_a_sentence_exists(page: Path) -> None:
    for line, arguments in inline_commands(page):
        assert mistake(arguments, whole=False) is None, f"{page.name}:{line}: agent-streams {' '.join(arguments)}"


@pytest.mark.parametrize("block", all_snippets("python"), ids=ids)
def test_a_python_block_compiles(block: Snippet) -> None:
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("block", all_snippets(*GRAMMARS), ids=ids)
def test_a_block_in_another_language_is_in_that_language(block: Snippet) -> None:
    tree = Parser(Language(GRAMMARS[block.language].language())).parse(block.text.encode())

    assert not tree.root_node.has_error, f"{block}: {tree.root_node}"


@pytest.mark.parametrize("block", all_snippets(*GRAMMARS), ids=ids)
def test_an_event_that_another_language_writes_is_one(block: Snippet) -> None:
    """What stands between its braces, read as the language reads it."""
    text = re.sub(r'"\s*\+\s*"', "", block.text).replace('\\"', '"')
    event = re.search(r'{\s*"?kind.*?}', text, re.DOTALL)
    assert event is not None, str(block)
    made = re.sub(r"(\w+):(?= [\"\dn])", r'"\1":', event[0]) if block.language == "js" else event[0]
    made = made.replace("new Date().toISOString()", '"2026-11-21T12:00:00Z"')
    made = re.sub(r",\s*}", "}", made)

    decoded = decode_record(orjson.dumps(orjson.loads(made)))

    assert (1, ()) == (len(decoded.events), tuple(decoded.rejected)), str(block)


@pytest.mark.parametrize("block", all_snippets("yaml"), ids=ids)
def test_a_yaml_block_is_taken_by_what_reads_such_files(block: Snippet) -> None:
    keys = yaml.safe_load(block.text)
    reader = next((READERS[key] for key in READERS if key in keys), None)

    assert reader is not None, f"{block}: nothing here reads a file of {sorted(keys)}"
    reader(block.text)


@pytest.mark.parametrize("block", all_snippets("json"), ids=ids)
def test_a_json_block_is_taken_as_an_event_or_a_command(block: Snippet) -> None:
    for said in _values(block.text):
        raw = orjson.dumps(said)
        command = decode_command(raw)
        decoded = decode_record(raw)
        accepted = not isinstance(command, Rejected) or (bool(decoded.events) and not decoded.rejected)
        assert accepted, f"{block}: {command}, {decoded.rejected}"


@cache
def _known() -> frozenset[str]:
    texts = [path.read_text() for path in (*(ROOT / "streams").rglob("*.py"), ROOT / "docs/metrics.md")]
    return frozenset(re.findall(r"\bagent_[a-z_]+[a-z]\b", "\n".join(texts)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_variable_or_a_metric_that_a_page_names_exists(page: Path) -> None:
    """Metrics are those of the catalogue's page, which a test holds to it, and names that the source has in full."""
    text = page.read_text()
    known = _known()
    variables = set(re.findall(r"\bAGENT_STREAMS_[A-Z_]+[A-Z]\b", text))
    metrics = set(re.findall(r"`(agent_[a-z_]+[a-z])`", text))

    assert {name for name in variables if name not in reference()} == set()
    assert metrics - known == set()


@pytest.mark.parametrize(("page", "test"), RUN_BY.items())
def test_a_page_with_a_test_of_its_own_is_read_by_it(page: str, test: str) -> None:
    assert page in (ROOT / test).read_text()


def test_a_command_that_is_none_is_found() -> None:
    assert mistake(["tabels", "sessions"]) == "'tabels' is no command"
    assert "--wacth" in (mistake(["tables", "tools", "--wacth"]) or "")
    assert "--wacth" in (mistake(["tables", "--wacth"], whole=False) or "")
    assert mistake(["publish"]) == "Missing argument 'FILE|-'."
    assert list(commands_in("A=b agent-streams demo --for 5s | cat && agent-streams doctor  # why")) == [
        ["demo", "--for", "5s"],
        ["doctor"],
    ]
