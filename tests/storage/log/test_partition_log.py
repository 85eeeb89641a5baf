"""Appends in groups, rolls, duplicates, flushes, truncation: the log of one partition on real files."""
from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.errors import (
    INVALID_TXN_STATE,
    NOT_LEADER_OR_FOLLOWER,
    OUT_OF_ORDER_SEQUENCE_NUMBER,
    RECORD_LIST_TOO_LARGE,
    LogAppendError,
    OffsetOutOfRangeError,
)
from storage.log.failures import DirectoryFailed, InconsistentTopicIdError
from storage.log.leader_epoch_cache import LeaderEpochFileCache
from storage.log.log_config import SNAPSHOT_INTERVAL_BYTES, LogConfig
from storage.log.partition_log import PartitionLog
from storage.log.producer_state import AppendOrigin
from storage.record.batch import crc_is_valid, iterate_headers
from storage.record.records import Producer
from tests.storage.log.worlds import (
    NOW_MS,
    TOPIC_ID,
    UNIQUE_ID,
    FaultyFiles,
    World,
    append,
    append_marker,
    append_transactional,
    batch,
    file_contents,
    log_bytes,
    marker,
    new_world,
    published,
    sized_batch,
)

P = Producer(7, 0, 0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return new_world(tmp_path)


@pytest.fixture
def log(world: World) -> PartitionLog:
    return world.new_log()


def code_of(call: Callable[[], object]) -> int:
    with pytest.raises(LogAppendError) as caught:
        call()
    return caught.value.code


# -- one group

def test_a_new_partition_has_kafkas_files(log: PartitionLog) -> None:
    zero = "0" * 20
    assert sorted(os.listdir(log.path)) == [f"{zero}.index", f"{zero}.log", f"{zero}.timeindex",
                                            "leader-epoch-checkpoint", "partition.metadata"]
    assert file_contents(log.path)["partition.metadata"] == b"version: 0\ntopic_id: AAECAwQFBgcICQoLDA0ODw"


def test_offsets_and_epoch_are_stamped_without_touching_the_checksum(log: PartitionLog) -> None:
    log.become_leader(5)
    staged = append(log, batch(3), batch(2))
    assert [(each.base_offset, each.last_offset, each.log_append_time_ms) for each in staged] == [
        (0, 2, -1), (3, 4, -1)]
    data = memoryview(log_bytes(log))
    headers = list(iterate_headers(data))
    assert [header.base_offset for _, header in headers] == [0, 3]
    assert {header.partition_leader_epoch for _, header in headers} == {5}
    assert all(crc_is_valid(data, position, header.size_bytes) for position, header in headers)


def test_nothing_is_published_before_it_is_written(log: PartitionLog) -> None:
    log.stage_leader_append(batch(3), 0, NOW_MS)
    assert (log.log_end_offset, log.active_size_bytes, log_bytes(log)) == (0, 0, b"")
    assert log.has_staged
    log.write_staged()
    assert (log.log_end_offset, log.active_size_bytes) == (3, len(log_bytes(log)))
    assert not log.has_staged


def test_a_refused_batch_leaves_the_others_of_its_group(log: PartitionLog) -> None:
    log.stage_leader_append(batch(2), 0, NOW_MS)
    bad = batch(2)
    bad[70] ^= 1
    with pytest.raises(LogAppendError):
        log.stage_leader_append(bad, 0, NOW_MS)
    log.stage_leader_append(batch(1), 0, NOW_MS)
    log.write_staged()
    assert log.log_end_offset == 3


def test_a_group_of_thousands_is_written_whole(log: PartitionLog) -> None:
    append(log, *(batch() for _ in range(3000)))
    assert log.log_end_offset == 3000
    assert len(list(iterate_headers(log_bytes(log)))) == 3000


def test_an_append_for_another_epoch_is_refused(log: PartitionLog) -> None:
    assert code_of(lambda: log.stage_leader_append(batch(), 1, NOW_MS)) == NOT_LEADER_OR_FOLLOWER
    log.become_follower()
    assert code_of(lambda: log.stage_leader_append(batch(), 0, NOW_MS)) == NOT_LEADER_OR_FOLLOWER


def test_a_batch_larger_than_a_segment_is_refused(tmp_path: Path) -> None:
    """Subtle 29."""
    log = new_world(tmp_path, segment_size_bytes=1000).new_log()
    assert code_of(lambda: log.stage_leader_append(sized_batch(1001), 0, NOW_MS)) == RECORD_LIST_TOO_LARGE
    append(log, sized_batch(1000))


def test_log_append_time_is_stamped_and_answered(tmp_path: Path) -> None:
    """Subtle 28."""
    log = new_world(tmp_path, log_append_time=True).new_log()
    staged = append(log, batch(2, timestamp=17), now_ms=NOW_MS + 3)[0]
    data = memoryview(log_bytes(log))
    (_, header), = iterate_headers(data)
    assert staged.log_append_time_ms == NOW_MS + 3
    assert (header.max_timestamp, header.is_log_append_time) == (NOW_MS + 3, True)
    assert crc_is_valid(data, 0, len(data))


def test_the_wrong_max_timestamp_of_an_old_client_is_corrected(log: PartitionLog) -> None:
    view = batch(3)
    struct.pack_into(">q", view, 35, -1)
    from storage.record.batch import write_crc
    write_crc(view, 0, len(view))
    append(log, view)
    (_, header), = iterate_headers(log_bytes(log))
    assert header.max_timestamp == NOW_MS + 2


# -- producers

def test_a_retry_is_answered_with_the_original_offsets(log: PartitionLog) -> None:
    """Subtle 33."""
    append(log, batch(2), batch(3, producer=P), batch(2, producer=P._replace(base_sequence=3)))
    again = append(log, batch(3, producer=P))[0]
    assert again == (2, 4, NOW_MS + 2, True)
    assert log.log_end_offset == 7


def test_a_retry_in_the_same_group_is_a_duplicate_too(log: PartitionLog) -> None:
    first, second = append(log, batch(3, producer=P), batch(3, producer=P))
    assert not first.duplicate
    assert second == (0, 2, NOW_MS + 2, True)
    assert log.log_end_offset == 3


def test_a_gap_in_the_sequence_is_refused(log: PartitionLog) -> None:
    append(log, batch(3, producer=P))
    assert code_of(lambda: append(log, batch(1, producer=P._replace(base_sequence=4)))
                   ) == OUT_OF_ORDER_SEQUENCE_NUMBER


def test_the_first_batch_of_a_transaction_must_be_verified(log: PartitionLog) -> None:
    """Subtle 36."""
    view = batch(1, producer=P, transactional=True)
    assert code_of(lambda: append(log, view)) == INVALID_TXN_STATE
    append_transactional(log, P)
    append(log, batch(1, producer=P._replace(base_sequence=1), transactional=True))
    assert code_of(lambda: append(log, batch(1, producer=P._replace(base_sequence=2)))) == INVALID_TXN_STATE


def test_an_aborted_transaction_is_indexed_with_its_marker(log: PartitionLog) -> None:
    append(log, batch(5))
    append_transactional(log, P, count=2)
    assert log.first_unstable_offset == 5
    assert append_marker(log, P, commit=False).base_offset == 7
    data = file_contents(log.path)[f"{0:020d}.txnindex"]
    assert data == struct.pack(">hqqqq", 0, 7, 5, 7, 8)
    assert log.first_unstable_offset == 5  # until the high watermark has passed the marker
    assert log.on_high_watermark_updated(8)
    assert log.first_unstable_offset == -1


def test_a_committed_transaction_needs_no_index(log: PartitionLog) -> None:
    append_transactional(log, P)
    append_marker(log, P, commit=True)
    assert f"{0:020d}.txnindex" not in os.listdir(log.path)


def test_clients_may_not_write_markers(log: PartitionLog) -> None:
    with pytest.raises(LogAppendError):
        append(log, marker(P, commit=True))


# -- rolls

def test_the_next_segment_begins_at_the_next_offset_with_a_snapshot(tmp_path: Path) -> None:
    log = new_world(tmp_path, segment_size_bytes=1000).new_log()
    append(log, sized_batch(600, producer=P))
    version = log.segment_list_version
    append(log, sized_batch(600, producer=P._replace(base_sequence=1)))
    assert [segment.base_offset for segment in log.segments] == [0, 1]
    assert (log.active_base_offset, log.active_size_bytes) == (1, 600)
    assert log.segment_list_version == version + 2
    assert log.snapshots.offsets == [1]
    assert log.snapshots.read(1)[7].last_sequence == 0


def test_a_group_may_roll_several_times(tmp_path: Path) -> None:
    log = new_world(tmp_path, segment_size_bytes=1000).new_log()
    producers = [P._replace(base_sequence=index) for index in range(7)]
    append(log, *(sized_batch(400, producer=producer) for producer in producers))
    assert [segment.base_offset for segment in log.segments] == [0, 2, 4, 6]
    for offset in (2, 4, 6):
        assert log.snapshots.read(offset)[7].last_sequence == offset - 1
    assert len(log_bytes(log)) == 2800


def test_an_ended_segment_ends_its_time_index(tmp_path: Path) -> None:
    log = new_world(tmp_path, segment_size_bytes=1000).new_log()
    append(log, sized_batch(600, timestamp=NOW_MS + 9), sized_batch(600))
    data = file_contents(log.path)[f"{0:020d}.timeindex"]
    assert data == struct.pack(">qi", NOW_MS + 9, 0)


def test_versions_are_published_odd_before_and_even_after_names_change(tmp_path: Path) -> None:
    log = new_world(tmp_path, segment_size_bytes=1000).new_log()
    seen: list[tuple[int, int]] = []
    log.publish_version = lambda version: seen.append((version, len(list(tmp_path.rglob("*.log")))))
    append(log, sized_batch(600), sized_batch(600))
    assert seen == [(1, 1), (2, 2)]


def test_a_roll_on_request_needs_something_to_end(log: PartitionLog) -> None:
    assert not log.roll(NOW_MS)
    append(log, batch(2))
    assert log.roll(NOW_MS)
    assert [segment.base_offset for segment in log.segments] == [0, 2]


def test_a_leftover_file_of_the_next_segment_does_not_get_in(tmp_path: Path) -> None:
    log = new_world(tmp_path).new_log()
    append(log, batch(2))
    for suffix in (".log", ".index", ".timeindex", ".txnindex"):
        Path(log.path, f"{2:020d}{suffix}").write_bytes(b"rubbish")
    log.roll(NOW_MS)
    append(log, batch(1))
    contents = file_contents(log.path)
    assert len(list(iterate_headers(contents[f"{2:020d}.log"]))) == 1
    assert f"{2:020d}.txnindex" not in contents


# -- a full disk, a dead disk

def history_with_a_roll(log: PartitionLog) -> None:
    """A group that touches everything: both indexes, a transaction index, a roll, a snapshot."""
    producer = Producer(9, 0, 0)
    log.stage_leader_append(sized_batch(400, producer=P._replace(base_sequence=1)), 0, NOW_MS)
    log.stage_leader_append(batch(1, producer=producer, transactional=True), 0, NOW_MS,
                            transaction_verified=True)
    log.stage_leader_append(marker(producer, commit=False), 0, NOW_MS, origin=AppendOrigin.COORDINATOR)
    log.stage_leader_append(sized_batch(900, producer=P._replace(base_sequence=2), timestamp=NOW_MS + 9),
                            0, NOW_MS)
    log.stage_leader_append(sized_batch(500, producer=P._replace(base_sequence=3)), 0, NOW_MS)
    log.write_staged()


def faulty_log(path: Path, error: int = errno.ENOSPC) -> tuple[PartitionLog, FaultyFiles]:
    files = FaultyFiles(error)
    world = World(path, LogConfig(segment_size_bytes=1500, index_interval_bytes=100), files)
    world.load()
    log = world.new_log()
    append(log, sized_batch(300, producer=P), sized_batch(300))
    return log, files


@pytest.mark.parametrize("written_part", [0.0, 0.5, 1.0])
def test_a_full_disk_at_any_write_leaves_the_log_as_it_was(tmp_path: Path, written_part: float) -> None:
    """Issue 3 section 9; after room has been made the same group goes in."""
    log, files = faulty_log(tmp_path)
    files.written_part = written_part
    before, contents = published(log), file_contents(log.path)
    failures = 0
    while True:
        files.fail_at(failures)
        try:
            history_with_a_roll(log)
        except OSError as error:
            assert error.errno == errno.ENOSPC
            assert published(log) == before
            assert file_contents(log.path) == contents
            assert log.segment_list_version % 2 == 0
            failures += 1
            continue
        break
    assert failures >= 9  # log, three indexes, three new files, snapshot, log
    assert log.log_end_offset == 7
    assert [segment.base_offset for segment in log.segments] == [0, 5]
    assert len(list(iterate_headers(log_bytes(log)))) == 7


def test_a_dead_disk_fails_the_directory(tmp_path: Path) -> None:
    log, files = faulty_log(tmp_path, errno.EIO)
    files.fail_at(0)
    with pytest.raises(DirectoryFailed, match="Input/output error"):
        history_with_a_roll(log)


def test_a_full_disk_does_not_keep_a_log_from_being_led(tmp_path: Path) -> None:
    """After a restart it must be readable; no batch of an epoch is in the log before the file has that epoch."""
    log, files = faulty_log(tmp_path)
    before = file_contents(log.path)
    files.fail_always()
    assert log.become_leader(3) == 2
    with pytest.raises(OSError, match=r"\[Errno 28\]"):
        append(log, batch(1), epoch=3)
    assert log.log_end_offset == 2
    assert file_contents(log.path) == before
    files.fail_at(None)
    append(log, batch(1), epoch=3)
    assert LeaderEpochFileCache.load(log.path, files).entries == [(0, 0), (3, 2)]


def test_an_epoch_that_found_no_room_is_written_with_the_next_one(tmp_path: Path) -> None:
    log, files = faulty_log(tmp_path)
    files.fail_always()
    log.become_leader(3)
    files.fail_at(None)
    log.become_leader(4)
    append(log, batch(1), epoch=4)
    assert LeaderEpochFileCache.load(log.path, files).entries == [(0, 0), (4, 2)]


def test_the_duplicates_of_a_group_that_failed_are_not_remembered(tmp_path: Path) -> None:
    log, files = faulty_log(tmp_path)
    files.fail_at(0)
    with pytest.raises(OSError, match=r"\[Errno 28\]"):
        append(log, batch(1, producer=P._replace(base_sequence=1)))
    assert append(log, batch(1, producer=P._replace(base_sequence=1)))[0] == (2, 2, -1, False)


# -- flushing and snapshots

def test_a_flush_moves_the_recovery_point(log: PartitionLog) -> None:
    append(log, batch(3))
    assert log.unflushed_messages == 3
    log.flush()
    assert (log.recovery_point, log.unflushed_messages) == (3, 0)


def test_after_a_roll_the_ended_segment_can_be_flushed_elsewhere(tmp_path: Path) -> None:
    world = new_world(tmp_path, segment_size_bytes=1000)
    log = world.new_log()
    append(log, sized_batch(600), sized_batch(600))
    assert log.has_ended_segments_to_flush
    plan = log.plan_flush(log.active_base_offset)
    assert plan is not None
    assert f"{log.path}/{0:020d}.timeindex" in plan.paths
    assert f"{log.path}/{1:020d}.log" not in plan.paths
    plan.run(world.files)
    log.finish_flush(plan)
    assert log.recovery_point == 1
    assert not log.has_ended_segments_to_flush


def test_a_flush_that_a_truncation_has_overtaken_moves_nothing(log: PartitionLog) -> None:
    """Other records may lie at these offsets by now."""
    append(log, batch(5), batch(5))
    plan = log.plan_flush()
    assert plan is not None
    plan.run(FaultyFiles())
    log.truncate_to(5)
    log.become_leader(1)
    append(log, batch(9))
    log.finish_flush(plan)
    assert log.recovery_point == 0


def test_a_failed_fsync_fails_the_directory(tmp_path: Path) -> None:
    class NoSync(FaultyFiles):
        def fdatasync(self, fd: int) -> None:
            raise OSError(errno.ENOSPC, "delayed allocation found no room")

    world = World(tmp_path, files=NoSync())
    world.load()
    log = world.new_log()
    append(log, batch())
    with pytest.raises(DirectoryFailed, match="fsync"):
        log.flush()
    assert log.recovery_point == 0


def test_snapshots_are_also_taken_every_64_megabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 7 of the design; those go at the next roll. Here with 64 KB, for the sake of speed."""
    assert SNAPSHOT_INTERVAL_BYTES == 64 << 20
    monkeypatch.setattr("storage.log.partition_log.SNAPSHOT_INTERVAL_BYTES", 64 << 10)
    log = new_world(tmp_path).new_log()
    append(log, sized_batch(32 << 10, producer=P))
    assert not log.take_snapshot_if_due()
    for index in range(1, 8):
        append(log, sized_batch(32 << 10, producer=P._replace(base_sequence=index)))
        log.take_snapshot_if_due()
    assert log.snapshots.offsets == [6, 8]  # one more than needed, should the last be torn
    log.roll(NOW_MS)
    assert log.snapshots.offsets == [8]  # which is the new segment's now
    assert log.snapshots.read(8)[7].last_sequence == 7


# -- leadership and log start

def test_become_leader_answers_where_the_epoch_begins(log: PartitionLog) -> None:
    append(log, batch(3))
    assert log.become_leader(4) == 3
    append(log, batch(2))
    assert log.become_leader(4) == 3
    assert log.leader_epoch_cache.entries == [(0, 0), (4, 3)]
    assert file_contents(log.path)["leader-epoch-checkpoint"] == b"0\n2\n0 0\n4 3\n"


def test_the_log_start_only_moves_up_and_never_beyond_the_end(log: PartitionLog) -> None:
    append(log, batch(5))
    log.become_leader(2)
    append(log, batch(5))
    assert log.maybe_increment_log_start(7, "test")
    assert not log.maybe_increment_log_start(6, "test")
    assert (log.log_start_offset, log.leader_epoch_cache.entries) == (7, [(2, 7)])
    with pytest.raises(OffsetOutOfRangeError):
        log.maybe_increment_log_start(11, "test")


def test_another_topic_id_is_refused(log: PartitionLog) -> None:
    log.assign_topic_id(TOPIC_ID)
    with pytest.raises(InconsistentTopicIdError):
        log.assign_topic_id(bytes(15) + b"\x01")


# -- truncation

def three_segments(path: Path) -> PartitionLog:
    """Offsets 0-1, 2-3, 4-5 in segments of two batches; producer P throughout, epochs from 0, 2, 5."""
    log = new_world(path, segment_size_bytes=1000, index_interval_bytes=100).new_log()
    for index in range(6):
        if index in (2, 5):
            log.become_leader(index)
        append(log, sized_batch(400, producer=P._replace(base_sequence=index)))
    assert [segment.base_offset for segment in log.segments] == [0, 2, 4]
    return log


@pytest.mark.parametrize("offset", range(6))
def test_truncation_drops_batches_segments_epochs_and_producer_state(tmp_path: Path, offset: int) -> None:
    log = three_segments(tmp_path)
    assert log.truncate_to(offset)
    assert (log.log_end_offset, log.active_size_bytes) == (offset, 400 if offset % 2 else 0)
    assert len(log_bytes(log)) == 400 * offset
    assert log.leader_epoch_cache.latest_epoch == {0: -1, 1: 0, 2: 0, 3: 2, 4: 2, 5: 2}[offset]
    last = log.producer_state.producers[7].last_sequence if offset else -1
    assert last == offset - 1
    log.become_leader(9)
    assert append(log, sized_batch(400, producer=P._replace(base_sequence=offset)))[0].base_offset == offset


def test_the_lower_end_is_published_before_anything_is_cut(tmp_path: Path) -> None:
    """A process that dies in between leaves no slot that promises more than there is."""
    log = three_segments(tmp_path)
    seen: list[tuple[int, int, int, int]] = []
    size = len(log_bytes(log))
    version = log.segment_list_version
    log.publish_version = lambda version: seen.append(
        (version, log.log_end_offset, log.active_base_offset,
         sum(path.stat().st_size for path in tmp_path.rglob("*.log*")) - size))
    log.truncate_to(1)
    assert seen == [(version + 1, 1, 0, 0), (version + 2, 1, 0, -400)]


def test_truncation_beyond_the_end_only_trims_epochs(tmp_path: Path) -> None:
    log = three_segments(tmp_path)
    log.become_leader(8)
    assert not log.truncate_to(6)
    assert log.leader_epoch_cache.latest_epoch == 5
    assert log.log_end_offset == 6


def test_truncation_below_the_first_segment_starts_over(tmp_path: Path) -> None:
    log = three_segments(tmp_path)
    log.delete_old_segments(NOW_MS, 0)
    log.maybe_increment_log_start(2, "test")
    log.delete_old_segments(NOW_MS, 6)
    assert log.segments[0].base_offset == 2
    assert log.truncate_to(1)
    assert (log.log_start_offset, log.log_end_offset) == (1, 1)


def test_starting_over_leaves_an_empty_log_at_the_offset(tmp_path: Path) -> None:
    log = three_segments(tmp_path)
    log.truncate_fully_and_start_at(77)
    assert published(log)[:6] == (77, 77, -1, 77, 0, [(77, 0)])
    assert (log.producer_state.producers, log.leader_epoch_cache.entries) == ({}, [])
    log.become_leader(9)
    assert append(log, batch(2))[0].base_offset == 77


def test_truncated_segments_are_renamed_and_removed_later(tmp_path: Path) -> None:
    world = new_world(tmp_path, segment_size_bytes=1000, file_delete_delay_ms=50)
    log = world.new_log()
    append(log, *(sized_batch(600) for _ in range(3)))
    log.truncate_to(0)
    assert sorted(name for name in os.listdir(log.path) if ".log" in name) == [
        f"{0:020d}.log", f"{1:020d}.log.deleted", f"{2:020d}.log.deleted"]
    world.monotonic_ms = 49
    assert world.directory.run_delayed_deletes() == 0
    world.monotonic_ms = 50
    assert world.directory.run_delayed_deletes() == 8
    assert not [name for name in os.listdir(log.path) if name.endswith(".deleted")]


# -- retention and the end

def test_retention_deletes_the_oldest_segments_below_the_high_watermark(tmp_path: Path) -> None:
    log = three_segments(tmp_path)
    log.update_config(LogConfig(segment_size_bytes=1000, retention_ms=10))
    assert log.delete_old_segments(NOW_MS + 11, high_watermark=4) == 2
    assert (log.log_start_offset, [segment.base_offset for segment in log.segments]) == (4, [4])
    assert log.leader_epoch_cache.entries == [(2, 4), (5, 5)]
    assert log.snapshots.offsets == [4]


def test_if_all_of_it_is_old_the_active_segment_is_ended_first(tmp_path: Path) -> None:
    log = three_segments(tmp_path)
    log.update_config(LogConfig(segment_size_bytes=1000, retention_ms=10))
    assert log.delete_old_segments(NOW_MS + 11, high_watermark=6) == 3
    assert (log.log_start_offset, log.log_end_offset) == (6, 6)
    assert [(segment.base_offset, segment.size_bytes) for segment in log.segments] == [(6, 0)]
    assert log.delete_old_segments(NOW_MS + 11, high_watermark=6) == 0
    assert append(log, sized_batch(400, producer=P._replace(base_sequence=6)))[0].base_offset == 6


def test_a_deleted_partition_is_renamed_with_its_files_usable(tmp_path: Path) -> None:
    log = three_segments(tmp_path)
    path = log.rename_to_delete(UNIQUE_ID)
    assert Path(path).name == f"orders-0.{UNIQUE_ID}-delete"
    assert len(log_bytes(log)) == 2400
    assert code_of(lambda: log.stage_leader_append(batch(), 5, NOW_MS)) == NOT_LEADER_OR_FOLLOWER


def test_a_closed_log_ends_its_indexes_and_has_a_snapshot_at_its_end(log: PartitionLog) -> None:
    append(log, batch(3, producer=P))
    log.close()
    contents = file_contents(log.path)
    assert contents[f"{0:020d}.timeindex"] == struct.pack(">qi", NOW_MS + 2, 2)
    assert log.snapshots.offsets == [3]
    assert log.recovery_point == 3


def test_descriptors_are_bounded_and_come_back(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    world.directory.environment.open_logs.limit = 3
    logs = [world.new_log("t", partition) for partition in range(10)]
    for _ in range(3):
        for log in logs:
            append(log, batch())
    assert sum(log.segments[-1].log.fd >= 0 for log in logs) == 3
    assert {log.log_end_offset for log in logs} == {3}
