"""System calls of the broker's tree, counted by `strace -c` during short runs of their own.

Not part of the timed rounds: tracing slows a broker many times over. What counts is how many calls one
megabyte or a thousand requests take, and of which class.
Runs in: the benchmark process; strace is a child.
"""
from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmark.harness import Bench, Broker, create_topic, delete_topic, temporary_topic
from tests.benchmark.process_tree import process_ids
from tests.benchmark.report import Measure
from tests.benchmark.throughput import BATCHES_1_MB, BATCHES_16_KB, FETCHES_1_MB, SINGLE_RECORDS

READS = {"read", "readv", "pread64", "preadv", "preadv2", "recvfrom", "recvmsg", "recvmmsg"}
WRITES = {"write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg", "sendmmsg", "sendfile"}
WAITS = {"epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "futex", "epoll_ctl"}

ATTACH_SECONDS = 2.0
DETACH_TIMEOUT_SECONDS = 30


class Trace:
    """Counts by name of the calls that the tree makes between entering and leaving."""

    def __init__(self, broker: Broker) -> None:
        self._pids = process_ids(broker.pid)
        self.counts: dict[str, int] = {}

    def __enter__(self) -> Trace:
        self._output = tempfile.NamedTemporaryFile(prefix="strace-", suffix=".txt")
        targets = [argument for pid in self._pids for argument in ("-p", str(pid))]
        command = ["strace", "-f", "-c", "-qq", "-o", self._output.name, *targets]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(ATTACH_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(DETACH_TIMEOUT_SECONDS)
        finally:
            self._process.kill()
        self.counts = parse_counts(Path(self._output.name).read_text())
        self._output.close()

    def measures(self, units: float, per: str) -> list[Measure]:
        classes = (("reads", READS), ("writes", WRITES), ("waits and wakes", WAITS))
        totals = [
            Measure(name, sum(self.counts.get(call, 0) for call in calls) / units, f"calls/{per}")
            for name, calls in classes
        ]
        return [*totals, Measure("all", sum(self.counts.values()) / units, f"calls/{per}")]


def parse_counts(text: str) -> dict[str, int]:
    """{call: count} from the table that `strace -c` prints."""
    counts: dict[str, int] = {}
    for line in text.splitlines():
        columns = line.split()
        if len(columns) >= 5 and columns[3].isdigit() and columns[-1] != "total":
            counts[columns[-1]] = counts.get(columns[-1], 0) + int(columns[3])
    return counts


class CountProduce:
    """Calls while records are produced."""

    def __init__(self, name: str, title: str, settings: Sequence[str], records: int, units: float, per: str):
        self.name = name
        self.title = title
        self._arguments = ["-s", "100", "-c", str(records), "-a", "1", *settings]
        self._units = units
        self._per = per

    def prepare(self, bench: Bench, broker: Broker) -> None:
        """Nothing to do."""

    def measure(self, bench: Bench, broker: Broker) -> list[Measure]:
        with temporary_topic(broker) as topic, Trace(broker) as trace:
            bench.clients.produce(broker.bootstrap, topic, self._arguments)
        return trace.measures(self._units, self._per)

    def clean_up(self, bench: Bench, broker: Broker) -> None:
        """Every topic is gone already."""


class CountConsume:
    """Calls while records are consumed."""

    name = "syscalls-consume"
    title = "system calls, consume 1000 B"
    _records = 200_000

    def prepare(self, bench: Bench, broker: Broker) -> None:
        """Nothing to do."""

    def measure(self, bench: Bench, broker: Broker) -> list[Measure]:
        topic = create_topic(broker)
        count = str(self._records)
        filling = ["-s", "1000", "-c", count, "-a", "1", *BATCHES_1_MB]
        bench.clients.produce(broker.bootstrap, topic, filling)
        with Trace(broker) as trace:
            where = ["-p", "0", "-o", "beginning", "-c", count]
            bench.clients.consume(broker.bootstrap, topic, [*where, *FETCHES_1_MB])
        delete_topic(broker, topic)
        return trace.measures(self._records * 1000 / 1e6, "MB")

    def clean_up(self, bench: Bench, broker: Broker) -> None:
        """Every topic is gone already."""


def strace_is_missing() -> bool:
    return shutil.which("strace") is None


COUNT_BATCHES = CountProduce(
    "syscalls-16k", "system calls, produce 100 B in 16 KB batches", BATCHES_16_KB, 500_000, 50, "MB"
)
COUNT_SINGLE = CountProduce(
    "syscalls-single", "system calls, one record per request", SINGLE_RECORDS, 10_000, 10, "1000 requests"
)
