"""`python -m tests.controller.simulation --seeds 10000`: worlds by hand, on all processors.

`--seed N` runs one seed and prints its whole history: the same for the same seed and sources.
Runs in: this process, and one worker per processor.
"""
from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import time

from tests.controller.simulation.world import Result, run_seed

SHOWN_MAX = 5


def main() -> int:
    """Exit code: 1 if a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.controller.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--seed", type=int, help="only this one, with its history")
    parser.add_argument("--log", action="store_true", help="the nodes' log, too")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    _set_logging(arguments.log)
    if arguments.seed is not None:
        result = run_seed(arguments.seed)
        print(result)
        return 1 if result.violations else 0
    started = time.monotonic()
    with multiprocessing.Pool(arguments.workers, _set_logging, (arguments.log,)) as pool:
        failed, elections, acts = _run_all(pool.imap_unordered(
            _summary, range(arguments.first, arguments.first + arguments.seeds), chunksize=10))
    print(f"{arguments.seeds} seeds from {arguments.first}: {len(failed)} failed, {elections} elections, "
          f"{acts} acts, {time.monotonic() - started:.0f} s; failed: {sorted(failed)}")
    return 1 if failed else 0


def _set_logging(is_wanted: bool) -> None:
    logging.basicConfig(level=logging.INFO)
    if not is_wanted:
        logging.disable(logging.CRITICAL)


def _summary(seed: int) -> tuple[int, list[str], int, int]:
    result: Result = run_seed(seed)
    return seed, result.violations, result.elections, result.acts


def _run_all(summaries: object) -> tuple[list[int], int, int]:
    failed: list[int] = []
    elections = acts = 0
    for seed, violations, elected, acted in summaries:  # type: ignore[attr-defined]
        elections += elected
        acts += acted
        if violations:
            failed.append(seed)
            if len(failed) <= SHOWN_MAX:
                print(f"seed {seed}, {len(violations)} violations, the first: {violations[0]}", flush=True)
    return failed, elections, acts


if __name__ == "__main__":
    sys.exit(main())
