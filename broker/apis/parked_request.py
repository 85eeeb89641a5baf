"""A request of a group that may have to wait for others: JoinGroup, SyncGroup, OffsetCommit.

What: the ticket that the coordinator answers, now or later. Answered while its handler is still running, the answer
leaves as the handler's own; later, through the connection.
Why nothing happens to the group when the connection goes: Kafka does not notice either, the session time-out does.
Runs in: front end. Owner: the coordinator's memory, until it is answered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from broker.network.connection import Answer, Connection

log = logging.getLogger(__name__)


class ParkedRequest:
    """encode: makes the frame of the result."""

    __slots__ = ("_connection", "_encode", "_frame", "_is_abandoned", "_is_parked")

    def __init__(self, connection: Connection, encode: Callable[[Any], bytes]) -> None:
        self._connection = connection
        self._encode = encode
        self._frame: bytes | None = None
        self._is_parked = False
        self._is_abandoned = False

    def answer(self, result: Any) -> None:
        """Once."""
        if self._is_abandoned:
            return
        try:
            frame = self._encode(result)
        except Exception:
            # The coordinator may be answering many at once, from a timer: one bad answer is one connection's end.
            log.exception("Closing connection from %s: its answer cannot be encoded", self._connection.peer_host)
            self._connection.close()
            return
        if self._is_parked:
            self._connection.answer(frame)
        else:
            self._frame = frame

    def frame_or_park(self) -> Answer:
        """For the handler to return: the answer if there is one already."""
        if self._frame is None and not self._connection.closed:
            self._is_parked = True
            self._connection.parked = self
        return self._frame

    def abandon(self) -> None:
        """The connection is gone."""
        self._is_abandoned = True
