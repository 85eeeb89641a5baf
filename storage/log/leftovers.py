"""Files that an interrupted deletion, compaction or split has left in a partition directory.

Runs in: storage (a loading thread), before the partition's segments are opened. No state.
Steps and order are those of Kafka's LogLoader (storage/FORMAT.md, "Leftovers").
"""
from __future__ import annotations

from dataclasses import dataclass

from storage.errors import CorruptLogError
from storage.fs import FileLayer
from storage.log.file_names import (
    CLEANED_SUFFIX,
    DELETED_SUFFIX,
    INDEX_SUFFIXES,
    LOG_SUFFIX,
    SNAPSHOT_SUFFIX,
    SWAP_SUFFIX,
    offset_of_file_name,
    segment_file_name,
)
from storage.log.load_report import LoadReport
from storage.log.state_rebuild import Scan


@dataclass(frozen=True, slots=True)
class _Directory:
    path: str
    files: FileLayer
    report: LoadReport

    def names(self) -> list[str]:
        return [entry.name for entry in self.files.list_directory(self.path) if not entry.is_directory]

    def remove(self, name: str, why: str) -> None:
        path = f"{self.path}/{name}"
        if self.files.unlink(path):
            self.report.repaired(path, f"removed: {why}")


def settle_leftovers(path: str, files: FileLayer, scan: Scan, report: LoadReport) -> set[str]:
    """Finish or undo what was interrupted; the names of the files that are there afterwards, all plain.

    1. `.deleted` goes. 2. `.cleaned` is unfinished output: it goes, and with it every `.swap` at or above the
    lowest of them (a split that had not got far enough). 3. The other `.swap` files are finished output: the
    plain segments they replace go, then the suffix comes off.
    """
    directory = _Directory(path, files, report)
    names = directory.names()
    if not any(name.endswith((DELETED_SUFFIX, CLEANED_SUFFIX, SWAP_SUFFIX)) for name in names):
        return set(names)
    for name in names:
        if name.endswith(DELETED_SUFFIX):
            directory.remove(name, "its deletion had been scheduled")
    cleaned = [name for name in names if name.endswith(CLEANED_SUFFIX)]
    lowest = min((_offset(path, name) for name in cleaned), default=None)
    swaps = []
    for name in (name for name in names if name.endswith(SWAP_SUFFIX)):
        if lowest is not None and _offset(path, name) >= lowest:
            directory.remove(name, "part of an unfinished split")
        else:
            swaps.append(name)
    for name in cleaned:
        directory.remove(name, "unfinished output of the cleaner")
    if swaps:
        _swap_in(directory, swaps, scan)
    return set(directory.names())


def _offset(path: str, name: str) -> int:
    offset = offset_of_file_name(name)
    if offset is None:
        raise CorruptLogError(f"{path}/{name}", 0, "the name of this leftover holds no offset")
    return offset


def _swap_in(directory: _Directory, swaps: list[str], scan: Scan) -> None:
    extents = []
    for name in swaps:
        if name.endswith(LOG_SUFFIX + SWAP_SUFFIX):
            base_offset = _offset(directory.path, name)
            scanned = scan(f"{directory.path}/{name}", 0, base_offset, 1 << 30, verify_crc=False)
            extents.append((base_offset, scanned.next_offset))
    if extents:
        start, end = min(base for base, _ in extents), max(end for _, end in extents)
        bases = {base for base, _ in extents}  # an empty segment covers no offset, but takes its name
        for name in directory.names():
            offset = offset_of_file_name(name)
            if not name.endswith((SWAP_SUFFIX, SNAPSHOT_SUFFIX)) and offset is not None and (
                    start <= offset < end or offset in bases):
                directory.remove(name, "replaced by compacted segments")
    for name in swaps:
        path = f"{directory.path}/{name}"
        directory.files.rename(path, path.removesuffix(SWAP_SUFFIX))
        directory.report.repaired(path, "an interrupted swap was finished")
    directory.files.fsync_directory(directory.path)


def remove_orphan_indexes(path: str, names: set[str], files: FileLayer, report: LoadReport) -> set[str]:
    """Index files whose `.log` is gone are removed; the names that are left."""
    directory = _Directory(path, files, report)
    orphans = set()
    for name in names:
        offset = offset_of_file_name(name)
        if (name.endswith(INDEX_SUFFIXES) and offset is not None
                and segment_file_name(offset, LOG_SUFFIX) not in names):
            directory.remove(name, "an index without its log")
            orphans.add(name)
    return names - orphans
