"""What a broker costs while little or nothing happens: memory, open connections, idle CPU.

Runs in: the benchmark process.
"""
from __future__ import annotations

import time

from tests.benchmark.harness import Bench, Broker, CpuMeter, create_topic, delete_topic
from tests.benchmark.process_tree import memory_bytes, run_seconds
from tests.benchmark.report import Measure
from tests.benchmark.wire_clients import open_connections, poll_for

CONNECTIONS = 5000
IDLE_SECONDS = 10
IDLE_SECONDS_MIN = 3
SETTLE_SECONDS = 1.0
CONSUMERS = 100
LONG_POLL_WARM_UP_SECONDS = 6
FETCH_WAIT_MS = 500  # every client's default fetch.max.wait.ms


class Memory:
    """Proportional set size of the tree, as the workloads before it have left it."""

    name = "memory"
    title = "memory of the process tree after the workloads above"

    def prepare(self, bench: Bench, broker: Broker) -> None:
        """Nothing to do."""

    def measure(self, bench: Bench, broker: Broker) -> list[Measure]:
        return [Measure("PSS", memory_bytes(broker.pid) / 1e6, "MB")]

    def clean_up(self, bench: Bench, broker: Broker) -> None:
        """Nothing to do."""


class Connections:
    """Opened one after the other in waves of 50, ApiVersions answered on each, then left open."""

    name = "connections"
    title = "5,000 connections opened"

    def prepare(self, bench: Bench, broker: Broker) -> None:
        with open_connections(broker.address, bench.count(CONNECTIONS) // 5):
            time.sleep(SETTLE_SECONDS)

    def measure(self, bench: Bench, broker: Broker) -> list[Measure]:
        count = bench.count(CONNECTIONS)
        before = memory_bytes(broker.pid)
        started = time.monotonic()
        with CpuMeter(broker) as cpu, open_connections(broker.address, count):
            seconds = time.monotonic() - started
            time.sleep(SETTLE_SECONDS)
            held = memory_bytes(broker.pid) - before
        time.sleep(SETTLE_SECONDS)
        return [
            Measure("opened", count / seconds / 1000, "k/s"),
            Measure("broker CPU, opening and closing", cpu.seconds / count * 1e6, "ms/1000 connections"),
            Measure("PSS while open", held / count / 1000, "KB/connection"),
        ]

    def clean_up(self, bench: Bench, broker: Broker) -> None:
        """All are closed already."""


class Idle:
    """No client at all."""

    name = "idle"
    title = "idle, no clients"

    def prepare(self, bench: Bench, broker: Broker) -> None:
        time.sleep(SETTLE_SECONDS)

    def measure(self, bench: Bench, broker: Broker) -> list[Measure]:
        seconds = max(IDLE_SECONDS_MIN, IDLE_SECONDS * bench.scale)
        before = run_seconds(broker.pid)
        time.sleep(seconds)
        return [Measure("broker CPU", (run_seconds(broker.pid) - before) / seconds * 100, "% of a core")]

    def clean_up(self, bench: Bench, broker: Broker) -> None:
        """Nothing to do."""


class LongPolls:
    """A hundred consumers, each waiting at the end of a partition of its own."""

    name = "long-polls"
    title = "idle, 100 partitions and 100 long-polling consumers"

    def __init__(self) -> None:
        self._topics: dict[str, str] = {}

    def prepare(self, bench: Bench, broker: Broker) -> None:
        self._topics[broker.bootstrap] = create_topic(broker, CONSUMERS)
        self._poll(broker, LONG_POLL_WARM_UP_SECONDS)

    def measure(self, bench: Bench, broker: Broker) -> list[Measure]:
        seconds = max(IDLE_SECONDS_MIN, IDLE_SECONDS * bench.scale)
        before = run_seconds(broker.pid)
        answered = self._poll(broker, seconds)
        used = run_seconds(broker.pid) - before
        return [
            Measure("broker CPU", used / seconds * 100, "% of a core"),
            Measure("fetches answered", answered / seconds, "1/s"),
        ]

    def _poll(self, broker: Broker, seconds: float) -> int:
        offsets = dict.fromkeys(range(CONSUMERS), 0)
        return poll_for(broker.address, self._topics[broker.bootstrap], offsets, FETCH_WAIT_MS, seconds)

    def clean_up(self, bench: Bench, broker: Broker) -> None:
        delete_topic(broker, self._topics.pop(broker.bootstrap))
