"""Producing and consuming as fast as one client can: rate, and CPU seconds of the broker for it.

The settings of rdkafka_performance are those by which the figures in the design were made.
Runs in: the benchmark process.
"""
from __future__ import annotations

from collections.abc import Sequence

from tests.benchmark.client import Span, Transfer
from tests.benchmark.harness import Bench, Broker, CpuMeter, create_topic, delete_topic, temporary_topic
from tests.benchmark.report import Measure

_BIG_QUEUE = (
    *("-X", "batch.num.messages=100000"),
    *("-X", "queue.buffering.max.messages=1000000"),
    *("-X", "queue.buffering.max.kbytes=1000000"),
)
BATCHES_1_MB = ("-X", "batch.size=1000000", "-X", "linger.ms=5", *_BIG_QUEUE)
BATCHES_16_KB = ("-X", "batch.size=16384", "-X", "linger.ms=5", *_BIG_QUEUE)
SINGLE_RECORDS = (
    *("-X", "batch.num.messages=1", "-X", "linger.ms=0"),
    *("-X", "queue.buffering.max.messages=1000000"),
)
FETCHES_1_MB = ("-X", "fetch.message.max.bytes=1048576", "-X", "check.crcs=false")
WARM_UP_SHARE = 0.2


def per_gigabyte(cpu_seconds: float, payload_bytes: float) -> Measure:
    return Measure("broker CPU", cpu_seconds / (payload_bytes / 1e9), "s/GB")


class Produce:
    """rdkafka_performance -P into a new topic of one partition."""

    def __init__(
        self, name: str, title: str, size: int, records: int, settings: Sequence[str], acks: int = 1
    ) -> None:
        self.name = name
        self.title = title
        self._size = size
        self._records = records
        self._settings = settings
        self._acks = acks

    def prepare(self, bench: Bench, broker: Broker) -> None:
        self._produce(bench, broker, WARM_UP_SHARE)

    def measure(self, bench: Bench, broker: Broker) -> list[Measure]:
        with CpuMeter(broker) as cpu:
            transfer = self._produce(bench, broker, 1)
        if self._settings is SINGLE_RECORDS:
            return [
                Measure("rate", transfer.records_per_second / 1000, "k requests/s"),
                Measure("broker CPU", cpu.seconds / transfer.records * 1e6, "ms/1000 requests"),
            ]
        return [
            Measure("rate", transfer.megabytes_per_second, "MB/s"),
            per_gigabyte(cpu.seconds, transfer.records * self._size),
        ]

    def _produce(self, bench: Bench, broker: Broker, share: float) -> Transfer:
        count = bench.count(int(self._records * share))
        arguments = ["-s", str(self._size), "-c", str(count), "-a", str(self._acks), *self._settings]
        with temporary_topic(broker) as topic:
            return bench.clients.produce(broker.bootstrap, topic, arguments)

    def clean_up(self, bench: Bench, broker: Broker) -> None:
        """Every topic is gone already."""


class ProduceLz4:
    """bench_client with text that lz4 halves: compressed batches of 1 MB, from a new topic's start."""

    name = "produce-lz4"
    title = "produce 1000 B of text, lz4, 1 MB batches"
    _size, _records = 1000, 1_000_000

    def prepare(self, bench: Bench, broker: Broker) -> None:
        self._produce(bench, broker, WARM_UP_SHARE)

    def measure(self, bench: Bench, broker: Broker) -> list[Measure]:
        with CpuMeter(broker) as cpu:
            span = self._produce(bench, broker, 1)
        seconds = (span.end_ns - span.start_ns) / 1e9
        return [Measure("rate", span.bytes / 1e6 / seconds, "MB/s"), per_gigabyte(cpu.seconds, span.bytes)]

    def _produce(self, bench: Bench, broker: Broker, share: float) -> Span:
        count = bench.count(int(self._records * share))
        settings = ["compression.type=lz4", "batch.size=1000000", "linger.ms=5", "batch.num.messages=100000"]
        with temporary_topic(broker) as topic:
            command = ["produce", broker.bootstrap, topic, "1", str(count), str(self._size), *settings]
            return bench.clients.spans([command])[0]

    def clean_up(self, bench: Bench, broker: Broker) -> None:
        """Every topic is gone already."""


class Consume:
    """rdkafka_performance -C over a topic written before, again and again from its beginning."""

    def __init__(self, name: str, title: str, size: int, records: int) -> None:
        self.name = name
        self.title = title
        self._size = size
        self._records = records
        self._topics: dict[str, str] = {}

    def prepare(self, bench: Bench, broker: Broker) -> None:
        topic = self._topics[broker.bootstrap] = create_topic(broker)
        count = bench.count(self._records)
        arguments = ["-s", str(self._size), "-c", str(count), "-a", "1", *BATCHES_1_MB]
        bench.clients.produce(broker.bootstrap, topic, arguments)
        self._consume(bench, broker, WARM_UP_SHARE)

    def measure(self, bench: Bench, broker: Broker) -> list[Measure]:
        with CpuMeter(broker) as cpu:
            transfer = self._consume(bench, broker, 1)
        return [
            Measure("rate", transfer.megabytes_per_second, "MB/s"),
            per_gigabyte(cpu.seconds, transfer.records * self._size),
        ]

    def _consume(self, bench: Bench, broker: Broker, share: float) -> Transfer:
        count = str(bench.count(int(self._records * share)))
        arguments = ["-p", "0", "-o", "beginning", "-c", count, *FETCHES_1_MB]
        return bench.clients.consume(broker.bootstrap, self._topics[broker.bootstrap], arguments)

    def clean_up(self, bench: Bench, broker: Broker) -> None:
        delete_topic(broker, self._topics.pop(broker.bootstrap))


class Mixed:
    """Five producers over ten partitions, and five consumers of two partitions each, at once."""

    name = "mixed"
    title = "10 partitions, 5 producers and 5 consumers at once, 1000 B"
    _partitions, _clients, _size, _records_each = 10, 5, 1000, 200_000

    def prepare(self, bench: Bench, broker: Broker) -> None:
        self._run(bench, broker, WARM_UP_SHARE)

    def measure(self, bench: Bench, broker: Broker) -> list[Measure]:
        with CpuMeter(broker) as cpu:
            spans = self._run(bench, broker, 1)
        seconds = (max(span.end_ns for span in spans) - min(span.start_ns for span in spans)) / 1e9
        written = sum(span.bytes for span in spans[: self._clients])
        return [
            Measure("rate in, and the same out", written / 1e6 / seconds, "MB/s"),
            per_gigabyte(cpu.seconds, written),
        ]

    def _run(self, bench: Bench, broker: Broker, share: float) -> list[Span]:
        # A multiple of the partitions, so that each consumer's share is exact.
        count = bench.count(int(self._records_each * share)) // self._partitions * self._partitions
        width = self._partitions // self._clients
        sizes = [str(self._partitions), str(count), str(self._size)]
        settings = ["linger.ms=5", "batch.num.messages=100000"]
        with temporary_topic(broker, self._partitions) as topic:
            where = [broker.bootstrap, topic]
            producers = [["produce", *where, *sizes, *settings] for _ in range(self._clients)]
            consumers = [
                ["consume", *where, str(index * width), str(width), str(count)]
                for index in range(self._clients)
            ]
            return bench.clients.spans([*producers, *consumers])

    def clean_up(self, bench: Bench, broker: Broker) -> None:
        """Every topic is gone already."""
