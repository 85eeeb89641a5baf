from __future__ import annotations

from storage.cleaner.transactions import CleanedTransactions
from storage.log.transaction_index import AbortedTxn
from storage.record.batch import CONTROL_BIT, TRANSACTIONAL_BIT, BatchHeader
from storage.record.control import CONTROL_ABORT, CONTROL_COMMIT, CONTROL_LEADER_CHANGE, ControlRecord

COMMIT, ABORT = ControlRecord(CONTROL_COMMIT, 0), ControlRecord(CONTROL_ABORT, 0)


def data(offset: int, producer_id: int = 1, transactional: bool = True) -> BatchHeader:
    attributes = TRANSACTIONAL_BIT if transactional else 0
    return BatchHeader(offset, 100, 0, 2, 0, attributes, 0, 0, 0, producer_id, 0, 0, 1)


def marker(offset: int, producer_id: int = 1) -> BatchHeader:
    return data(offset, producer_id)._replace(attributes=TRANSACTIONAL_BIT | CONTROL_BIT)


def test_data_of_an_aborted_transaction_may_go_and_its_marker_stays() -> None:
    walk = CleanedTransactions([AbortedTxn(1, 5, 9, 10)])
    assert not walk.on_data_batch(data(3, producer_id=2))
    assert walk.on_data_batch(data(5))
    assert not walk.on_data_batch(data(6, producer_id=2))
    assert not walk.on_control_batch(marker(9), ABORT)
    assert walk.take_kept_aborts() == [AbortedTxn(1, 5, 9, 10)]
    assert walk.take_kept_aborts() == []


def test_a_marker_goes_once_nothing_of_its_transaction_was_met() -> None:
    walk = CleanedTransactions([AbortedTxn(1, 5, 9, 10)])
    assert walk.on_control_batch(marker(9), ABORT)
    assert walk.on_control_batch(marker(10, producer_id=2), COMMIT)
    assert walk.take_kept_aborts() == []


def test_a_commit_marker_stays_as_long_as_a_batch_was_met() -> None:
    walk = CleanedTransactions([])
    assert not walk.on_data_batch(data(1))
    assert not walk.on_control_batch(marker(2), COMMIT)
    assert walk.on_control_batch(marker(3), COMMIT), "the next transaction of this producer is another one"


def test_two_transactions_of_one_producer_are_told_apart() -> None:
    walk = CleanedTransactions([AbortedTxn(1, 5, 6, 7), AbortedTxn(1, 9, 10, 11)])
    assert walk.on_data_batch(data(5))
    assert not walk.on_control_batch(marker(6), ABORT)
    assert not walk.on_data_batch(data(7))
    assert not walk.on_control_batch(marker(8), COMMIT)
    assert walk.on_data_batch(data(9))
    assert not walk.on_control_batch(marker(10), ABORT)
    assert len(walk.take_kept_aborts()) == 2


def test_batches_outside_transactions_are_nobodys() -> None:
    walk = CleanedTransactions([AbortedTxn(1, 0, 9, 10)])
    assert not walk.on_data_batch(data(3, transactional=False))


def test_an_empty_marker_may_go_and_a_foreign_one_stays() -> None:
    walk = CleanedTransactions([])
    assert walk.on_control_batch(marker(3), None)
    assert not walk.on_control_batch(marker(4), ControlRecord(CONTROL_LEADER_CHANGE, -1))
