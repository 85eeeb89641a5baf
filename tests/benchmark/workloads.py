"""All workloads, in the order in which they run.

Runs in: the benchmark process.
"""
from __future__ import annotations

from pathlib import Path

from tests.benchmark.footprint import Connections, Idle, LongPolls, Memory
from tests.benchmark.harness import Workload
from tests.benchmark.latency import FixedRateRoundTrip, IdleRoundTrip
from tests.benchmark.startup import StartEmpty, StartLoaded
from tests.benchmark.syscalls import COUNT_BATCHES, COUNT_SINGLE, CountConsume
from tests.benchmark.throughput import (
    BATCHES_1_MB,
    BATCHES_16_KB,
    SINGLE_RECORDS,
    Consume,
    Mixed,
    Produce,
    ProduceLz4,
)


def all_workloads(work_dir: Path) -> list[Workload]:
    """work_dir: where workloads that start brokers of their own put them."""
    loaded = "start with {}"
    return [
        Produce("produce-1000", "produce 1000 B, 1 MB batches", 1000, 1_000_000, BATCHES_1_MB),
        Produce("produce-100", "produce 100 B, 1 MB batches", 100, 5_000_000, BATCHES_1_MB),
        Produce("produce-16k", "produce 100 B, 16 KB batches", 100, 3_000_000, BATCHES_16_KB),
        Produce("single", "produce 100 B, one record per request", 100, 100_000, SINGLE_RECORDS),
        ProduceLz4(),
        Produce("acks-all", "produce 1000 B, 1 MB batches, acks=all", 1000, 1_000_000, BATCHES_1_MB, -1),
        Consume("consume-1000", "consume 1000 B", 1000, 1_000_000),
        Consume("consume-100", "consume 100 B", 100, 5_000_000),
        Mixed(),
        IdleRoundTrip(),
        FixedRateRoundTrip(),
        Memory(),
        Connections(),
        Idle(),
        LongPolls(),
        COUNT_BATCHES,
        COUNT_SINGLE,
        CountConsume(),
        StartEmpty(work_dir),
        StartLoaded("start-3gb", loaded.format("3 GB in 4 partitions"), work_dir, 4, 3_000_000_000),
        StartLoaded("start-1000", loaded.format("1,000 partitions"), work_dir, 1000, 100_000_000),
    ]
