from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import (
    INVALID_PRODUCER_EPOCH,
    INVALID_TXN_STATE,
    OUT_OF_ORDER_SEQUENCE_NUMBER,
    LogAppendError,
)
from storage.log.producer_state import (
    TRANSACTION_COORDINATOR_FENCED,
    AppendOrigin,
    CompletedTxn,
    ProducerStateManager,
)
from storage.record.batch import SEQUENCE_MAX

P = 7


def append(state: ProducerStateManager, sequence: int, count: int = 1, *, offset: int = 0, epoch: int = 0,
           producer: int = P, transactional: bool = False) -> None:
    last = (sequence + count - 1) & SEQUENCE_MAX
    state.append_batch(producer, epoch, sequence, last, offset, offset + count - 1, 1000, transactional)


def refusal(state: ProducerStateManager, sequence: int, *, epoch: int = 0, transactional: bool = False,
            origin: AppendOrigin = AppendOrigin.CLIENT) -> int | None:
    try:
        state.check_append(P, epoch, sequence, transactional, origin)
    except LogAppendError as error:
        return error.code
    return None


def test_an_unknown_producer_may_begin_with_any_sequence() -> None:
    """Subtle 34: expired or truncated state."""
    assert refusal(ProducerStateManager(), 1234) is None


def test_sequences_must_follow_without_a_gap() -> None:
    state = ProducerStateManager()
    append(state, 0, 5)
    assert refusal(state, 5) is None
    assert refusal(state, 6) == OUT_OF_ORDER_SEQUENCE_NUMBER
    assert refusal(state, 4) == OUT_OF_ORDER_SEQUENCE_NUMBER


def test_sequences_wrap_from_the_largest_to_zero() -> None:
    state = ProducerStateManager()
    append(state, SEQUENCE_MAX - 1, 2)
    assert refusal(state, 0) is None
    append(state, SEQUENCE_MAX, 3, offset=2)  # a batch may wrap inside
    assert refusal(state, 2) is None
    assert state.find_duplicate(P, 0, SEQUENCE_MAX, 1) is not None


def test_a_new_epoch_begins_with_zero() -> None:
    state = ProducerStateManager()
    append(state, 0, 3)
    assert refusal(state, 0, epoch=1) is None
    assert refusal(state, 3, epoch=1) == OUT_OF_ORDER_SEQUENCE_NUMBER
    append(state, 0, epoch=1, offset=3)
    assert refusal(state, 3, epoch=0) == INVALID_PRODUCER_EPOCH


def test_the_last_five_batches_are_recognised_as_duplicates() -> None:
    """Subtle 33: with their original offsets."""
    state = ProducerStateManager()
    for index in range(6):
        append(state, index * 2, 2, offset=100 + index * 2)
    found = state.find_duplicate(P, 0, 2, 3)
    assert found is not None
    assert (found.first_offset, found.last_offset, found.timestamp) == (102, 103, 1000)
    assert state.find_duplicate(P, 0, 0, 1) is None  # the sixth to last
    assert state.find_duplicate(P, 0, 2, 4) is None  # another range
    assert state.find_duplicate(P, 1, 2, 3) is None  # another epoch


def test_a_plain_batch_in_an_open_transaction_is_refused() -> None:
    """Subtle 37."""
    state = ProducerStateManager()
    append(state, 0, transactional=True)
    assert refusal(state, 1) == INVALID_TXN_STATE
    assert refusal(state, 1, transactional=True) is None


@pytest.mark.parametrize("origin", [AppendOrigin.COORDINATOR, AppendOrigin.REPLICATION])
def test_only_clients_sequences_are_checked(origin: AppendOrigin) -> None:
    state = ProducerStateManager()
    append(state, 0)
    assert refusal(state, 17, origin=origin) is None


def test_the_oldest_open_transaction_is_the_first_unstable_offset() -> None:
    """Subtle 42: open ones, and completed ones until the high watermark has passed their marker."""
    state = ProducerStateManager()
    append(state, 0, offset=10, producer=1, transactional=True)
    append(state, 0, offset=11, producer=2, transactional=True)
    assert state.first_unstable_offset == 10
    txn = state.append_marker(1, 0, 0, True, 12, 1000)
    assert txn == CompletedTxn(1, 10, 12, is_aborted=True, last_stable_offset=11)
    assert state.first_unstable_offset == 10
    assert not state.on_high_watermark_updated(12)
    assert state.on_high_watermark_updated(13)
    assert state.first_unstable_offset == 11
    assert state.append_marker(2, 0, 0, False, 13, 1000) == CompletedTxn(2, 11, 13, False, 14)
    state.on_high_watermark_updated(14)
    assert state.first_unstable_offset == -1


def test_a_marker_without_a_transaction_changes_only_epochs() -> None:
    state = ProducerStateManager()
    assert state.append_marker(P, 3, 5, True, 0, 1000) is None
    entry = state.producers[P]
    assert (entry.producer_epoch, entry.coordinator_epoch, entry.batches) == (3, 5, ())
    assert refusal(state, 1, epoch=3) == OUT_OF_ORDER_SEQUENCE_NUMBER
    assert refusal(state, 0, epoch=3) is None


def test_markers_of_fenced_coordinators_and_producers_are_refused() -> None:
    """Subtle 72."""
    state = ProducerStateManager()
    append(state, 0, epoch=2, transactional=True)
    state.append_marker(P, 2, 4, True, 1, 1000)
    with pytest.raises(LogAppendError) as caught:
        state.check_marker(P, 2, 3)
    assert caught.value.code == TRANSACTION_COORDINATOR_FENCED
    with pytest.raises(LogAppendError) as caught:
        state.check_marker(P, 1, 4)
    assert caught.value.code == INVALID_PRODUCER_EPOCH
    state.check_marker(P, 2, 4)


def test_silent_producers_expire_unless_a_transaction_is_open() -> None:
    state = ProducerStateManager()
    append(state, 0, producer=1)
    append(state, 0, producer=2, offset=1, transactional=True)
    assert state.remove_expired(1000 + 99, 100) == 0
    assert state.remove_expired(1000 + 100, 100) == 1
    assert list(state.producers) == [2]


def test_rollback_undoes_everything_since_the_last_commit() -> None:
    state = ProducerStateManager()
    append(state, 0, transactional=True)
    state.commit()
    before = (dict(state.producers), dict(state.ongoing), dict(state.unreplicated))
    append(state, 1, offset=1, transactional=True)
    append(state, 0, offset=2, producer=8, transactional=True)
    state.append_marker(P, 0, 0, True, 3, 1000)
    append(state, 2, offset=4)
    state.rollback()
    assert (state.producers, state.ongoing, state.unreplicated) == before
    append(state, 1, offset=1)
    state.commit()
    state.rollback()
    assert state.producers[P].last_sequence == 1


# -- a straightforward model: nothing is forgotten, every question is answered by looking at all of it

@dataclass
class Model:
    """epochs: (epoch, [(first, last) sequences]) of the current epoch of each producer."""

    epoch: dict[int, int] = field(default_factory=dict)
    batches: dict[int, list[tuple[int, int, int]]] = field(default_factory=dict)
    open_since: dict[int, int] = field(default_factory=dict)

    def verdict(self, producer: int, epoch: int, first: int, last: int, transactional: bool) -> str:
        current = self.epoch.get(producer)
        history = self.batches.get(producer, [])
        if current == epoch and (first, last) in [each[:2] for each in history[-5:]]:
            return "duplicate"
        if current is not None and epoch < current:
            return "fenced"
        if current is not None and epoch > current and first != 0:
            return "out of order"
        if current == epoch:
            expected = (history[-1][1] + 1) % (SEQUENCE_MAX + 1) if history else 0
            if first != expected:
                return "out of order"
        if producer in self.open_since and not transactional:
            return "not in transaction"
        return "appended"

    def append(self, producer: int, epoch: int, first: int, last: int, offset: int,
               transactional: bool) -> None:
        if self.epoch.get(producer) != epoch:
            self.batches[producer] = []
        self.epoch[producer] = epoch
        self.batches.setdefault(producer, []).append((first, last, offset))
        if transactional:
            self.open_since.setdefault(producer, offset)

    def mark(self, producer: int, epoch: int) -> None:
        if self.epoch.get(producer) != epoch:
            self.batches[producer] = []
        self.epoch[producer] = epoch
        self.open_since.pop(producer, None)


CODES = {INVALID_PRODUCER_EPOCH: "fenced", OUT_OF_ORDER_SEQUENCE_NUMBER: "out of order",
         INVALID_TXN_STATE: "not in transaction"}
# Sequences near the wrap and near each other, so that every rule is met often.
SEQUENCES = st.sampled_from([0, 1, 2, 3, 4, 5, 6, SEQUENCE_MAX - 1, SEQUENCE_MAX])
STEPS = st.lists(st.one_of(
    st.tuples(st.just("batch"), st.integers(1, 3), st.integers(0, 2), SEQUENCES, st.integers(1, 3),
              st.booleans()),
    st.tuples(st.just("marker"), st.integers(1, 3), st.integers(0, 2), st.just(0), st.just(1), st.booleans()),
), max_size=60)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_decisions_and_state_equal_a_straightforward_model(
        steps: list[tuple[str, int, int, int, int, bool]]) -> None:
    state, model = ProducerStateManager(), Model()
    for offset, (kind, producer, epoch, first, count, flag) in enumerate(steps):
        if kind == "marker":
            if epoch >= model.epoch.get(producer, -1):
                state.append_marker(producer, epoch, 0, flag, offset, 1000)
                model.mark(producer, epoch)
            continue
        last = (first + count - 1) & SEQUENCE_MAX
        expected = model.verdict(producer, epoch, first, last, flag)
        assert decide(state, producer, epoch, first, last, flag) == expected
        if expected == "appended":
            state.append_batch(producer, epoch, first, last, offset, offset, 1000, flag)
            model.append(producer, epoch, first, last, offset, flag)
    assert {producer: entry.producer_epoch for producer, entry in state.producers.items()} == model.epoch
    assert state.ongoing == {offset: producer for producer, offset in model.open_since.items()}
    for producer, history in model.batches.items():
        kept = [(each.first_sequence, each.last_sequence, each.first_offset)
                for each in state.producers[producer].batches]
        assert kept == history[-5:]


def decide(state: ProducerStateManager, producer: int, epoch: int, first: int, last: int,
           transactional: bool) -> str:
    continues = state.is_next(producer, epoch, first, transactional)
    if state.find_duplicate(producer, epoch, first, last) is not None:
        assert not continues
        return "duplicate"
    try:
        state.check_append(producer, epoch, first, transactional)
    except LogAppendError as error:
        assert not continues
        return CODES[error.code]
    return "appended"
