"""Which leader epoch wrote from which offset on, and the file `leader-epoch-checkpoint` behind it.

Runs in: storage (writer thread). Owned by the partition's log; the front end holds a copy that completions
feed. Rules are those of Kafka's LeaderEpochFileCache (on-disk facts 5.5).

An assignment is in the file before it counts, so the file never lacks an epoch. Truncation only makes the
file stale (`flush_if_stale`): an entry too many is cut again at load, so nobody has to wait for that fsync.
"""
from __future__ import annotations

from typing import Final

from storage.checkpoint.leader_epoch_checkpoint import (
    LEADER_EPOCH_CHECKPOINT,
    EpochEntry,
    read_leader_epoch_checkpoint,
    write_leader_epoch_checkpoint,
)
from storage.fs import FileLayer

UNDEFINED_EPOCH: Final = -1
UNDEFINED_EPOCH_OFFSET: Final = -1


class LeaderEpochFileCache:
    """entries: (epoch, start offset), both strictly ascending; replaced, never changed, so that a reader
    may keep the list it got."""

    __slots__ = ("_files", "_in_file", "directory", "entries")

    def __init__(self, directory: str, files: FileLayer, entries: list[EpochEntry] | None = None) -> None:
        self.directory = directory
        self.entries: list[EpochEntry] = []
        self._in_file: list[EpochEntry] | None = []
        self._files = files
        for entry in entries or []:
            self._take(entry)

    @classmethod
    def load(cls, directory: str, files: FileLayer) -> LeaderEpochFileCache:
        """Raises CorruptLogError: the file has no checksum, but its shape is checked."""
        cache = cls(directory, files, read_leader_epoch_checkpoint(_path(directory), files))
        cache._in_file = cache.entries
        return cache

    @classmethod
    def made_anew(cls, directory: str, files: FileLayer) -> LeaderEpochFileCache:
        """Empty, in place of a file that says nothing: whatever comes in is to be written."""
        cache = cls(directory, files)
        cache._in_file = None
        return cache

    @property
    def lacks_entries(self) -> bool:
        """The file does not have all that is known here (what it has too much is found out at every load)."""
        return self._in_file is None or any(entry not in self._in_file for entry in self.entries)

    @property
    def latest_epoch(self) -> int:
        return self.entries[-1].epoch if self.entries else UNDEFINED_EPOCH

    def start_offset_of(self, epoch: int) -> int:
        for entry in reversed(self.entries):
            if entry.epoch == epoch:
                return entry.start_offset
        return UNDEFINED_EPOCH_OFFSET

    def epoch_of(self, offset: int) -> int:
        """The epoch that wrote `offset`; -1 before the first entry."""
        return next((entry.epoch for entry in reversed(self.entries) if entry.start_offset <= offset),
                    UNDEFINED_EPOCH)

    def end_offset_for(self, epoch: int, log_end_offset: int) -> EpochEntry:
        """(epoch, end offset) as OffsetForLeaderEpoch answers it; (-1, -1) if nothing is known."""
        if epoch == UNDEFINED_EPOCH:
            return EpochEntry(UNDEFINED_EPOCH, UNDEFINED_EPOCH_OFFSET)
        if epoch == self.latest_epoch:
            return EpochEntry(epoch, log_end_offset)
        higher = next((entry for entry in self.entries if entry.epoch > epoch), None)
        if higher is None:
            return EpochEntry(UNDEFINED_EPOCH, UNDEFINED_EPOCH_OFFSET)
        floor = next((entry for entry in reversed(self.entries) if entry.epoch <= epoch), None)
        return EpochEntry(epoch if floor is None else floor.epoch, higher.start_offset)

    def assign(self, epoch: int, start_offset: int, *, durable: bool = True) -> bool:
        """Epoch begins at start_offset; entries that contradict it go. Whether anything changed.

        On OSError nothing has changed. durable=False: the caller flushes later (recovery assigns many).
        """
        if epoch < 0 or start_offset < 0:
            raise ValueError(f"leader epoch {epoch} from offset {start_offset}")
        before = self.entries
        if not self._take(EpochEntry(epoch, start_offset)):
            return False
        if not durable:
            return True
        try:
            self.flush_if_stale()
        except OSError:
            self.entries = before
            raise
        return True

    def truncate_from_end(self, end_offset: int) -> None:
        """Drop entries that begin at or after end_offset."""
        self.entries = [entry for entry in self.entries if entry.start_offset < end_offset]

    def truncate_from_start(self, start_offset: int) -> None:
        """The entry that covers start_offset begins there from now on, older ones go."""
        covered = [entry for entry in self.entries if entry.start_offset <= start_offset]
        if covered:
            rest = self.entries[len(covered):]
            self.entries = [EpochEntry(covered[-1].epoch, start_offset), *rest]

    def clear_and_flush(self) -> None:
        self.entries = []
        self._write()

    @property
    def stale(self) -> bool:
        """The file says something else, usually entries that were truncated away."""
        return self.entries != self._in_file

    def flush_if_stale(self) -> None:
        if self.stale:
            self._write()

    def _take(self, new: EpochEntry) -> bool:
        latest = self.entries[-1] if self.entries else None
        if latest is not None and new.epoch == latest.epoch and new.start_offset >= latest.start_offset:
            return False
        kept = self.entries
        while kept and (kept[-1].epoch >= new.epoch or kept[-1].start_offset >= new.start_offset):
            kept = kept[:-1]
        self.entries = [*kept, new]
        return True

    def _write(self) -> None:
        self._in_file = None
        write_leader_epoch_checkpoint(_path(self.directory), self.entries, self._files)
        self._in_file = self.entries


def _path(directory: str) -> str:
    return f"{directory}/{LEADER_EPOCH_CHECKPOINT}"
