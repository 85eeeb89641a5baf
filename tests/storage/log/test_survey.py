"""What a log directory says of its partitions without being loaded: names, topic ids, epochs, producer ids."""
from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from storage.checkpoint.leader_epoch_checkpoint import LEADER_EPOCH_CHECKPOINT
from storage.checkpoint.offset_checkpoint import CLEANER_OFFSET_CHECKPOINT, write_offset_checkpoint
from storage.checkpoint.partition_metadata import PARTITION_METADATA
from storage.log.survey import (
    TRANSACTION_STATE_TOPIC,
    PartitionDirectory,
    PartitionFindings,
    live_partitions,
    survey_directory,
)
from storage.record.records import Producer, Record, build_batch
from tests.storage.log.worlds import TOPIC_ID, World, append, batch, new_world


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def survey_one(path: Path) -> PartitionFindings:
    before = contents(path)
    (found,) = survey_directory(str(path)).partitions
    assert contents(path) == before
    return found


def world_with_producers(path: Path, *producer_ids: int) -> World:
    """orders-0 with a batch of each of them, one segment each, leader epoch 4."""
    world = new_world(path, segment_size_bytes=100)
    log = world.new_log()
    log.become_leader(4)
    for producer_id in producer_ids:
        append(log, batch(producer=Producer(producer_id, 0, 0)))
    return world


def stop_cleanly(world: World) -> None:
    assert world.directory.close({}) == []


# Names


def test_only_live_partitions_count(tmp_path: Path) -> None:
    unique = "0123456789abcdef0123456789abcdef"
    for name in ("orders-1", "or-ders-0", f"orders-2.{unique}-delete", f"orders-3.{unique}-future",
                 f"orders-4.{unique}-stray", "remote-log-index-cache", "__cluster_metadata-0", "lost+found"):
        (tmp_path / name).mkdir()
    (tmp_path / "plain-0").touch()
    assert live_partitions(str(tmp_path)) == [
        PartitionDirectory("or-ders", 0, f"{tmp_path}/or-ders-0"),
        PartitionDirectory("orders", 1, f"{tmp_path}/orders-1")]


def test_empty_partition_has_nothing_to_tell(tmp_path: Path) -> None:
    (tmp_path / "orders-0").mkdir()
    assert survey_one(tmp_path) == PartitionFindings(
        PartitionDirectory("orders", 0, f"{tmp_path}/orders-0"), None, -1, -1)


# Topic ids and epochs


def test_topic_id_and_epoch_come_from_their_files(tmp_path: Path) -> None:
    stop_cleanly(world_with_producers(tmp_path, 7))
    found = survey_one(tmp_path)
    assert (found.topic_id, found.leader_epoch) == (TOPIC_ID, 4)


def test_epoch_of_batches_counts_without_a_readable_checkpoint(tmp_path: Path) -> None:
    """All batches, also those before the newest snapshot."""
    stop_cleanly(world_with_producers(tmp_path, 7, 8, 9))
    (tmp_path / "orders-0" / LEADER_EPOCH_CHECKPOINT).write_text("garbage")
    survey = survey_directory(str(tmp_path))
    assert survey.partitions[0].leader_epoch == 4
    assert len(survey.problems) == 1
    assert LEADER_EPOCH_CHECKPOINT in survey.problems[0]


def test_unreadable_topic_id_is_none_and_a_problem(tmp_path: Path) -> None:
    stop_cleanly(world_with_producers(tmp_path, 7))
    (tmp_path / "orders-0" / PARTITION_METADATA).write_text("version: 0")
    survey = survey_directory(str(tmp_path))
    assert survey.partitions[0].topic_id is None
    assert PARTITION_METADATA in survey.problems[0]


# Producer ids


def test_after_a_clean_stop_the_newest_snapshot_says_it_all(tmp_path: Path) -> None:
    stop_cleanly(world_with_producers(tmp_path, 7, 31, 8))
    survey = survey_directory(str(tmp_path))
    assert survey.was_clean
    assert survey.partitions[0].producer_id == 31


def test_after_a_kill_the_batches_behind_the_snapshot_count(tmp_path: Path) -> None:
    """The last segment has no snapshot behind it yet."""
    world_with_producers(tmp_path, 7, 8, 31)
    assert not survey_directory(str(tmp_path)).was_clean
    assert survey_one(tmp_path).producer_id == 31


def test_torn_snapshot_gives_way_to_the_batches(tmp_path: Path) -> None:
    stop_cleanly(world_with_producers(tmp_path, 31, 8, 7))
    snapshots = sorted((tmp_path / "orders-0").glob("*.snapshot"))
    for snapshot in snapshots:
        os.truncate(snapshot, snapshot.stat().st_size - 1)
    survey = survey_directory(str(tmp_path))
    assert survey.partitions[0].producer_id == 31
    assert len(survey.problems) == len(snapshots) > 1


def test_torn_end_of_the_log_is_passed_by(tmp_path: Path) -> None:
    world_with_producers(tmp_path, 7, 31)
    last = max((tmp_path / "orders-0").glob("*.log"))
    with last.open("ab") as file:
        file.write(bytes(batch(producer=Producer(99, 0, 0)))[:-5])
    assert survey_one(tmp_path).producer_id == 31


def transaction_state(*values: bytes | None) -> bytes:
    return build_batch([Record(index, 0, b"\0\0id", value) for index, value in enumerate(values)])


@pytest.mark.parametrize(("values", "highest"), [
    ([struct.pack(">hq", 0, 12) + b"rest", struct.pack(">hq", 1, 11) + b"rest"], 12),
    ([None, struct.pack(">hq", 0, 3)], 3),
    ([struct.pack(">hq", 7, 12), b"\0"], -1),
], ids=["versions 0 and 1", "tombstone", "unknown version, too short"])
def test_ids_of_transactional_producers_stand_in_the_transaction_state(
        tmp_path: Path, values: list[bytes | None], highest: int) -> None:
    """They may have written nothing for days: no snapshot names them."""
    world = new_world(tmp_path)
    log = world.new_log(TRANSACTION_STATE_TOPIC)
    append(log, memoryview(bytearray(transaction_state(*values))))
    stop_cleanly(world)
    assert survey_one(tmp_path).producer_id == highest


def test_broken_insides_of_the_transaction_state_are_a_problem_not_an_end(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    log = world.new_log(TRANSACTION_STATE_TOPIC)
    whole = transaction_state(struct.pack(">hq", 0, 12))
    append(log, memoryview(bytearray(whole)), memoryview(bytearray(whole)))
    stop_cleanly(world)
    path = next((tmp_path / f"{TRANSACTION_STATE_TOPIC}-0").glob("*.log"))
    data = bytearray(path.read_bytes())
    data[len(whole) + 61] ^= 0x7F  # the first record's length
    path.write_bytes(data)
    survey = survey_directory(str(tmp_path))
    assert survey.partitions[0].producer_id == 12
    assert "batch at offset 1" in survey.problems[0]


# The directory


def test_topics_of_the_cleaner_checkpoint_were_compacted(tmp_path: Path) -> None:
    write_offset_checkpoint(str(tmp_path / CLEANER_OFFSET_CHECKPOINT), {("a", 0): 5, ("a", 1): 7, ("b", 0): 0})
    assert survey_directory(str(tmp_path)).compacted_topics == {"a", "b"}


def test_unreadable_cleaner_checkpoint_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / CLEANER_OFFSET_CHECKPOINT).write_text("1\n")
    survey = survey_directory(str(tmp_path))
    assert survey.compacted_topics == frozenset()
    assert CLEANER_OFFSET_CHECKPOINT in survey.problems[0]


def test_directory_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        survey_directory(str(tmp_path / "gone"))
