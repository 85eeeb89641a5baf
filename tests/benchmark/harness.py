"""Two running brokers, workloads one after the other, rounds that alternate between the brokers.

Both brokers live through the whole run, so both are warm; each workload first runs once on each at a
fraction of its size, uncounted. Within a round the brokers take turns and the order changes from round
to round, so that drift of the machine falls on both. Dirty pages are written out before each
measurement, so that nobody pays for the other's.
Runs in: the benchmark process, main thread.
"""
from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from tests.benchmark.client import Clients
from tests.benchmark.process_tree import cpu_seconds
from tests.benchmark.report import Measure, Report
from tests.peers.kafka_cluster import KafkaBroker, ZooKeeper
from tests.peers.ottla_broker import OttlaBroker
from tests.peers.wire import Address, WireConnection, wait_for_leaders

KAFKA_HEAP = "1G"
WARM_UP_RECORDS = 2_000_000
WARM_UP_REQUESTS = 50_000
BROKER_OVERRIDES = {"auto.create.topics.enable": "false"}


class Broker(Protocol):
    """What KafkaBroker and OttlaBroker have in common."""

    name: str

    @property
    def address(self) -> Address: ...

    @property
    def bootstrap(self) -> str: ...

    @property
    def pid(self) -> int: ...

    log_dirs: list[Path]

    def start(self) -> float: ...

    def stop(self) -> int: ...

    def kill(self) -> None: ...

    def close(self) -> None: ...


class Bench(NamedTuple):
    """What every workload gets. `scale` multiplies record counts, `label` is the side's name."""

    clients: Clients
    scale: float
    new_broker: Callable[[str, Path], Broker]

    def count(self, full: int) -> int:
        return max(1000, int(full * self.scale))


class Workload(Protocol):
    """`prepare` and `clean_up` once per broker and run, `measure` once per broker and round."""

    name: str
    title: str

    def prepare(self, bench: Bench, broker: Broker) -> None: ...

    def measure(self, bench: Bench, broker: Broker) -> list[Measure]: ...

    def clean_up(self, bench: Bench, broker: Broker) -> None: ...


_topic_numbers = itertools.count()


def create_topic(broker: Broker, partitions: int = 1) -> str:
    """A new topic whose leaders are known."""
    name = f"bench-{os.getpid()}-{next(_topic_numbers)}"
    with WireConnection(broker.address, timeout_seconds=60) as connection:
        connection.create_topic(name, partitions)
    wait_for_leaders(broker.address, {name: partitions}, timeout_seconds=60)
    return name


def delete_topic(broker: Broker, name: str) -> None:
    with WireConnection(broker.address, timeout_seconds=60) as connection:
        connection.delete_topic(name)


@contextmanager
def temporary_topic(broker: Broker, partitions: int = 1) -> Iterator[str]:
    name = create_topic(broker, partitions)
    try:
        yield name
    finally:
        delete_topic(broker, name)


class CpuMeter:
    """CPU seconds of the broker's process tree between entering and leaving."""

    def __init__(self, broker: Broker) -> None:
        self._pid = broker.pid
        self.seconds = 0.0

    def __enter__(self) -> CpuMeter:
        self._before = cpu_seconds(self._pid)
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = cpu_seconds(self._pid) - self._before


class BrokerFactory:
    """Makes brokers of a kind ('kafka', 'ottla') in directories of their own; one ZooKeeper for all."""

    def __init__(self, kafka_libs: Path | None, zookeeper: ZooKeeper | None) -> None:
        self._kafka_libs = kafka_libs
        self._zookeeper = zookeeper
        self._numbers = itertools.count()
        self.made: list[Broker] = []

    def __call__(self, kind: str, work_dir: Path) -> Broker:
        number = next(self._numbers)
        work_dir = work_dir / f"{kind}-{number}"
        broker: Broker
        if kind == "ottla":
            broker = OttlaBroker(work_dir, BROKER_OVERRIDES)
        else:
            assert self._kafka_libs is not None and self._zookeeper is not None
            broker = KafkaBroker(
                self._kafka_libs,
                work_dir,
                self._zookeeper,
                BROKER_OVERRIDES,
                heap=KAFKA_HEAP,
                chroot=f"/{number}",
            )
        self.made.append(broker)
        return broker

    def close(self) -> None:
        for broker in self.made:
            broker.close()


def warm_up(bench: Bench, broker: Broker) -> None:
    """Brings a JVM to speed before anything is measured, in small requests, where it needs that most."""
    batches = ["-s", "100", "-c", str(WARM_UP_RECORDS), "-a", "1", "-X", "batch.size=16384"]
    single = ["-s", "100", "-c", str(WARM_UP_REQUESTS), "-a", "1", "-X", "batch.num.messages=1"]
    with temporary_topic(broker) as topic:
        bench.clients.produce(broker.bootstrap, topic, batches)
        bench.clients.produce(broker.bootstrap, topic, single)
        reading = ["-p", "0", "-o", "beginning", "-c", str(WARM_UP_RECORDS)]
        bench.clients.consume(broker.bootstrap, topic, reading)


def run_workload(
    workload: Workload, bench: Bench, brokers: Sequence[Broker], rounds: int, report: Report
) -> None:
    """All rounds of one workload on both brokers."""
    for broker in brokers:
        workload.prepare(bench, broker)
    for round_number in range(rounds):
        sides = (0, 1) if round_number % 2 == 0 else (1, 0)
        for side in sides:
            os.sync()
            measures = workload.measure(bench, brokers[side])
            report.add(workload.title, side, measures)
            figures = ", ".join(f"{m.metric} {m.value:.4g} {m.unit}" for m in measures)
            note(f"{workload.name} round {round_number + 1} {report.names[side]}: {figures}")
    for broker in brokers:
        workload.clean_up(bench, broker)


def note(text: str) -> None:
    """Progress, on standard error: standard output holds the table alone."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
