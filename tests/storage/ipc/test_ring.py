"""The rings of one link, both ends in one process; test_stress.py has them in two."""
from __future__ import annotations

import pytest

from storage.ipc.entries import CompletionKind
from storage.ipc.layout import (
    COMPLETION_RING_ENTRIES,
    CREDIT_SUBMISSIONS_MAX,
    IN_FLIGHT_MAX,
    SUBMISSION_RING_ENTRIES,
    UNASKED_CREDITS,
)
from storage.ipc.ring import RingError, RingFullError
from tests.storage.ipc.links import Link, completion, submission

UNASKED = int(CompletionKind.LOG_START_MOVED)


def test_entries_arrive_in_order_with_every_field() -> None:
    link = Link()
    producer, consumer = link.front_end()
    storage_consumer, storage_producer = link.storage()
    for number in range(10):
        producer.put(*submission(number))
    assert storage_consumer.take() == []
    assert producer.flush() == 10
    assert storage_consumer.take() == [submission(number) for number in range(10)]
    for number in range(10):
        storage_producer.put(*completion(number))
    assert consumer.take() == []
    assert storage_producer.flush() == 10
    assert consumer.take() == [completion(number) for number in range(10)]


def test_the_consumer_takes_what_the_doorbell_says_and_not_what_the_tail_word_says() -> None:
    link = Link()
    producer, _ = link.front_end()
    consumer, _ = link.storage()
    producer.put(*submission(1))
    producer.put(*submission(2))
    producer.flush()
    link.doorbells.submissions.take()
    link.doorbells.submissions.ring(1)
    assert consumer.take() == [submission(1)]


def test_a_flush_without_entries_rings_nothing() -> None:
    link = Link()
    producer, _ = link.front_end()
    assert producer.flush() == 0
    assert link.doorbells.submissions.take() == 0


def test_runs_over_the_end_of_the_ring_stay_in_order() -> None:
    link = Link()
    producer, consumer = link.front_end()
    storage_consumer, storage_producer = link.storage()
    run, number = 3001, 0
    while number < 5 * COMPLETION_RING_ENTRIES:
        numbers = range(number, number + run)
        for each in numbers:
            producer.put(*submission(each))
        producer.flush()
        assert storage_consumer.take() == [submission(each) for each in numbers]
        for each in numbers:
            storage_producer.put(*completion(each))
        storage_producer.flush()
        assert consumer.take() == [completion(each) for each in numbers]
        number += run


def test_submissions_are_bounded_until_their_completions_are_taken() -> None:
    link = Link()
    producer, consumer = link.front_end()
    storage_consumer, storage_producer = link.storage()
    for number in range(IN_FLIGHT_MAX):
        producer.put(*submission(number))
    with pytest.raises(RingFullError):
        producer.put(*submission(0))
    producer.flush()
    storage_consumer.take()
    assert producer.free_count == 0, "reading alone gives no room"
    storage_producer.put(*completion(0))
    storage_producer.flush()
    assert producer.free_count == 0, "nor does a completion that was not taken"
    consumer.take()
    assert producer.free_count == 1
    assert producer.in_flight_count == IN_FLIGHT_MAX - 1


def test_everything_in_flight_and_unasked_fits_the_completion_ring() -> None:
    link = Link()
    producer, consumer = link.front_end()
    storage_consumer, storage_producer = link.storage()
    for number in range(IN_FLIGHT_MAX):
        producer.put(*submission(number))
    producer.flush()
    storage_consumer.take()
    expected = []
    while storage_producer.put_unasked(*completion(len(expected), UNASKED)):
        expected.append(completion(len(expected), UNASKED))
    for number in range(IN_FLIGHT_MAX):
        storage_producer.put(*completion(number))
        expected.append(completion(number))
    assert len(expected) <= COMPLETION_RING_ENTRIES
    storage_producer.flush()
    assert consumer.take() == expected


def test_a_second_answer_is_our_bug() -> None:
    link = Link()
    producer, _ = link.front_end()
    storage_consumer, storage_producer = link.storage()
    with pytest.raises(RingError, match="without an unanswered submission"):
        storage_producer.put(*completion(0))
    producer.put(*submission(0))
    producer.flush()
    storage_consumer.take()
    storage_producer.put(*completion(0))
    with pytest.raises(RingError, match="without an unanswered submission"):
        storage_producer.put(*completion(0))


def test_unasked_completions_stop_at_their_credit_and_go_on_when_it_comes_back() -> None:
    link = Link()
    producer, consumer = link.front_end()
    storage_consumer, storage_producer = link.storage()
    for number in range(UNASKED_CREDITS):
        assert storage_producer.put_unasked(*completion(number, UNASKED))
    assert not storage_producer.put_unasked(*completion(0, UNASKED))
    storage_producer.flush()
    assert len(consumer.take()) == UNASKED_CREDITS
    assert producer.flush() == 1
    assert storage_consumer.take() == [], "a CREDIT is taken by the ring itself"
    assert storage_producer.unasked_credit == UNASKED_CREDITS
    assert producer.free_count == IN_FLIGHT_MAX


def test_an_answer_kind_is_never_unasked() -> None:
    _, storage_producer = Link().storage()
    with pytest.raises(RingError, match="is an answer"):
        storage_producer.put_unasked(*completion(0))


def test_credits_alone_never_overrun_the_submission_ring() -> None:
    """Storage publishes unasked completions as fast as credit comes, the front end submits nothing else."""
    link = Link()
    producer, consumer = link.front_end()
    storage_consumer, storage_producer = link.storage()
    unread_max = sent = 0
    for number in range(3 * SUBMISSION_RING_ENTRIES * UNASKED_CREDITS // 64):
        if not storage_producer.put_unasked(*completion(number, UNASKED)):
            unread_max = max(unread_max, sent)
            storage_consumer.take()
            sent = 0
            assert storage_producer.put_unasked(*completion(number, UNASKED))
        storage_producer.flush()
        consumer.take()
        sent += producer.flush()
    assert unread_max <= CREDIT_SUBMISSIONS_MAX


def test_a_full_ring_still_has_room_for_credits() -> None:
    link = Link()
    producer, consumer = link.front_end()
    storage_consumer, storage_producer = link.storage()
    for number in range(IN_FLIGHT_MAX):
        producer.put(*submission(number))
    producer.flush()
    for number in range(UNASKED_CREDITS):
        storage_producer.put_unasked(*completion(number, UNASKED))
        storage_producer.flush()
        consumer.take()
        producer.flush()
    assert storage_consumer.take() == [submission(number) for number in range(IN_FLIGHT_MAX)]
    assert storage_producer.unasked_credit == UNASKED_CREDITS


def test_take_over_finds_what_was_published_without_a_doorbell() -> None:
    link = Link()
    producer, consumer = link.front_end()
    storage_consumer, storage_producer = link.storage()
    for number in range(4):
        producer.put(*submission(number))
    producer.flush()
    storage_consumer.take()
    storage_producer.put(*completion(0))
    storage_producer.flush()
    storage_producer.put(*completion(1))
    link.ring.completion_tail.store(2)
    storage_producer.put(*completion(2))
    assert consumer.take_over() == [completion(0), completion(1)]
    assert consumer.take_over() == []


def test_a_senseless_count_is_refused() -> None:
    link = Link()
    _, consumer = link.front_end()
    storage_consumer, _ = link.storage()
    link.doorbells.completions.ring(COMPLETION_RING_ENTRIES + 1)
    with pytest.raises(RingError, match="8193 completions announced"):
        consumer.take()
    link.doorbells.submissions.ring(SUBMISSION_RING_ENTRIES + 1)
    with pytest.raises(RingError, match="4097 submissions announced"):
        storage_consumer.take()


def test_the_wrong_generation_opens_nothing() -> None:
    link = Link()
    link.ring.reset(9)
    with pytest.raises(RingError, match="is in generation 9, not 1"):
        link.front_end()
    with pytest.raises(RingError, match="is in generation 9, not 1"):
        link.storage()


def test_a_new_generation_begins_empty() -> None:
    link = Link()
    producer, _ = link.front_end()
    producer.put(*submission(1))
    producer.flush()
    link.renew()
    producer, consumer = link.front_end()
    storage_consumer, storage_producer = link.storage()
    assert storage_consumer.take() == []
    producer.put(*submission(2))
    producer.flush()
    assert storage_consumer.take() == [submission(2)]
    storage_producer.put(*completion(2))
    storage_producer.flush()
    assert consumer.take() == [completion(2)]


@pytest.mark.parametrize("slot", [(0, 0), (0, 1), (65535, 2**32 - 1)])
def test_the_working_slot_tells_whose_entry_was_the_last(slot: tuple[int, int]) -> None:
    link = Link().ring
    assert link.working_slot() is None
    link.publish_working_slot(*slot)
    assert link.working_slot() == slot
    link.clear_working_slot()
    assert link.working_slot() is None
