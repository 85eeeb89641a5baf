from __future__ import annotations

import struct
from pathlib import Path

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import CorruptLogError
from storage.fs import OS_FILES
from storage.log.producer_snapshot import ProducerSnapshots, decode_snapshot, encode_snapshot
from storage.log.producer_state import ProducerBatch, ProducerStateEntry
from storage.record.batch import SEQUENCE_MAX
from tests.storage.log.worlds import FaultyFiles

ENTRY = ProducerStateEntry(3, 4, 1700000000000, 17, (ProducerBatch(0, 1, 20, 21, 5),
                                                     ProducerBatch(2, 6, 22, 26, 1700000000000)))


def test_the_bytes_are_version_crc_count_and_46_per_producer() -> None:
    data = encode_snapshot({9: ENTRY})
    body = struct.pack(">iqhiqiqiq", 1, 9, 3, 6, 26, 4, 1700000000000, 4, 17)
    assert data == struct.pack(">hI", 1, crc32c(body)) + body


def test_only_the_last_batch_of_a_producer_comes_back() -> None:
    """Subtle 35."""
    assert decode_snapshot("s", encode_snapshot({9: ENTRY})) == {9: ENTRY._replace(batches=ENTRY.batches[-1:])}


def test_an_entry_without_batches_and_transaction_comes_back() -> None:
    empty = ProducerStateEntry(0, -1, -1, -1, ())
    assert decode_snapshot("s", encode_snapshot({1: empty})) == {1: empty}
    assert decode_snapshot("s", encode_snapshot({})) == {}


def test_a_batch_whose_sequence_wrapped_comes_back() -> None:
    wrapped = ENTRY._replace(batches=(ProducerBatch(SEQUENCE_MAX, 1, 7, 9, 1700000000000),))
    assert decode_snapshot("s", encode_snapshot({1: wrapped})) == {1: wrapped}


@given(st.integers(0, 59), st.integers(1, 255))
def test_any_changed_byte_is_noticed(position: int, change: int) -> None:
    data = bytearray(encode_snapshot({9: ENTRY}))
    data[position % len(data)] ^= change
    with pytest.raises(CorruptLogError):
        decode_snapshot("s", bytes(data))


@given(st.integers(0, 55))
def test_any_cut_is_noticed(size: int) -> None:
    with pytest.raises(CorruptLogError):
        decode_snapshot("s", encode_snapshot({9: ENTRY})[:size])


def test_stray_snapshots_go_except_the_newest_above_all_segments(tmp_path: Path) -> None:
    snapshots = ProducerSnapshots(str(tmp_path), (), OS_FILES)
    for offset in (5, 10, 15, 20, 30, 40):
        snapshots.write(offset, encode_snapshot({}), sync=False)
    snapshots.remove_stray([0, 10, 20])
    assert snapshots.offsets == [10, 20, 40]
    assert sorted(int(path.stem) for path in tmp_path.iterdir()) == [10, 20, 40]


def test_a_stray_snapshot_below_the_last_segment_goes(tmp_path: Path) -> None:
    snapshots = ProducerSnapshots(str(tmp_path), (), OS_FILES)
    for offset in (5, 10):
        snapshots.write(offset, encode_snapshot({}), sync=False)
    snapshots.remove_stray([0, 10])
    assert snapshots.offsets == [10]


@pytest.mark.parametrize("call", [0, 1])
def test_a_snapshot_that_does_not_fit_leaves_no_file(tmp_path: Path, call: int) -> None:
    files = FaultyFiles()
    snapshots = ProducerSnapshots(str(tmp_path), (), files)
    files.fail_at(call)
    with pytest.raises(OSError, match=r"\[Errno 28\]"):
        snapshots.write(5, encode_snapshot({9: ENTRY}), sync=True)
    assert list(tmp_path.iterdir()) == []
    assert snapshots.offsets == []
