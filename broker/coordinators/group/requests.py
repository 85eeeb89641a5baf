"""What the coordinator is asked and what it answers, without versions and bytes. PURE."""

from __future__ import annotations

from typing import NamedTuple

from broker.coordinators.group.member import Protocols
from broker.protocol.errors import ErrorCode

NO_MEMBER = ""
NO_GENERATION = -1


class JoinRequest(NamedTuple):
    """needs_known_id: the client understands MEMBER_ID_REQUIRED (v4+, not for static members).
    can_skip_assignment: v9+."""

    group_id: str
    member_id: str
    instance_id: str | None
    needs_known_id: bool
    can_skip_assignment: bool
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    protocol_type: str
    protocols: Protocols
    reason: str = ""


class JoinResult(NamedTuple):
    """members: (member id, instance id, metadata), for the leader only."""

    member_id: str
    error: ErrorCode
    generation_id: int = NO_GENERATION
    protocol_type: str | None = None
    protocol_name: str | None = None
    leader_id: str | None = None
    skip_assignment: bool = False
    members: tuple[tuple[str, str | None, bytes], ...] = ()


class SyncRequest(NamedTuple):
    """protocol_type, protocol_name: None before v5, where they are not checked."""

    group_id: str
    generation_id: int
    member_id: str
    instance_id: str | None
    protocol_type: str | None
    protocol_name: str | None
    assignments: dict[str, bytes]


class SyncResult(NamedTuple):
    error: ErrorCode
    protocol_type: str | None = None
    protocol_name: str | None = None
    assignment: bytes = b""


class LeavingMember(NamedTuple):
    member_id: str
    instance_id: str | None
    reason: str = ""


class Committer(NamedTuple):
    """Who commits: nobody in particular (a simple consumer, the admin client), or a member."""

    member_id: str = NO_MEMBER
    instance_id: str | None = None
    generation_id: int = NO_GENERATION
