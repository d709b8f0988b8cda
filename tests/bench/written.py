"""Where do results go?  Into a folder, and where it is asked for into the page that shows them.

Never changes anything in the page but the block between its own two comments.
"""

import json
from pathlib import Path
from typing import Any, Final

DOCS: Final = Path(__file__).parent.parent.parent / "docs"
PAGE: Final = DOCS / "performance.md"


def write(
    name: str, text: str, told: dict[str, Any], *, out: Path, docs: bool, svg: str = "", page: Path = PAGE
) -> None:
    """Write `name`.md and .json, and .svg where there is a drawing, into `out`; with `docs` into the page as well."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    (out / f"{name}.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    if svg:
        (out / f"{name}.svg").write_text(svg, encoding="utf-8")
    if docs:
        page.write_text(put(page.read_text(encoding="utf-8"), name, text), encoding="utf-8")
        if svg:
            (DOCS / f"performance-{name}.svg").write_text(svg, encoding="utf-8")
    print(f"{text}\n\nwritten to {out}{f' and {page}' if docs else ''}")


def put(page: str, name: str, text: str) -> str:
    """Return the page with this text in the block of this name."""
    begin, end = f"<!-- {name} begin -->", f"<!-- {name} end -->"
    before, found, rest = page.partition(begin)
    _, also_found, after = rest.partition(end)
    if not (found and also_found):
        raise ValueError(f"the page has no block {begin} … {end}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"
