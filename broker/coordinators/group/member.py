"""One member of a classic group. PURE."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

Protocols = tuple[tuple[str, bytes], ...]
"""(name, metadata), the member's favourite first."""


class Member:
    """What a member told at its last JoinGroup, and which of its requests are parked.

    join_ticket, sync_ticket: the parked request, None when there is none. is_new: has not been through a
    completed rebalance yet, so that it knows neither its generation nor when to send heartbeats.
    """

    __slots__ = (
        "assignment", "client_host", "client_id", "instance_id", "is_new", "join_ticket", "member_id",
        "protocol_type", "protocols", "rebalance_timeout_ms", "session_timeout_ms", "sync_ticket",
    )  # fmt: skip

    def __init__(
        self, member_id: str, instance_id: str | None, client_id: str, client_host: str,
        rebalance_timeout_ms: int, session_timeout_ms: int, protocol_type: str, protocols: Protocols,
        assignment: bytes = b"",
    ) -> None:  # fmt: skip
        self.member_id = member_id
        self.instance_id = instance_id
        self.client_id = client_id
        self.client_host = client_host
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.session_timeout_ms = session_timeout_ms
        self.protocol_type = protocol_type
        self.protocols = protocols
        self.assignment = assignment
        self.join_ticket: Any = None
        self.sync_ticket: Any = None
        self.is_new = False

    @property
    def is_static(self) -> bool:
        return self.instance_id is not None

    @property
    def is_parked(self) -> bool:
        """While it waits for an answer of ours, it sends no heartbeats."""
        return self.join_ticket is not None or self.sync_ticket is not None

    def metadata(self, protocol_name: str | None) -> bytes:
        """What it said for that protocol; KeyError if it does not speak it."""
        for name, metadata in self.protocols:
            if name == protocol_name:
                return metadata
        raise KeyError(protocol_name)

    def vote(self, candidates: Container[str]) -> str:
        """Its favourite among protocols that all members speak."""
        return next(name for name, _ in self.protocols if name in candidates)
