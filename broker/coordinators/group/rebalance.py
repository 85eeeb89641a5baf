"""Joining, syncing, leaving, heartbeats and their deadlines: a group from one generation to the next. PURE.

What: every public method takes one event of one group, changes the group's memory and adds what the world has to
do to `effects`; the coordinator has already checked that the group is here. Behaviours 54-61.
Why a parked request that its client repeats is answered: the client has given the first one up, and its
connection must not stay blocked; Kafka forgets it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NamedTuple

from broker.coordinators.effects import Append, Effect, Note, Now, Reply
from broker.coordinators.group.group import Group
from broker.coordinators.group.member import Member, Protocols
from broker.coordinators.group.records import RecordVersions, group_record
from broker.coordinators.group.requests import (
    NO_MEMBER,
    JoinRequest,
    JoinResult,
    LeavingMember,
    SyncRequest,
    SyncResult,
)
from broker.coordinators.group.states import (
    COMPLETING_REBALANCE,
    DEAD,
    EMPTY,
    HEARTBEAT_ERRORS,
    PREPARING_REBALANCE,
    STABLE,
)
from broker.coordinators.timers import Timers
from broker.protocol.errors import ErrorCode

NEW_MEMBER_JOIN_TIMEOUT_MS = 5 * 60 * 1000
"""A member that is not yet through its first rebalance cannot send heartbeats; this is how long it may take."""


MEMBER_ID_BYTES_MAX = 32767
"""What a string of the protocol holds; a client id may fill one by itself."""


class Deadline(Enum):
    """What a timer of a group is for."""

    SESSION = "session"
    PENDING_MEMBER = "pending member"
    JOIN = "join"
    SYNC = "sync"


TimerKey = tuple[Deadline, Group, str]
"""The member's id for SESSION and PENDING_MEMBER, else empty."""


class GroupLimits(NamedTuple):
    """group.* of the configuration."""

    session_timeout_ms_min: int
    session_timeout_ms_max: int
    member_count_max: int
    initial_rebalance_delay_ms: int


class AssignmentStored(NamedTuple):
    group: Group
    generation_id: int
    assignment: Mapping[str, bytes]


class EmptyGroupStored(NamedTuple):
    group: Group


class StaticMemberStored(NamedTuple):
    """What to go back to if the new member id could not be stored."""

    group: Group
    instance_id: str
    old_member_id: str
    new_member_id: str
    protocols: Protocols
    rebalance_timeout_ms: int
    session_timeout_ms: int
    leader_id: str | None
    can_skip_assignment: bool


class Rebalances:
    """Stateless but for the timers, which it shares with all groups, and the effects of the event at hand."""

    def __init__(
        self, limits: GroupLimits, versions: RecordVersions, timers: Timers[TimerKey], effects: list[Effect],
        partition_of: Callable[[str], int], new_uuid: Callable[[], str],
    ) -> None:  # fmt: skip
        self._limits = limits
        self._versions = versions
        self._timers = timers
        self._effects = effects
        self._partition_of = partition_of
        self._new_uuid = new_uuid

    # JoinGroup

    def join(self, group: Group, request: JoinRequest, ticket: Any, now: Now) -> None:
        if not self._has_room_for(group, request.member_id):
            group.remove(request.member_id)
            self._refuse_join(ticket, NO_MEMBER, ErrorCode.GROUP_MAX_SIZE_REACHED)
        elif group.state is DEAD:
            self._refuse_join(ticket, request.member_id, ErrorCode.COORDINATOR_NOT_AVAILABLE)
        elif not group.supports(request.protocol_type, request.protocols):
            self._refuse_join(ticket, request.member_id, ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        elif request.member_id == NO_MEMBER:
            self._join_unknown(group, request, ticket, now)
        else:
            self._join_known(group, request, ticket, now)
        if group.state is PREPARING_REBALANCE:
            self._maybe_complete_join(group, now)

    def _has_room_for(self, group: Group, member_id: str) -> bool:
        """group.max.size; who is there already may stay, but who rejoins last in a rebalance is left out."""
        maximum = self._limits.member_count_max
        member = group.members.get(member_id)
        if group.state in (EMPTY, DEAD):
            return True
        if group.state is PREPARING_REBALANCE:
            return (member is not None and member.join_ticket is not None) or group.joined_count < maximum
        return member is not None or len(group.members) < maximum

    def _refuse_join(self, ticket: Any, member_id: str, error: ErrorCode) -> None:
        self._effects.append(Reply(ticket, JoinResult(member_id, error)))

    def _join_unknown(self, group: Group, request: JoinRequest, ticket: Any, now: Now) -> None:
        """A member without an id: static ones are known by their instance id, others get an id first."""
        instance_id = request.instance_id
        new_id = f"{request.client_id if instance_id is None else instance_id}-{self._new_uuid()}"
        if len(new_id.encode()) > MEMBER_ID_BYTES_MAX:
            self._refuse_join(ticket, NO_MEMBER, ErrorCode.INVALID_REQUEST)
            return
        if instance_id is not None:
            old_id = group.static_members.get(instance_id)
            if old_id is None:
                self._add(group, new_id, request, ticket, now)
            else:
                self._replace_static(group, instance_id, old_id, new_id, request, ticket, now)
        elif request.needs_known_id:
            group.pending_members.add(new_id)
            deadline = now.monotonic_ms + request.session_timeout_ms
            self._timers.set((Deadline.PENDING_MEMBER, group, new_id), deadline)
            self._refuse_join(ticket, new_id, ErrorCode.MEMBER_ID_REQUIRED)
        else:
            self._add(group, new_id, request, ticket, now)

    def _join_known(self, group: Group, request: JoinRequest, ticket: Any, now: Now) -> None:
        member_id = request.member_id
        if member_id in group.pending_members and request.instance_id is None:
            self._add(group, member_id, request, ticket, now)
            return
        error = validate_member(group, member_id, request.instance_id)
        if error:
            self._refuse_join(ticket, member_id, error)
            return
        member = group.members.get(member_id)
        if member is None or group.state is EMPTY:
            self._refuse_join(ticket, member_id, ErrorCode.UNKNOWN_MEMBER_ID)
        elif self._knows_everything(group, member, request):
            members = tuple(group.member_list()) if self._is_told_members(group, member) else ()
            self._effects.append(Reply(ticket, _joined(group, member, members)))
        else:
            self._park_join(group, member, request, ticket)
            self._maybe_prepare(group, f"member {member_id} joins again in state {group.state.value}: "
                                       f"{request.reason or 'no reason given'}", now)  # fmt: skip

    def _knows_everything(self, group: Group, member: Member, request: JoinRequest) -> bool:
        """It repeats itself: the answer was lost, or it is a follower with nothing new."""
        if member.protocols != request.protocols:
            return False
        if group.state is STABLE:
            return group.leader_id != member.member_id
        return group.state is COMPLETING_REBALANCE

    def _is_told_members(self, group: Group, member: Member) -> bool:
        return group.state is COMPLETING_REBALANCE and group.leader_id == member.member_id

    def _park_join(self, group: Group, member: Member, request: JoinRequest, ticket: Any) -> None:
        group.update(member, request.protocols, request.rebalance_timeout_ms, request.session_timeout_ms)
        former = group.set_join_ticket(member, ticket)
        if former is not None:
            self._refuse_join(former, member.member_id, ErrorCode.REBALANCE_IN_PROGRESS)

    def _add(self, group: Group, member_id: str, request: JoinRequest, ticket: Any, now: Now) -> None:
        member = Member(
            member_id, request.instance_id, request.client_id, request.client_host,
            request.rebalance_timeout_ms, request.session_timeout_ms, request.protocol_type, request.protocols,
        )  # fmt: skip
        member.is_new = True
        if group.state is PREPARING_REBALANCE and group.generation_id == 0:
            group.new_member_added = True
        group.add(member)
        group.set_join_ticket(member, ticket)
        self._timers.cancel((Deadline.PENDING_MEMBER, group, member_id))
        self._set_session(group, member, now, NEW_MEMBER_JOIN_TIMEOUT_MS)
        self._maybe_prepare(group, f"new member {member_id}: {request.reason or 'no reason given'}", now)

    def _replace_static(
        self, group: Group, instance_id: str, old_id: str, new_id: str, request: JoinRequest, ticket: Any,
        now: Now,
    ) -> None:  # fmt: skip
        """A static member has come back under a new id; the old one is fenced (behaviour 55)."""
        leader_before = group.leader_id
        member = group.replace_static(instance_id, old_id, new_id)
        self._timers.cancel((Deadline.SESSION, group, old_id))
        before = (member.protocols, member.rebalance_timeout_ms, member.session_timeout_ms)
        self._answer_join(group, member, JoinResult(old_id, ErrorCode.FENCED_INSTANCE_ID))
        self._answer_sync(member, SyncResult(ErrorCode.FENCED_INSTANCE_ID))
        self._set_session(group, member, now)
        self._park_join(group, member, request, ticket)
        if group.state is STABLE and group.select_protocol() == group.protocol_name:
            assignment = {each.member_id: each.assignment for each in group.members.values()}
            stored = StaticMemberStored(
                group, instance_id, old_id, new_id, *before, leader_before, request.can_skip_assignment
            )
            self._store(group, assignment, stored)
        elif group.state in (STABLE, COMPLETING_REBALANCE):
            self._prepare(group, f"static member {instance_id} has come back as {new_id}", now)

    def static_member_stored(self, stored: StaticMemberStored, error: ErrorCode, now: Now) -> None:
        group, member = stored.group, stored.group.members.get(stored.new_member_id)
        if member is None or group.state is DEAD:
            return
        if error:
            result = JoinResult(NO_MEMBER, error, group.generation_id, group.protocol_type,
                                group.protocol_name, stored.leader_id)  # fmt: skip
            self._answer_join(group, member, result)
            group.update(member, stored.protocols, stored.rebalance_timeout_ms, stored.session_timeout_ms)
            self._timers.cancel((Deadline.SESSION, group, stored.new_member_id))
            group.replace_static(stored.instance_id, stored.new_member_id, stored.old_member_id)
            self._set_session(group, member, now)
            return
        if group.state is not STABLE:
            return  # a rebalance has begun; it answers
        if stored.can_skip_assignment:
            leads = group.leader_id == member.member_id
            members = tuple(group.member_list()) if leads else ()
            self._answer_join(group, member, _joined(group, member, members, skip_assignment=leads))
        else:
            result = _joined(group, member, ())._replace(leader_id=stored.leader_id)
            self._answer_join(group, member, result)

    # SyncGroup

    def sync(self, group: Group, request: SyncRequest, ticket: Any, now: Now) -> None:
        error = self._sync_error(group, request)
        if error:
            self._effects.append(Reply(ticket, SyncResult(error)))
            return
        member = group.members[request.member_id]
        group.pending_sync.discard(member.member_id)
        self._maybe_end_sync(group)
        if group.state is STABLE:
            result = SyncResult(
                ErrorCode.NONE, group.protocol_type, group.protocol_name, member.assignment
            )
            self._effects.append(Reply(ticket, result))
            self._set_session(group, member, now)
            return
        self._answer_sync(member, SyncResult(ErrorCode.REBALANCE_IN_PROGRESS))
        member.sync_ticket = ticket
        if group.leader_id == member.member_id:
            assignment = {each: request.assignments.get(each, b"") for each in group.members}
            self._store(group, assignment, AssignmentStored(group, group.generation_id, assignment))

    def _sync_error(self, group: Group, request: SyncRequest) -> ErrorCode:
        if group.state is DEAD:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        error = validate_member(group, request.member_id, request.instance_id)
        if error:
            return error
        if request.generation_id != group.generation_id:
            return ErrorCode.ILLEGAL_GENERATION
        if request.protocol_type not in (None, group.protocol_type):
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if request.protocol_name not in (None, group.protocol_name):
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if group.state is EMPTY:
            return ErrorCode.UNKNOWN_MEMBER_ID
        return ErrorCode.REBALANCE_IN_PROGRESS if group.state is PREPARING_REBALANCE else ErrorCode.NONE

    def assignment_stored(self, stored: AssignmentStored, error: ErrorCode, now: Now) -> None:
        """Only now do members hear of their assignment (behaviour 59)."""
        group = stored.group
        if group.state is not COMPLETING_REBALANCE or group.generation_id != stored.generation_id:
            return
        if error:
            self._propagate_error(group, error, now)
            self._maybe_prepare(group, f"storing the assignment failed: {error.name}", now)
            return
        for member in group.members.values():
            member.assignment = stored.assignment.get(member.member_id, b"")
            result = SyncResult(
                ErrorCode.NONE, group.protocol_type, group.protocol_name, member.assignment
            )
            if self._answer_sync(member, result):
                self._set_session(group, member, now)
        group.transition(STABLE, now.wall_ms)

    def _propagate_error(self, group: Group, error: ErrorCode, now: Now) -> None:
        for member in group.members.values():
            member.assignment = b""
            if self._answer_sync(member, SyncResult(error)):
                self._set_session(group, member, now)

    # Heartbeat, LeaveGroup

    def heartbeat(
        self, group: Group, member_id: str, instance_id: str | None, generation_id: int, now: Now
    ) -> ErrorCode:
        if group.state is DEAD:
            return ErrorCode.COORDINATOR_NOT_AVAILABLE
        error = validate_member(group, member_id, instance_id)
        if error:
            return error
        if generation_id != group.generation_id:
            return ErrorCode.ILLEGAL_GENERATION
        if group.state is not EMPTY:
            self._set_session(group, group.members[member_id], now)
        return HEARTBEAT_ERRORS[group.state]

    def leave(self, group: Group, leaving: LeavingMember, now: Now) -> ErrorCode:
        """One member of the request; by instance id alone it is an administrator who removes it."""
        member_id = leaving.member_id
        if member_id == NO_MEMBER:
            if leaving.instance_id not in group.static_members:
                return ErrorCode.UNKNOWN_MEMBER_ID
            member_id = group.static_members[leaving.instance_id]
        elif member_id in group.pending_members:
            self._timers.cancel((Deadline.PENDING_MEMBER, group, member_id))
            self._remove_pending(group, member_id, now)
            return ErrorCode.NONE
        else:
            error = validate_member(group, member_id, leaving.instance_id)
            if error:
                return error
        reason = f"member {member_id} leaves: {leaving.reason or 'no reason given'}"
        self._remove(group, group.members[member_id], reason, now)
        return ErrorCode.NONE

    def _remove(self, group: Group, member: Member, reason: str, now: Now) -> None:
        self._answer_join(group, member, JoinResult(NO_MEMBER, ErrorCode.UNKNOWN_MEMBER_ID))
        self._answer_sync(member, SyncResult(ErrorCode.UNKNOWN_MEMBER_ID))
        group.remove(member.member_id)
        self._timers.cancel((Deadline.SESSION, group, member.member_id))
        if group.state in (STABLE, COMPLETING_REBALANCE):
            self._maybe_prepare(group, reason, now)
        elif group.state is PREPARING_REBALANCE:
            self._maybe_complete_join(group, now)

    def _remove_pending(self, group: Group, member_id: str, now: Now) -> None:
        group.remove(member_id)
        if group.state is PREPARING_REBALANCE:
            self._maybe_complete_join(group, now)

    # Deadlines

    def expire(self, key: TimerKey, now: Now) -> None:
        """A deadline that `Timers.take_due` has returned."""
        kind, group, member_id = key
        if group.state is DEAD:
            return
        if kind is Deadline.JOIN:
            self._join_time_is_up(group, now)
        elif kind is Deadline.SYNC:
            self._sync_time_is_up(group, now)
        elif kind is Deadline.PENDING_MEMBER:
            if member_id in group.pending_members:
                self._remove_pending(group, member_id, now)
        else:
            member = group.members.get(member_id)
            if member is not None and (member.is_new or not member.is_parked):
                self._remove(group, member, f"member {member_id} has not been heard of in time", now)

    def _join_time_is_up(self, group: Group, now: Now) -> None:
        if group.state is not PREPARING_REBALANCE:
            return
        remaining = group.initial_join_remaining_ms
        if remaining and group.new_member_added:
            group.new_member_added = False
            delay = min(self._limits.initial_rebalance_delay_ms, remaining)
            group.initial_join_remaining_ms = max(remaining - group.initial_join_delay_ms, 0)
            group.initial_join_delay_ms = delay
            self._timers.set((Deadline.JOIN, group, ""), now.monotonic_ms + delay)
            return
        self._complete_join(group, now)

    def _sync_time_is_up(self, group: Group, now: Now) -> None:
        """Members that were told of a generation and never asked for their assignment are out."""
        if group.state not in (COMPLETING_REBALANCE, STABLE) or not group.pending_sync:
            return
        silent = sorted(group.pending_sync)
        for member_id in silent:
            group.remove(member_id)
            self._timers.cancel((Deadline.SESSION, group, member_id))
        self._prepare(group, f"no SyncGroup came from {', '.join(silent)}", now)

    def loaded(self, group: Group, now: Now) -> None:
        """A group from the log: its members have a session time-out to be heard of."""
        if len(group.members) > self._limits.member_count_max:
            self._prepare(group, f"it has more members than group.max.size "
                                 f"{self._limits.member_count_max}", now)  # fmt: skip
        for member in tuple(group.members.values()):
            self._set_session(group, member, now)

    def unload(self, group: Group, error: ErrorCode, now: Now) -> None:
        """The group is not here any more: whoever is parked looks for its new coordinator."""
        group.transition(DEAD, now.wall_ms)
        for member in group.members.values():
            self._answer_join(group, member, JoinResult(member.member_id, error))
            self._answer_sync(member, SyncResult(error))
            self._timers.cancel((Deadline.SESSION, group, member.member_id))
        for member_id in group.pending_members:
            self._timers.cancel((Deadline.PENDING_MEMBER, group, member_id))
        self._timers.cancel((Deadline.JOIN, group, ""))
        self._timers.cancel((Deadline.SYNC, group, ""))

    # Rebalancing

    def _maybe_prepare(self, group: Group, reason: str, now: Now) -> None:
        if group.can_rebalance:
            self._prepare(group, reason, now)

    def _prepare(self, group: Group, reason: str, now: Now) -> None:
        """Have everybody join again. The first rebalance of an empty group waits for company (behaviour 56)."""
        if group.state is COMPLETING_REBALANCE:
            self._propagate_error(group, ErrorCode.REBALANCE_IN_PROGRESS, now)
        group.pending_sync.clear()
        self._maybe_end_sync(group)
        is_initial = group.state is EMPTY
        group.transition(PREPARING_REBALANCE, now.wall_ms)
        self._effects.append(Note(f"group {group.group_id!r} rebalances after generation "
                                  f"{group.generation_id}: {reason}"))  # fmt: skip
        if is_initial:
            delay = self._limits.initial_rebalance_delay_ms
            group.initial_join_delay_ms = delay
            group.initial_join_remaining_ms = max(group.rebalance_timeout_ms - delay, 0)
            self._timers.set((Deadline.JOIN, group, ""), now.monotonic_ms + delay)
        else:
            group.initial_join_remaining_ms = None
            self._timers.set((Deadline.JOIN, group, ""), now.monotonic_ms + group.rebalance_timeout_ms)
            self._maybe_complete_join(group, now)

    def _maybe_complete_join(self, group: Group, now: Now) -> None:
        """As soon as everybody is there, unless the initial delay is what is waited for."""
        if group.initial_join_remaining_ms is None and group.all_have_joined:
            self._complete_join(group, now)

    def _complete_join(self, group: Group, now: Now) -> None:
        for member in tuple(group.members.values()):
            if member.join_ticket is None and not member.is_static:
                group.remove(member.member_id)
                self._timers.cancel((Deadline.SESSION, group, member.member_id))
        if not group.elect_joined_leader() and group.members:
            # Static members that nobody has heard of; their sessions decide.
            self._timers.set((Deadline.JOIN, group, ""), now.monotonic_ms + group.rebalance_timeout_ms)
            group.initial_join_remaining_ms = None
            return
        self._timers.cancel((Deadline.JOIN, group, ""))
        group.initial_join_remaining_ms = None
        if group.members:
            self._begin_generation(group, now)
        else:
            group.begin_generation(EMPTY, now.wall_ms)
            self._effects.append(Note(f"group {group.group_id!r} is empty in generation {group.generation_id}"))
            self._store(group, {}, EmptyGroupStored(group))

    def _begin_generation(self, group: Group, now: Now) -> None:
        group.begin_generation(COMPLETING_REBALANCE, now.wall_ms)
        self._effects.append(Note(f"group {group.group_id!r} has {len(group.members)} members in generation "
                                  f"{group.generation_id}"))  # fmt: skip
        everybody = tuple(group.member_list())
        for member in group.members.values():
            leads = group.leader_id == member.member_id
            self._answer_join(group, member, _joined(group, member, everybody if leads else ()))
            self._set_session(group, member, now)
            member.is_new = False
            group.pending_sync.add(member.member_id)
        self._timers.set((Deadline.SYNC, group, ""), now.monotonic_ms + group.rebalance_timeout_ms)

    def _maybe_end_sync(self, group: Group) -> None:
        if not group.pending_sync:
            self._timers.cancel((Deadline.SYNC, group, ""))

    # Small things

    def _set_session(self, group: Group, member: Member, now: Now, timeout_ms: int | None = None) -> None:
        timeout_ms = member.session_timeout_ms if timeout_ms is None else timeout_ms
        self._timers.set((Deadline.SESSION, group, member.member_id), now.monotonic_ms + timeout_ms)

    def extend_session(self, group: Group, member_id: str, now: Now) -> None:
        self._set_session(group, group.members[member_id], now)

    def _answer_join(self, group: Group, member: Member, result: JoinResult) -> None:
        ticket = group.set_join_ticket(member, None)
        if ticket is not None:
            self._effects.append(Reply(ticket, result))

    def _answer_sync(self, member: Member, result: SyncResult) -> bool:
        """Whether there was a request to answer."""
        ticket, member.sync_ticket = member.sync_ticket, None
        if ticket is None:
            return False
        self._effects.append(Reply(ticket, result))
        return True

    def _store(self, group: Group, assignment: Mapping[str, bytes], continuation: Any) -> None:
        record = group_record(group, assignment, self._versions)
        self._effects.append(Append(self._partition_of(group.group_id), [record], continuation))


def validate_member(group: Group, member_id: str, instance_id: str | None) -> ErrorCode:
    """Whether a request comes from a member, and from the one that an instance id stands for (behaviour 55)."""
    if instance_id is not None:
        current = group.static_members.get(instance_id)
        if current is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        return ErrorCode.NONE if current == member_id else ErrorCode.FENCED_INSTANCE_ID
    return ErrorCode.NONE if member_id in group.members else ErrorCode.UNKNOWN_MEMBER_ID


def _joined(
    group: Group, member: Member, members: tuple[tuple[str, str | None, bytes], ...],
    skip_assignment: bool = False,
) -> JoinResult:  # fmt: skip
    return JoinResult(
        member.member_id, ErrorCode.NONE, group.generation_id, group.protocol_type, group.protocol_name,
        group.leader_id, skip_assignment, members,
    )  # fmt: skip
