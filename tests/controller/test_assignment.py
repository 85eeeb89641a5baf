"""Placement of new partitions, against the examples in Kafka's documentation of it (behaviour 74)."""
from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.assignment import (
    IncompleteRacksError,
    InvalidPartitionCountError,
    InvalidReplicationFactorError,
    assign_replicas,
)

FIVE: dict[int, str | None] = dict.fromkeys(range(5))


def test_replicas_go_round_the_brokers_with_a_growing_shift() -> None:
    assert assign_replicas(FIVE, 10, 3, start_index=0, replica_shift=0) == {
        0: (0, 1, 2), 1: (1, 2, 3), 2: (2, 3, 4), 3: (3, 4, 0), 4: (4, 0, 1),
        5: (0, 2, 3), 6: (1, 3, 4), 7: (2, 4, 0), 8: (3, 0, 1), 9: (4, 1, 2)}


def test_start_and_shift_are_the_caller_s_random_numbers() -> None:
    assert assign_replicas(FIVE, 2, 2, start_index=3, replica_shift=2) == {0: (3, 1), 1: (4, 2)}


def test_growing_topic_goes_on_where_it_stands() -> None:
    whole = assign_replicas(FIVE, 7, 2, start_index=1, replica_shift=1)
    grown = assign_replicas(FIVE, 4, 2, start_index=1, replica_shift=1, first_partition=3)
    assert grown == {number: whole[number] for number in range(3, 7)}


def test_single_broker_takes_everything() -> None:
    assert assign_replicas({7: None}, 3, 1, start_index=0, replica_shift=0) == {0: (7,), 1: (7,), 2: (7,)}


def test_racks_alternate_and_each_replica_has_its_own_while_there_are_enough() -> None:
    racks: dict[int, str | None] = {0: "1", 1: "3", 2: "3", 3: "2", 4: "2", 5: "1"}
    assert assign_replicas(racks, 7, 3, start_index=0, replica_shift=0) == {
        0: (0, 3, 1), 1: (3, 1, 5), 2: (1, 5, 4), 3: (5, 4, 2), 4: (4, 2, 0), 5: (2, 0, 3), 6: (0, 4, 2)}


@pytest.mark.parametrize(("partitions", "replicas", "error"), [
    (0, 1, InvalidPartitionCountError), (-1, 1, InvalidPartitionCountError),
    (1, 0, InvalidReplicationFactorError), (1, 6, InvalidReplicationFactorError),
])
def test_impossible_wishes(partitions: int, replicas: int, error: type) -> None:
    with pytest.raises(error):
        assign_replicas(FIVE, partitions, replicas, start_index=0, replica_shift=0)


def test_no_broker_alive() -> None:
    with pytest.raises(InvalidReplicationFactorError):
        assign_replicas({}, 1, 1, start_index=0, replica_shift=0)


def test_racks_on_some_brokers_only_are_refused_by_name() -> None:
    with pytest.raises(IncompleteRacksError, match=r"\[2\] have no broker.rack"):
        assign_replicas({1: "a", 2: None}, 1, 1, start_index=0, replica_shift=0)


@given(racks=st.lists(st.sampled_from("abc"), min_size=1, max_size=7), partitions=st.integers(1, 30),
       start=st.integers(0, 6), shift=st.integers(0, 6), data=st.data())
def test_every_assignment_is_valid_and_leaders_are_even(
        racks: list[str], partitions: int, start: int, shift: int, data: st.DataObject) -> None:
    brokers: dict[int, str | None] = dict(enumerate(racks))
    factor = data.draw(st.integers(1, len(racks)))
    assignment = assign_replicas(brokers, partitions, factor, start_index=start, replica_shift=shift)
    for replicas in assignment.values():
        assert len(set(replicas)) == factor
        used = Counter(brokers[broker_id] for broker_id in replicas)
        assert len(used) == min(factor, len(set(racks)))
    leaders = Counter(replicas[0] for replicas in assignment.values())
    assert max(leaders.values()) - min(leaders[broker_id] for broker_id in brokers) <= 1
