"""Replication state of one partition: what may be produced, read, and when the watermark moves."""

from __future__ import annotations

from broker.protocol.errors import ErrorCode
from broker.replica.marks import LogPosition
from broker.replica.partition import Partition, Role

ME = 1


def leader(isr: tuple[int, ...] = (ME,), replicas: tuple[int, ...] = (ME,), min_isr: int = 1) -> Partition:
    partition = Partition("t", 0, bytes(16), 0, "/d/t-0", 7, 1)
    partition.apply_config({"max.message.bytes": 1_048_588, "min.insync.replicas": min_isr})
    partition.log_opened(0, LogPosition(0, 0, 0), -1, 0, 0)
    partition.replicas, partition.isr = replicas, isr
    partition.lead(ME, 3, [(3, 0)])
    return partition


def append(partition: Partition, end: int) -> None:
    partition.log_advanced(LogPosition(end, 0, end * 100), 0, -1, 0)


def test_the_only_replica_moves_the_high_watermark_with_the_log_end() -> None:
    partition = leader()
    append(partition, 10)
    assert partition.high_watermark == 10


def test_the_high_watermark_waits_for_the_slowest_in_sync_replica() -> None:
    partition = leader(isr=(ME, 2), replicas=(ME, 2))
    append(partition, 10)
    assert partition.high_watermark == 0
    partition.follower_ends[2] = 6
    assert partition.maybe_advance_high_watermark()
    assert partition.high_watermark == 6


def test_under_min_isr_the_high_watermark_stands_still_even_for_acks_1() -> None:
    """Subtle behaviour 31 (KIP-966)."""
    partition = leader(isr=(ME,), replicas=(ME, 2), min_isr=2)
    append(partition, 10)
    assert partition.high_watermark == 0
    assert partition.produce_error(acks=1) is ErrorCode.NONE
    assert partition.produce_error(acks=-1) is ErrorCode.NOT_ENOUGH_REPLICAS


def test_min_isr_counts_no_more_replicas_than_there_are() -> None:
    partition = leader(min_isr=3)
    assert partition.produce_error(acks=-1) is ErrorCode.NONE


def test_epoch_fencing_45() -> None:
    partition = leader()
    assert partition.read_error(-1) is ErrorCode.NONE
    assert partition.read_error(3) is ErrorCode.NONE
    assert partition.read_error(2) is ErrorCode.FENCED_LEADER_EPOCH
    assert partition.read_error(4) is ErrorCode.UNKNOWN_LEADER_EPOCH


def test_roles_answer_their_own_errors_32() -> None:
    partition = leader()
    expected = {
        Role.FOLLOWER: ErrorCode.NOT_LEADER_OR_FOLLOWER,
        Role.OFFLINE: ErrorCode.KAFKA_STORAGE_ERROR,
        Role.NONE: ErrorCode.NOT_LEADER_OR_FOLLOWER,
    }
    for role, error in expected.items():
        partition.role = role
        assert partition.produce_error(1) is error
        assert partition.read_error(-1) is error


def test_the_checkpointed_watermark_is_clamped_into_the_log() -> None:
    partition = leader()
    partition.log_opened(5, LogPosition(20, 0, 900), -1, 0, 100)
    assert partition.high_watermark == 20
    partition.log_opened(5, LogPosition(20, 0, 900), -1, 0, 0)
    assert partition.high_watermark == 5


def test_last_stable_offset_42() -> None:
    partition = leader()
    partition.log_advanced(LogPosition(10, 0, 1000), 0, 4, 0)
    assert partition.last_stable_offset == 4
    partition.log_advanced(LogPosition(12, 0, 1200), 0, -1, 0)
    assert partition.last_stable_offset == 12


def test_end_offset_of_an_epoch_52() -> None:
    partition = leader()
    partition.leader_epoch_starts = [(2, 0), (3, 10), (6, 25)]
    append(partition, 40)
    assert partition.end_for_epoch(7) == (-1, -1)
    assert partition.end_for_epoch(6) == (6, 40)
    assert partition.end_for_epoch(5) == (3, 25)
    assert partition.end_for_epoch(3) == (3, 25)
    assert partition.end_for_epoch(1) == (1, 0)
    assert partition.end_for_epoch(-1) == (-1, -1)


def test_positions_in_older_segments_are_forgotten_when_names_change() -> None:
    partition = Partition("t", 0, bytes(16), 0, "/d/t-0", 7, 1)
    partition.log_opened(0, LogPosition(5, 0, 500), -1, 2, 5)
    partition.log_advanced(LogPosition(9, 5, 400), 0, -1, 2)
    assert partition.marks.exact(5) is not None
    partition.log_start_moved(0, 4)
    assert partition.segment_list_version == 4
    assert partition.marks.exact(5) is None
    assert partition.marks.log_end == LogPosition(9, 5, 400)


def test_epoch_at_an_offset() -> None:
    partition = leader()
    partition.leader_epoch_starts = [(2, 0), (3, 10)]
    assert [partition.epoch_at(offset) for offset in (0, 9, 10, 99)] == [2, 2, 3, 3]


class Watcher:
    def __init__(self) -> None:
        self.seen: list[Partition] = []

    def partition_changed(self, partition: Partition) -> None:
        self.seen.append(partition)


def test_watchers_hear_of_data_roles_and_log_starts() -> None:
    partition, watcher = leader(), Watcher()
    partition.watchers.add(watcher)
    append(partition, 1)
    partition.log_start_moved(1, 2)
    partition.follow(2, 4)
    partition.go_offline()
    partition.stop()
    assert watcher.seen == [partition] * 5


def test_until_the_watermark_reaches_the_leader_s_start_the_end_is_uncertain_51() -> None:
    partition = Partition("t", 0, bytes(16), 0, "/d/t-0", 7, 1)
    partition.apply_config({"max.message.bytes": 1_048_588, "min.insync.replicas": 1})
    partition.log_opened(0, LogPosition(10, 0, 1000), -1, 0, 4)
    partition.replicas, partition.isr = (ME, 2), (ME, 2)
    partition.lead(ME, 3, [(3, 10)])
    assert partition.end_is_uncertain
    partition.follower_ends[2] = 10
    partition.maybe_advance_high_watermark()
    assert not partition.end_is_uncertain


def test_the_same_leader_s_start_does_not_move_51() -> None:
    partition = leader(isr=(ME,), replicas=(ME, 2), min_isr=2)
    append(partition, 10)
    partition.lead(ME, 3, [(3, 0)])
    assert not partition.end_is_uncertain


def test_only_minus_one_stands_for_no_epoch_52() -> None:
    partition = leader()
    append(partition, 10)
    assert partition.end_for_epoch(-1) == (-1, -1)
    assert partition.end_for_epoch(-5) == (-5, 0)
    assert partition.end_for_epoch(3) == (3, 10)
    assert partition.end_for_epoch(4) == (-1, -1)
