"""Kafka's own DumpLogSegments reads every kind of file that this package writes (issue 3, section 10 item 3).

One log with everything in it, four JVM calls: deep iteration with a full index check, the quick index sanity
check, snapshots, transaction indexes. The tool's output is parsed, not only searched for complaints.
"""
from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from storage.log.partition_log import PartitionLog
from storage.record.batch import CODEC_GZIP, CODEC_LZ4, CODEC_NONE, CODEC_SNAPPY, CODEC_ZSTD
from storage.record.records import Producer
from tests.peers.java_tools import JavaTools
from tests.storage.log.worlds import (
    NOW_MS,
    World,
    append,
    append_marker,
    append_transactional,
    batch,
    new_world,
    sized_batch,
)

pytestmark = pytest.mark.kafka

CODECS = (CODEC_NONE, CODEC_GZIP, CODEC_SNAPPY, CODEC_LZ4, CODEC_ZSTD)
IDEMPOTENT, ABORTING, OPEN = Producer(1000, 0, 0), Producer(2000, 3, 0), Producer(3000, 1, 0)


def fill(log: PartitionLog) -> None:
    """All codecs, groups, rolls in and between groups, both kinds of transaction end, three epochs."""
    for index, codec in enumerate(CODECS * 4):
        if index == 7:
            log.become_leader(2)
        time = NOW_MS + index * 10
        append(log, batch(5, codec=codec, timestamp=time, value=b"v" * 300),
               batch(2, producer=IDEMPOTENT._replace(base_sequence=index * 2), timestamp=time + 3),
               sized_batch(1200, timestamp=time - 500))
        append_transactional(log, ABORTING._replace(base_sequence=index), 1)
        append_marker(log, ABORTING, commit=index % 2 == 0, coordinator_epoch=4, timestamp=time + 5)
    append_transactional(log, OPEN, 3)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A log as a clean stop leaves it; the sizes make about ten segments."""
    world = new_world(tmp_path_factory.mktemp("logs"), segment_size_bytes=6000, index_interval_bytes=1000)
    fill(world.new_log())
    assert world.directory.close({}) == []
    assert len(world.log().segments) >= 8
    return world


def files_of(world: World, suffix: str) -> list[Path]:
    path = Path(world.log().path)
    return sorted(path / name for name in os.listdir(path) if name.endswith(suffix))


def dump(java_tools: JavaTools, world: World, suffixes: tuple[str, ...], *options: str) -> str:
    files = [file for suffix in suffixes for file in files_of(world, suffix)]
    assert files
    return java_tools.dump_log_segments(files, *options)


def test_every_batch_and_record_is_accepted_and_the_indexes_agree_with_them(
        java_tools: JavaTools, world: World) -> None:
    text = dump(java_tools, world, (".log", ".index", ".timeindex"), "--deep-iteration")
    complaints = [line for line in text.splitlines() if re.search(
        r"isvalid: false|Mismatches|mismatch|out of order|Non-consecutive|sanity check failed|Exception", line)]
    assert complaints == []
    batches = re.findall(r"^baseOffset: (\d+) lastOffset: (\d+) .*isvalid: (\w+)", text, re.MULTILINE)
    assert {valid for _, _, valid in batches} == {"true"}
    ends = [(int(first), int(last)) for first, last, _ in batches]
    assert ends[0][0] == 0
    assert ends[-1][1] == world.log().log_end_offset - 1
    assert all(following[0] == before[1] + 1 for before, following in zip(ends, ends[1:], strict=False))
    records = re.findall(r"^\| offset: (\d+)", text, re.MULTILINE)
    assert list(map(int, records)) == list(range(world.log().log_end_offset))
    codecs = set(re.findall(r"compresscodec: (\w+)", text))
    assert {codec.lower() for codec in codecs} == {"none", "gzip", "snappy", "lz4", "zstd"}
    assert len(re.findall(r"endTxnMarker: (\w+)", text)) == len(CODECS) * 4


def test_the_quick_index_check_passes(java_tools: JavaTools, world: World) -> None:
    text = dump(java_tools, world, (".index",), "--index-sanity-check")
    assert len(re.findall("passed sanity check", text)) == len(files_of(world, ".index"))


def test_a_full_index_verification_finds_no_mismatch(java_tools: JavaTools, world: World) -> None:
    text = dump(java_tools, world, (".index", ".timeindex"), "--verify-index-only")
    assert [line for line in text.splitlines() if not line.startswith("Dumping ")] == []


def test_snapshots_and_aborted_transactions_are_read_as_written(java_tools: JavaTools, world: World) -> None:
    text = dump(java_tools, world, (".snapshot", ".txnindex"))
    aborted = re.findall(r"producerId: (\d+) firstOffset: (\d+) lastOffset: (\d+) lastStableOffset: (\d+)", text)
    written = [entry for segment in world.log().segments for entry in segment.txn_index.entries()]
    assert [tuple(map(int, fields)) for fields in aborted] == written
    assert len(written) == len(CODECS) * 2
    last = text[text.index(files_of(world, ".snapshot")[-1].name):]
    producers = {int(fields[0]): fields[1:] for fields in re.findall(
        r"producerId: (\d+) producerEpoch: (\d+) coordinatorEpoch: (-?\d+) currentTxnFirstOffset: (\S+) "
        r"lastTimestamp: (\d+) firstSequence: (-?\d+) lastSequence: (-?\d+)", last)}
    assert set(producers) == {1000, 2000, 3000}
    for producer_id, entry in world.log().producer_state.producers.items():
        epoch, coordinator_epoch, txn, timestamp, _, last_sequence = producers[producer_id]
        assert (int(epoch), int(coordinator_epoch)) == (entry.producer_epoch, entry.coordinator_epoch)
        assert int(timestamp) == entry.last_timestamp
        assert int(last_sequence) == entry.last_sequence
        assert ("None" in txn or "empty" in txn) == (entry.txn_first_offset < 0)
