"""Offsets of groups: committing, fetching, deleting, expiring. PURE.

A commit is answered when its records are in the log with the acks that are required; until then it is `pending`
and what was stored before is what OffsetFetch gives. Behaviours 62-64.
TxnOffsetCommit belongs here too and is not served yet; what its records leave behind is loaded and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from broker.coordinators.effects import Append, Effect, Note, Now, Record, Reply
from broker.coordinators.group.group import Group
from broker.coordinators.group.offsets import CommittedOffset, TopicPartition
from broker.coordinators.group.rebalance import validate_member
from broker.coordinators.group.records import RecordVersions, group_key, offset_key, offset_value
from broker.coordinators.group.requests import NO_MEMBER, Committer
from broker.coordinators.group.states import COMMIT_ERRORS, DEAD, EMPTY, STABLE
from broker.protocol.errors import ErrorCode

_UTF16_UNIT_BYTES = 2


class OffsetLimits(NamedTuple):
    """offset.* and offsets.* of the configuration. metadata_length_max: in UTF-16 units, as Java counts."""

    metadata_length_max: int
    retention_ms: int


class OffsetsStored(NamedTuple):
    """refused: partitions of the same request that were not even appended."""

    group: Group
    ticket: Any
    offsets: dict[TopicPartition, CommittedOffset]
    refused: dict[TopicPartition, ErrorCode]


class Commits:
    """Stateless; the effects are those of the event at hand."""

    def __init__(
        self, limits: OffsetLimits, versions: RecordVersions, effects: list[Effect],
        partition_of: Callable[[str], int],
    ) -> None:  # fmt: skip
        self._limits = limits
        self._versions = versions
        self._effects = effects
        self._partition_of = partition_of

    # Committing

    def commit(
        self, group: Group, offsets: Mapping[TopicPartition, CommittedOffset], ticket: Any
    ) -> None:
        """The committer has been checked. The ticket is answered with an error per partition."""
        accepted, refused = {}, {}
        for partition, committed in offsets.items():
            if _java_length(committed.metadata) > self._limits.metadata_length_max:
                refused[partition] = ErrorCode.OFFSET_METADATA_TOO_LARGE
            else:
                accepted[partition] = committed
        if not accepted:
            self._effects.append(Reply(ticket, refused))
            return
        group.offsets.begin(accepted)
        records: list[Record] = [
            (offset_key(group.group_id, *partition), offset_value(committed, self._versions))
            for partition, committed in accepted.items()
        ]
        continuation = OffsetsStored(group, ticket, accepted, refused)
        number = self._partition_of(group.group_id)
        self._effects.append(Append(number, records, continuation, is_offset_commit=True))

    def stored(self, stored: OffsetsStored, error: ErrorCode, record_offset: int) -> None:
        if stored.group.state is not DEAD:
            if error:
                stored.group.offsets.fail(stored.offsets)
            else:
                stored.group.offsets.finish(stored.offsets, record_offset)
        self._effects.append(Reply(stored.ticket, dict.fromkeys(stored.offsets, error) | stored.refused))

    # Removing

    def remove(self, group: Group, partitions: Iterable[TopicPartition], now: Now) -> int:
        """How many were there. A group that has nothing left dies."""
        return self._bury(group, group.offsets.remove(partitions), now)

    def expire(self, group: Group, now: Now) -> int:
        """What nobody needs any more, by Kafka's rules (behaviour 64); how many."""
        base, is_subscribed = _expiry_rule(group)
        if base is None:
            expired: list[TopicPartition] = []
        else:
            expired = group.offsets.take_expired(now.wall_ms, self._limits.retention_ms, base, is_subscribed)
        return self._bury(group, expired, now)

    def _bury(self, group: Group, partitions: list[TopicPartition], now: Now) -> int:
        """Tombstones for offsets, and for the group if nothing is left of it."""
        if group.state is EMPTY and not group.offsets:
            group.transition(DEAD, now.wall_ms)
            self._effects.append(Note(f"group {group.group_id!r} is removed in generation {group.generation_id}"))
        records: list[Record] = [(offset_key(group.group_id, *partition), None) for partition in partitions]
        if group.state is DEAD and group.generation_id > 0:
            records.append((group_key(group.group_id), None))
        if records:
            self._effects.append(Append(self._partition_of(group.group_id), records))
        return len(partitions)


def commit_error(group: Group, committer: Committer) -> ErrorCode:
    """Whether this committer may commit now (behaviour 62)."""
    if group.state is DEAD:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    if committer.generation_id < 0 and group.state is EMPTY:
        return ErrorCode.NONE
    is_member = committer.generation_id >= 0 or committer.member_id != NO_MEMBER
    if not is_member and committer.instance_id is None:
        return ErrorCode.NONE if group.state is EMPTY else ErrorCode.UNKNOWN_MEMBER_ID
    error = validate_member(group, committer.member_id, committer.instance_id)
    if error:
        return error
    if committer.generation_id != group.generation_id:
        return ErrorCode.ILLEGAL_GENERATION
    return COMMIT_ERRORS[group.state]


def _expiry_rule(
    group: Group,
) -> tuple[Callable[[CommittedOffset], int] | None, Callable[[str], bool]]:
    """(from when the retention counts, which topics are exempt); None: nothing expires now."""
    if group.protocol_type is None:
        return _commit_timestamp, _nothing
    if group.state is EMPTY:
        since = group.state_timestamp_ms
        return (_commit_timestamp if since is None else lambda _: since), _nothing
    if group.is_consumer_group and group.state is STABLE and group.subscribed is not None:
        return _commit_timestamp, group.is_subscribed_to
    return None, _nothing


def _commit_timestamp(committed: CommittedOffset) -> int:
    return committed.commit_timestamp_ms


def _nothing(topic: str) -> bool:
    return False


def _java_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // _UTF16_UNIT_BYTES
