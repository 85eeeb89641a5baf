"""CreateTopics: Kafka's codes in Kafka's order of checks (behaviours 24, 73, 74), and what is stored."""
from __future__ import annotations

import json
from typing import Any

import pytest

from broker.protocol.codec import decode, encode
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import message_class
from controller import znodes
from controller.apis.create_topics import create_topics
from controller.apis.waiting import WaitingAnswer
from controller.metadata_store.operations import Create
from tests.controller.memory_store import run
from tests.controller.world import World, creatable, create_topics_request

E = ErrorCode


def leading(*broker_ids: int, **properties: str) -> World:
    world = World(broker_ids or (1,), **properties)
    world.take_office()
    world.transcript()
    return world


def create(world: World, *topics: Any, **options: Any) -> WaitingAnswer:
    request = create_topics_request(*topics, **options)
    return run(create_topics(world.runtime, world.config, request, lambda below: 0))


def codes(answer: WaitingAnswer) -> list[ErrorCode]:
    return [ErrorCode(result.error_code) for result in answer.response.topics]


def code_of(world: World, topic: Any) -> ErrorCode:
    (code,) = codes(create(world, topic))
    return code


def test_topic_and_configuration_are_one_transaction_and_led_after_the_watch() -> None:
    world = leading()
    answer = create(world, creatable("t", 2, 1, configs={"retention.ms": "1000"}))
    written = world.transcript()
    assert [line.split()[:2] for line in written] == [
        ["create", "/config/topics/t"], ["create", "/brokers/topics/t"]]
    assert json.loads(world.data("/config/topics/t") or b"") == {"version": 1, "config": {"retention.ms": "1000"}}
    config, topic = (world.server.tree.node(f"/{place}/topics/t") for place in ("config", "brokers"))
    assert config is not None and topic is not None
    assert config.czxid == topic.czxid
    assert not answer.is_complete
    world.settle()
    assert world.leader_of("t", 1) == (1, 0, (1,))


def test_result_describes_the_topic() -> None:
    world = leading()
    (result,) = create(world, creatable("t", 3, 1, configs={"retention.ms": "1000"})).response.topics
    assert (result.num_partitions, result.replication_factor, result.error_message) == (3, 1, None)
    assert result.topic_id == bytes(15) + b"\x01"
    configs = {config.name: (config.value, config.config_source) for config in result.configs}
    assert configs["retention.ms"] == ("1000", 1)
    assert configs["segment.bytes"] == ("1073741824", 5)
    assert len(configs) == 36


@pytest.mark.parametrize("version", range(8))
def test_answer_can_be_encoded_in_every_version(version: int) -> None:
    answer = create(leading(), creatable("t", 1, 1), creatable("..", 1, 1))
    response = message_class("CreateTopicsResponse")
    decoded, _ = decode(response, encode(answer.response, version), version)
    assert [topic.error_code for topic in decoded.topics] == [0, E.INVALID_TOPIC_EXCEPTION]


def test_defaults_of_the_broker() -> None:
    world = leading(1, 2, num_partitions="5", default_replication_factor="2")
    (result,) = create(world, creatable("t")).response.topics
    assert (result.num_partitions, result.replication_factor) == (5, 2)


def test_placement_starts_at_the_random_numbers() -> None:
    world = leading(1, 2, 3)
    asked: list[int] = []

    def random_index(below: int) -> int:
        asked.append(below)
        return 2 if len(asked) == 1 else 0

    run(create_topics(world.runtime, world.config, create_topics_request(creatable("t", 2, 2)), random_index))
    assert asked == [3, 3]
    assert json.loads(world.data("/brokers/topics/t") or b"")["partitions"] == {"0": [3, 1], "1": [1, 2]}


def test_manual_assignment_may_name_brokers_that_do_not_exist() -> None:
    world = leading()
    answer = create(world, creatable("t", assignments={0: [7], 1: [1]}))
    assert codes(answer) == [E.NONE]
    world.settle()
    assert world.leader_of("t", 1) == (1, 0, (1,))
    assert not world.exists("/brokers/topics/t/partitions/0")


@pytest.mark.parametrize(("topic", "code"), [
    (creatable("", 1, 1), E.INVALID_TOPIC_EXCEPTION),
    (creatable(".", 1, 1), E.INVALID_TOPIC_EXCEPTION),
    (creatable("..", 1, 1), E.INVALID_TOPIC_EXCEPTION),
    (creatable("a/b", 1, 1), E.INVALID_TOPIC_EXCEPTION),
    (creatable("ä", 1, 1), E.INVALID_TOPIC_EXCEPTION),
    (creatable("x" * 250, 1, 1), E.INVALID_TOPIC_EXCEPTION),
    (creatable("t", 0, 1), E.INVALID_PARTITIONS),
    (creatable("t", -2, 1), E.INVALID_PARTITIONS),
    (creatable("t", 65_537, 1), E.INVALID_PARTITIONS),
    (creatable("t", 2**31 - 1, 1), E.INVALID_PARTITIONS),
    (creatable("t", 1, 0), E.INVALID_REPLICATION_FACTOR),
    (creatable("t", 1, 2), E.INVALID_REPLICATION_FACTOR),
    (creatable("..", 1, 2), E.INVALID_REPLICATION_FACTOR),
    (creatable("t", 1, -1, assignments={0: [1]}), E.INVALID_REQUEST),
    (creatable("t", -1, 1, assignments={0: [1]}), E.INVALID_REQUEST),
    (creatable("t", assignments={1: [1]}), E.INVALID_REPLICA_ASSIGNMENT),
    (creatable("t", assignments={0: [1], 2: [1]}), E.INVALID_REPLICA_ASSIGNMENT),
    (creatable("t", assignments={-1: [1], 0: [1]}), E.INVALID_REPLICA_ASSIGNMENT),
    (creatable("t", assignments={0: [1], 1: [1, 2]}), E.INVALID_REPLICA_ASSIGNMENT),
    (creatable("t", assignments={0: [1, 1]}), E.INVALID_REPLICA_ASSIGNMENT),
    (creatable("t", 1, 1, configs={"no.such.key": "1"}), E.INVALID_CONFIG),
    (creatable("t", 1, 1, configs={"retention.ms": "soon"}), E.INVALID_CONFIG),
    (creatable("t", 1, 1, configs={"retention.ms": None}), E.INVALID_CONFIG),
    (creatable("t", 1, 1, configs={"min.compaction.lag.ms": "2", "max.compaction.lag.ms": "1"}), E.INVALID_CONFIG),
    (creatable("__cluster_metadata", 1, 1), E.INVALID_REQUEST),
])
def test_refused_topics(topic: Any, code: ErrorCode) -> None:
    world = leading()
    answer = create(world, topic)
    assert codes(answer) == [code]
    assert answer.is_complete
    (result,) = answer.response.topics
    assert result.error_message
    assert (result.num_partitions, result.replication_factor, result.configs) == (-1, -1, [])
    assert world.transcript() == []


def test_longest_name_is_allowed() -> None:
    assert code_of(leading(), creatable("x" * 249, 1, 1)) == E.NONE


def test_racks_on_some_brokers_only_have_no_code_of_their_own() -> None:
    world = leading(1, 2)
    world.register(2, rack="a")
    world.settle()
    assert code_of(world, creatable("t", 1, 1)) == E.UNKNOWN_SERVER_ERROR


def test_duplicates_are_refused_in_every_copy_and_others_are_created() -> None:
    world = leading()
    answer = create(world, creatable("t", 1, 1), creatable("u", 1, 1), creatable("t", 1, 1))
    assert codes(answer) == [E.INVALID_REQUEST, E.NONE, E.INVALID_REQUEST]
    assert world.children(znodes.TOPICS) == ["u"]


def test_existing_topic_whether_led_written_or_leaving() -> None:
    world = leading()
    create(world, creatable("led", 1, 1))
    world.settle()
    create(world, creatable("written", 1, 1))
    create(world, creatable("leaving", 1, 1))
    world.settle()
    world.silent.add(1)
    world.mark_for_deletion("leaving")
    world.settle()
    for name in ("led", "written", "leaving"):
        assert code_of(world, creatable(name, 1, 1)) == E.TOPIC_ALREADY_EXISTS


def test_names_that_differ_only_in_dot_and_underscore_collide() -> None:
    world = leading()
    create(world, creatable("a.b", 1, 1))
    assert code_of(world, creatable("a_b", 1, 1)) == E.INVALID_TOPIC_EXCEPTION
    assert code_of(world, creatable("a-b", 1, 1)) == E.NONE
    assert code_of(world, creatable("a.b", 1, 1)) == E.TOPIC_ALREADY_EXISTS


def test_colliding_names_in_one_request_leave_the_first() -> None:
    answer = create(leading(), creatable("a.b", 1, 1), creatable("a_b", 1, 1))
    assert codes(answer) == [E.NONE, E.INVALID_TOPIC_EXCEPTION]
    only_checked = create(leading(), creatable("a.b", 1, 1), creatable("a_b", 1, 1), validate_only=True)
    assert codes(only_checked) == [E.NONE, E.NONE]


def test_configuration_left_behind_is_overwritten() -> None:
    world = leading()
    run(world.store.submit([Create("/config/topics/t", b'{"version":1,"config":{"retention.ms":"1"}}')]))
    assert code_of(world, creatable("t", 1, 1)) == E.NONE
    assert world.data("/config/topics/t") == b'{"version":1,"config":{}}'


def test_validate_only_checks_and_describes_but_writes_nothing() -> None:
    world = leading()
    answer = create(world, creatable("t", 2, 1), creatable("t2", 2, 9), validate_only=True)
    assert codes(answer) == [E.NONE, E.INVALID_REPLICATION_FACTOR]
    assert answer.is_complete
    assert (answer.response.topics[0].num_partitions, answer.response.topics[0].topic_id) == (2, bytes(16))
    assert world.transcript() == []


def test_answer_waits_for_leaders_of_all_partitions() -> None:
    answer = create(leading(), creatable("t", 2, 1))
    answer.leaders_known("other", [0, 1])
    answer.leaders_known("t", [0])
    assert not answer.is_complete
    answer.leaders_known("t", [1])
    assert answer.is_complete
    assert codes(answer) == [E.NONE]


def test_time_out_marks_only_what_is_missing_although_it_exists() -> None:
    world = leading()
    answer = create(world, creatable("t", 1, 1), creatable("u", 1, 1))
    answer.leaders_known("u", [0])
    answer.time_out()
    assert codes(answer) == [E.REQUEST_TIMED_OUT, E.NONE]
    late, fine = answer.response.topics
    assert (late.num_partitions, late.configs, late.error_message) == (-1, [], None)
    assert fine.num_partitions == 1
    assert world.children(znodes.TOPICS) == ["t", "u"]


def test_topics_have_no_ids_below_inter_broker_version_2_8() -> None:
    world = leading(1, inter_broker_protocol_version="2.7")
    (result,) = create(world, creatable("t", 1, 1)).response.topics
    assert result.topic_id == bytes(16)
    assert "topic_id" not in json.loads(world.data("/brokers/topics/t") or b"")
