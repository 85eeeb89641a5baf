"""CreatePartitions: codes, placement and what is stored (behaviour 73)."""
from __future__ import annotations

import json
from typing import Any

import pytest

from broker.protocol.codec import encode
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import message_class
from controller.apis.create_partitions import create_partitions
from controller.apis.waiting import WaitingAnswer
from controller.metadata_store.operations import SetData
from tests.controller.memory_store import run
from tests.controller.world import World

E = ErrorCode
REQUEST = message_class("CreatePartitionsRequest")


def leading(*broker_ids: int, partitions: dict[int, tuple[int, ...]] | None = None) -> World:
    world = World(broker_ids or (1,))
    world.take_office()
    world.write_topic("t", partitions or {0: (1,)})
    world.settle()
    world.transcript()
    return world


def wish(name: str, count: int, assignments: list[list[int]] | None = None) -> Any:
    given = None
    if assignments is not None:
        given = [REQUEST.CreatePartitionsAssignment(broker_ids=ids) for ids in assignments]
    return REQUEST.CreatePartitionsTopic(name=name, count=count, assignments=given)


def grow(world: World, *topics: Any, validate_only: bool = False) -> WaitingAnswer:
    request = REQUEST(topics=list(topics), timeout_ms=1000, validate_only=validate_only)
    return run(create_partitions(world.runtime, request))


def codes(answer: WaitingAnswer) -> dict[str, ErrorCode]:
    return {result.name: ErrorCode(result.error_code) for result in answer.response.results}


def test_new_partitions_follow_the_old_ones_and_are_led_after_the_watch() -> None:
    world = leading(1, 2, 3, partitions={0: (2, 3), 1: (3, 1)})
    answer = grow(world, wish("t", 4))
    assert codes(answer) == {"t": E.NONE}
    node = json.loads(world.data("/brokers/topics/t") or b"")
    assert node["partitions"] == {"0": [2, 3], "1": [3, 1], "2": [1, 3], "3": [2, 3]}
    assert not answer.is_complete
    world.settle()
    assert world.leader_of("t", 3) == (2, 0, (2, 3))
    answer.leaders_known("t", [2, 3])
    assert answer.is_complete


def test_topic_keeps_its_id() -> None:
    world = leading()
    grow(world, wish("t", 2))
    assert json.loads(world.data("/brokers/topics/t") or b"")["topic_id"] == "AAAAAAAAAAAAAAAAAAAAAQ"


def test_given_assignment_is_taken() -> None:
    world = leading(1, 2, partitions={0: (1,)})
    grow(world, wish("t", 3, [[2], [1]]))
    assert json.loads(world.data("/brokers/topics/t") or b"")["partitions"] == {"0": [1], "1": [2], "2": [1]}


@pytest.mark.parametrize(("topic", "code"), [
    (wish("none", 2), E.UNKNOWN_TOPIC_OR_PARTITION),
    (wish("a/b", 2), E.UNKNOWN_TOPIC_OR_PARTITION),
    (wish("t", 2), E.INVALID_PARTITIONS),
    (wish("t", 1), E.INVALID_PARTITIONS),
    (wish("t", 3, [[9, 1]]), E.INVALID_REPLICA_ASSIGNMENT),
    (wish("t", 3, [[1, 2], [1, 2]]), E.INVALID_REPLICA_ASSIGNMENT),
    (wish("t", 3, []), E.INVALID_REPLICA_ASSIGNMENT),
    (wish("t", 3, [[]]), E.INVALID_REPLICA_ASSIGNMENT),
    (wish("t", 3, [[1, 1]]), E.INVALID_REPLICA_ASSIGNMENT),
    (wish("t", 3, [[1]]), E.INVALID_REPLICA_ASSIGNMENT),
])
def test_refused_wishes(topic: Any, code: ErrorCode) -> None:
    world = leading(1, 2, partitions={0: (1, 2), 1: (2, 1)})
    answer = grow(world, topic)
    assert list(codes(answer).values()) == [code]
    assert answer.response.results[0].error_message
    assert answer.is_complete
    assert world.transcript() == []


def test_duplicates_are_one_result() -> None:
    answer = grow(leading(), wish("t", 2), wish("t", 3))
    assert codes(answer) == {"t": E.INVALID_REQUEST}
    assert len(answer.response.results) == 1


def test_topic_being_deleted() -> None:
    world = leading()
    world.silent.add(1)
    world.mark_for_deletion("t")
    world.settle()
    assert codes(grow(world, wish("t", 2))) == {"t": E.INVALID_TOPIC_EXCEPTION}


def test_topic_being_reassigned() -> None:
    world = leading()
    run(world.store.submit([SetData("/brokers/topics/t", (
        b'{"version":3,"partitions":{"0":[2,1]},"adding_replicas":{"0":[2]},"removing_replicas":{"0":[1]}}'))]))
    assert codes(grow(world, wish("t", 2))) == {"t": E.REASSIGNMENT_IN_PROGRESS}


def test_unreadable_topic() -> None:
    world = leading()
    run(world.store.submit([SetData("/brokers/topics/t", b"{")]))
    assert codes(grow(world, wish("t", 2))) == {"t": E.UNKNOWN_SERVER_ERROR}


def test_fewer_brokers_alive_than_replicas() -> None:
    world = leading(1, 2, partitions={0: (1, 2)})
    world.fail(2)
    world.settle()
    assert codes(grow(world, wish("t", 2))) == {"t": E.INVALID_REPLICATION_FACTOR}


def test_validate_only_writes_nothing() -> None:
    world = leading()
    answer = grow(world, wish("t", 2), validate_only=True)
    assert codes(answer) == {"t": E.NONE}
    assert answer.is_complete
    assert world.transcript() == []


def test_time_out() -> None:
    answer = grow(leading(), wish("t", 2))
    answer.time_out()
    assert codes(answer) == {"t": E.REQUEST_TIMED_OUT}


@pytest.mark.parametrize("version", range(4))
def test_answer_can_be_encoded_in_every_version(version: int) -> None:
    encode(grow(leading(), wish("t", 2), wish("none", 1)).response, version)
