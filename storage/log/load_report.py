"""What loading a partition found and did, for the log, for metrics and for tests.

Runs in: storage (a loading thread fills it, the writer thread reads it afterwards).
Corrupt data is reported with file, position and bytes lost; nothing is repaired in silence.
"""
from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Truncation:
    """Bytes taken off the end of a file, or a whole file removed (position 0).

    size_bytes: how many. is_zero_tail: all of them were zero: preallocated space, or, after a power cut,
    data that never reached the disk. Not counted as lost.
    """

    path: str
    position: int
    size_bytes: int
    what: str
    is_zero_tail: bool = False

    def __str__(self) -> str:
        kind = "cut zeros" if self.is_zero_tail else "truncated"
        return f"{self.path}: {kind} at byte {self.position}, {self.size_bytes} bytes: {self.what}"


@dataclass(frozen=True, slots=True)
class Repair:
    """Something put right that cost no batch: an index made anew, a leftover file removed."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(slots=True)
class LoadReport:
    """segments_scanned: verified batch by batch. bytes_scanned: of these, the bytes read.

    retired_paths: files renamed to `.deleted`, to be removed after the usual delay.
    """

    truncations: list[Truncation] = field(default_factory=list)
    repairs: list[Repair] = field(default_factory=list)
    retired_paths: list[str] = field(default_factory=list)
    segments_scanned: int = 0
    bytes_scanned: int = 0

    def truncated(self, path: str, position: int, size_bytes: int, what: str, *,
                  is_zero_tail: bool = False) -> None:
        self.truncations.append(Truncation(path, position, size_bytes, what, is_zero_tail))

    def repaired(self, path: str, what: str) -> None:
        self.repairs.append(Repair(path, what))

    @property
    def lost_size_bytes(self) -> int:
        return sum(each.size_bytes for each in self.truncations if not each.is_zero_tail)
