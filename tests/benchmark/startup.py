"""Time from exec to serving: an empty broker, and one with 3 GB or 1,000 partitions, stopped or killed.

Each workload has brokers of its own. Serving means: ApiVersions and Metadata are answered and every
partition has a leader. ZooKeeper runs already, and the wait until it has forgotten a killed Kafka is not
counted. A killed broker has its recovery-point checkpoint removed before it starts, so that every round
recovers all of the data, as if nothing had been flushed since it was written; files are in the page cache.
Runs in: the benchmark process.
"""
from __future__ import annotations

import time
from pathlib import Path

from tests.benchmark.harness import Bench, Broker, create_topic
from tests.benchmark.process_tree import cpu_seconds, memory_bytes
from tests.benchmark.report import Measure
from tests.benchmark.throughput import BATCHES_1_MB, BATCHES_16_KB
from tests.peers.wire import wait_for_leaders

RECOVERY_POINT_FILE = "recovery-point-offset-checkpoint"
START_TIMEOUT_SECONDS = 120


def timed_start(broker: Broker, topics: dict[str, int]) -> tuple[float, float]:
    """(seconds from exec to all leaders known, CPU seconds of the tree by then)"""
    serving_seconds = broker.start()
    started = time.monotonic()
    if topics:
        wait_for_leaders(broker.address, topics, START_TIMEOUT_SECONDS)
    return serving_seconds + time.monotonic() - started, cpu_seconds(broker.pid)


def forget_recovery_points(broker: Broker) -> None:
    for log_dir in broker.log_dirs:
        (log_dir / RECOVERY_POINT_FILE).unlink(missing_ok=True)


class StartEmpty:
    """New directories every time."""

    name = "start-empty"
    title = "start with empty directories"

    def __init__(self, work_dir: Path) -> None:
        self._work_dir = work_dir

    def prepare(self, bench: Bench, broker: Broker) -> None:
        """Nothing to do."""

    def measure(self, bench: Bench, broker: Broker) -> list[Measure]:
        fresh = bench.new_broker(broker.name, self._work_dir)
        try:
            seconds, cpu = timed_start(fresh, {})
            memory = memory_bytes(fresh.pid)
            started = time.monotonic()
            fresh.stop()
            stop_seconds = time.monotonic() - started
        finally:
            fresh.close()
        return [
            Measure("time to ready", seconds, "s"),
            Measure("CPU to ready", cpu, "s"),
            Measure("PSS when ready", memory / 1e6, "MB"),
            Measure("clean stop", stop_seconds, "s"),
        ]

    def clean_up(self, bench: Bench, broker: Broker) -> None:
        """Nothing to do."""


class StartLoaded:
    """A broker with data: started after a clean stop, then killed and started again."""

    def __init__(self, name: str, title: str, work_dir: Path, partitions: int, data_bytes: int) -> None:
        self.name = name
        self.title = title
        self._work_dir = work_dir
        self._partitions = partitions
        self._data_bytes = data_bytes
        self._loaded: dict[str, tuple[Broker, str]] = {}

    def prepare(self, bench: Bench, broker: Broker) -> None:
        loaded = bench.new_broker(broker.name, self._work_dir)
        loaded.start()
        topic = create_topic(loaded, self._partitions)
        count = str(bench.count(self._data_bytes // 1000))
        # 16 KB batches are what most of a log consists of; with many partitions no batch gets full anyway.
        batches = BATCHES_16_KB if self._partitions < 100 else BATCHES_1_MB
        bench.clients.produce(loaded.bootstrap, topic, ["-s", "1000", "-c", count, "-a", "1", *batches])
        loaded.stop()
        self._loaded[broker.bootstrap] = (loaded, topic)

    def measure(self, bench: Bench, broker: Broker) -> list[Measure]:
        loaded, topic = self._loaded[broker.bootstrap]
        topics = {topic: self._partitions}
        clean_seconds, clean_cpu = timed_start(loaded, topics)
        loaded.kill()
        forget_recovery_points(loaded)
        killed_seconds, killed_cpu = timed_start(loaded, topics)
        started = time.monotonic()
        loaded.stop()
        return [
            Measure("time to ready after a clean stop", clean_seconds, "s"),
            Measure("CPU to ready after a clean stop", clean_cpu, "s"),
            Measure("time to ready after kill -9", killed_seconds, "s"),
            Measure("CPU to ready after kill -9", killed_cpu, "s"),
            Measure("clean stop", time.monotonic() - started, "s"),
        ]

    def clean_up(self, bench: Bench, broker: Broker) -> None:
        loaded, _ = self._loaded.pop(broker.bootstrap)
        loaded.close()


