"""A classic group's memory: members, protocols, generation, state. PURE.

What: the data and the rules that keep it consistent; when which change is due is decided in `rebalance` and
`commits`, which are the only callers of the mutators, beside loading.
Names and rules are those of Kafka's GroupMetadata, so that what is written can be read there and the reverse.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from broker.coordinators.group.member import Member, Protocols
from broker.coordinators.group.offsets import OffsetTable
from broker.coordinators.group.states import (
    EMPTY,
    MAY_FOLLOW,
    PREPARING_REBALANCE,
    GroupState,
    IllegalTransitionError,
)
from broker.coordinators.group.subscription import CONSUMER_PROTOCOL_TYPE, subscribed_topics


class Group:
    """state_timestamp_ms: wall clock of the last change of state, None when a record did not tell.

    pending_members: ids handed out with MEMBER_ID_REQUIRED and not used yet. pending_sync: members that have
    not sent SyncGroup in this generation. subscribed: topics of a consumer group's members, None when they
    are not known (then everything counts as subscribed). joined_count: members with a parked JoinGroup.
    initial_join_remaining_ms: during the first rebalance of an empty group, how much further it may be put off.
    """

    def __init__(self, group_id: str, state_timestamp_ms: int | None = None) -> None:
        self.group_id = group_id
        self.state = EMPTY
        self.state_timestamp_ms = state_timestamp_ms
        self.protocol_type: str | None = None
        self.protocol_name: str | None = None
        self.generation_id = 0
        self.leader_id: str | None = None
        self.members: dict[str, Member] = {}
        self.static_members: dict[str, str] = {}
        self.pending_members: set[str] = set()
        self.pending_sync: set[str] = set()
        self.subscribed: frozenset[str] | None = None
        self.new_member_added = False
        self.initial_join_remaining_ms: int | None = None
        self.initial_join_delay_ms = 0
        self.offsets = OffsetTable()
        self.joined_count = 0
        self._protocol_counts: Counter[str] = Counter()

    def transition(self, state: GroupState, wall_ms: int) -> None:
        if state not in MAY_FOLLOW[self.state]:
            raise IllegalTransitionError(f"group {self.group_id!r}: {state.value} after {self.state.value}")
        self.state = state
        self.state_timestamp_ms = wall_ms

    # Members

    def add(self, member: Member) -> None:
        if member.instance_id is not None:
            self.static_members[member.instance_id] = member.member_id
        if not self.members:
            self.protocol_type = member.protocol_type
        if self.leader_id is None:
            self.leader_id = member.member_id
        self.members[member.member_id] = member
        self._count(member.protocols, 1)
        self.pending_members.discard(member.member_id)

    def remove(self, member_id: str) -> None:
        """A member or an id that was handed out; the leadership goes to anybody who is left."""
        member = self.members.pop(member_id, None)
        if member is not None:
            self.set_join_ticket(member, None)
            self._count(member.protocols, -1)
            if member.instance_id is not None:
                self.static_members.pop(member.instance_id, None)
        if self.leader_id == member_id:
            self.leader_id = next(iter(self.members), None)
        self.pending_members.discard(member_id)
        self.pending_sync.discard(member_id)

    def replace_static(self, instance_id: str, old_member_id: str, new_member_id: str) -> Member:
        """The same member under another id; its place in the group and the leadership stay."""
        member = self.members.pop(old_member_id)
        member.member_id = new_member_id
        self.members[new_member_id] = member
        if self.leader_id == old_member_id:
            self.leader_id = new_member_id
        self.static_members[instance_id] = new_member_id
        if old_member_id in self.pending_sync:
            self.pending_sync.discard(old_member_id)
            self.pending_sync.add(new_member_id)
        return member

    def update(
        self, member: Member, protocols: Protocols, rebalance_timeout_ms: int, session_timeout_ms: int
    ) -> None:
        self._count(member.protocols, -1)
        member.protocols = protocols
        self._count(protocols, 1)
        member.rebalance_timeout_ms = rebalance_timeout_ms
        member.session_timeout_ms = session_timeout_ms

    def _count(self, protocols: Protocols, by: int) -> None:
        for name, _ in protocols:
            self._protocol_counts[name] += by
            if not self._protocol_counts[name]:
                del self._protocol_counts[name]

    def set_join_ticket(self, member: Member, ticket: Any) -> Any:
        """The parked JoinGroup of a member, or None; returns the one that it takes the place of."""
        former = member.join_ticket
        self.joined_count += (ticket is not None) - (former is not None)
        member.join_ticket = ticket
        return former

    @property
    def all_have_joined(self) -> bool:
        return not self.pending_members and self.joined_count == len(self.members)

    @property
    def rebalance_timeout_ms(self) -> int:
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    def elect_joined_leader(self) -> bool:
        """Whether the leader, or somebody in its place, has joined; False also without any member."""
        if self.leader_id is None:
            return False
        if self.members[self.leader_id].join_ticket is not None:
            return True
        for member in self.members.values():
            if member.join_ticket is not None:
                self.leader_id = member.member_id
                return True
        return False

    # Protocols

    def supports(self, protocol_type: str, protocols: Protocols) -> bool:
        """Whether a member with these may be in the group (behaviour 58)."""
        if self.state is EMPTY:
            return bool(protocol_type) and bool(protocols)
        return self.protocol_type == protocol_type and any(
            self._protocol_counts[name] == len(self.members) for name, _ in protocols
        )

    def select_protocol(self) -> str:
        """The one with the most votes of those that everybody speaks; of equals, the first voted for."""
        count = len(self.members)
        candidates = {name for name, speakers in self._protocol_counts.items() if speakers == count}
        votes = Counter(member.vote(candidates) for member in self.members.values())
        return votes.most_common(1)[0][0]

    @property
    def is_consumer_group(self) -> bool:
        return self.protocol_type == CONSUMER_PROTOCOL_TYPE

    def compute_subscribed(self) -> frozenset[str] | None:
        if not self.is_consumer_group:
            return None
        if not self.members:
            return frozenset()
        if self.protocol_name is None:
            return None
        return subscribed_topics(member.metadata(self.protocol_name) for member in self.members.values())

    def is_subscribed_to(self, topic: str) -> bool:
        return self.subscribed is None or topic in self.subscribed

    # Generations

    def begin_generation(self, next_state: GroupState, wall_ms: int) -> None:
        """CompletingRebalance with a protocol, or Empty without."""
        self.generation_id += 1
        self.protocol_name = self.select_protocol() if self.members else None
        self.subscribed = self.compute_subscribed()
        self.transition(next_state, wall_ms)
        self.pending_sync.clear()

    # Views

    def member_list(self) -> list[tuple[str, str | None, bytes]]:
        """(member id, instance id, metadata) for the leader."""
        return [
            (member.member_id, member.instance_id, member.metadata(self.protocol_name))
            for member in self.members.values()
        ]

    @property
    def can_rebalance(self) -> bool:
        return PREPARING_REBALANCE in MAY_FOLLOW[self.state]
