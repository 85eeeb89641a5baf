"""`python -m tests.benchmark`: the table of Ottla beside Kafka 3.9.1, from one run.

    python -m tests.benchmark                       everything, three rounds: about 30 minutes
    python -m tests.benchmark --quick               a fifth of the records, one round: about 5 minutes
    python -m tests.benchmark --only single,trips   some workloads (--list names them)
    python -m tests.benchmark --right kafka         Kafka beside Kafka: how far from 1 chance alone gets

The table goes to standard output as markdown, progress to standard error; --json keeps every round.
Needs a JDK and Maven (or OTTLA_TEST_KAFKA_LIBS), npm and a C compiler (first use), strace.
"""
from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import platform
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from tests.benchmark.client import Clients
from tests.benchmark.harness import Bench, Broker, BrokerFactory, Workload, note, run_workload, warm_up
from tests.benchmark.report import Report
from tests.benchmark.syscalls import strace_is_missing
from tests.benchmark.workloads import all_workloads
from tests.peers.cache import cache_root
from tests.peers.kafka_cluster import ZooKeeper
from tests.peers.kafka_jars import kafka_libs

DEFAULT_ROUNDS = 3
QUICK_SCALE = 0.2
NEEDED_DISK_BYTES = 30_000_000_000


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmark", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--left", choices=("kafka", "ottla"), default="kafka")
    parser.add_argument("--right", choices=("kafka", "ottla"), default="ottla")
    parser.add_argument("--rounds", type=int, help=f"default {DEFAULT_ROUNDS}, with --quick 1")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", help="names of workloads, with commas")
    parser.add_argument("--list", action="store_true", help="names of workloads, and nothing else")
    parser.add_argument("--dir", type=Path, help="where the brokers keep their data (30 GB; not a tmpfs)")
    parser.add_argument("--json", type=Path, help="write every round's figures to this file")
    return parser.parse_args(argv)


def choose(workloads: Sequence[Workload], only: str | None) -> list[Workload]:
    """Those named, in the order of the table; system calls are left out where strace is missing."""
    names = [workload.name for workload in workloads]
    wanted = only.split(",") if only else names
    unknown = set(wanted) - set(names)
    if unknown:
        raise SystemExit(f"no such workload: {', '.join(sorted(unknown))}; --list names them")
    chosen = [workload for workload in workloads if workload.name in wanted]
    if strace_is_missing():
        note("strace is missing: system calls are not counted")
        chosen = [workload for workload in chosen if not workload.name.startswith("syscalls")]
    return chosen


def conditions(quick: bool) -> str:
    """The machine and the size, in one line under the table."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = psutil.virtual_memory().total / 1e9
    size = "sizes and counts are a fifth of what the titles say (--quick); " if quick else ""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{os.cpu_count()} cores ({cpu}), {memory:.0f} GB, Linux {platform.release()}, "
        f"Python {platform.python_version()}; {size}clients on the same machine; load average at the end {load}"
    )


def raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def alone_on_this_machine() -> Iterator[None]:
    """Two benchmarks at once would measure each other: the second waits."""
    with (cache_root() / ".benchmark.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note("another benchmark is running: waiting for its end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def end_on_sigterm() -> None:
    """As an exception, so that brokers and directories go too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def run(arguments: argparse.Namespace, chosen: Sequence[Workload], work_dir: Path) -> Report:
    kinds = (arguments.left, arguments.right)
    report = Report(*kinds if kinds[0] != kinds[1] else (f"{kinds[0]} A", f"{kinds[1]} B"))
    with contextlib.ExitStack() as stack:
        libs = zookeeper = None
        if "kafka" in kinds:
            libs = kafka_libs()
            zookeeper = ZooKeeper(libs, work_dir / "zookeeper")
            zookeeper.start()
            stack.callback(zookeeper.stop)
        factory = BrokerFactory(libs, zookeeper)
        stack.callback(factory.close)
        bench = Bench(Clients.build(), QUICK_SCALE if arguments.quick else 1.0, factory)
        brokers: list[Broker] = [factory(kind, work_dir) for kind in kinds]
        for broker in brokers:
            note(f"{broker.name} ready after {broker.start():.2f} s")
            warm_up(bench, broker)
        rounds = arguments.rounds or (1 if arguments.quick else DEFAULT_ROUNDS)
        for workload in chosen:
            run_workload(workload, bench, brokers, rounds, report)
    return report


def main(argv: Sequence[str]) -> int:
    arguments = parse_arguments(argv)
    directory = arguments.dir or Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(prefix="ottla-benchmark-", dir=directory) as name:
        work_dir = Path(name)
        workloads = all_workloads(work_dir)
        if arguments.list:
            print("\n".join(f"{workload.name:18} {workload.title}" for workload in workloads))
            return 0
        chosen = choose(workloads, arguments.only)
        if shutil.disk_usage(work_dir).free < NEEDED_DISK_BYTES and not arguments.quick:
            raise SystemExit(f"less than 30 GB free in {directory}: use --dir or --quick")
        raise_descriptor_limit()
        end_on_sigterm()
        with alone_on_this_machine():
            report = run(arguments, chosen, work_dir)
    print(report.markdown())
    print(f"\n{conditions(arguments.quick)}")
    if arguments.json:
        arguments.json.write_text(json.dumps([row._asdict() for row in report.rows()], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
