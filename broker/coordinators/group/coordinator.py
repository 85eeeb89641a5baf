"""The group coordinator: which groups are here, and what each request does to them. PURE.

What: one method per request and per event of the world; each returns its answer, or takes a ticket that a `Reply`
among the effects names. Effects are collected here and taken by `take_effects` after every call.
Why by partition: leadership of a partition of __consumer_offsets is what makes this broker the coordinator of the
groups in it; they come and go together.
Which error when (GroupCoordinator.validateGroupStatus of Kafka): INVALID_GROUP_ID, COORDINATOR_LOAD_IN_PROGRESS,
NOT_COORDINATOR, in this order; what each API makes of them stands at its method. Behaviours 54-65.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from broker.coordinators.effects import Effect, Now, Reply
from broker.coordinators.group.commits import Commits, OffsetLimits, OffsetsStored, commit_error
from broker.coordinators.group.group import Group
from broker.coordinators.group.loading import LogContent
from broker.coordinators.group.offsets import CommittedOffset, TopicPartition
from broker.coordinators.group.rebalance import (
    AssignmentStored,
    GroupLimits,
    Rebalances,
    StaticMemberStored,
    TimerKey,
)
from broker.coordinators.group.records import RecordVersions
from broker.coordinators.group.requests import (
    NO_MEMBER,
    Committer,
    JoinRequest,
    JoinResult,
    LeavingMember,
    SyncRequest,
    SyncResult,
)
from broker.coordinators.group.states import DEAD, EMPTY, GroupState
from broker.coordinators.timers import Timers
from broker.protocol.errors import ErrorCode

CLASSIC = "classic"


class FetchedOffset(NamedTuple):
    error: ErrorCode
    committed: CommittedOffset | None


class _Partition:
    """Groups of one led partition. is_loading: its log is being read."""

    __slots__ = ("epoch", "groups", "is_loading")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.is_loading = True
        self.groups: dict[str, Group] = {}


class GroupCoordinator:
    """partition_of: the partition of a group id. timers: shared by all groups; `expire_due` serves them."""

    def __init__(
        self, limits: GroupLimits, offset_limits: OffsetLimits, versions: RecordVersions,
        partition_of: Callable[[str], int], new_uuid: Callable[[], str],
    ) -> None:  # fmt: skip
        self.timers: Timers[TimerKey] = Timers()
        self._limits = limits
        self._partition_of = partition_of
        self._partitions: dict[int, _Partition] = {}
        self._epochs: dict[int, int] = {}
        self._effects: list[Effect] = []
        self._rebalances = Rebalances(limits, versions, self.timers, self._effects, partition_of, new_uuid)
        self._commits = Commits(offset_limits, versions, self._effects, partition_of)

    def take_effects(self) -> list[Effect]:
        effects = self._effects[:]
        self._effects.clear()
        return effects

    # Partitions

    def begin_loading(self, number: int, epoch: int) -> bool:
        """This broker leads a partition; whether its log has to be read."""
        if epoch < self._epochs.get(number, -1):
            return False
        self._epochs[number] = epoch
        known = self._partitions.get(number)
        if known is not None:
            known.epoch = epoch
            return False
        self._partitions[number] = _Partition(epoch)
        return True

    def is_loading(self, number: int) -> bool:
        known = self._partitions.get(number)
        return known is not None and known.is_loading

    def finish_loading(self, number: int, content: LogContent, now: Now) -> None:
        """Everything up to where the log ended is known; unless the leadership was lost meanwhile."""
        partition = self._partitions.get(number)
        if partition is None or not partition.is_loading:
            return
        partition.groups = content.groups(now.wall_ms)
        partition.is_loading = False
        for group in tuple(partition.groups.values()):
            self._rebalances.loaded(group, now)

    def unload(self, number: int, epoch: int | None, now: Now) -> None:
        """This broker does not lead the partition any more. epoch: None when its log was taken away: the next one
        under that name may begin with any epoch."""
        if epoch is None:
            self._epochs.pop(number, None)
        elif epoch < self._epochs.get(number, -1):
            return
        else:
            self._epochs[number] = epoch
        partition = self._partitions.pop(number, None)
        if partition is not None:
            for group in partition.groups.values():
                self._rebalances.unload(group, ErrorCode.NOT_COORDINATOR, now)

    def groups(self) -> Iterable[Group]:
        for partition in self._partitions.values():
            yield from partition.groups.values()

    def _status(self, group_id: str) -> ErrorCode:
        partition = self._partitions.get(self._partition_of(group_id))
        if partition is None:
            return ErrorCode.NOT_COORDINATOR
        return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS if partition.is_loading else ErrorCode.NONE

    def _named_status(self, group_id: str) -> ErrorCode:
        """Of an API for which the empty id is none."""
        return self._status(group_id) if group_id else ErrorCode.INVALID_GROUP_ID

    def find(self, group_id: str) -> Group | None:
        partition = self._partitions.get(self._partition_of(group_id))
        return None if partition is None else partition.groups.get(group_id)

    def _create(self, group_id: str, now: Now) -> Group:
        group = Group(group_id, now.wall_ms)
        self._partitions[self._partition_of(group_id)].groups[group_id] = group
        return group

    def _drop_if_dead(self, group: Group) -> None:
        if group.state is DEAD:
            partition = self._partitions.get(self._partition_of(group.group_id))
            if partition is not None and partition.groups.get(group.group_id) is group:
                del partition.groups[group.group_id]

    # Membership

    def join(self, request: JoinRequest, ticket: Any, now: Now) -> None:
        error = self._named_status(request.group_id)
        timeout_ms = request.session_timeout_ms
        limits = self._limits
        if not error and not limits.session_timeout_ms_min <= timeout_ms <= limits.session_timeout_ms_max:
            error = ErrorCode.INVALID_SESSION_TIMEOUT
        group = None if error else self.find(request.group_id)
        if not error and group is None and request.member_id != NO_MEMBER:
            error = ErrorCode.UNKNOWN_MEMBER_ID
        if error:
            self._effects.append(Reply(ticket, JoinResult(request.member_id, error)))
            return
        self._rebalances.join(group or self._create(request.group_id, now), request, ticket, now)

    def sync(self, request: SyncRequest, ticket: Any, now: Now) -> None:
        """While loading REBALANCE_IN_PROGRESS: the rebalance under way is lost, members join again."""
        error = self._named_status(request.group_id)
        if error == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
            error = ErrorCode.REBALANCE_IN_PROGRESS
        group = None if error else self.find(request.group_id)
        if group is None:
            result = SyncResult(error or ErrorCode.UNKNOWN_MEMBER_ID)
            self._effects.append(Reply(ticket, result))
            return
        self._rebalances.sync(group, request, ticket, now)

    def heartbeat(
        self, group_id: str, member_id: str, instance_id: str | None, generation_id: int, now: Now
    ) -> ErrorCode:
        """While loading NONE: the member has time until its session is counted again."""
        error = self._named_status(group_id)
        if error:
            return ErrorCode.NONE if error == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS else error
        group = self.find(group_id)
        if group is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        return self._rebalances.heartbeat(group, member_id, instance_id, generation_id, now)

    def leave(
        self, group_id: str, leaving: Collection[LeavingMember], now: Now
    ) -> tuple[ErrorCode, list[ErrorCode]]:
        """(error of the whole request, one per member)."""
        error = self._named_status(group_id)
        if error:
            return error, []
        group = self.find(group_id)
        if group is None:
            return ErrorCode.NONE, [ErrorCode.UNKNOWN_MEMBER_ID] * len(leaving)
        return ErrorCode.NONE, [self._rebalances.leave(group, each, now) for each in leaving]

    # Offsets

    def commit(
        self, group_id: str, committer: Committer, offsets: Mapping[TopicPartition, CommittedOffset],
        ticket: Any, now: Now,
    ) -> None:  # fmt: skip
        """The ticket is answered with an error per partition."""
        error = self._status(group_id)
        group = None if error else self.find(group_id)
        if not error and group is None:
            if committer.generation_id < 0:
                group = self._create(group_id, now)
            else:
                error = ErrorCode.ILLEGAL_GENERATION
        if group is not None:
            error = commit_error(group, committer)
        if error or group is None:
            self._effects.append(Reply(ticket, dict.fromkeys(offsets, error)))
            return
        if group.state is not EMPTY:
            self._rebalances.extend_session(group, committer.member_id, now)
        self._commits.commit(group, offsets, ticket)

    def fetch_offsets(
        self, group_id: str, partitions: Iterable[TopicPartition] | None, require_stable: bool
    ) -> tuple[ErrorCode, dict[TopicPartition, FetchedOffset]]:
        """partitions: None for all that have an offset. What is not there is None without an error."""
        error = self._status(group_id)
        if error:
            return error, {}
        group = self.find(group_id)
        if group is None:
            return ErrorCode.NONE, dict.fromkeys(partitions or (), FetchedOffset(ErrorCode.NONE, None))
        wanted = group.offsets.stored if partitions is None else partitions
        return ErrorCode.NONE, {
            partition: _fetched(group, partition, require_stable) for partition in wanted
        }

    def delete_offsets(
        self, group_id: str, partitions: Collection[TopicPartition], now: Now
    ) -> tuple[ErrorCode, dict[TopicPartition, ErrorCode]]:
        error = self._named_status(group_id)
        if error:
            return error, {}
        group = self.find(group_id)
        if group is None:
            return ErrorCode.GROUP_ID_NOT_FOUND, {}
        if group.state is not EMPTY and not group.is_consumer_group:
            return ErrorCode.NON_EMPTY_GROUP, {}
        kept = set() if group.state is EMPTY else {
            partition for partition in partitions if group.is_subscribed_to(partition[0])
        }
        self._commits.remove(group, [each for each in partitions if each not in kept], now)
        self._drop_if_dead(group)
        return ErrorCode.NONE, {
            partition: ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if partition in kept else ErrorCode.NONE
            for partition in partitions
        }

    def partitions_deleted(self, topics: Collection[str], now: Now) -> int:
        """The topics are gone: so are their offsets. How many there were."""
        removed = 0
        for group in tuple(self.groups()):
            gone = [partition for partition in group.offsets.stored if partition[0] in topics]
            if gone:
                removed += self._commits.remove(group, gone, now)
                self._drop_if_dead(group)
        return removed

    def expire_offsets(self, group: Group, now: Now) -> int:
        """One group's turn in the periodic round."""
        count = 0 if group.state is DEAD else self._commits.expire(group, now)
        self._drop_if_dead(group)
        return count

    # Groups

    def delete_group(self, group_id: str, now: Now) -> ErrorCode:
        error = self._status(group_id)
        if error:
            return error
        group = self.find(group_id)
        if group is None:
            return ErrorCode.GROUP_ID_NOT_FOUND
        if group.state is not EMPTY:
            return ErrorCode.NON_EMPTY_GROUP
        self._commits.remove(group, list(group.offsets.stored) + list(group.offsets.pending), now)
        if group.state is not DEAD:  # offsets of an open transaction go with it
            group.offsets.transactional.clear()
            self._commits.remove(group, (), now)
        self._drop_if_dead(group)
        return ErrorCode.NONE

    def describe(self, group_id: str) -> tuple[ErrorCode, Group | None]:
        """A group that is not there is described as Dead, without an error."""
        error = self._status(group_id)
        return error, None if error else self.find(group_id)

    def list_groups(
        self, states: Collection[str], types: Collection[str]
    ) -> tuple[ErrorCode, list[Group]]:
        """Filters are case-insensitive; every group here is a classic one. While loading, an error *and* groups."""
        is_loading = any(partition.is_loading for partition in self._partitions.values())
        wanted = {state.lower() for state in states}
        found = [
            group for group in self.groups()
            if (not wanted or group.state.value.lower() in wanted)
            and (not types or any(each.lower() == CLASSIC for each in types))
        ]  # fmt: skip
        return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS if is_loading else ErrorCode.NONE, found

    def count_in(self, state: GroupState) -> int:
        return sum(group.state is state for group in self.groups())

    # The world

    def expire_due(self, now: Now) -> None:
        for key in self.timers.take_due(now.monotonic_ms):
            self._rebalances.expire(key, now)

    def appended(self, continuation: Any, error: ErrorCode, record_offset: int, now: Now) -> None:
        """The outcome of an `Append`; `error` as storage or the replica says it."""
        if isinstance(continuation, OffsetsStored):
            self._commits.stored(continuation, offset_commit_error(error), record_offset)
        elif isinstance(continuation, AssignmentStored):
            self._rebalances.assignment_stored(continuation, group_store_error(error), now)
        elif isinstance(continuation, StaticMemberStored):
            self._rebalances.static_member_stored(continuation, group_store_error(error), now)


def _fetched(group: Group, partition: TopicPartition, require_stable: bool) -> FetchedOffset:
    if require_stable and group.offsets.is_unstable(partition):
        return FetchedOffset(ErrorCode.UNSTABLE_OFFSET_COMMIT, None)
    return FetchedOffset(ErrorCode.NONE, group.offsets.get(partition))


_TOO_LARGE = (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.RECORD_LIST_TOO_LARGE, ErrorCode.INVALID_FETCH_SIZE)
_NOT_READY = (
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
)  # fmt: skip
_NOT_HERE = (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.KAFKA_STORAGE_ERROR)


def offset_commit_error(error: ErrorCode) -> ErrorCode:
    """What an append's error means to whoever commits."""
    if error in _NOT_READY:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    if error in _NOT_HERE:
        return ErrorCode.NOT_COORDINATOR
    return ErrorCode.INVALID_COMMIT_OFFSET_SIZE if error in _TOO_LARGE else error


def group_store_error(error: ErrorCode) -> ErrorCode:
    """What an append's error means to members that wait for their assignment."""
    if error in _NOT_READY:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    if error in _NOT_HERE:
        return ErrorCode.NOT_COORDINATOR
    if error == ErrorCode.REQUEST_TIMED_OUT:
        return ErrorCode.REBALANCE_IN_PROGRESS
    return ErrorCode.UNKNOWN_SERVER_ERROR if error in _TOO_LARGE else error
