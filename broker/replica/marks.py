"""Sparse (offset, segment, position) marks of one partition's recent end.

What: where in the segment files the last few log ends lie, as learnt from append completions, so that
a fetch near the end of the log needs no index look-up and no read at all.
Why bounded: with followers behind, the high watermark trails the log end by an unbounded amount; 64
marks cover the live tail, anything older goes through the offset index (REVIEW item 9).
Runs in: front end. Owner: the partition that holds it. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

MARKS_MAX = 64


class LogPosition(NamedTuple):
    """An offset and where its batch starts: `position` bytes into the segment that begins at `segment_base`."""

    offset: int
    segment_base: int
    position: int


class PositionMarks:
    """Ascending marks; the newest is the log end. Adding beyond MARKS_MAX forgets every second old one."""

    __slots__ = ("_marks", "_offsets")

    def __init__(self, log_end: LogPosition) -> None:
        self._marks = [log_end]
        self._offsets = [log_end.offset]

    @property
    def log_end(self) -> LogPosition:
        return self._marks[-1]

    def advance(self, log_end: LogPosition) -> None:
        """Take a later log end; a mark at the same offset is replaced (a roll moves it to a new segment)."""
        offsets = self._offsets
        if offsets[-1] == log_end.offset:
            self._marks[-1] = log_end
            return
        self._marks.append(log_end)
        offsets.append(log_end.offset)
        if len(offsets) > MARKS_MAX:
            self._marks[:-1] = self._marks[:-1:2]
            offsets[:-1] = offsets[:-1:2]

    def reset(self, log_end: LogPosition) -> None:
        """After truncation or a change of leader: nothing older may be trusted."""
        self._marks = [log_end]
        self._offsets = [log_end.offset]

    def forget_other_segments(self) -> None:
        """Names have changed: of all but the newest segment the bytes may be others now (compaction)."""
        base = self._marks[-1].segment_base
        kept = [mark for mark in self._marks if mark.segment_base == base]
        if len(kept) < len(self._marks):
            self._marks = kept
            self._offsets = [mark.offset for mark in kept]

    def exact(self, offset: int) -> LogPosition | None:
        """The mark of exactly this offset, if kept."""
        if offset == self._offsets[-1]:
            return self._marks[-1]
        index = bisect_right(self._offsets, offset) - 1
        if index >= 0 and self._offsets[index] == offset:
            return self._marks[index]
        return None
