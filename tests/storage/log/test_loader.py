"""What a start finds: clean, torn, corrupt, interrupted (issue 3, sections 6 and 9; on-disk facts, section 9)."""
from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from storage.checkpoint.clean_shutdown import CLEAN_SHUTDOWN_MARKER
from storage.errors import CorruptLogError
from storage.helpers.segment_scan import SegmentScan, scan_segment
from storage.log import state_rebuild
from storage.log.failures import LogShrunkError
from storage.log.load_report import LoadReport
from storage.log.loader import TrustedEnd
from storage.log.log_config import LogConfig
from storage.log.partition_log import PartitionLog
from storage.record.records import Producer
from tests.storage.fs.forgetful import ForgetfulFileLayer, PowerCut
from tests.storage.log.worlds import (
    NOW_MS,
    World,
    append,
    append_marker,
    append_transactional,
    batch,
    file_contents,
    log_bytes,
    new_world,
    sized_batch,
    trusted_end,
)

P = Producer(7, 0, 0)
T = Producer(8, 0, 0)
SMALL = {"segment_size_bytes": 1000, "index_interval_bytes": 150}


def memory_of(log: PartitionLog) -> tuple[object, ...]:
    """What must survive a crash: of each producer what a snapshot has room for (one batch, one timestamp)."""
    entries = {}
    for producer_id, entry in log.producer_state.producers.items():
        batches = [each._replace(timestamp=entry.last_timestamp) for each in entry.batches[-1:]]
        entries[producer_id] = entry._replace(batches=tuple(batches))
    epochs = [entry for entry in log.leader_epoch_cache.entries if entry.start_offset < log.log_end_offset]
    return (log.log_start_offset, log.log_end_offset, log.active_base_offset, log.active_size_bytes,
            [(each.base_offset, each.size_bytes) for each in log.segments], entries,
            dict(log.producer_state.ongoing), epochs)


def reports_of(world: World, **arguments: Any) -> dict[tuple[str, int], LoadReport]:
    """Restart; what loading found, by partition."""
    reports: dict[tuple[str, int], LoadReport] = {}
    world.reopen(progress=lambda done, total, key, report: reports.update({key: report}), **arguments)
    return reports


def report_of(world: World, **arguments: Any) -> LoadReport:
    return reports_of(world, **arguments)["orders", 0]


def varied_log(path: Path) -> World:
    """Three segments with idempotent and transactional batches, two epochs, one aborted transaction."""
    world = new_world(path, **SMALL)
    log = world.new_log()
    append(log, sized_batch(300, producer=P))
    append_transactional(log, T)
    append_marker(log, T, commit=False)
    append(log, sized_batch(400, producer=P._replace(base_sequence=1)))
    log.become_leader(3)
    append(log, sized_batch(400, producer=P._replace(base_sequence=2)), sized_batch(400))
    append_transactional(log, T._replace(base_sequence=1))
    append(log, sized_batch(400, producer=P._replace(base_sequence=3)))
    assert len(log.segments) == 3
    return world


# -- clean and unclean

def test_after_a_clean_stop_nothing_is_scanned(tmp_path: Path) -> None:
    world = varied_log(tmp_path)
    before = memory_of(world.log())
    assert world.directory.close({}) == []
    report = report_of(world)
    assert world.directory.was_clean
    assert (report.segments_scanned, report.repairs, report.truncations) == (0, [], [])
    assert memory_of(world.log()) == before
    assert world.log().recovery_point == world.log().log_end_offset


def test_after_a_kill_every_unflushed_segment_is_verified(tmp_path: Path) -> None:
    world = varied_log(tmp_path)
    before, contents = memory_of(world.log()), file_contents(world.log().path)
    report = report_of(world)
    assert not world.directory.was_clean
    assert (report.segments_scanned, report.truncations) == (3, [])
    assert memory_of(world.log()) == before
    after = file_contents(world.log().path)
    for name in contents:
        if name.endswith((".log", ".txnindex")):
            assert after[name] == contents[name]


def test_segments_before_the_recovery_point_are_not_verified(tmp_path: Path) -> None:
    world = varied_log(tmp_path)
    log = world.log()
    log.flush(log.segments[1].base_offset)
    world.directory.write_recovery_points()
    assert report_of(world).segments_scanned == 2


def test_a_partition_loads_twice_with_the_same_files(tmp_path: Path) -> None:
    world = varied_log(tmp_path)
    report_of(world)
    contents = file_contents(world.log().path)
    report = report_of(world)
    assert file_contents(world.log().path) == contents
    assert report.repairs == []


def test_appends_go_on_after_a_restart(tmp_path: Path) -> None:
    world = varied_log(tmp_path)
    end = world.log().log_end_offset
    report_of(world)
    world.log().become_leader(4)
    again, fresh = append(world.log(), sized_batch(400, producer=P._replace(base_sequence=3)),
                          batch(1, producer=P._replace(base_sequence=4)))
    assert (again.duplicate, again.base_offset) == (True, end - 1)
    assert fresh.base_offset == end


def test_an_empty_active_segment_is_normal(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    log = world.new_log()
    append(log, batch(3))
    log.roll(NOW_MS)
    assert report_of(world).truncations == []
    assert (world.log().log_end_offset, world.log().active_size_bytes) == (3, 0)


# -- torn writes

def log_with_torn_end(path: Path) -> tuple[World, int, tuple[object, ...]]:
    """Two batches that stay, and where the last one, to be torn, begins."""
    world = new_world(path)
    log = world.new_log()
    append(log, batch(2, producer=P), batch(1))
    position, memory = log.active_size_bytes, memory_of(log)
    append(log, batch(2, producer=P._replace(base_sequence=2)))
    return world, position, memory


@pytest.mark.parametrize("rest", ["nothing", "zeros", "garbage"])
def test_a_write_torn_at_any_byte_is_truncated_and_reported(tmp_path: Path, rest: str) -> None:
    world, position, memory = log_with_torn_end(tmp_path)
    file = Path(world.log().segments[0].log.path)
    whole = file.read_bytes()
    for cut in range(position + 1, len(whole)):
        tail = {"nothing": b"", "zeros": bytes(len(whole) - cut),
                "garbage": bytes(byte ^ 0xA5 for byte in whole[cut:])}[rest]
        if whole[:cut] + tail == whole:
            continue
        file.write_bytes(whole[:cut] + tail)
        report = report_of(world)
        assert memory_of(world.log()) == memory
        (truncation,) = report.truncations
        assert (truncation.path, truncation.position) == (str(file), position)
        assert truncation.size_bytes == cut + len(tail) - position
        assert file.stat().st_size == position


def test_preallocated_zeros_are_cut_without_a_loss(tmp_path: Path) -> None:
    world, _, _ = log_with_torn_end(tmp_path)
    before = memory_of(world.log())
    with open(world.log().segments[0].log.path, "ab") as file:
        file.write(bytes(100_000))
    report = report_of(world)
    (truncation,) = report.truncations
    assert truncation.is_zero_tail
    assert report.lost_size_bytes == 0
    assert memory_of(world.log()) == before


def test_behind_a_broken_batch_the_log_ends(tmp_path: Path) -> None:
    """Later segments are set aside as `.deleted`, each reported."""
    world = varied_log(tmp_path)
    segments = [(each.log.path, each.size_bytes) for each in world.log().segments]
    damaged = bytearray(Path(segments[0][0]).read_bytes())
    damaged[-1] ^= 1
    Path(segments[0][0]).write_bytes(damaged)
    report = report_of(world)
    assert [(each.path, each.size_bytes) for each in report.truncations[1:]] == segments[1:]
    assert [segment.base_offset for segment in world.log().segments] == [0]
    assert world.log().log_end_offset == 3
    assert Path(segments[1][0] + ".deleted").exists()
    world.monotonic_ms += world.config.file_delete_delay_ms
    world.directory.run_delayed_deletes()
    assert not Path(segments[1][0] + ".deleted").exists()


def test_bytes_behind_the_last_batch_of_a_clean_directory_are_found(tmp_path: Path) -> None:
    world = varied_log(tmp_path)
    before = memory_of(world.log())
    world.directory.close({})
    with open(world.log().segments[-1].log.path, "ab") as file:
        file.write(b"rubbish")
    report = report_of(world)
    assert [each.size_bytes for each in report.truncations] == [7]
    assert memory_of(world.log()) == before


# -- indexes

@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("suffix", [".index", ".timeindex"])
def test_a_missing_index_is_made_anew(tmp_path: Path, suffix: str, clean: bool) -> None:
    world = varied_log(tmp_path)
    before = memory_of(world.log())
    path = world.log().path
    world.directory.close({})
    if not clean:
        (tmp_path / CLEAN_SHUTDOWN_MARKER).unlink()
    contents = file_contents(path)
    for segment in world.log().segments:
        Path(segment.path(suffix)).unlink()
    report = report_of(world)
    assert [each for each in report.repairs if "made anew" in each.what]
    assert memory_of(world.log()) == before
    assert {name: data for name, data in file_contents(path).items() if suffix in name} == {
        name: data for name, data in contents.items() if suffix in name}


@pytest.mark.parametrize("seed", range(40))
def test_indexes_corrupted_at_random_are_noticed_or_harmless(tmp_path: Path, seed: int) -> None:
    """After an unclean stop every index of unflushed segments is made anew, whatever it holds."""
    rng = random.Random(seed)
    world = varied_log(tmp_path)
    before, contents = memory_of(world.log()), file_contents(world.log().path)
    report_of(world)
    recovered = file_contents(world.log().path)
    for name in recovered:
        if name.endswith(("index", ".snapshot")) and rng.random() < 0.7:
            corrupt(Path(world.log().path, name), rng)
    report_of(world)
    assert memory_of(world.log()) == before, f"seed {seed}"
    after = file_contents(world.log().path)
    for name, data in recovered.items():
        if name.endswith("index"):
            assert after.get(name, b"") == data, f"seed {seed}: {name}"
    assert after[f"{0:020d}.log"] == contents[f"{0:020d}.log"]


def corrupt(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    choice = rng.choice(["cut", "zeros", "flip", "noise", "gone"])
    if choice == "gone":
        path.unlink()
        return
    if choice == "cut":
        del data[rng.randrange(len(data) + 1):]
    elif choice == "zeros":
        data += bytes(rng.randrange(1, 100))
    elif choice == "flip" and data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif choice == "noise":
        data += rng.randbytes(rng.randrange(1, 50))
    path.write_bytes(data)


def test_a_zero_tail_of_an_index_under_the_clean_marker_is_noticed(tmp_path: Path) -> None:
    """A preallocated index that nobody trimmed would be read as entries."""
    world = varied_log(tmp_path)
    before = memory_of(world.log())
    world.directory.close({})
    contents = file_contents(world.log().path)
    index = Path(world.log().segments[-1].path(".index"))
    index.write_bytes(index.read_bytes() + bytes(80))
    report = report_of(world)
    assert "made anew" in report.repairs[0].what
    assert memory_of(world.log()) == before
    assert index.read_bytes() == contents[index.name]


# -- snapshots

def test_a_torn_snapshot_is_replaced_by_an_older_one(tmp_path: Path) -> None:
    world = varied_log(tmp_path)
    before = memory_of(world.log())
    world.directory.close({})
    newest = Path(world.log().snapshots.path(world.log().snapshots.offsets[-1]))
    newest.write_bytes(newest.read_bytes()[:-3])
    report = report_of(world)
    assert "checksum" in report.repairs[0].what
    assert memory_of(world.log()) == before


def test_without_any_snapshot_the_state_is_read_from_the_log(tmp_path: Path) -> None:
    world = varied_log(tmp_path)
    before = memory_of(world.log())
    world.directory.close({})
    for path in Path(world.log().path).glob("*.snapshot"):
        path.unlink()
    report_of(world)
    assert memory_of(world.log()) == before
    log = world.log()
    assert log.snapshots.offsets == [*(each.base_offset for each in log.segments[-2:]), log.log_end_offset]


def test_producers_silent_for_too_long_are_forgotten_at_load(tmp_path: Path) -> None:
    world = varied_log(tmp_path)
    world.directory.close({})
    world.now_ms += world.config.producer_id_expiration_ms + 1
    report_of(world)
    assert set(world.log().producer_state.producers) == {8}  # its transaction is open


@pytest.mark.parametrize("segment_bytes", [700, 1000, 1 << 20])
@pytest.mark.parametrize("kills", [1, 2, 3])
@pytest.mark.parametrize("trusts", [False, True])
def test_whatever_was_killed_how_often_five_batches_of_a_producer_are_remembered(
        tmp_path: Path, segment_bytes: int, kills: int, trusts: bool) -> None:
    """The load after a kill leaves a snapshot, and a roll does: each names the last batch alone (behaviour 35)."""
    world = new_world(tmp_path, segment_size_bytes=segment_bytes)
    log = world.new_log()
    for index in range(9):
        append(log, sized_batch(300, producer=P._replace(base_sequence=index)))
        append(log, sized_batch(300, producer=P._replace(producer_id=P.producer_id + 1, base_sequence=index)))
    remembered = dict(log.producer_state.producers)
    assert {len(entry.batches) for entry in remembered.values()} == {5}
    for _ in range(kills):
        end = trusted_end(world.log())
        if trusts:
            reload_trusted(world, end)
        else:
            world.reopen()
        assert world.log().producer_state.producers == remembered


def test_what_is_remembered_again_comes_from_the_last_bytes_only(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_rebuild, "RECALL_BYTES_MAX", 700)
    world = new_world(tmp_path, index_interval_bytes=1)
    append(world.new_log(), sized_batch(300, producer=P._replace(base_sequence=0)))
    for index in range(1, 9):
        append(world.log(), sized_batch(300, producer=P._replace(base_sequence=index)))
    for _ in range(2):
        reload_trusted(world, trusted_end(world.log()))
    (entry,) = world.log().producer_state.producers.values()
    assert [each.first_sequence for each in entry.batches] == [6, 7, 8]


# -- log start, recovery point, epochs

def test_a_log_that_ends_before_its_start_begins_there_empty(tmp_path: Path) -> None:
    world = varied_log(tmp_path)
    (tmp_path / "log-start-offset-checkpoint").write_text("0\n1\norders 0 500\n")
    report = report_of(world)
    log = world.log()
    assert (log.log_start_offset, log.log_end_offset, log.active_base_offset) == (500, 500, 500)
    assert len(report.truncations) == 3
    assert (log.producer_state.producers, log.leader_epoch_cache.entries) == ({}, [])


def test_the_log_start_comes_back_from_its_checkpoint(tmp_path: Path) -> None:
    world = varied_log(tmp_path)
    world.log().maybe_increment_log_start(3, "test")
    world.directory.close({})
    assert (tmp_path / "log-start-offset-checkpoint").read_text() == "0\n1\norders 0 3\n"
    report_of(world)
    assert (world.log().log_start_offset, world.log().segments[0].base_offset) == (3, 0)


def test_an_unreadable_epoch_file_is_made_anew_from_the_batches(tmp_path: Path) -> None:
    world = varied_log(tmp_path)
    before = memory_of(world.log())
    path = Path(world.log().path, "leader-epoch-checkpoint")
    path.write_text("rubbish")
    assert "made anew" in report_of(world).repairs[0].what
    assert memory_of(world.log()) == before
    assert path.read_text() == "0\n2\n0 0\n3 4\n"


def test_an_epoch_without_records_is_dropped(tmp_path: Path) -> None:
    world = varied_log(tmp_path)
    world.log().become_leader(9)
    report_of(world)
    assert world.log().leader_epoch_cache.latest_epoch == 3


# -- after a death of the process alone (REVIEW 18)

def reload_trusted(world: World, end: TrustedEnd) -> LoadReport:
    return report_of(world, trusted_end_of=lambda topic, partition: end)


def test_what_was_published_is_not_scanned_again(tmp_path: Path) -> None:
    world = varied_log(tmp_path)
    before, contents = memory_of(world.log()), file_contents(world.log().path)
    report = reload_trusted(world, trusted_end(world.log()))
    assert report.bytes_scanned == 0
    assert memory_of(world.log()) == before
    after = file_contents(world.log().path)
    assert {name: after[name] for name in contents if name.endswith((".log", ".index"))} == {
        name: contents[name] for name in contents if name.endswith((".log", ".index"))}


def test_only_what_lies_behind_is_verified(tmp_path: Path) -> None:
    """Whole batches that were written but not published stay; torn ones go."""
    world = varied_log(tmp_path)
    log = world.log()
    end = trusted_end(log)
    append(log, sized_batch(100, producer=P._replace(base_sequence=4)))
    append_marker(log, T, commit=False)
    before = memory_of(log)
    with open(log.segments[-1].log.path, "ab") as file:
        file.write(b"\x00\x00torn")
    size = end.position
    report = reload_trusted(world, end)
    (truncation,) = report.truncations
    assert truncation.size_bytes == 6
    assert report.bytes_scanned == world.log().active_size_bytes + 6 - size
    assert memory_of(world.log()) == before
    assert world.log().segments[-1].txn_index.entries()[-1].last_offset == world.log().log_end_offset - 1


@pytest.mark.parametrize("published_batches", range(7))
def test_trust_gives_the_same_log_as_a_full_recovery(tmp_path: Path, published_batches: int) -> None:
    """Rolled, indexed and snapshotted behind the published end: all of it is verified and completed."""
    world = new_world(tmp_path, **SMALL)
    log = world.new_log()
    append(log, *(sized_batch(300, producer=P._replace(base_sequence=index))
                  for index in range(published_batches)))
    end = trusted_end(log)
    for index in range(published_batches, 8):
        append(log, sized_batch(300, producer=P._replace(base_sequence=index), timestamp=NOW_MS + index))
    before = memory_of(log)
    copy = tmp_path.with_name(tmp_path.name + "-copy")
    for each in world.directory.logs.values():
        each.close_files()
    shutil.copytree(tmp_path, copy)
    other = World(copy, world.config)
    other.load()
    reload_trusted(world, end)
    assert memory_of(world.log()) == memory_of(other.log()) == before
    for name, data in file_contents(other.log().path).items():
        if name.endswith((".log", ".txnindex")):
            assert file_contents(world.log().path)[name] == data


def test_a_log_shorter_than_published_is_a_failure(tmp_path: Path) -> None:
    """REVIEW 18: pages were lost; a leader's log must not shrink within an epoch."""
    world = varied_log(tmp_path)
    end = trusted_end(world.log())
    path = Path(world.log().segments[-1].log.path)
    path.write_bytes(path.read_bytes()[:-1])
    reports_of(world, trusted_end_of=lambda topic, partition: end)
    assert isinstance(world.directory.failed["orders", 0], LogShrunkError)
    assert str(path) in str(world.directory.failed["orders", 0])


def test_a_segment_that_is_gone_is_a_failure(tmp_path: Path) -> None:
    world = varied_log(tmp_path)
    end = trusted_end(world.log())
    Path(world.log().segments[-1].log.path).unlink()
    reports_of(world, trusted_end_of=lambda topic, partition: end)
    assert isinstance(world.directory.failed["orders", 0], LogShrunkError)


def test_damaged_indexes_do_not_need_trust(tmp_path: Path) -> None:
    world = varied_log(tmp_path)
    before, end = memory_of(world.log()), trusted_end(world.log())
    index = Path(world.log().segments[-1].path(".index"))
    index.write_bytes(index.read_bytes() + b"\x00\x00\x00")
    reload_trusted(world, end)
    assert memory_of(world.log()) == before


def test_the_largest_timestamp_that_was_only_in_memory_is_found_again(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    log = world.new_log()
    append(log, batch(1, timestamp=NOW_MS + 77), batch(1))
    reload_trusted(world, trusted_end(log))
    assert world.log().segments[-1].max_timestamp == NOW_MS + 77


# -- what cannot be loaded

def test_an_offset_too_far_from_its_segment_is_not_guessed_at(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    log = world.new_log()
    append(log, batch(1))
    log.truncate_fully_and_start_at(1 << 31)
    log.become_leader(1)
    append(log, batch(1))
    far = Path(log.segments[0].log.path)
    far.rename(far.with_name(f"{0:020d}.log"))
    world.reopen()
    error = world.directory.failed["orders", 0]
    assert isinstance(error, CorruptLogError)
    assert "splits" in str(error)


# -- the scan belongs to somebody else

def test_scans_go_through_the_given_callable(tmp_path: Path) -> None:
    world = varied_log(tmp_path)
    calls: list[tuple[str, dict[str, Any]]] = []

    def scan(path: str, *arguments: Any, **keywords: Any) -> SegmentScan:
        calls.append((Path(path).name, keywords))
        return scan_segment(path, *arguments, **keywords)

    threads: list[int] = []
    world.reopen(scan_for_thread=lambda: threads.append(1) or scan)
    assert threads == [1]
    assert [name for name, _ in calls] == [f"{base:020d}.log" for base in
                                           (each.base_offset for each in world.log().segments)]


# -- power cuts at every step

def history(world: World) -> None:
    """Appends, flushes and rolls of one partition until its clean stop."""
    log = world.new_log()
    for index in range(6):
        append(log, sized_batch(300, producer=P._replace(base_sequence=index)), sized_batch(150))
        if index % 2:
            log.flush()
            world.directory.write_recovery_points()
    world.directory.close({})


def test_a_power_cut_at_any_step_loses_nothing_that_was_flushed(tmp_path: Path) -> None:
    """Rolls, snapshots, checkpoints and the marker are cut in the middle as well."""
    step = 0
    finished = False
    while not finished:
        root = tmp_path / str(step)
        root.mkdir()
        files = ForgetfulFileLayer(str(root))
        world = World(root, LogConfig(**SMALL), files)
        world.load()
        files.crash_at(step)
        try:
            history(world)
            finished = True
        except PowerCut:
            pass
        flushed = max((log.recovery_point for log in world.directory.logs.values()), default=0)
        files.crash()
        check_after_power_cut(world, flushed)
        shutil.rmtree(root)
        step += 3 if step > 60 else 1
    assert step > 60


def check_after_power_cut(world: World, flushed: int) -> None:
    world.directory = world._directory()
    world.load()
    assert world.directory.failed == {}
    if not world.directory.logs:
        assert flushed == 0
        return
    log = world.log()
    assert log.log_end_offset >= flushed
    if log.log_end_offset:
        sequence = log.producer_state.producers[7].last_sequence
        assert sequence == (log.log_end_offset - 1) // 2
    log.become_leader(1)
    append(log, sized_batch(300, producer=P._replace(base_sequence=(log.log_end_offset + 1) // 2)))
    world.reopen()
    assert world.directory.failed == {}


@pytest.mark.parametrize("cut", [partial(Path.unlink), lambda path: path.write_bytes(path.read_bytes()[:-5])])
def test_a_crash_while_the_roll_snapshot_was_written_costs_nothing(
        tmp_path: Path, cut: Callable[[Path], object]) -> None:
    world = varied_log(tmp_path)
    before = memory_of(world.log())
    cut(Path(world.log().snapshots.path(world.log().active_base_offset)))
    report_of(world)
    assert memory_of(world.log()) == before


def test_a_crash_between_the_new_segment_and_its_first_batch_costs_nothing(tmp_path: Path) -> None:
    world = new_world(tmp_path, **SMALL)
    log = world.new_log()
    append(log, sized_batch(600, producer=P))
    before, data = memory_of(log), log_bytes(log)
    for suffix in (".log", ".index"):  # no time index and no snapshot yet
        Path(log.path, f"{1:020d}{suffix}").touch()
    report_of(world)
    log = world.log()
    assert (log.log_end_offset, log.active_base_offset, log_bytes(log)) == (1, 1, data)
    assert memory_of(log)[5:] == before[5:]
