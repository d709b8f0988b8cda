"""Does the code keep the laws of its house?  Read from the source by ast: imports, purity, sizes and docstrings.

Never imports the product: a law that only holds for what happens to be imported is none.
"""

import ast
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = "streams"
PIPELINE: Final = ("event", "feed", "fold", "rule", "sink", "stage", "worker")
PURE: Final = ("event", "fold", "rule", "sink", "stage")

# What each folder may take from the top level; `streams` itself holds the version and nothing else.
TOP_LEVEL: Final = {
    "event": {"errors"},
    "feed": {"errors", "topology", "settings", "clock", "profiles", "variables"},
    "fold": {"errors", "topology"},
    "rule": {"errors", "topology"},
    "sink": {"errors", "topology"},
    "stage": {"errors", "topology"},
    "worker": {"", "errors", "topology", "settings", "clock", "profiles"},
}
# What the top level may take: the first seven are leaves; settings compose the policies of the rules.
TOP_LEVEL_TAKES: Final = {
    "": set[str](),
    "errors": set[str](),
    "topology": set[str](),
    "clock": set[str](),
    "variables": set[str](),
    "profiles": set[str](),
    "session_settings": set[str](),
    "output_settings": {"rule", "profiles", "variables"},
    "web_settings": {"rule", "variables"},
    "ingest_settings": {"web_settings"},
    "settings": {
        "rule", "errors", "topology", "variables", "profiles", "output_settings", "ingest_settings", "web_settings",
        "session_settings",
    },
    "__main__": {"", "errors"},  # commands are imported by name, when they are called
}  # fmt: skip
IMPURE: Final = {
    "aiohttp", "aiokafka", "asyncio", "concurrent", "faust", "http", "httpx", "logging", "mode", "multiprocessing",
    "os", "pathlib", "prometheus_client", "random", "redis", "requests", "secrets", "select", "shutil", "signal",
    "socket", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uuid",
}  # fmt: skip
CLOCKS: Final = {"now", "utcnow", "today"}
IMPURE_BUILTINS: Final = {"open", "input", "print", "eval", "exec", "__import__"}
UNSAFE: Final = {"pickle", "cPickle", "dill", "marshal", "shelve", "cloudpickle"}

CODE_LINES_MAX: Final = 70
MODULE_LINES_MAX: Final = 500
NO_CODE: Final = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip
LONG_FUNCTIONS: Final = {
    "streams/stage/sessions.py:SessionsPartition._fold": "the hot loop; a call per event would cost a tenth of it",
}
RUN_BY_NAME: Final = {"streams/worker/leash.py"}  # a program of its own, started as a process


class Import(NamedTuple):
    """One import statement's target, as a path from the package: ("stage", "plan"), or () for the package itself."""

    line: int
    target: tuple[str, ...]


class Module(NamedTuple):
    """One file of the product."""

    name: str  # as in the repository: streams/stage/plan.py
    parts: tuple[str, ...]  # from the package: ("stage", "plan")
    text: str
    tree: ast.Module

    @property
    def folder(self) -> str:
        """The folder of the pipeline it is in; its own name at the top level."""
        return self.parts[0] if self.parts else ""

    @property
    def in_pipeline(self) -> bool:
        """Is it in one of the pipeline's folders?"""
        return self.folder in PIPELINE


@cache
def modules() -> tuple[Module, ...]:
    """Read every file of the product, once."""
    found = []
    for file in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = file.relative_to(ROOT / PACKAGE).with_suffix("").parts
        text = file.read_text(encoding="utf-8")
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        found.append(Module(file.relative_to(ROOT).as_posix(), parts, text, ast.parse(text)))
    return tuple(found)


def pure() -> list[Module]:
    return [module for module in modules() if module.folder in PURE]


def imported(module: Module) -> Iterator[tuple[int, str]]:
    """Yield every absolute name a module imports, also inside functions, with its line."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module.name}:{node.lineno}: imports are absolute"
            assert node.module is not None
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def own_imports(module: Module) -> Iterator[Import]:
    """Yield what a module imports from the product: the module meant, not the name taken from it."""
    known = {other.parts for other in modules()}
    for line, name in imported(module):
        root, *rest = name.split(".")
        if root != PACKAGE:
            continue
        target = tuple(rest)
        yield Import(line, target if target in known else target[:-1])


def test_folders_are_the_pipeline() -> None:
    folders = {file.parent.name for file in (ROOT / PACKAGE).glob("*/__init__.py")}

    assert set(PIPELINE) == folders
    assert TOP_LEVEL_TAKES.keys() == {module.folder for module in modules() if not module.in_pipeline}


def test_folders_take_only_from_themselves_and_those_before() -> None:
    wrong = []
    for module in modules():
        if not module.in_pipeline:
            continue
        allowed = set(PIPELINE[: PIPELINE.index(module.folder) + 1]) | TOP_LEVEL[module.folder]
        if module.folder != "worker":
            allowed -= {"feed"} - {module.folder}  # the emitter runs in agents; nothing that judges may lean on it
        for line, target in own_imports(module):
            folder = target[0] if target else ""
            if folder not in allowed:
                wrong.append(f"{module.name}:{line} imports {PACKAGE}.{'.'.join(target)}")

    assert not wrong, "\n".join(wrong)


def test_the_top_level_leans_on_nothing_behind_it() -> None:
    wrong = [
        f"{module.name}:{line} imports {PACKAGE}.{'.'.join(target)}"
        for module in modules()
        if not module.in_pipeline
        for line, target in own_imports(module)
        if (target[0] if target else "") not in TOP_LEVEL_TAKES[module.folder]
    ]

    assert not wrong, "\n".join(wrong)


def test_no_imports_go_in_circles() -> None:
    taken = {module.parts: {target for _, target in own_imports(module)} - {module.parts} for module in modules()}
    while leaves := [parts for parts, targets in taken.items() if not targets & taken.keys()]:
        for parts in leaves:
            del taken[parts]

    assert not taken, "these import one another: " + ", ".join(sorted(".".join(parts) for parts in taken))


def test_what_decides_never_touches_the_world() -> None:
    wrong = []
    for module in pure():
        wrong += [f"{module.name}:{line} imports {name}" for line, name in imported(module) if _root(name) in IMPURE]
        for node in ast.walk(module.tree):
            match node:
                case ast.Call(func=ast.Attribute(attr=name)) if name in CLOCKS:
                    wrong.append(f"{module.name}:{node.lineno} asks a clock: .{name}()")
                case ast.Call(func=ast.Name(id=name)) if name in IMPURE_BUILTINS:
                    wrong.append(f"{module.name}:{node.lineno} calls {name}()")
                case ast.AsyncFunctionDef() | ast.Await() | ast.Global():
                    wrong.append(f"{module.name}:{node.lineno} waits, or keeps state in its module")

    assert not wrong, "\n".join(wrong)


def test_nothing_reads_bytes_that_can_run() -> None:
    wrong = [f"{module.name}: {name}" for module in modules() for _, name in imported(module) if _root(name) in UNSAFE]

    assert not wrong, "\n".join(wrong)


def test_modules_are_short() -> None:
    long = {module.name: len(module.text.splitlines()) for module in modules()}

    assert not {name: lines for name, lines in long.items() if lines > MODULE_LINES_MAX}


def test_functions_are_short_but_for_those_with_a_reason() -> None:
    long = {
        f"{module.name}:{name}": lines
        for module in modules()
        for name, node in definitions(module.tree)
        if not isinstance(node, ast.ClassDef) and (lines := code_lines(module, node)) > CODE_LINES_MAX
    }

    assert LONG_FUNCTIONS.keys() == long.keys(), long


def test_what_is_public_says_what_it_is() -> None:
    silent = [f"{module.name}:1" for module in modules() if not ast.get_docstring(module.tree)]
    for module in modules():
        silent += [
            f"{module.name}:{node.lineno} {name}"
            for name, node in definitions(module.tree)
            if not any(part.startswith("_") for part in name.split("."))
            and not ast.get_docstring(node)
            and not is_setter(node)
        ]

    assert not silent, "\n".join(silent)


def test_importing_the_worker_does_nothing() -> None:
    """Constants may be made; but nothing runs for its effect, and the system is asked nothing."""
    wrong = [
        f"{module.name}:{node.lineno} {what}"
        for module in modules()
        if module.folder == "worker"
        for node in module.tree.body
        for what in work(module, node)
    ]

    assert not wrong, "\n".join(wrong)


def work(module: Module, node: ast.stmt) -> Iterator[str]:
    """Say what a statement of a module does besides defining something."""
    match node:
        case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return
        case ast.Expr(value=ast.Constant(value=str())):
            return
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))) if module.name in RUN_BY_NAME:
            return
        case ast.Assign(value=value) | ast.AnnAssign(value=value) if value is not None:
            for each in ast.walk(value):
                name = ast.unparse(each.func if isinstance(each, ast.Call) else each) if _asks(each) else ""
                if name:
                    yield f"asks {name}"
        case _:
            yield f"runs {ast.unparse(node).splitlines()[0]}"


def _asks(node: ast.AST) -> bool:
    """Is this a call of something impure (a logger is none), or the environment?"""
    match node:
        case ast.Call(func=func):
            name = ast.unparse(func)
            return name in IMPURE_BUILTINS or (_root(name) in IMPURE and name != "logging.getLogger")
        case ast.Attribute(value=ast.Name(id="os"), attr="environ"):
            return True
    return False


def definitions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """Yield functions and classes with their dotted names: those of modules and classes, not those inside functions."""
    waiting: list[tuple[str, ast.stmt]] = [("", node) for node in tree.body]
    while waiting:
        prefix, node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                waiting += [(f"{prefix}{node.name}.", child) for child in node.body]


def is_setter(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Is this the other half of a property, which has said already what it is?"""
    return any(isinstance(each, ast.Attribute) and each.attr == "setter" for each in node.decorator_list)


def code_lines(module: Module, node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function that hold code: no comments, no blank lines, no docstring."""
    first = node.body[0]
    said = range(first.lineno, (first.end_lineno or 0) + 1) if ast.get_docstring(node) is not None else range(0)
    lines = lines_with_code(module.text)
    assert node.end_lineno is not None
    return sum(line in lines and line not in said for line in range(node.lineno, node.end_lineno + 1))


@cache
def lines_with_code(text: str) -> frozenset[int]:
    """Return the numbers of the lines that hold more than a comment."""
    lines = set[int]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return frozenset(lines)


def _root(name: str) -> str:
    return name.partition(".")[0]
