"""Committed offsets of one group: what is stored, what is on its way into the log, what is expired. PURE.

Why the log offset is kept beside each commit: a transactional commit counts from its marker on, but belongs
where its record lies; the one whose record is later in the log wins (Kafka's CommitRecordMetadataAndOffset).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

TopicPartition = tuple[str, int]
NO_EPOCH = -1
NO_EXPIRY = -1


class CommittedOffset(NamedTuple):
    """leader_epoch: -1 unknown. expire_timestamp_ms: -1 unless the client named a retention (v2-4)."""

    offset: int
    leader_epoch: int
    metadata: str
    commit_timestamp_ms: int
    expire_timestamp_ms: int = NO_EXPIRY


class Stored(NamedTuple):
    """record_offset: of the first record of its batch in the log; None while it is being appended."""

    record_offset: int | None
    committed: CommittedOffset


class OffsetTable:
    """pending: being appended. transactional: producer id -> appended or being appended, waiting for a marker."""

    __slots__ = ("pending", "stored", "transactional")

    def __init__(self) -> None:
        self.stored: dict[TopicPartition, Stored] = {}
        self.pending: dict[TopicPartition, CommittedOffset] = {}
        self.transactional: dict[int, dict[TopicPartition, Stored]] = {}

    def __bool__(self) -> bool:
        return bool(self.stored or self.pending or self.transactional)

    def get(self, partition: TopicPartition) -> CommittedOffset | None:
        stored = self.stored.get(partition)
        return None if stored is None else stored.committed

    def is_unstable(self, partition: TopicPartition) -> bool:
        """A commit is under way whose outcome decides what the offset is."""
        return partition in self.pending or any(
            partition in offsets for offsets in self.transactional.values()
        )

    # Commits

    def begin(self, offsets: Mapping[TopicPartition, CommittedOffset]) -> None:
        self.pending.update(offsets)

    def finish(self, offsets: Mapping[TopicPartition, CommittedOffset], record_offset: int) -> None:
        """Their records are in the log. Those removed meanwhile stay removed."""
        for partition, committed in offsets.items():
            if partition in self.pending:
                self.put(partition, Stored(record_offset, committed))
            self._settle(partition, committed)

    def fail(self, offsets: Mapping[TopicPartition, CommittedOffset]) -> None:
        for partition, committed in offsets.items():
            self._settle(partition, committed)

    def _settle(self, partition: TopicPartition, committed: CommittedOffset) -> None:
        """A later commit of the same partition may be under way: then it is what is pending."""
        if self.pending.get(partition) == committed:
            del self.pending[partition]

    def put(self, partition: TopicPartition, stored: Stored) -> None:
        """Unless what is there lies later in the log."""
        known = self.stored.get(partition)
        if known is None or (known.record_offset or 0) <= (stored.record_offset or 0):
            self.stored[partition] = stored

    # Removal

    def remove(self, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
        """Those that were stored: they need a tombstone."""
        removed = []
        for partition in partitions:
            self.pending.pop(partition, None)
            for offsets in self.transactional.values():
                offsets.pop(partition, None)
            if self.stored.pop(partition, None) is not None:
                removed.append(partition)
        self.transactional = {
            producer: offsets for producer, offsets in self.transactional.items() if offsets
        }
        return removed

    def take_expired(
        self, now_ms: int, retention_ms: int, base_timestamp: Callable[[CommittedOffset], int],
        is_subscribed: Callable[[str], bool],
    ) -> list[TopicPartition]:  # fmt: skip
        """Remove and return what is older than its own expiry time or, without one, than `retention_ms`
        after `base_timestamp`; never what somebody is subscribed to or is just committing."""
        expired = [
            partition
            for partition, (_, committed) in self.stored.items()
            if partition not in self.pending
            and not is_subscribed(partition[0])
            and _is_expired(committed, now_ms, retention_ms, base_timestamp)
        ]
        for partition in expired:
            del self.stored[partition]
        return expired


def _is_expired(
    committed: CommittedOffset, now_ms: int, retention_ms: int,
    base_timestamp: Callable[[CommittedOffset], int],
) -> bool:  # fmt: skip
    if committed.expire_timestamp_ms != NO_EXPIRY:
        return now_ms >= committed.expire_timestamp_ms
    return now_ms - base_timestamp(committed) >= retention_ms
