"""What a scan keeps of the producers is enough: replaying it gives the state of replaying everything."""
from __future__ import annotations

import pathlib
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.helpers.producer_updates import (
    BATCHES_TO_RETAIN,
    ProducerUpdate,
    ProducerUpdateCollector,
    unpack_updates,
)
from storage.helpers.segment_scan import scan_segment
from storage.log.producer_state import CompletedTxn, ProducerStateManager
from storage.record.batch import TRANSACTIONAL_BIT, BatchHeader
from storage.record.control import CONTROL_ABORT, ControlRecord
from tests.storage.helpers import golden

AbortedEntry = struct.Struct(">hqqqq")


def replay(updates: Iterable[ProducerUpdate]) -> tuple[ProducerStateManager, list[CompletedTxn]]:
    state = ProducerStateManager()
    completed = []
    for update in updates:
        if update.is_control:
            txn = state.append_marker(update.producer_id, update.producer_epoch, update.coordinator_epoch,
                                      update.control_type == CONTROL_ABORT, update.first_offset, update.timestamp)
            completed += [txn] if txn else []
        else:
            state.append_batch(update.producer_id, update.producer_epoch, update.first_sequence,
                               update.last_sequence, update.first_offset, update.last_offset, update.timestamp,
                               update.is_transactional)
    return state, completed


def test_aborted_transactions_are_kafkas(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(golden.FILES["log"])
    scan = scan_segment(str(path), 0, golden.BASE_OFFSET, golden.INDEX_INTERVAL_BYTES)
    _, completed = replay(unpack_updates(scan.producer_updates))
    index = b"".join(
        AbortedEntry.pack(0, txn.producer_id, txn.first_offset, txn.last_offset, txn.last_stable_offset)
        for txn in completed if txn.is_aborted)
    assert index == golden.FILES["txnindex"]


def test_producer_states_are_those_of_kafkas_snapshot(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(golden.FILES["log"])
    scan = scan_segment(str(path), 0, golden.BASE_OFFSET, golden.INDEX_INTERVAL_BYTES)
    state, _ = replay(unpack_updates(scan.producer_updates))
    entries = {producer_id: (entry.producer_epoch, entry.last_sequence, entry.last_data_offset,
                             entry.last_offset_delta, entry.last_timestamp, entry.coordinator_epoch,
                             entry.txn_first_offset)
               for producer_id, entry in state.producers.items()}
    snapshot = golden.FILES["snapshot"][10:]
    assert entries == {fields[0]: fields[1:] for fields in struct.iter_unpack(">qhiqiqiq", snapshot)}


def data_header(offset: int, producer_id: int, epoch: int, sequence: int, attributes: int) -> BatchHeader:
    return BatchHeader(offset, 0, 0, 2, 0, attributes, 1, 0, offset * 10, producer_id, epoch, sequence, 2)


def updates_of(headers: Iterable[tuple[BatchHeader, ControlRecord | None]]) -> list[ProducerUpdate]:
    collector = ProducerUpdateCollector()
    for header, control in headers:
        if control is None:
            collector.add_data(header)
        else:
            collector.add_marker(header, control)
    return list(unpack_updates(collector.packed()))


steps = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["data", "data", "data", "commit", "abort", "bump"])),
                 max_size=60)


@given(steps)
def test_reduced_replay_equals_full_replay(steps: list[tuple[int, str]]) -> None:
    headers: list[tuple[BatchHeader, ControlRecord | None]] = []
    epochs = [0, 0, 0, 0]
    sequences = [0, 0, 0, 0]
    for i, (producer_id, what) in enumerate(steps):
        attributes = TRANSACTIONAL_BIT if producer_id < 3 else 0
        if what == "bump":
            epochs[producer_id] += 1
            sequences[producer_id] = 0
        header = data_header(i * 2, producer_id, epochs[producer_id], sequences[producer_id], attributes)
        if what == "data":
            sequences[producer_id] += 2
            headers.append((header, None))
        elif producer_id < 3:
            headers.append((header._replace(last_offset_delta=0), ControlRecord(int(what == "commit"), 1)))
    everything = [updates_of([one])[0] for one in headers]
    full, full_txns = replay(everything)
    reduced, reduced_txns = replay(updates_of(headers))
    assert reduced.producers == full.producers
    assert reduced.ongoing == full.ongoing
    assert reduced_txns == full_txns


def test_only_the_last_batches_of_an_idempotent_producer_are_kept() -> None:
    updates = updates_of((data_header(i * 2, 1, 0, i * 2, 0), None) for i in range(100))
    assert [update.first_offset for update in updates] == [190, 192, 194, 196, 198]
    assert len(updates) == BATCHES_TO_RETAIN


def test_sequences_wrap_and_their_absence_is_kept() -> None:
    wrapped, absent = updates_of([(data_header(0, 1, 0, 2**31 - 1, 0), None), (data_header(2, 2, 0, -1, 0), None)])
    assert (wrapped.first_sequence, wrapped.last_sequence) == (2**31 - 1, 0)
    assert (absent.first_sequence, absent.last_sequence) == (-1, -1)


@pytest.mark.parametrize("count", [0, 1])
def test_few_updates(count: int) -> None:
    assert len(updates_of([(data_header(0, 1, 0, 0, 0), None)] * count)) == count
