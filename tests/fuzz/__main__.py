"""Look for input that breaks a promise, led by coverage: `PYTHONPATH=.:tests python -m fuzz --seconds 600`.

What is found is written to a file and ends the run; give it to `--again FILE`, and then make it a test.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

import atheris

# Only what reads hostile bytes: counting the branches of everything would slow all of it down.
with atheris.instrument_imports(include=["streams.event", "streams.stage", "streams.worker.ingest_codec"]):
    from fuzz.seeds import mutated, write_seeds
    from fuzz.targets import TARGETS

BYTES_MAX = 4096
STRUCTURED = 0.5  # how often a JSON text is changed as such, instead of as bytes


def once(data: bytes) -> None:
    """Give the bytes to the target that the first one names."""
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


def change(data: bytes, size: int, seed: int) -> bytes:
    """Change an input: as JSON where it is, else as libFuzzer does."""
    rng = random.Random(seed)
    if data and rng.random() < STRUCTURED:
        changed = mutated(data[1:], rng)
        if changed is not None and len(changed) < size:
            return data[:1] + changed
    return bytes(atheris.Mutate(data, size))


def main() -> None:
    """Run for a while, from a corpus in a folder that is kept, or in one that is not."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, help="a folder to begin with and to add to")
    parser.add_argument("--found", type=Path, default=Path(), help="the folder that what is found is written to")
    parser.add_argument("--again", type=Path, help="one input that was found")
    given = parser.parse_args()
    if given.again is not None:
        once(given.again.read_bytes())
        return
    with tempfile.TemporaryDirectory() as own:
        folder = given.corpus or Path(own)
        write_seeds(folder)
        options = [
            f"-max_total_time={given.seconds}",
            f"-max_len={BYTES_MAX}",
            "-timeout=10",
            "-rss_limit_mb=2048",
            f"-artifact_prefix={given.found}/",
        ]
        atheris.Setup([sys.argv[0], str(folder), *options, "-print_final_stats=1"], once, custom_mutator=change)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
