"""Reading a partition of a coordinator's topic from its beginning, decoded by a helper, chunk by chunk.

Why a helper: a log of a busy cluster has millions of records, and decoding costs microseconds each; the loop
only sees what is left of every chunk, and others get their turn in between.
Why the end is taken first: nobody but the coordinator appends to these logs, and it waits until it is loaded; what
a transaction's marker adds meanwhile comes to it directly.
Runs in: front end, in a task of its own. No state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from broker.log_dirs.helper_link import HelperLink, HelperUnavailableError
from broker.log_dirs.segments import SegmentReaders
from broker.replica.marks import LogPosition
from broker.replica.partition import Partition

NO_SEGMENT = -1
TURN_ENTRIES = 500
"""Some milliseconds of the loop, then others get their turn."""


class LogLoader:
    """chunk_size_bytes: of the file, for one request to the helper (offsets.load.buffer.size)."""

    def __init__(self, segments: SegmentReaders, helpers: HelperLink, chunk_size_bytes: int) -> None:
        self._segments = segments
        self._helpers = helpers
        self._chunk_size_bytes = chunk_size_bytes

    async def read(self, partition: Partition, apply: Callable[[list[Any]], None]) -> list[str]:
        """Hand every entry up to the log's end to `apply`, in order; what could not be decoded, as text.

        Raises HelperUnavailableError, OSError, and what the segment readers raise of a damaged log.
        """
        end = partition.marks.log_end
        damaged: list[str] = []
        if partition.log_start_offset >= end.offset:
            return damaged
        base, position = await self._patiently(
            partition, lambda: self._segments.reader(partition).locate(
                partition.log_start_offset, end.offset, end.segment_base, end.position))  # fmt: skip
        while base != NO_SEGMENT:
            damaged += await self._read_segment(partition, base, position, end, apply)
            base, position = await self._next_segment(partition, base, end), 0
        return damaged

    async def _next_segment(self, partition: Partition, base: int, end: LogPosition) -> int:
        following = await self._patiently(
            partition, lambda: self._segments.reader(partition).segments_from(base + 1))  # fmt: skip
        return following[0] if following and following[0] <= end.segment_base else NO_SEGMENT

    async def _read_segment(
        self, partition: Partition, base: int, position: int, end: LogPosition,
        apply: Callable[[list[Any]], None],
    ) -> list[str]:  # fmt: skip
        damaged: list[str] = []
        file = await self._patiently(partition, lambda: self._segments.reader(partition).descriptor(base))
        try:
            limit = end.position if base == end.segment_base else file.size_bytes()
            while position < limit:
                entries, position, undecodable = await self._chunk(file.fd, position, limit)
                damaged += [f"{base:020d}.log at {where}" for where in undecodable]
                for start in range(0, len(entries), TURN_ENTRIES):
                    apply(entries[start : start + TURN_ENTRIES])
                    await trio.lowlevel.checkpoint()
        finally:
            file.release()
        return damaged

    async def _chunk(self, fd: int, position: int, limit: int) -> tuple[list[Any], int, list[int]]:
        message = {
            "kind": "read_records", "start_position": position, "limit": limit,
            "size_bytes_max": self._chunk_size_bytes,
        }  # fmt: skip
        answer = await self._helpers.ask(message, [fd])
        if answer["kind"] != "answer":
            raise HelperUnavailableError(str(answer.get("message")))
        entries, next_position, undecodable = answer["result"]
        return entries, next_position, undecodable

    async def _patiently(self, partition: Partition, look_up: Callable[[], Any]) -> Any:
        return await self._segments.patiently(partition.directory_index, look_up)
