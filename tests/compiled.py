"""The product with the path of an event compiled, in a folder of its own beside the plain source."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]


def build(folder: Path) -> Path:
    """Build the compiled wheel from a copy of the source and return the folder to put on PYTHONPATH."""
    source = folder / "source"
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "streams", "pyproject.toml", "README.md",
         "LICENSE"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    done = subprocess.run(
        [*command, str(folder / "wheel"), str(source)],
        env={**os.environ, "HATCH_BUILD_HOOK_ENABLE_MYPYC": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the compiled wheel could not be built:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    (wheel,) = (folder / "wheel").glob("*.whl")
    unpacked = folder / "compiled"
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(unpacked)
    return unpacked
