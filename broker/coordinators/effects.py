"""What a coordinator's decision asks of the world around it: answers and appends, as plain data. PURE.

A decision changes memory at once where Kafka does so before anything is stored (members, pending commits), and
leaves the rest to `appended`: what depends on a record happens when the record is in the log.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Record = tuple[bytes, bytes | None]
"""Key and value of a record of a coordinator's log; a value of None removes what the key names."""


class Now(NamedTuple):
    """monotonic_ms: for deadlines. wall_ms: since 1970, for what is kept and compared across restarts."""

    monotonic_ms: int
    wall_ms: int


class Reply(NamedTuple):
    """The answer to a request that was handed in with this ticket."""

    ticket: Any
    result: Any


class Append(NamedTuple):
    """Append these records as one batch to a partition of the coordinator's topic.

    continuation: goes to the coordinator's `appended` with the outcome; None if nobody waits for it.
    """

    partition: int
    records: list[Record]
    continuation: Any = None
    is_offset_commit: bool = False


class Note(NamedTuple):
    """A line for the log: what happened to a group and why."""

    text: str


Effect = Reply | Append | Note
