"""What the logs of one directory share: file layer, delayed deletions, open descriptors, randomness.

Runs in: storage (writer thread). Owned by the log directory.
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from sortedcontainers import SortedList

from storage.fs import FileLayer

# Logs that keep their active files open: three descriptors each, four with aborted transactions. Below the
# usual LimitNOFILE of 100,000 with room for connections' share in other processes.
OPEN_LOGS_MAX: Final = 8192
# Files unlinked per call, so that deleting a large topic does not hold up appends (an unlink of a 1 GB
# segment takes milliseconds on ext4).
UNLINKS_PER_CALL_MAX: Final = 64


class DelayedDeletes:
    """Files renamed to `.deleted` and directories renamed to `-delete`, to be removed when their time comes.

    The delay lets readers in other processes finish with descriptors they hold. Time is monotonic.
    """

    def __init__(self, files: FileLayer, monotonic_ms: Callable[[], int]) -> None:
        self._files = files
        self._monotonic_ms = monotonic_ms
        self._due: SortedList[tuple[int, int, str, bool]] = SortedList()
        self._count = 0

    def add(self, paths: Iterable[str], delay_ms: int, *, directories: bool = False) -> None:
        due_ms = self._monotonic_ms() + delay_ms
        for path in paths:
            self._count += 1
            self._due.add((due_ms, self._count, path, directories))

    def __len__(self) -> int:
        return len(self._due)

    @property
    def next_due_ms(self) -> int | None:
        """Monotonic time of the next removal."""
        return self._due[0][0] if self._due else None

    def forget_below(self, directory: str) -> None:
        """Its files go with the directory."""
        prefix = directory + "/"
        for item in [item for item in self._due if item[2].startswith(prefix)]:
            self._due.remove(item)

    def run(self, *, everything: bool = False) -> int:
        """Remove what is due (or all of it); the number of files and directories removed."""
        now_ms = self._monotonic_ms()
        removed = 0
        while self._due and (everything or (self._due[0][0] <= now_ms and removed < UNLINKS_PER_CALL_MAX)):
            _, _, path, is_directory = self._due[0]
            if is_directory:
                removed += remove_tree(self._files, path)
            else:
                removed += self._files.unlink(path)
            self._due.pop(0)
        return removed


def remove_tree(files: FileLayer, path: str) -> int:
    """Remove a partition directory: files only, partitions have no sub-directories. The number removed."""
    if files.status(path) is None:
        return 0
    removed = 0
    for entry in files.list_directory(path):
        child = f"{path}/{entry.name}"
        removed += remove_tree(files, child) if entry.is_directory else files.unlink(child)
    files.remove_directory(path)
    return removed + 1


class Closable(Protocol):
    """A log as the budget sees it. recently_used: set by every write, cleared by the budget's second look."""

    recently_used: bool

    def close_files(self) -> None: ...


class OpenLogs:
    """Bounds how many logs keep descriptors: the longest unused is closed (second chance)."""

    def __init__(self, limit: int = OPEN_LOGS_MAX) -> None:
        self.limit = limit
        self._open: OrderedDict[int, Closable] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def note_open(self, log: Closable) -> None:
        self._open[id(log)] = log
        while len(self._open) > self.limit:
            key, candidate = next(iter(self._open.items()))
            if candidate.recently_used and candidate is not log:
                candidate.recently_used = False
                self._open.move_to_end(key)
                continue
            if candidate is log:
                self._open.move_to_end(key)
                continue
            del self._open[key]
            candidate.close_files()

    def note_closed(self, log: Closable) -> None:
        self._open.pop(id(log), None)


class LogEnvironment:
    """files: the file layer. now_ms: wall clock; monotonic_ms: for delays. random_below(n): in [0, n)."""

    def __init__(self, files: FileLayer, *, now_ms: Callable[[], int], monotonic_ms: Callable[[], int],
                 random_below: Callable[[int], int], open_logs_max: int = OPEN_LOGS_MAX) -> None:
        self.files = files
        self.now_ms = now_ms
        self.monotonic_ms = monotonic_ms
        self.random_below = random_below
        self.deletes = DelayedDeletes(files, monotonic_ms)
        self.open_logs = OpenLogs(open_logs_max)

    def jitter_ms(self, segment_jitter_ms: int, segment_ms: int) -> int:
        """segment.jitter.ms for one segment; always less than segment.ms."""
        bound = min(segment_jitter_ms, segment_ms)
        return self.random_below(bound) if bound > 0 else 0
