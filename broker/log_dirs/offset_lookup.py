"""Offsets by time: which record is the first at or after a timestamp, which has the largest.

What: finds segment and position through the time index, asks a helper to decode the batches from there.
Runs in: front end, in the asking connection's task.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from broker.log_dirs.helper_link import HelperLink, HelperUnavailableError
from broker.log_dirs.segments import SegmentReaders
from broker.replica.partition import Partition
from storage.reader.partition_reader import Location

NOT_FOUND_OFFSET = -1
NO_TIMESTAMP = -1
NO_SEGMENT = -1


class FoundOffset(NamedTuple):
    """offset -1: no such record (no error, behaviour 50)."""

    offset: int
    timestamp: int
    leader_epoch: int


NOT_FOUND = FoundOffset(NOT_FOUND_OFFSET, NO_TIMESTAMP, -1)


class OffsetLookup:
    """Look-ups in one partition. Raise HelperUnavailableError, CorruptLogError, OSError."""

    def __init__(self, segments: SegmentReaders, helpers: HelperLink, partition: Partition) -> None:
        self._segments = segments
        self._helpers = helpers
        self._partition = partition

    async def first_at_or_after(self, timestamp: int, end_offset: int) -> FoundOffset:
        """First record with time >= `timestamp` and offset below `end_offset`."""
        start_offset = self._partition.log_start_offset
        after_base = NO_SEGMENT
        while True:
            location = await self._patiently_candidate(timestamp, start_offset, after_base)
            if location is None:
                return NOT_FOUND
            found = await self._decode("timestamp_lookup", location, timestamp, start_offset)
            if found.offset >= 0:
                return found if found.offset < end_offset else NOT_FOUND
            after_base = location.segment_base

    async def of_max_timestamp(self, end_offset: int) -> FoundOffset:
        """First record that carries the largest timestamp of the log (ListOffsets -3)."""
        end = self._partition.marks.log_end
        best = await self._segments.patiently(
            self._partition.directory_index,
            lambda: self._reader().max_timestamp_candidate(end.segment_base, end.position),
        )
        if best is None:
            return NOT_FOUND
        location = Location(best.segment_base, best.position)
        found = await self._decode("max_timestamp_lookup", location, best.timestamp, 0)
        return found if 0 <= found.offset < end_offset else NOT_FOUND

    def _reader(self) -> Any:
        return self._segments.reader(self._partition)

    async def _patiently_candidate(
        self, timestamp: int, start_offset: int, after_base: int
    ) -> Location | None:
        return await self._segments.patiently(
            self._partition.directory_index,
            lambda: self._reader().time_candidates(timestamp, start_offset, after_base),
        )

    async def _decode(
        self, kind: str, location: Location, timestamp: int, start_offset: int
    ) -> FoundOffset:
        end = self._partition.marks.log_end
        limit = end.position
        if location.segment_base != end.segment_base:
            limit = self._reader().segment_size(location.segment_base)
        message = {
            "kind": kind,
            "start_position": location.position,
            "limit": limit,
            "timestamp": timestamp,
            "starting_offset": start_offset,
        }
        segment = self._reader().descriptor(location.segment_base)
        try:
            answer = await self._helpers.ask(message, [segment.fd])
        finally:
            segment.release()
        if answer["kind"] != "answer":
            raise HelperUnavailableError(str(answer.get("message")))
        offset, found_timestamp, leader_epoch = answer["result"][:3]
        return FoundOffset(offset, found_timestamp, leader_epoch)
