"""The front end's handle on one storage process: what was asked, what has been answered.

What: puts entries into the submission ring, remembers who waits for which request id, takes completions
and hands each to its waiter, and takes over cleanly when the storage process dies.
Why callbacks and not tasks: a completion is answered from the pump within the same scheduler pass; waking
a task per request costs more than the request (design, section 12).
Runs in: front end. Owner: `LogDirs`; the ring words have their own owners (see storage/ipc/layout.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from storage import errors
from storage.ipc import entries
from storage.ipc.ring import CompletionConsumer, CompletionEntry, SubmissionEntry, SubmissionProducer


class Waiter(Protocol):
    """Who submitted an entry; `index` tells which of its entries was completed."""

    def storage_completed(self, index: int, error: int, completion: CompletionEntry | None) -> None: ...


class StorageLink:
    """One directory's rings and the requests in flight on them.

    `backlog` holds entries that found the ring full; it is bounded by what connections may have in flight.
    usable: attached to a living storage process. is_listed: what that one holds has been entered.
    failed_reason: the directory is offline.
    """

    def __init__(self, index: int, directory: str) -> None:
        self.index = index
        self.directory = directory
        self.usable = False
        self.is_listed = False
        self.failed_reason: str | None = None
        self._submissions: SubmissionProducer | None = None
        self._completions: CompletionConsumer | None = None
        self._in_flight: dict[int, tuple[Waiter, int]] = {}
        self._backlog: deque[tuple[SubmissionEntry, Waiter, int]] = deque()
        self._next_request_id = 1
        self._unflushed = False
        self._awaited_count = 0

    # Life of the other side

    def attach(self, submissions: SubmissionProducer, completions: CompletionConsumer) -> None:
        """A storage process of a new ring generation is ready."""
        self._submissions = submissions
        self._completions = completions
        self.usable = True
        self.is_listed = False
        self.failed_reason = None

    def storage_died(self, on_appends: Callable[[list[CompletionEntry]], None],
                     on_unasked: Callable[[CompletionEntry], None]) -> None:
        """Take what it had published, then fail everything else (REVIEW item 10)."""
        self.usable = False
        if self._completions is not None:
            published = self._completions.take_over()
            on_appends(published)
            self._dispatch(published, on_unasked)
        stranded = list(self._in_flight.values())
        stranded += [(waiter, index) for _, waiter, index in self._backlog]
        self._in_flight.clear()
        self._backlog.clear()
        self._submissions = self._completions = None
        self._unflushed = False
        self._awaited_count = 0
        for waiter, index in stranded:
            waiter.storage_completed(index, errors.KAFKA_STORAGE_ERROR, None)

    @property
    def is_coming(self) -> bool:
        """Not failed, and what its directory holds is not (or no longer) known: wait."""
        return self.failed_reason is None and not (self.usable and self.is_listed)

    @property
    def in_flight_count(self) -> int:
        return len(self._in_flight) + len(self._backlog)

    # Submitting

    def submit(
        self, waiter: Waiter, index: int, kind: int, slot: int, slot_generation: int,
        leader_epoch: int = -1, arena_offset: int = 0, size_bytes: int = 0,
        arg0: int = 0, arg1: int = 0, extra: int = 0, flags: int = 0,
    ) -> None:  # fmt: skip
        """Queue one entry; it leaves with the next flush, its answer comes through `storage_completed`.

        An unusable storage process is answered at once with KAFKA_STORAGE_ERROR.
        """
        submissions = self._submissions
        if not self.usable or submissions is None:
            waiter.storage_completed(index, errors.KAFKA_STORAGE_ERROR, None)
            return
        request_id = self._next_request_id
        self._next_request_id = request_id + 1
        if self._backlog or submissions.free_count <= 0:
            entry = (
                kind, flags, 0, slot, slot_generation, leader_epoch, request_id, arena_offset, size_bytes,
                extra, arg0, arg1,
            )  # fmt: skip
            self._backlog.append((entry, waiter, index))
            return
        self._in_flight[request_id] = (waiter, index)
        submissions.put(
            kind, flags, 0, slot, slot_generation, leader_epoch, request_id, arena_offset, size_bytes, extra,
            arg0, arg1,
        )  # fmt: skip
        self._unflushed = True

    def flush(self) -> None:
        """Ring the doorbell once for everything submitted in this scheduler pass."""
        if self._unflushed and self._submissions is not None:
            self._submissions.flush()
            self._unflushed = False
            self._awaited_count = len(self._in_flight)

    def flush_if_idle(self) -> None:
        """Ring at once when storage has nothing to do: the rest of the pass need not delay it.

        Under load it is busy with what was flushed before, and one doorbell per pass is cheaper.
        """
        if self._awaited_count == 0 and self._in_flight:
            self.flush()

    def _drain_backlog(self) -> None:
        submissions = self._submissions
        if submissions is None:
            return
        while self._backlog and submissions.free_count > 0:
            entry, waiter, index = self._backlog.popleft()
            self._in_flight[entry[6]] = (waiter, index)
            submissions.put(*entry)
            self._unflushed = True

    # Completing

    def pump(self, on_appends: Callable[[list[CompletionEntry]], None],
             on_unasked: Callable[[CompletionEntry], None]) -> int:
        """Take every completion that the doorbell announced; returns how many there were.

        `on_appends` sees them first, so that log ends and watermarks have moved before anybody is answered.
        """
        if self._completions is None:
            return 0
        completions = self._completions.take()
        on_appends(completions)
        self._dispatch(completions, on_unasked)
        if self._backlog:
            self._drain_backlog()
        self._unflushed = True  # a credit for unasked completions may have been put
        return len(completions)

    def _dispatch(
        self, completions: list[CompletionEntry], on_unasked: Callable[[CompletionEntry], None]
    ) -> None:
        in_flight = self._in_flight
        for completion in completions:
            if completion[entries.C_KIND] >= entries.FIRST_UNASKED_KIND:
                on_unasked(completion)
                continue
            self._awaited_count -= 1
            waiter, index = in_flight.pop(completion[entries.C_REQUEST_ID])
            waiter.storage_completed(index, completion[entries.C_ERROR], completion)
