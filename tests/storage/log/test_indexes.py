"""Offset, time and transaction index: the append side, on real files."""
from __future__ import annotations

import struct
from pathlib import Path

import pytest

from storage.errors import CorruptLogError
from storage.fs import OS_FILES
from storage.log.append_file import AppendFile
from storage.log.offset_index import OffsetIndex, OffsetPosition
from storage.log.producer_state import CompletedTxn
from storage.log.time_index import TimeIndex, TimestampOffset
from storage.log.transaction_index import AbortedTxn, TransactionIndex

BASE = 100


def offset_index(path: Path, size_bytes_max: int = 1 << 20) -> OffsetIndex:
    return OffsetIndex(AppendFile.at(str(path / "o"), OS_FILES), BASE, size_bytes_max)


def time_index(path: Path, size_bytes_max: int = 1 << 20) -> TimeIndex:
    return TimeIndex(AppendFile.at(str(path / "t"), OS_FILES), BASE, size_bytes_max)


def txn_index(path: Path) -> TransactionIndex:
    return TransactionIndex(AppendFile.at(str(path / "x"), OS_FILES), BASE)


def filled_offset_index(path: Path) -> OffsetIndex:
    index = offset_index(path)
    for offset, position in ((110, 5000), (120, 10000), (130, 15000)):
        index.append(offset, position)
    index.write_pending()
    return index


# -- offset index

def test_an_offset_entry_is_relative_offset_and_position(tmp_path: Path) -> None:
    filled_offset_index(tmp_path)
    assert (tmp_path / "o").read_bytes() == struct.pack(">iiiiii", 10, 5000, 20, 10000, 30, 15000)


def test_pending_entries_go_out_in_one_write(tmp_path: Path) -> None:
    index = offset_index(tmp_path)
    index.append(110, 5000)
    index.append(120, 10000)
    assert not (tmp_path / "o").exists()
    assert (index.entry_count, index.last_offset) == (2, 120)
    index.write_pending()
    assert (tmp_path / "o").stat().st_size == 16


@pytest.mark.parametrize(("offset", "expected"), [
    (100, (BASE, 0)), (109, (BASE, 0)), (110, (110, 5000)), (129, (120, 10000)), (500, (130, 15000))])
def test_lookup_gives_the_last_entry_at_or_below(tmp_path: Path, offset: int,
                                                 expected: tuple[int, int]) -> None:
    assert filled_offset_index(tmp_path).lookup(offset) == OffsetPosition(*expected)


@pytest.mark.parametrize(("offset", "left"), [(500, 3), (130, 2), (125, 2), (110, 0), (100, 0)])
def test_truncation_keeps_offsets_below(tmp_path: Path, offset: int, left: int) -> None:
    index = filled_offset_index(tmp_path)
    index.truncate_to(offset)
    assert (index.entry_count, (tmp_path / "o").stat().st_size) == (left, left * 8)
    assert offset_index(tmp_path).last_offset == index.last_offset


def test_a_reopened_index_counts_by_length(tmp_path: Path) -> None:
    filled_offset_index(tmp_path)
    index = offset_index(tmp_path)
    assert (index.entry_count, index.last_offset) == (3, 130)


def test_an_index_is_full_at_its_size(tmp_path: Path) -> None:
    index = offset_index(tmp_path, 17)
    index.append(110, 1)
    assert not index.is_full
    index.append(111, 2)
    assert index.is_full


def test_restore_forgets_pending_and_written_entries(tmp_path: Path) -> None:
    index = filled_offset_index(tmp_path)
    state = index.state()
    index.append(140, 20000)
    index.write_pending()
    index.append(150, 25000)
    index.restore(state)
    assert (index.entry_count, index.last_offset, bytes(index.pending)) == (3, 130, b"")
    assert (tmp_path / "o").stat().st_size == 24


@pytest.mark.parametrize(("damage", "complaint"), [
    (b"\x00" * 3, "no multiple of 8"),
    (b"\x00" * 8, "has offset 100"),
    (struct.pack(">ii", 40, 99999), "byte 99999 of a log of 20000"),
    (struct.pack(">ii", 40, -1), "byte -1"),
])
def test_an_offset_index_that_cannot_be_right_says_why(tmp_path: Path, damage: bytes, complaint: str) -> None:
    assert filled_offset_index(tmp_path).problem(20000) is None
    with open(tmp_path / "o", "ab") as file:
        file.write(damage)
    assert complaint in (offset_index(tmp_path).problem(20000) or "")


# -- time index

def filled_time_index(path: Path) -> TimeIndex:
    index = time_index(path)
    for timestamp, offset in ((1000, 110), (2000, 120), (3000, 130)):
        index.maybe_append(timestamp, offset)
    index.write_pending()
    return index


def test_a_time_entry_is_timestamp_and_relative_offset(tmp_path: Path) -> None:
    filled_time_index(tmp_path)
    assert (tmp_path / "t").read_bytes() == struct.pack(">qiqiqi", 1000, 10, 2000, 20, 3000, 30)


def test_only_larger_timestamps_get_an_entry(tmp_path: Path) -> None:
    index = filled_time_index(tmp_path)
    index.maybe_append(3000, 140)
    index.maybe_append(2500, 150)
    assert index.entry_count == 3
    index.maybe_append(3001, 160)
    assert index.entry_count == 4


def test_an_empty_time_index_has_no_timestamp(tmp_path: Path) -> None:
    index = time_index(tmp_path)
    assert index.last == TimestampOffset(-1, BASE)
    index.maybe_append(-1, 110)
    assert index.entry_count == 0


def test_the_last_slot_of_a_time_index_is_kept_for_the_end_of_the_segment(tmp_path: Path) -> None:
    index = time_index(tmp_path, 36)
    index.maybe_append(1000, 110)
    assert not index.is_full
    index.maybe_append(2000, 120)
    assert index.is_full


@pytest.mark.parametrize(("offset", "left"), [(500, 3), (130, 2), (121, 2), (120, 1), (100, 0)])
def test_time_truncation_keeps_offsets_below(tmp_path: Path, offset: int, left: int) -> None:
    index = filled_time_index(tmp_path)
    index.truncate_to(offset)
    assert (index.entry_count, (tmp_path / "t").stat().st_size) == (left, left * 12)
    assert index.last == time_index(tmp_path).last


@pytest.mark.parametrize(("damage", "complaint"), [
    (b"\x00" * 5, "no multiple of 12"),
    (b"\x00" * 12, "below the first"),
    (struct.pack(">qi", 4000, 99), "outside [100, 140)"),
])
def test_a_time_index_that_cannot_be_right_says_why(tmp_path: Path, damage: bytes, complaint: str) -> None:
    assert filled_time_index(tmp_path).problem(140) is None
    with open(tmp_path / "t", "ab") as file:
        file.write(damage)
    assert complaint in (time_index(tmp_path).problem(140) or "")


def test_recovery_writes_only_what_differs_from_the_file(tmp_path: Path) -> None:
    """So that an index that is right already needs no room on a full disk."""
    index = filled_offset_index(tmp_path)
    data = (tmp_path / "o").read_bytes()
    index.replace(data)
    assert (bytes(index.pending), index.entry_count, index.last_offset) == (b"", 3, 130)
    index.replace(data[:8] + struct.pack(">ii", 25, 9999))
    assert (bytes(index.pending), index.entry_count) == (struct.pack(">ii", 25, 9999), 2)
    index.write_pending()
    assert (tmp_path / "o").read_bytes() == data[:8] + struct.pack(">ii", 25, 9999)


@pytest.mark.parametrize("kept", range(4))
def test_recovery_replaces_any_content(tmp_path: Path, kept: int) -> None:
    index = filled_time_index(tmp_path)
    data = (tmp_path / "t").read_bytes()[:12 * kept] + struct.pack(">qi", 9000, 135)
    index.replace(data)
    index.write_pending()
    assert (tmp_path / "t").read_bytes() == data
    assert index.last == TimestampOffset(9000, BASE + 135)
    index.replace(b"")
    assert ((tmp_path / "t").read_bytes(), index.last.timestamp) == (b"", -1)


# -- transaction index

def filled_txn_index(path: Path) -> TransactionIndex:
    index = txn_index(path)
    for first, last in ((101, 105), (103, 110)):
        index.append(CompletedTxn(7, first, last, True, last + 1))
    index.write_pending()
    return index


def test_there_is_no_file_until_a_transaction_is_aborted(tmp_path: Path) -> None:
    index = txn_index(tmp_path)
    index.write_pending()
    index.restore(0)
    assert index.entries() == []
    assert not (tmp_path / "x").exists()


def test_an_aborted_transaction_takes_34_bytes(tmp_path: Path) -> None:
    index = filled_txn_index(tmp_path)
    assert (tmp_path / "x").read_bytes()[:34] == struct.pack(">hqqqq", 0, 7, 101, 105, 106)
    assert index.entries() == [AbortedTxn(7, 101, 105, 106), AbortedTxn(7, 103, 110, 111)]


@pytest.mark.parametrize(("offset", "left"), [(111, 2), (110, 1), (106, 1), (105, 0)])
def test_txn_truncation_keeps_markers_below(tmp_path: Path, offset: int, left: int) -> None:
    index = filled_txn_index(tmp_path)
    index.truncate_to(offset)
    assert len(txn_index(tmp_path).entries()) == left


def test_recovery_writes_only_aborted_transactions(tmp_path: Path) -> None:
    index = filled_txn_index(tmp_path)
    index.replace([CompletedTxn(1, 100, 101, False, 102), CompletedTxn(2, 102, 103, True, 104)])
    assert index.entries() == [AbortedTxn(2, 102, 103, 104)]


def test_a_transaction_index_that_cannot_be_right_says_why(tmp_path: Path) -> None:
    assert filled_txn_index(tmp_path).problem() is None
    with open(tmp_path / "x", "ab") as file:
        file.write(struct.pack(">hqqqq", 0, 7, 1, 99, 100))
    assert "ends at 99" in (txn_index(tmp_path).problem() or "")


def test_an_entry_of_a_future_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(struct.pack(">hqqqq", 1, 7, 101, 105, 106))
    with pytest.raises(CorruptLogError, match="version 1"):
        txn_index(tmp_path).entries()
