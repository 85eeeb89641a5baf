"""What a batch that is about to be appended means for its producer: first the check, then the record. PURE.

Runs in: storage (writer thread). No state of its own; works on the partition's ProducerStateManager.

Two steps, because a roll may come between them: the snapshot of the new segment must know neither this batch
nor any later one.
"""
from __future__ import annotations

from storage.errors import INVALID_TXN_STATE, LogAppendError
from storage.log.producer_state import AppendOrigin, CompletedTxn, ProducerBatch, ProducerStateManager
from storage.record.batch import CONTROL_BIT, TRANSACTIONAL_BIT, sequence_after
from storage.record.control import CONTROL_ABORT, ControlRecord, read_control_batch
from storage.record.errors import RecordError


def check_producer(state: ProducerStateManager, batch: memoryview, header: tuple[int, ...],
                   origin: AppendOrigin, transaction_verified: bool) -> ProducerBatch | None:
    """Raises LogAppendError unless the batch may be its producer's next one; the original of a duplicate.

    header: the 13 fields, with a producer id. transaction_verified: that the coordinator knows the
    transaction on this partition has been confirmed, or need not be.
    """
    _, _, _, _, _, attributes, last_delta, _, _, producer_id, producer_epoch, first_sequence, _ = header
    if attributes & CONTROL_BIT:
        control = _read_marker(batch)
        if control is not None:
            state.check_marker(producer_id, producer_epoch, control.coordinator_epoch)
        return None
    if origin is AppendOrigin.CLIENT:
        original = state.find_duplicate(producer_id, producer_epoch, first_sequence,
                                        sequence_after(first_sequence, last_delta))
        if original is not None:
            return original
    transactional = bool(attributes & TRANSACTIONAL_BIT)
    if transactional and not transaction_verified and not state.has_ongoing_transaction(producer_id):
        raise LogAppendError(INVALID_TXN_STATE, f"the batch of producer {producer_id} is not part of an "
                             "ongoing transaction on this partition")
    state.check_append(producer_id, producer_epoch, first_sequence, transactional, origin)
    return None


def record_marker(state: ProducerStateManager, batch: memoryview, header: tuple[int, ...],
                  offset: int, timestamp: int) -> CompletedTxn | None:
    """Take the checked control batch into the state; the transaction it aborts, for the transaction index."""
    control = _read_marker(batch)
    if control is None:
        return None
    txn = state.append_marker(header[9], header[10], control.coordinator_epoch,
                              control.control_type == CONTROL_ABORT, offset, timestamp)
    return txn if txn is not None and txn.is_aborted else None


def _read_marker(batch: memoryview) -> ControlRecord | None:
    """The end of a transaction; None for control records of other kinds."""
    try:
        control = read_control_batch(batch)
    except RecordError as error:
        raise LogAppendError(error.code, f"control batch: {error.what}") from error
    return control if control is not None and control.ends_transaction else None
