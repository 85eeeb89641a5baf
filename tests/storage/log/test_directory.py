"""One log directory: scan, checkpoints, creation and deletion of partitions, clean stop."""
from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from storage.checkpoint.clean_shutdown import CLEAN_SHUTDOWN_MARKER
from storage.errors import CorruptLogError, StorageError
from storage.log.failures import DirectoryFailed
from storage.log.file_names import UnknownDirectoryError
from storage.log.log_config import LogConfig
from storage.record.records import Producer
from tests.storage.log.worlds import (
    NOW_MS,
    TOPIC_ID,
    UNIQUE_ID,
    FaultyFiles,
    World,
    append,
    batch,
    new_world,
    sized_batch,
    trusted_end,
)


def two_partitions(path: Path, **config: Any) -> World:
    world = new_world(path, **config)
    for partition in (0, 1):
        append(world.new_log("orders", partition), *(batch(2, producer=Producer(7, 0, 0)) for _ in range(1)))
    return world


# -- the scan

def test_only_partitions_may_lie_in_a_log_directory(tmp_path: Path) -> None:
    """As in Kafka; and it is said before the clean marker is taken away."""
    world = two_partitions(tmp_path)
    world.directory.close({})
    (tmp_path / "lost+found").mkdir()
    with pytest.raises(UnknownDirectoryError, match=r"lost\+found"):
        world.reopen()
    assert (tmp_path / CLEAN_SHUTDOWN_MARKER).exists()


def test_two_names_for_one_partition_are_refused(tmp_path: Path) -> None:
    world = two_partitions(tmp_path)
    (tmp_path / "orders-00").mkdir()
    with pytest.raises(UnknownDirectoryError):
        world.reopen()


def test_plain_files_and_kafkas_other_directories_are_passed_by(tmp_path: Path) -> None:
    (tmp_path / "remote-log-index-cache").mkdir()
    (tmp_path / "__cluster_metadata-0").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    world = two_partitions(tmp_path)
    world.reopen()
    assert set(world.directory.logs) == {("orders", 0), ("orders", 1)}


def test_deleted_directories_are_removed_after_the_delay_others_are_left_alone(tmp_path: Path) -> None:
    for kind in ("delete", "future", "stray"):
        (tmp_path / f"old-3.{UNIQUE_ID}-{kind}").mkdir()
        (tmp_path / f"old-3.{UNIQUE_ID}-{kind}" / "00000000000000000000.log").write_bytes(b"x")
    world = new_world(tmp_path, file_delete_delay_ms=1000)
    assert world.directory.logs == {}
    assert world.directory.run_delayed_deletes() == 0
    world.monotonic_ms = 1000
    assert world.directory.run_delayed_deletes() == 2
    assert sorted(name for name in os.listdir(tmp_path) if "old" in name) == [
        f"old-3.{UNIQUE_ID}-future", f"old-3.{UNIQUE_ID}-stray"]
    assert world.directory.future_directories == [f"old-3.{UNIQUE_ID}-future"]
    assert world.directory.stray_directories == [f"old-3.{UNIQUE_ID}-stray"]


def test_a_partition_that_cannot_be_loaded_does_not_keep_the_others_away(tmp_path: Path) -> None:
    """Its checkpoint entries stay, and the directory does not become clean."""
    world = two_partitions(tmp_path)
    world.log().maybe_increment_log_start(1, "test")
    world.directory.close({("orders", 0): 2, ("orders", 1): 1})
    (tmp_path / "orders-0" / "partition.metadata").write_text("rubbish")
    world.reopen()
    assert isinstance(world.directory.failed["orders", 0], CorruptLogError)
    assert set(world.directory.logs) == {("orders", 1)}
    errors = world.directory.close({})
    assert errors == [world.directory.failed["orders", 0]]
    assert not (tmp_path / CLEAN_SHUTDOWN_MARKER).exists()
    assert (tmp_path / "recovery-point-offset-checkpoint").read_text() == "0\n2\norders 0 2\norders 1 2\n"
    assert (tmp_path / "log-start-offset-checkpoint").read_text() == "0\n1\norders 0 1\n"
    assert (tmp_path / "replication-offset-checkpoint").read_text() == "0\n2\norders 0 2\norders 1 1\n"


def test_the_pool_loads_every_partition_and_reports_progress(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    for partition in range(20):
        append(world.new_log("orders", partition), batch())
    world.threads = 3
    seen: list[tuple[int, int]] = []
    threads: set[int] = set()

    def scan_for_thread() -> Any:
        from storage.helpers.segment_scan import scan_segment
        threads.add(threading.get_ident())
        return scan_segment

    world.reopen(progress=lambda done, total, key, report: seen.append((done, total)),
                 scan_for_thread=scan_for_thread)
    assert seen == [(done, 20) for done in range(1, 21)]
    assert 1 <= len(threads) <= 3
    assert len(world.directory.logs) == 20


# -- the marker and the checkpoints

def test_the_marker_goes_before_anything_is_loaded_and_comes_back_last(tmp_path: Path) -> None:
    world = two_partitions(tmp_path)
    assert world.directory.close({("orders", 0): 1}) == []
    assert (tmp_path / CLEAN_SHUTDOWN_MARKER).read_text() == '{"version":0,"brokerEpoch":-1}'
    world.reopen()
    assert world.directory.was_clean
    assert not (tmp_path / CLEAN_SHUTDOWN_MARKER).exists()
    assert world.directory.checkpoint_high_watermark("orders", 0) == 1
    assert world.directory.checkpoint_high_watermark("orders", 1) == 0
    world.reopen()
    assert not world.directory.was_clean


def test_a_high_watermark_outside_the_log_is_clamped(tmp_path: Path) -> None:
    world = two_partitions(tmp_path)
    world.log().maybe_increment_log_start(1, "test")
    world.directory.write_checkpoints({("orders", 0): 0, ("orders", 1): 99})
    world.reopen()
    assert world.directory.checkpoint_high_watermark("orders", 0) == 1
    assert world.directory.checkpoint_high_watermark("orders", 1) == 2


@pytest.mark.parametrize("name", ["recovery-point-offset-checkpoint", "log-start-offset-checkpoint"])
def test_unreadable_checkpoints_count_as_empty(tmp_path: Path, name: str) -> None:
    world = two_partitions(tmp_path)
    (tmp_path / name).write_text("rubbish")
    world.reopen()
    assert world.log().log_end_offset == 2


def test_an_unreadable_high_watermark_checkpoint_is_refused(tmp_path: Path) -> None:
    world = two_partitions(tmp_path)
    (tmp_path / "replication-offset-checkpoint").write_text("rubbish")
    with pytest.raises(CorruptLogError):
        world.reopen()


def test_a_log_start_is_only_written_where_file_names_do_not_tell_it(tmp_path: Path) -> None:
    world = two_partitions(tmp_path)
    world.directory.write_log_start_offsets()
    assert (tmp_path / "log-start-offset-checkpoint").read_text() == "0\n0\n"


# -- creation and deletion

def test_a_deleted_partition_is_gone_at_once_and_from_the_disk_later(tmp_path: Path) -> None:
    world = two_partitions(tmp_path, file_delete_delay_ms=10)
    world.directory.delete_partition("orders", 0, UNIQUE_ID)
    assert set(world.directory.logs) == {("orders", 1)}
    assert (tmp_path / f"orders-0.{UNIQUE_ID}-delete").is_dir()
    world.monotonic_ms = 10
    world.directory.run_delayed_deletes()
    assert not (tmp_path / f"orders-0.{UNIQUE_ID}-delete").exists()


def test_a_recreated_partition_never_meets_the_checkpoints_of_the_old_one(tmp_path: Path) -> None:
    """A stale log start would drop all its records after a crash."""
    world = two_partitions(tmp_path)
    world.log().maybe_increment_log_start(2, "test")
    world.log().flush()
    world.directory.write_checkpoints({("orders", 0): 2})
    world.directory.delete_partition("orders", 0, UNIQUE_ID)
    append(world.new_log(), batch(1))
    world.reopen()
    assert (world.log().log_start_offset, world.log().log_end_offset) == (0, 1)


def test_checkpoints_without_a_partition_are_stale_after_a_restart_too(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    (tmp_path / "log-start-offset-checkpoint").write_text("0\n1\norders 0 500\n")
    world.reopen()
    append(world.new_log(), batch(3))
    world.reopen()
    assert (world.log().log_start_offset, world.log().log_end_offset) == (0, 3)


def test_a_partition_is_created_once(tmp_path: Path) -> None:
    world = two_partitions(tmp_path)
    with pytest.raises(StorageError, match="already in"):
        world.directory.create_partition("orders", 0, TOPIC_ID)


# -- retention, flushes by time, sizes

def test_the_retention_pass_visits_every_log(tmp_path: Path) -> None:
    world = new_world(tmp_path, segment_size_bytes=1000, retention_bytes=400)
    for partition in (0, 1):
        append(world.new_log("orders", partition), *(sized_batch(400) for _ in range(5)))
    assert world.directory.retention_pass(NOW_MS, lambda topic, partition: 5 if partition else 2) == 3
    assert [world.log("orders", partition).log_start_offset for partition in (0, 1)] == [2, 4]


def test_logs_are_due_for_a_flush_by_time(tmp_path: Path) -> None:
    world = new_world(tmp_path, flush_interval_ms=100)
    first, second = world.new_log("orders", 0), world.new_log("orders", 1)
    append(first, batch())
    world.monotonic_ms = 99
    assert world.directory.logs_due_for_flush() == []
    world.monotonic_ms = 100
    assert world.directory.logs_due_for_flush() == [first]
    first.flush()
    append(second, batch())
    assert world.directory.logs_due_for_flush() == [second]


def test_the_status_counts_log_bytes(tmp_path: Path) -> None:
    world = two_partitions(tmp_path)
    size = (tmp_path / "orders-0" / f"{0:020d}.log").stat().st_size
    assert [(each.partition, each.size_bytes, each.log_end_offset) for each in world.directory.status()] == [
        (0, size, 2), (1, size, 2)]


# -- a full disk

def faulty_world(path: Path, error: int = errno.ENOSPC) -> tuple[World, FaultyFiles]:
    files = FaultyFiles(error)
    world = World(path, LogConfig(segment_size_bytes=1000, index_interval_bytes=100), files)
    world.load()
    log = world.new_log()
    append(log, sized_batch(400, producer=Producer(7, 0, 0)), sized_batch(400))
    return world, files


def test_a_full_disk_while_a_partition_is_created_leaves_nothing(tmp_path: Path) -> None:
    world, files = faulty_world(tmp_path)
    failures = 0
    while True:
        files.fail_at(failures)
        try:
            world.directory.create_partition("new", 0, TOPIC_ID)
            break
        except OSError as error:
            assert error.errno == errno.ENOSPC
            assert not (tmp_path / "new-0").exists()
            failures += 1
    assert failures >= 4


def test_a_full_disk_while_closing_leaves_no_marker_but_a_log_that_loads(tmp_path: Path) -> None:
    """REVIEW 25: no marker unless snapshots, trimmed indexes and checkpoints all succeeded."""
    failures = 0
    while True:
        path = tmp_path / str(failures)
        path.mkdir()
        world, files = faulty_world(path)
        files.fail_at(failures)
        errors = world.directory.close({})
        files.fail_at(None)
        assert (path / CLEAN_SHUTDOWN_MARKER).exists() == (not errors)
        world.reopen()
        assert world.log().log_end_offset == 2
        assert world.log().producer_state.producers[7].last_sequence == 0
        if not errors:
            break
        failures += 1
    assert failures >= 8


@pytest.mark.parametrize("trusted", [True, False])
def test_a_restart_needs_no_room(tmp_path: Path, trusted: bool) -> None:
    """Not one byte can be written, and everything is served; appends go on when there is room again."""
    world, files = faulty_world(tmp_path)
    log = world.log()
    append(log, *(sized_batch(400, producer=Producer(7, 0, index)) for index in range(1, 6)))
    end = trusted_end(log)
    files.fail_always()
    world.reopen(trusted_end_of=(lambda topic, partition: end) if trusted else None)
    assert world.directory.failed == {}
    log = world.log()
    assert (log.log_end_offset, log.producer_state.producers[7].last_sequence) == (7, 5)
    assert log.segments[-1].max_timestamp == NOW_MS
    assert log.truncate_to(6)
    assert log.maybe_increment_log_start(2, "DeleteRecords")
    assert log.delete_old_segments(NOW_MS, 6) == 1
    assert world.directory.close({}) != []
    files.fail_at(None)
    log.become_leader(1)
    append(log, sized_batch(400, producer=Producer(7, 0, 5)))
    assert world.directory.close({}) == []
    world.reopen()
    assert (world.log().log_start_offset, world.log().log_end_offset) == (2, 7)


def test_a_passing_shortage_while_loading_is_no_loss(tmp_path: Path) -> None:
    """Whichever write of the load fails: the log is loaded all the same, or loads at the next try."""
    world, files = faulty_world(tmp_path)
    (tmp_path / "orders-0" / f"{0:020d}.timeindex").unlink()
    failure = 0
    while True:
        files.fail_at(failure)
        try:
            world.reopen()
        except OSError as error:
            assert error.errno == errno.ENOSPC
        else:
            assert world.log().log_end_offset == 2
            assert world.log().producer_state.producers[7].last_sequence == 0
            if files.calls <= failure:
                break
        failure += 1
    assert failure >= 2


def test_a_checkpoint_that_does_not_fit_keeps_the_old_one(tmp_path: Path) -> None:
    world, files = faulty_world(tmp_path)
    world.directory.write_checkpoints({("orders", 0): 1})
    before = (tmp_path / "replication-offset-checkpoint").read_text()
    files.fail_at(1)
    with pytest.raises(OSError, match=r"\[Errno 28\]"):
        world.directory.write_high_watermarks({("orders", 0): 2})
    assert (tmp_path / "replication-offset-checkpoint").read_text() == before
    world.directory.write_high_watermarks({("orders", 0): 2})
    assert "orders 0 2" in (tmp_path / "replication-offset-checkpoint").read_text()


def test_a_dead_disk_at_load_fails_the_directory(tmp_path: Path) -> None:
    world, files = faulty_world(tmp_path, errno.EIO)
    (tmp_path / "orders-0" / f"{0:020d}.timeindex").unlink()
    files.fail_at(0)
    with pytest.raises(DirectoryFailed):
        world.reopen()
