"""The states of a classic group: transitions and, per state, what a member is told. PURE.

| state | meaning |
|---|---|
| Empty | no members; keeps committed offsets until they expire |
| PreparingRebalance | members are being waited for: JoinGroup is parked |
| CompletingRebalance | the leader's assignment is being waited for: SyncGroup is parked |
| Stable | everybody has an assignment |
| Dead | removed or moved away; the object is only still held by whoever was about to use it |
"""

from __future__ import annotations

from enum import Enum

from broker.protocol.errors import ErrorCode


class GroupState(Enum):
    """The value is the name that DescribeGroups and ListGroups show."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


EMPTY = GroupState.EMPTY
PREPARING_REBALANCE = GroupState.PREPARING_REBALANCE
COMPLETING_REBALANCE = GroupState.COMPLETING_REBALANCE
STABLE = GroupState.STABLE
DEAD = GroupState.DEAD

MAY_FOLLOW: dict[GroupState, frozenset[GroupState]] = {
    EMPTY: frozenset({PREPARING_REBALANCE, DEAD}),
    PREPARING_REBALANCE: frozenset({COMPLETING_REBALANCE, EMPTY, DEAD}),
    COMPLETING_REBALANCE: frozenset({STABLE, PREPARING_REBALANCE, DEAD}),
    STABLE: frozenset({PREPARING_REBALANCE, DEAD}),
    DEAD: frozenset({DEAD}),
}
"""state -> the states that it may be left for."""

HEARTBEAT_ERRORS = {
    EMPTY: ErrorCode.UNKNOWN_MEMBER_ID,
    PREPARING_REBALANCE: ErrorCode.REBALANCE_IN_PROGRESS,
    COMPLETING_REBALANCE: ErrorCode.NONE,
    STABLE: ErrorCode.NONE,
    DEAD: ErrorCode.COORDINATOR_NOT_AVAILABLE,
}
"""For a known member of the right generation (behaviour 60)."""

COMMIT_ERRORS = {
    EMPTY: ErrorCode.NONE,
    PREPARING_REBALANCE: ErrorCode.NONE,
    COMPLETING_REBALANCE: ErrorCode.REBALANCE_IN_PROGRESS,
    STABLE: ErrorCode.NONE,
    DEAD: ErrorCode.COORDINATOR_NOT_AVAILABLE,
}
"""OffsetCommit of a member of the right generation (behaviour 62)."""


class IllegalTransitionError(Exception):
    """Our own bug: a state that may not follow."""
