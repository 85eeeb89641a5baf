from __future__ import annotations

import errno
from pathlib import Path

import pytest

from storage.checkpoint.leader_epoch_checkpoint import EpochEntry
from storage.errors import CorruptLogError
from storage.fs import OS_FILES
from storage.log.leader_epoch_cache import LeaderEpochFileCache
from tests.storage.log.worlds import FaultyFiles

UNKNOWN = EpochEntry(-1, -1)


def cache_of(path: Path, *entries: tuple[int, int]) -> LeaderEpochFileCache:
    return LeaderEpochFileCache(str(path), OS_FILES, [EpochEntry(*entry) for entry in entries])


def test_an_assignment_is_in_the_file_at_once(tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    assert cache.assign(2, 0)
    assert cache.assign(4, 11)
    assert (tmp_path / "leader-epoch-checkpoint").read_text() == "0\n2\n2 0\n4 11\n"
    assert LeaderEpochFileCache.load(str(tmp_path), OS_FILES).entries == [(2, 0), (4, 11)]


def test_the_same_epoch_at_a_later_offset_changes_nothing(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, (2, 10))
    assert not cache.assign(2, 15)
    assert cache.entries == [(2, 10)]


@pytest.mark.parametrize(("new", "expected"), [
    ((3, 10), [(1, 0), (3, 10)]),
    ((2, 5), [(1, 0), (2, 5)]),
    ((5, 0), [(5, 0)]),
    ((1, 30), [(1, 30)]),
])
def test_entries_that_contradict_a_new_one_go(tmp_path: Path, new: tuple[int, int],
                                              expected: list[tuple[int, int]]) -> None:
    cache = cache_of(tmp_path, (1, 0), (2, 10))
    assert cache.assign(*new)
    assert cache.entries == expected


@pytest.mark.parametrize(("epoch", "expected"), [
    (-1, UNKNOWN), (7, (7, 50)), (8, UNKNOWN), (2, (2, 10)), (5, (5, 30)), (6, (5, 30)), (4, (3, 20)),
])
def test_end_offsets_are_answered_as_kafka_does(tmp_path: Path, epoch: int,
                                                expected: tuple[int, int]) -> None:
    """Issue 3 item 5, subtle 52: a future epoch is unknown, an old one ends where the next begins."""
    cache = cache_of(tmp_path, (3, 10), (5, 20), (7, 30))
    assert cache.end_offset_for(epoch, 50) == expected


def test_an_empty_cache_knows_no_end_offset(tmp_path: Path) -> None:
    assert cache_of(tmp_path).end_offset_for(3, 100) == UNKNOWN


def test_truncation_from_the_end_drops_epochs_that_began_there(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, (1, 0), (2, 10), (3, 20))
    cache.truncate_from_end(20)
    assert cache.entries == [(1, 0), (2, 10)]
    assert cache.stale


def test_truncation_from_the_start_moves_the_epoch_that_covers_the_offset(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, (1, 0), (2, 10), (3, 20))
    cache.truncate_from_start(15)
    assert cache.entries == [(2, 15), (3, 20)]
    cache.flush_if_stale()
    assert not cache.stale
    assert LeaderEpochFileCache.load(str(tmp_path), OS_FILES).entries == [(2, 15), (3, 20)]


def test_what_the_file_says_already_is_not_written_again(tmp_path: Path) -> None:
    """An empty log's epoch is cut at every load and assigned again: two fsyncs less per partition."""
    cache_of(tmp_path).assign(3, 0)
    files = FaultyFiles()
    cache = LeaderEpochFileCache.load(str(tmp_path), files)
    cache.truncate_from_end(0)
    assert cache.entries == []
    assert not cache.lacks_entries
    files.fail_always()
    assert cache.assign(3, 0)
    with pytest.raises(OSError, match="No space"):
        cache.assign(4, 0)
    assert cache.entries == [(3, 0)]


def test_the_epoch_that_wrote_an_offset(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, (1, 5), (4, 10))
    assert [cache.epoch_of(offset) for offset in (4, 5, 9, 10, 99)] == [-1, 1, 1, 4, 4]


def test_a_full_disk_leaves_cache_and_file_as_they_were(tmp_path: Path) -> None:
    files = FaultyFiles()
    cache = LeaderEpochFileCache(str(tmp_path), files, [])
    cache.assign(1, 0)
    files.fail_at(0)
    with pytest.raises(OSError, match=r"\[Errno 28\]") as caught:
        cache.assign(2, 10)
    assert caught.value.errno == errno.ENOSPC
    assert cache.entries == [(1, 0)]
    assert LeaderEpochFileCache.load(str(tmp_path), OS_FILES).entries == [(1, 0)]


def test_a_broken_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "leader-epoch-checkpoint").write_text("0\n2\n1 0\n")
    with pytest.raises(CorruptLogError, match="2 entries announced"):
        LeaderEpochFileCache.load(str(tmp_path), OS_FILES)
