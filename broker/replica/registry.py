"""Every partition this broker hosts, by topic and number and by (directory, slot).

Runs in: front end. Owner: the front end's one instance; only LeaderAndIsr, StopReplica and start-up change it.
"""

from __future__ import annotations

from collections.abc import Iterator

from broker.replica.partition import Partition


class PartitionRegistry:
    """Look-ups on the hot paths are two dict hits and no tuple is built."""

    def __init__(self) -> None:
        self._by_topic: dict[str, dict[int, Partition]] = {}
        self._by_slot: dict[int, Partition] = {}

    def get(self, topic: str, partition: int) -> Partition | None:
        partitions = self._by_topic.get(topic)
        return None if partitions is None else partitions.get(partition)

    def by_slot(self, slot: int, slot_generation: int) -> Partition | None:
        """The partition of a slot, None when the slot has been given to another one since."""
        found = self._by_slot.get(slot)
        return found if found is not None and found.slot_generation == slot_generation else None

    def add(self, partition: Partition) -> None:
        self._by_topic.setdefault(partition.topic, {})[partition.partition] = partition
        self._by_slot[partition.slot] = partition

    def remove(self, partition: Partition) -> None:
        partitions = self._by_topic[partition.topic]
        del partitions[partition.partition]
        if not partitions:
            del self._by_topic[partition.topic]
        if self._by_slot.get(partition.slot) is partition:
            del self._by_slot[partition.slot]

    def of_topic(self, topic: str) -> list[Partition]:
        return list(self._by_topic.get(topic, {}).values())

    def of_directory(self, directory_index: int) -> list[Partition]:
        return [partition for partition in self if partition.directory_index == directory_index]

    def __iter__(self) -> Iterator[Partition]:
        return (partition for partitions in self._by_topic.values() for partition in partitions.values())

    def __len__(self) -> int:
        return len(self._by_slot)
