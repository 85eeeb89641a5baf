"""A storage process that dies at every step of a cleaning: what the next start finds, and what it makes of it."""
from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from storage.fs import OsFileLayer
from storage.fs.layer import WriteBuffer
from storage.log.log_config import LogConfig
from storage.log.partition_log import PartitionLog
from storage.process.cleaning_steps import CleaningAbandonedError
from storage.record.records import Producer
from tests.storage.cleaner.cleaning_worlds import (
    bases,
    clean,
    cleanable,
    contents,
    leftovers,
    new_cleaning,
    put,
    run,
)
from tests.storage.log.worlds import NOW_MS, World, append_marker, published

CONFIG = LogConfig(compact=True, delete=False, segment_size_bytes=500, index_interval_bytes=50)
ABORTED = Producer(9, 0, 0)


class DeathError(Exception):
    """The process is gone: nothing that it would have done happens."""


class MortalFiles(OsFileLayer):
    """Dies before the n-th call that changes anything."""

    def __init__(self) -> None:
        self.calls = 0
        self.die_at: int | None = None

    def _live(self) -> None:
        if self.die_at is None:
            return
        self.calls += 1
        if self.calls > self.die_at:
            raise DeathError

    def open_write(self, path: str, *, create: bool = True, truncate: bool = False, exclusive: bool = False) -> int:
        self._live()
        return super().open_write(path, create=create, truncate=truncate, exclusive=exclusive)

    def pwritev(self, fd: int, buffers: Sequence[WriteBuffer], position: int) -> int:
        self._live()
        return super().pwritev(fd, buffers, position)

    def rename(self, source: str, target: str) -> None:
        self._live()
        super().rename(source, target)

    def unlink(self, path: str) -> bool:
        self._live()
        return super().unlink(path)

    def fsync_directory(self, path: str) -> None:
        self._live()
        super().fsync_directory(path)


def fill(log: PartitionLog) -> None:
    """Three kinds of segments: shadowed, aborted, mixed; small enough that the first cleaning groups some."""
    for number in range(4):
        put(log, (b"a", b"%d" % number), (b"b", b"x" * 60), (b"k%d" % number, b"1"))
    put(log, (b"a", b"aborted"), producer=ABORTED, transactional=True)
    append_marker(log, ABORTED, commit=False)
    put(log, (b"a", None))
    log.roll(NOW_MS)
    clean(log)
    put(log, (b"b", b"last"), (b"c", b"1"))
    log.roll(NOW_MS)


def latest(log: PartitionLog) -> dict[bytes | None, tuple[int, bytes | None]]:
    """What a reader of committed records ends up with."""
    aborted = [txn for segment in log.segments for txn in segment.txn_index.entries()]
    found: dict[bytes | None, tuple[int, bytes | None]] = {}
    for offset, key, value in contents(log):
        if not any(txn.first_offset <= offset < txn.last_offset for txn in aborted):
            found[key] = (offset, value)
    return found


def world_with_files(path: Path) -> tuple[World, MortalFiles]:
    path.mkdir()
    files = MortalFiles()
    world = World(path, CONFIG, files)
    world.load()
    fill(world.new_log())
    return world, files


def test_every_step_of_a_cleaning_may_be_the_last(tmp_path: Path) -> None:
    step, died, seen = 0, True, set()
    while died:
        world, files = world_with_files(tmp_path / str(step))
        log = world.log()
        expected, end, producers = latest(log), log.log_end_offset, dict(log.producer_state.producers)
        plan = new_cleaning(log, cleanable(log), NOW_MS, files)
        files.die_at = step
        try:
            run(plan, files)
            died = False
        except DeathError:
            seen.add(frozenset(name.partition(".")[2] for name in os.listdir(log.path)))
        files.die_at = None
        again = world.reopen().logs["orders", 0]
        assert latest(again) == expected, f"step {step}"
        assert again.log_end_offset == end
        assert again.producer_state.producers.keys() == producers.keys()
        assert leftovers(again) == []
        again.on_high_watermark_updated(end)
        clean(again)
        assert latest(again) == expected, f"step {step}, cleaned once more"
        step += 1
    assert step > 20
    assert any("log.swap" in names and "log.deleted" in names for names in seen)
    assert any("log.cleaned" in names for names in seen)


def test_an_error_of_the_disk_before_the_swap_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    world, files = world_with_files(tmp_path / "log")
    log = world.log()
    before = published(log), contents(log)
    plan = new_cleaning(log, cleanable(log), NOW_MS, files)
    steps = plan.steps()
    next(steps)
    steps.close()
    assert (published(log), contents(log)) == before
    assert leftovers(log) == []


def test_an_empty_cleaned_segment_takes_the_name_of_the_one_it_replaces(tmp_path: Path) -> None:
    """It covers no offset, so an interrupted swap has to go by its name."""
    world, _ = world_with_files(tmp_path / "log")
    log = world.log()
    base = bases(log)[0]
    log.close()
    for suffix in (".log", ".index", ".timeindex"):
        Path(log.path, f"{base:020d}{suffix}.swap").write_bytes(b"")
    Path(log.path, f"{base:020d}.txnindex").write_bytes(bytes(34))
    world.reopen()
    assert world.log().segments[0].size_bytes == 0
    assert world.log().segments[0].txn_index.entries() == []


def swap_interrupted_by(world: World, change: str) -> str:
    """What is said of a cleaning under which the log is changed."""
    log = world.log()
    plan = new_cleaning(log, cleanable(log), NOW_MS)
    steps = plan.steps()
    next(steps)
    if change == "cut":
        log.truncate_to(log.log_end_offset - 1)
    elif change == "removed":
        log.maybe_increment_log_start(bases(log)[1], "DeleteRecords")
        log.delete_old_segments(NOW_MS, log.log_end_offset)
    with pytest.raises(CleaningAbandonedError) as raised:
        plan.check()
    steps.close()
    return str(raised.value)


@pytest.mark.parametrize("change", ["cut", "removed"])
def test_a_log_that_loses_mapped_records_is_not_swapped(tmp_path: Path, change: str) -> None:
    """The map may know a newer record of a key that is there no longer."""
    world, _ = world_with_files(tmp_path / "log")
    assert "was removed or cut" in swap_interrupted_by(world, change)
    assert leftovers(world.log()) == []


def test_the_version_is_odd_while_names_change_and_higher_afterwards(tmp_path: Path) -> None:
    world, _ = world_with_files(tmp_path / "log")
    log = world.log()
    versions: list[int] = []
    log.publish_version = versions.append
    before = log.segment_list_version
    run(new_cleaning(log, cleanable(log), NOW_MS))
    assert versions[:2] == [before + 1, before + 2]
    assert log.segment_list_version == versions[-1] > before
    assert not log.segment_list_version & 1


def test_old_files_stay_for_a_while_for_those_who_read_them(tmp_path: Path) -> None:
    world, _ = world_with_files(tmp_path / "log")
    log = world.log()
    run(new_cleaning(log, cleanable(log), NOW_MS))
    assert [name for name in os.listdir(log.path) if name.endswith(".deleted")]
    world.monotonic_ms += CONFIG.file_delete_delay_ms
    world.directory.run_delayed_deletes()
    assert not [name for name in os.listdir(log.path) if name.endswith(".deleted")]
