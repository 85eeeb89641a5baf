"""All log directories as the front end sees them: one link each, one pump, one view of what they hold.

What: moves completions into partitions (log ends, watermarks) before anybody is answered, then lets the
connections that were answered send, then wakes the fetches that were waiting for the data.
Why in that order: an acknowledged record is visible to the consumer that asks next, and one pass sends each
connection's answers in one piece.
Runs in: front end. Owner: the front end's one instance.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from broker.log_dirs.page_cache import DirectoryWarmth
from broker.log_dirs.segments import SegmentReaders
from broker.log_dirs.storage_link import StorageLink
from broker.network.connection import Connection
from broker.replica.marks import LogPosition
from broker.replica.partition import Partition, Role
from broker.replica.registry import PartitionRegistry
from storage.ipc.arena import Arena
from storage.ipc.entries import CompletionKind
from storage.ipc.partition_table import PartitionTable
from storage.ipc.ring import CompletionEntry

log = logging.getLogger(__name__)

APPEND = int(CompletionKind.APPEND)
_UNASKED_NAMES = {kind.value: kind.name for kind in CompletionKind}


class Woken(Protocol):
    """A parked fetch that has something to answer."""

    def wake(self) -> None: ...


class LogDirs:
    """`answered`: connections with finished Produce; `woken`: fetches to answer. Both emptied each pass."""

    def __init__(
        self, directories: list[str], registry: PartitionRegistry, arena: Arena, table: PartitionTable
    ) -> None:
        self.links = [StorageLink(index, directory) for index, directory in enumerate(directories)]
        self.arena = arena
        self.warmth = DirectoryWarmth(directories)
        self.segments = SegmentReaders(self.warmth, table)
        self.answered: set[Connection] = set()
        self.woken: dict[Woken, None] = {}
        self.on_directory_failed: Callable[[StorageLink, str], None] | None = None
        self._being_created: Counter[int] = Counter()
        self._registry = registry
        self._table = table

    # The pump

    def pump(self, link: StorageLink) -> None:
        """Everything one doorbell announced, then the answers it allows."""
        link.pump(self._apply_appends, self._take_unasked)
        self.settle()

    def settle(self) -> None:
        """Let answered connections send and woken fetches answer; both may cause more of the other."""
        while self.answered or self.woken:
            answered, self.answered = self.answered, set()
            for connection in answered:
                connection.flush()
            woken, self.woken = self.woken, {}
            for fetch in woken:
                fetch.wake()

    def flush_submissions(self) -> None:
        """One doorbell per storage process for all that this scheduler pass has submitted."""
        for link in self.links:
            link.flush()

    def _apply_appends(self, completions: list[CompletionEntry]) -> None:
        """Only the newest append of each slot matters for log end, marks and watermark."""
        newest: dict[int, CompletionEntry] = {}
        for completion in completions:
            if completion[0] == APPEND and not completion[2]:
                newest[completion[3]] = completion
        for slot, completion in newest.items():
            partition = self._registry.by_slot(slot, completion[4])
            if partition is not None:
                partition.log_advanced(
                    LogPosition(completion[9], completion[13], completion[14]), completion[10],
                    completion[11], completion[15],
                )  # fmt: skip
                self.publish(partition)

    def _take_unasked(self, completion: CompletionEntry) -> None:
        kind = completion[0]
        if kind == CompletionKind.DIRECTORY_FAILED:
            return  # the supervisor hears of it from the storage process itself and tells us
        partition = self._registry.by_slot(completion[3], completion[4])
        if partition is None:
            return
        if kind in (CompletionKind.SEGMENTS_CHANGED, CompletionKind.LOG_START_MOVED):
            partition.log_start_moved(completion[10], completion[15])
        elif kind == CompletionKind.STABLE_OFFSET_MOVED:
            partition.first_unstable_offset = completion[11]
        else:
            log.error("Completion of unknown kind %s", _UNASKED_NAMES.get(kind, kind))

    def publish(self, partition: Partition) -> None:
        """Keep role, epoch and watermark in the partition's shared slot (takeover, checkpoints)."""
        self._table.publish_front_end_half(
            partition.slot, partition.slot_generation, int(partition.role), partition.leader_epoch,
            partition.high_watermark,
        )  # fmt: skip

    # Directories

    def storage_died(self, index: int) -> None:
        """Take over what it had published, fail the rest; its partitions answer KAFKA_STORAGE_ERROR."""
        link = self.links[index]
        link.storage_died(self._apply_appends, self._take_unasked)
        for partition in self._registry.of_directory(index):
            if partition.role is not Role.NONE:
                partition.go_offline()
        self.settle()

    def usable(self) -> list[StorageLink]:
        return [link for link in self.links if link.usable]

    def place(self, preferred: int | None = None) -> StorageLink | None:
        """Where a new replica goes: the usable directory with the fewest partitions (on-disk 1)."""
        usable = self.usable()
        if preferred is not None:
            usable = [link for link in usable if link.index == preferred] or usable
        counts = {link.index: self._being_created[link.index] for link in usable}
        for partition in self._registry:
            if partition.directory_index in counts:
                counts[partition.directory_index] += 1
        return min(usable, key=lambda link: counts[link.index], default=None)

    @contextmanager
    def creating(self, link: StorageLink) -> Iterator[None]:
        """Partitions on their way into a directory count for the placement of the next one."""
        self._being_created[link.index] += 1
        try:
            yield
        finally:
            self._being_created[link.index] -= 1

    def read_half(self, slot: int) -> Any:
        return self._table.read_storage_half(slot)

    def read_own_half(self, slot: int) -> Any:
        return self._table.read_front_end_half(slot)
