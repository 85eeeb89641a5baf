"""What both brokers of these tests run with, and the topics that are written.

Why small: segments, indexes and batches of a few kilobytes give in a second every kind of file that a broker
makes in a month; and a Kafka preallocates its indexes, which are copied here as they are.
Runs in: the test process.
"""
from __future__ import annotations

from typing import Final

SETTINGS: Final = {
    "auto.create.topics.enable": "false",
    "log.cleaner.backoff.ms": "200",
    # A kill forgets a log start that is younger.
    "log.flush.start.offset.checkpoint.interval.ms": "500",
    "log.index.interval.bytes": "1000",
    "log.index.size.max.bytes": "65536",
    # Records carry times of long ago, so that look-ups by time are the same in every run.
    "log.retention.ms": "-1",
    "log.segment.bytes": "20000",
    "offsets.topic.num.partitions": "2",
    "transaction.state.log.num.partitions": "2",
}
FIRST_TIMESTAMP_MS: Final = 1_700_000_000_000
CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")

CODEC_TOPIC: Final = "codecs"
"""A partition for each codec."""
IDEMPOTENT_TOPIC: Final = "idempotent"
"""Written by hand: the sequence goes on with the next broker."""
TRANSACTION_TOPIC: Final = "transactions"
"""Partition 0: committed and aborted; 1: aborted at its end; 2: a transaction that is never ended."""
TRIMMED_TOPIC: Final = "trimmed"
"""Its log start was moved by DeleteRecords, to the middle of a batch."""
COMPACTED_TOPIC: Final = "compacted"
EMPTY_TOPIC: Final = "empty"

PARTITIONS: Final = {
    CODEC_TOPIC: len(CODECS), IDEMPOTENT_TOPIC: 2, TRANSACTION_TOPIC: 3, TRIMMED_TOPIC: 1, COMPACTED_TOPIC: 1,
    EMPTY_TOPIC: 2,
}
COMPACTED_CONFIG: Final = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01"}
