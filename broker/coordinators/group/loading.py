"""What a partition of __consumer_offsets says, record by record, until all of it has been read. PURE.

Transactional commits wait for their marker, as when they were written; those that have none yet when the log ends
stay pending. A later record takes the place of an earlier one, a tombstone removes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from broker.coordinators.group.group import Group
from broker.coordinators.group.offsets import Stored, TopicPartition
from broker.coordinators.group.records import (
    GroupKey,
    MalformedRecordError,
    OffsetKey,
    read_group_value,
    read_key,
    read_offset_value,
)


class EntryKind(IntEnum):
    """What a helper found in the log; the numbers are what it sends."""

    RECORD = 0
    TRANSACTIONAL_RECORD = 1
    COMMIT = 2
    ABORT = 3


Entry = tuple[int, int, int, bytes, bytes | None]
"""kind, offset of the first record of the batch, producer id, key, value (markers: empty, None)."""

_Offsets = dict[OffsetKey, Stored]


class LogContent:
    """malformed: what was stepped over, for one line of log. foreign_count: records of other coordinators."""

    def __init__(self) -> None:
        self.malformed: list[str] = []
        self.foreign_count = 0
        self._groups: dict[str, Group] = {}
        self._offsets: _Offsets = {}
        self._transactional: dict[int, _Offsets] = {}

    def apply(self, entries: Iterable[Entry]) -> None:
        """Entries in the order of the log."""
        for kind, base_offset, producer_id, key, value in entries:
            if kind == EntryKind.COMMIT:
                self._commit(producer_id)
            elif kind == EntryKind.ABORT:
                self._transactional.pop(producer_id, None)
            else:
                try:
                    self._apply_record(kind, base_offset, producer_id, key, value)
                except MalformedRecordError as error:
                    self.malformed.append(f"offset {base_offset}: {error}")

    def _apply_record(self, kind: int, base: int, producer_id: int, key: bytes, value: bytes | None) -> None:
        what = read_key(key)
        if isinstance(what, OffsetKey):
            offsets = self._offsets
            if kind == EntryKind.TRANSACTIONAL_RECORD:
                offsets = self._transactional.setdefault(producer_id, {})
            if value is None:
                offsets.pop(what, None)
            else:
                offsets[what] = Stored(base, read_offset_value(value))
        elif isinstance(what, GroupKey):
            if value is None:
                self._groups.pop(what.group_id, None)
            else:
                self._groups[what.group_id] = read_group_value(what.group_id, value)
        else:
            self.foreign_count += 1

    def _commit(self, producer_id: int) -> None:
        for key, stored in self._transactional.pop(producer_id, {}).items():
            known = self._offsets.get(key)
            if known is None or (known.record_offset or 0) < (stored.record_offset or 0):
                self._offsets[key] = stored

    def groups(self, wall_ms: int) -> dict[str, Group]:
        """All groups with their offsets; those that only have offsets are Empty since now."""
        groups = dict(self._groups)

        def of(group_id: str) -> Group:
            if group_id not in groups:
                groups[group_id] = Group(group_id, wall_ms)
            return groups[group_id]

        for key, stored in self._offsets.items():
            of(key.group_id).offsets.stored[_partition(key)] = stored
        for producer_id, offsets in self._transactional.items():
            for key, stored in offsets.items():
                of(key.group_id).offsets.transactional.setdefault(producer_id, {})[_partition(key)] = stored
        return groups


def _partition(key: OffsetKey) -> TopicPartition:
    return (key.topic, key.partition)
