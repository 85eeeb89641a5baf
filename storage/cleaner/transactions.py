"""What compaction knows about transactions while it walks a log from the oldest batch on. PURE.

Runs in: the cleaner's helper process; one object per walk. Rules: Kafka's CleanedTransactionMetadata.

Data of an aborted transaction may go like a deleted record. Its marker may go only once nothing of the
transaction is left: a marker is of use as long as a walk before it met one of its batches. The same holds
for a commit. A marker that may go is not gone yet: it gets a delete horizon like a tombstone.
"""
from __future__ import annotations

from collections.abc import Iterable

from storage.log.transaction_index import AbortedTxn
from storage.record.batch import BatchHeader
from storage.record.control import CONTROL_ABORT, CONTROL_COMMIT, ControlRecord


class CleanedTransactions:
    """kept_aborts: those whose marker is still of use; the index of the cleaned segment lists them."""

    __slots__ = ("kept_aborts", "_coming", "_next", "_aborted", "_observed", "_committed")

    def __init__(self, aborted: Iterable[AbortedTxn]) -> None:
        """aborted: everything the log's transaction indexes say of transactions that end in or behind the
        range that is walked; duplicates do no harm."""
        self.kept_aborts: list[AbortedTxn] = []
        self._coming = sorted(set(aborted), key=lambda txn: txn.first_offset)
        self._next = 0
        self._aborted: dict[int, AbortedTxn] = {}
        self._observed: set[int] = set()
        self._committed: set[int] = set()

    def on_data_batch(self, header: BatchHeader) -> bool:
        """Whether the batch belongs to an aborted transaction and may go."""
        self._begin_up_to(header.last_offset)
        if not header.is_transactional:
            return False
        if header.producer_id in self._aborted:
            self._observed.add(header.producer_id)
            return True
        self._committed.add(header.producer_id)
        return False

    def on_control_batch(self, header: BatchHeader, record: ControlRecord | None) -> bool:
        """Whether nothing of the marker's transaction was met, so that the marker may go.

        record None: an empty batch, cleaned before.
        """
        self._begin_up_to(header.last_offset)
        if record is None:
            return True
        producer_id = header.producer_id
        if record.control_type == CONTROL_ABORT:
            txn = self._aborted.pop(producer_id, None)
            if txn is None or producer_id not in self._observed:
                return True
            self._observed.discard(producer_id)
            self.kept_aborts.append(txn)
            return False
        if record.control_type == CONTROL_COMMIT:
            if producer_id in self._committed:
                self._committed.discard(producer_id)
                return False
            return True
        return False

    def take_kept_aborts(self) -> list[AbortedTxn]:
        """Those found since the last call: for one cleaned segment."""
        kept, self.kept_aborts = self.kept_aborts, []
        return kept

    def _begin_up_to(self, offset: int) -> None:
        """Aborted transactions whose first offset has been reached; one per producer is open at a time."""
        coming = self._coming
        while self._next < len(coming) and coming[self._next].first_offset <= offset:
            txn = coming[self._next]
            self._aborted.setdefault(txn.producer_id, txn)
            self._next += 1
