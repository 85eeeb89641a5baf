"""`python -m tests.crash --rounds N --seed S`: rounds by hand, with all evidence of the ones that fail.

Round i has seed S + i. The directories of failed rounds are kept, their place is printed.
Runs in: a process of its own, main thread.
"""
from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.crash.rounds import KILLS_PER_ROUND, RoundFailedError, run_round


def main() -> int:
    """Exit code: 1 if a round failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description="Kill parts, compare records.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--kills", type=int, default=KILLS_PER_ROUND, help="per round")
    parser.add_argument("--repeat", action="store_true", help="the same seed in every round")
    parser.add_argument("--stop", action="store_true", help="at the first failure")
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="ottla-crash-"))
    failed = []
    for index in range(arguments.rounds):
        seed = arguments.seed if arguments.repeat else arguments.seed + index
        try:
            result = run_round(seed, work / f"round-{index}-seed-{seed}", arguments.kills)
        except RoundFailedError as failure:
            failed.append(seed)
            print(failure, flush=True)
            if arguments.stop:
                break
            continue
        print(f"round {index}, seed {seed}: {result.kill_count} kills, {result.acked_count} records, "
              f"{result.seconds:.1f} s", flush=True)
    print(f"{arguments.rounds} rounds from seed {arguments.seed}, {len(failed)} failed: {failed}")
    if not failed:
        work.rmdir()
    else:
        print(f"directories of the failed rounds: {work}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
