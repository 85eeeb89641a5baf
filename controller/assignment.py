"""Which brokers get the replicas of new partitions: Kafka's placement (PURE).

Leaders go round the brokers from a random start; each partition's other replicas follow at a shift that
grows by one per round, so that the same brokers do not always meet. With racks, brokers are first ordered
so that neighbours lie in different racks, and a replica skips racks (and brokers) that have one already
until all have.

The random numbers are arguments: `start_index` and `replica_shift`, each below the number of brokers.

Runs in: controller.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence


class AssignmentError(ValueError):
    """Base: the wish cannot be met."""


class InvalidPartitionCountError(AssignmentError):
    """Less than one partition."""


class InvalidReplicationFactorError(AssignmentError):
    """Less than one replica, or more than there are brokers."""


class IncompleteRacksError(AssignmentError):
    """Some brokers have a rack and some have none."""


def assign_replicas(racks: Mapping[int, str | None], partition_count: int, replication_factor: int, *,
                    start_index: int, replica_shift: int, first_partition: int = 0) -> dict[int, tuple[int, ...]]:
    """Partition number -> broker ids, the preferred leader first.

    racks: of every live broker. first_partition: number of the first new partition of a topic that grows.
    """
    _check(racks, partition_count, replication_factor)
    with_racks = any(rack is not None for rack in racks.values())
    brokers = _alternate_racks(racks) if with_racks else sorted(racks)
    assignment = {}
    for partition in range(first_partition, first_partition + partition_count):
        if partition > 0 and partition % len(brokers) == 0:
            replica_shift += 1
        leader_index = (partition + start_index) % len(brokers)
        if with_racks:
            replicas = _rack_aware(brokers, racks, leader_index, replica_shift, replication_factor)
        else:
            replicas = [brokers[leader_index]]
            replicas += [brokers[_replica_index(leader_index, replica_shift, nth, len(brokers))]
                         for nth in range(replication_factor - 1)]
        assignment[partition] = tuple(replicas)
    return assignment


def _check(racks: Mapping[int, str | None], partition_count: int, replication_factor: int) -> None:
    if partition_count <= 0:
        raise InvalidPartitionCountError(f"{partition_count} partitions: at least one is needed")
    if replication_factor <= 0:
        raise InvalidReplicationFactorError(f"replication factor {replication_factor}: at least 1 is needed")
    if replication_factor > len(racks):
        raise InvalidReplicationFactorError(
            f"replication factor {replication_factor} is larger than the number of live brokers, {len(racks)}")
    without = [broker_id for broker_id, rack in racks.items() if rack is None]
    if without and len(without) < len(racks):
        raise IncompleteRacksError(f"brokers {sorted(without)} have no broker.rack, others do: "
                                   "set it on all of them or on none")


def _replica_index(leader_index: int, replica_shift: int, nth: int, broker_count: int) -> int:
    shift = 1 + (replica_shift + nth) % (broker_count - 1)
    return (leader_index + shift) % broker_count


def _rack_aware(brokers: Sequence[int], racks: Mapping[int, str | None], leader_index: int,
                replica_shift: int, replication_factor: int) -> list[int]:
    rack_count = len(set(racks.values()))
    replicas = [brokers[leader_index]]
    used_racks = {racks[replicas[0]]}
    nth = 0
    while len(replicas) < replication_factor:
        candidate = brokers[_replica_index(leader_index, replica_shift * rack_count, nth, len(brokers))]
        nth += 1
        rack_free = racks[candidate] not in used_racks or len(used_racks) == rack_count
        broker_free = candidate not in replicas or len(replicas) == len(brokers)
        if rack_free and broker_free:
            replicas.append(candidate)
            used_racks.add(racks[candidate])
    return replicas


def _alternate_racks(racks: Mapping[int, str | None]) -> list[int]:
    """The first broker of each rack, racks by name, then the second ones, and so on."""
    by_rack: dict[str, list[int]] = {}
    for broker_id in sorted(racks):
        by_rack.setdefault(racks[broker_id] or "", []).append(broker_id)
    ordered = [by_rack[rack] for rack in sorted(by_rack)]
    return [column[row] for row in range(max(map(len, ordered))) for column in ordered if row < len(column)]
