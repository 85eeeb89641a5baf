"""What each idempotent or transactional producer has written to one partition. PURE.

Runs in: storage (writer thread), helpers (recovery scans). The partition's log owns one manager.

The rules are those of Kafka's ProducerStateManager and ProducerAppendInfo (subtle.md 33-37): the last five
batches of a producer are remembered, a batch with the sequence range of one of them is a duplicate, anything
else must follow the last sequence. Entries are immutable, so that undoing a group of staged batches whose
write failed is putting old entries back (`commit`, `rollback`): the state never runs ahead of the file.

Open transactions are kept in a plain dict ordered by first offset: offsets only grow, so insertion order is
offset order. `unreplicated` holds completed ones whose marker is not below the high watermark yet; together
they give the first unstable offset.
"""
from __future__ import annotations

import enum
from typing import Final, NamedTuple

from storage.errors import (
    INVALID_PRODUCER_EPOCH,
    INVALID_TXN_STATE,
    OUT_OF_ORDER_SEQUENCE_NUMBER,
    LogAppendError,
)
from storage.record.batch import NO_PRODUCER_EPOCH, NO_SEQUENCE, NO_TIMESTAMP, SEQUENCE_MAX

BATCHES_TO_RETAIN: Final = 5
NO_OFFSET: Final = -1
TRANSACTION_COORDINATOR_FENCED: Final = 52  # Kafka's wire code; only the marker path answers it


class AppendOrigin(enum.Enum):
    """Who writes. CLIENT: everything is checked. COORDINATOR: may write control batches, sequences are
    not checked. REPLICATION: the leader has decided, the batch is only recorded."""

    CLIENT = 0
    COORDINATOR = 1
    REPLICATION = 2


class ProducerBatch(NamedTuple):
    """One remembered batch of a producer."""

    first_sequence: int
    last_sequence: int
    first_offset: int
    last_offset: int
    timestamp: int


class ProducerStateEntry(NamedTuple):
    """batches: oldest first, at most BATCHES_TO_RETAIN, all of this epoch."""

    producer_epoch: int
    coordinator_epoch: int
    last_timestamp: int
    txn_first_offset: int
    batches: tuple[ProducerBatch, ...]

    @property
    def last_sequence(self) -> int:
        return self.batches[-1][1] if self.batches else NO_SEQUENCE

    @property
    def last_data_offset(self) -> int:
        return self.batches[-1][3] if self.batches else NO_OFFSET

    @property
    def last_offset_delta(self) -> int:
        return self.batches[-1][3] - self.batches[-1][2] if self.batches else 0


class CompletedTxn(NamedTuple):
    """A transaction whose marker has been appended; last_stable_offset: what the index records for it."""

    producer_id: int
    first_offset: int
    last_offset: int
    is_aborted: bool
    last_stable_offset: int


EMPTY_ENTRY: Final = ProducerStateEntry(NO_PRODUCER_EPOCH, -1, NO_TIMESTAMP, NO_OFFSET, ())

# A NamedTuple's own __new__ costs twice as much; batches are made once per append.
_new = tuple.__new__


class ProducerStateManager:
    """State of all producers of one partition, up to and including what is staged.

    Attributes, all owned by the writer thread: producers (by producer id), ongoing (first offset ->
    producer id), unreplicated (first offset -> offset of the marker).
    """

    __slots__ = ("producers", "ongoing", "unreplicated", "_undo_entries", "_undo_txns")

    def __init__(self) -> None:
        self.producers: dict[int, ProducerStateEntry] = {}
        self.ongoing: dict[int, int] = {}
        self.unreplicated: dict[int, int] = {}
        self._undo_entries: dict[int, ProducerStateEntry | None] = {}
        self._undo_txns: tuple[dict[int, int], dict[int, int]] | None = None

    # -- questions before an append

    def is_next(self, producer_id: int, producer_epoch: int, first_sequence: int, transactional: bool) -> bool:
        """Whether the batch simply continues where its producer stopped: no duplicate, nothing to check."""
        entry = self.producers.get(producer_id)
        if entry is None:
            return False
        epoch, _, _, txn_first_offset, batches = entry
        return (epoch == producer_epoch and bool(batches) and batches[-1][1] + 1 == first_sequence
                and (txn_first_offset >= 0) == transactional)

    def find_duplicate(self, producer_id: int, producer_epoch: int, first_sequence: int,
                       last_sequence: int) -> ProducerBatch | None:
        """The remembered batch with exactly this epoch and sequence range."""
        entry = self.producers.get(producer_id)
        if entry is None or entry[0] != producer_epoch:
            return None
        for batch in entry[4]:
            if batch[0] == first_sequence and batch[1] == last_sequence:
                return batch
        return None

    def check_append(self, producer_id: int, producer_epoch: int, first_sequence: int, transactional: bool,
                     origin: AppendOrigin = AppendOrigin.CLIENT) -> None:
        """Raises LogAppendError if this batch may not be the producer's next one."""
        entry = self.producers.get(producer_id, EMPTY_ENTRY)
        check_producer_epoch(producer_id, producer_epoch, entry)
        if origin is AppendOrigin.CLIENT:
            _check_sequence(producer_id, producer_epoch, first_sequence, entry)
        if entry.txn_first_offset != NO_OFFSET and not transactional:
            raise LogAppendError(INVALID_TXN_STATE, f"producer {producer_id} has an open transaction on this "
                                 "partition: only transactional batches are expected from it")

    def check_marker(self, producer_id: int, producer_epoch: int, coordinator_epoch: int) -> None:
        """Raises LogAppendError for the marker of a fenced producer or coordinator."""
        entry = self.producers.get(producer_id, EMPTY_ENTRY)
        check_producer_epoch(producer_id, producer_epoch, entry)
        if entry.coordinator_epoch > coordinator_epoch:
            raise LogAppendError(TRANSACTION_COORDINATOR_FENCED,
                                 f"coordinator epoch {coordinator_epoch} of the marker for producer "
                                 f"{producer_id} is below the last seen {entry.coordinator_epoch}")

    def has_ongoing_transaction(self, producer_id: int) -> bool:
        entry = self.producers.get(producer_id)
        return entry is not None and entry.txn_first_offset != NO_OFFSET

    # -- appends

    def append_batch(self, producer_id: int, producer_epoch: int, first_sequence: int, last_sequence: int,
                     first_offset: int, last_offset: int, timestamp: int, transactional: bool) -> None:
        """Record a data batch that has been checked, or that is already in the log."""
        old = self.producers.get(producer_id)
        if producer_id not in self._undo_entries:
            self._undo_entries[producer_id] = old
        batch = _new(ProducerBatch, (first_sequence, last_sequence, first_offset, last_offset, timestamp))
        if old is None:
            old = EMPTY_ENTRY
        _, coordinator_epoch, _, txn_first_offset, batches = old
        if old[0] != producer_epoch:
            batches = ()
        elif len(batches) == BATCHES_TO_RETAIN:
            batches = batches[1:]
        if transactional and txn_first_offset == NO_OFFSET:
            txn_first_offset = first_offset
            self._remember_txns()
            self.ongoing[first_offset] = producer_id
        self.producers[producer_id] = _new(ProducerStateEntry, (
            producer_epoch, coordinator_epoch, timestamp, txn_first_offset, (*batches, batch)))

    def recall_batch(self, producer_id: int, producer_epoch: int, batch: ProducerBatch) -> None:
        """Put a batch that is in the log before the oldest remembered one, if there is room for it."""
        entry = self.producers.get(producer_id)
        if entry is None or entry.producer_epoch != producer_epoch or not entry.batches:
            return
        if len(entry.batches) < BATCHES_TO_RETAIN and batch.last_offset < entry.batches[0].first_offset:
            self.producers[producer_id] = entry._replace(batches=(batch, *entry.batches))

    def append_marker(self, producer_id: int, producer_epoch: int, coordinator_epoch: int, is_abort: bool,
                      offset: int, timestamp: int) -> CompletedTxn | None:
        """Record the end of a transaction, checked or already in the log; None if none was open here."""
        entry = self.producers.get(producer_id, EMPTY_ENTRY)
        self._undo_entries.setdefault(producer_id, self.producers.get(producer_id))
        batches = entry.batches if entry.producer_epoch == producer_epoch else ()
        self.producers[producer_id] = ProducerStateEntry(producer_epoch, coordinator_epoch, timestamp,
                                                         NO_OFFSET, batches)
        if entry.txn_first_offset == NO_OFFSET:
            return None
        return self._complete(producer_id, entry.txn_first_offset, offset, is_abort)

    def _complete(self, producer_id: int, first_offset: int, offset: int, is_abort: bool) -> CompletedTxn:
        others = (start for start, owner in self.ongoing.items() if owner != producer_id)
        last_stable_offset = next(others, offset + 1)
        self._remember_txns()
        self.ongoing.pop(first_offset, None)
        self.unreplicated[first_offset] = offset
        return CompletedTxn(producer_id, first_offset, offset, is_abort, last_stable_offset)

    # -- a staged group was written, or was not

    def commit(self) -> None:
        if self._undo_entries:
            self._undo_entries.clear()
            self._undo_txns = None

    def rollback(self) -> None:
        """Back to the last commit."""
        for producer_id, entry in self._undo_entries.items():
            if entry is None:
                self.producers.pop(producer_id, None)
            else:
                self.producers[producer_id] = entry
        if self._undo_txns is not None:
            self.ongoing, self.unreplicated = self._undo_txns
        self._undo_entries.clear()
        self._undo_txns = None

    def _remember_txns(self) -> None:
        if self._undo_txns is None:
            self._undo_txns = (dict(self.ongoing), dict(self.unreplicated))

    # -- life of the state

    @property
    def first_unstable_offset(self) -> int:
        """First offset of the oldest transaction that is open or whose marker is not replicated, or -1."""
        if not self.ongoing and not self.unreplicated:
            return NO_OFFSET
        return min([*self.unreplicated, *([next(iter(self.ongoing))] if self.ongoing else [])])

    def on_high_watermark_updated(self, high_watermark: int) -> bool:
        """Forget completed transactions whose marker is below it; whether any was forgotten."""
        done = [first for first, last in self.unreplicated.items() if last < high_watermark]
        for first in done:
            del self.unreplicated[first]
        return bool(done)

    def remove_expired(self, now_ms: int, expiration_ms: int) -> int:
        """Drop producers silent for that long and without an open transaction; the number dropped."""
        expired = [producer_id for producer_id, entry in self.producers.items()
                   if is_expired(entry, now_ms, expiration_ms)]
        for producer_id in expired:
            del self.producers[producer_id]
        return len(expired)

    def clear(self) -> None:
        self.producers.clear()
        self.ongoing.clear()
        self.unreplicated.clear()
        self._undo_entries.clear()
        self._undo_txns = None

    def load(self, producers: dict[int, ProducerStateEntry]) -> None:
        """Replace everything by a snapshot's entries; their open transactions are open again."""
        self.clear()
        self.producers.update(producers)
        open_txns = sorted((entry.txn_first_offset, producer_id) for producer_id, entry in producers.items()
                           if entry.txn_first_offset != NO_OFFSET)
        self.ongoing.update(open_txns)


def is_expired(entry: ProducerStateEntry, now_ms: int, expiration_ms: int) -> bool:
    return entry.txn_first_offset == NO_OFFSET and now_ms - entry.last_timestamp >= expiration_ms


def check_producer_epoch(producer_id: int, producer_epoch: int, entry: ProducerStateEntry) -> None:
    if producer_epoch < entry.producer_epoch:
        raise LogAppendError(INVALID_PRODUCER_EPOCH, f"epoch {producer_epoch} of producer {producer_id} is "
                             f"below the last seen epoch {entry.producer_epoch}")


def _check_sequence(producer_id: int, producer_epoch: int, first_sequence: int,
                    entry: ProducerStateEntry) -> None:
    """A producer that is not known (expired, deleted, new) may start anywhere; a new epoch starts at 0."""
    if entry.producer_epoch == NO_PRODUCER_EPOCH:
        return
    if producer_epoch != entry.producer_epoch:
        if first_sequence != 0:
            raise LogAppendError(OUT_OF_ORDER_SEQUENCE_NUMBER, f"producer {producer_id} begins epoch "
                                 f"{producer_epoch} with sequence {first_sequence}, not with 0 "
                                 f"(current epoch {entry.producer_epoch})")
        return
    last_sequence = entry.last_sequence
    if first_sequence == last_sequence + 1 or (first_sequence == 0 and last_sequence == SEQUENCE_MAX):
        return
    raise LogAppendError(OUT_OF_ORDER_SEQUENCE_NUMBER, f"sequence {first_sequence} of producer {producer_id} "
                         f"does not follow {last_sequence}, the last one in the log")
