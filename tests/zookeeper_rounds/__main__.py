"""`python -m tests.zookeeper_rounds --rounds N --seed S`: rounds by hand, on real nodes and real ZooKeeper servers.

Round i has seed S + i. The cluster is the same for all rounds; the first that fails ends the run, and the
directories stay. Runs in: a process of its own, main thread.
"""
from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.zookeeper_rounds.cluster import SESSION_TIMEOUT_MS, running_cluster
from tests.zookeeper_rounds.rounds import NAMESPACE_STROKES, STROKES, RoundFailedError, Rounds


def main() -> int:
    """Exit code: 1 if a round failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.zookeeper_rounds", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--servers", type=int, default=1, choices=(1, 3))
    parser.add_argument("--namespace", action="store_true", help="ZooKeeper in a network namespace (root)")
    parser.add_argument("--strokes", nargs="+", choices=sorted({*STROKES, *NAMESPACE_STROKES}))
    arguments = parser.parse_args()
    strokes = arguments.strokes or (NAMESPACE_STROKES if arguments.namespace else STROKES)
    work = Path(tempfile.mkdtemp(prefix="ottla-zookeeper-rounds-"))
    with running_cluster(work, arguments.nodes, arguments.servers, in_namespace=arguments.namespace) as cluster:
        rounds = Rounds(cluster, strokes)
        for seed in range(arguments.seed, arguments.seed + arguments.rounds):
            try:
                seconds = rounds.run(seed)
            except RoundFailedError as failure:
                print(failure, flush=True)
                print(f"directories: {work}")
                return 1
            happened = "; ".join(line[9:90] for line in rounds.timeline[-2:])
            print(f"seed {seed}: {seconds:.1f} s; {happened}", flush=True)
        print(f"{rounds.controller_writes()} transactions of controllers")
        print(f"successors after, ms, of {SESSION_TIMEOUT_MS} ms sessions: {sorted(rounds.succession_ms())}")
    shutil.rmtree(work)
    print(f"{arguments.rounds} rounds from seed {arguments.seed}: none failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
