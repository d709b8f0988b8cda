"""Live single seeds again: `PYTHONPATH=.:tests python -m simulation SEED`, or many: `… FIRST-LAST`."""

import argparse
import sys
import time

from simulation.life import live


def main() -> None:
    """Live the seeds of the command line, and stop at the first that goes wrong."""
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("seeds", help="one seed, or FIRST-LAST")
    first, _, last = parser.parse_args().seeds.partition("-")
    began_s = time.process_time()
    events = fences = lives = 0
    for seed in range(int(first), int(last or first) + 1):
        world = live(seed)
        events += sum(len(one.events) for records in world.published.values() for _, one in records)
        fences += world.happened["fenced"]
        lives += 1
    took_s = time.process_time() - began_s
    sys.stdout.write(f"{lives} lives, {events} events, {fences} owners fenced, {took_s:.1f} s of CPU\n")


if __name__ == "__main__":
    main()
