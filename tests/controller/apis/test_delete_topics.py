"""DeleteTopics: codes by version, by name and by id, and what is waited for (behaviour 75)."""
from __future__ import annotations

from typing import Any

import pytest

from broker.protocol.codec import encode
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import message_class
from controller import znodes
from controller.apis.delete_topics import delete_topics
from controller.apis.waiting import WaitingAnswer
from tests.controller.memory_store import run
from tests.controller.world import World

E = ErrorCode
REQUEST = message_class("DeleteTopicsRequest")
NO_ID = bytes(16)


def leading(**properties: str) -> World:
    world = World((1,), **properties)
    world.take_office()
    world.write_topic("t", {0: (1,)})
    world.settle()
    world.transcript()
    return world


def by_name(*names: str) -> Any:
    return REQUEST(topic_names=list(names), timeout_ms=1000)


def by_state(*topics: tuple[str | None, bytes]) -> Any:
    return REQUEST(timeout_ms=1000, topics=[
        REQUEST.DeleteTopicState(name=name, topic_id=topic_id) for name, topic_id in topics])


def delete(world: World, request: Any, version: int = 6) -> WaitingAnswer:
    return run(delete_topics(world.runtime, request, version))


def codes(answer: WaitingAnswer) -> list[ErrorCode]:
    return [ErrorCode(result.error_code) for result in answer.response.responses]


def test_topic_is_marked_and_the_answer_waits_for_its_end() -> None:
    world = leading()
    answer = delete(world, by_name("t"), 5)
    assert world.transcript() == ["create /admin/delete_topics/t"]
    assert not answer.is_complete
    world.runtime.on_topics_went = answer.topics_went
    world.settle()
    assert answer.is_complete
    assert codes(answer) == [E.NONE]
    assert not world.exists("/brokers/topics/t")


def test_topic_is_found_by_id_and_named_in_the_answer() -> None:
    world = leading()
    topic_id = world.runtime.state.topics["t"].topic_id
    answer = delete(world, by_state((None, topic_id)))
    (result,) = answer.response.responses
    assert (result.name, result.topic_id, result.error_code) == ("t", topic_id, E.NONE)
    assert world.children(znodes.DELETE_TOPICS) == ["t"]


def test_unknown_names_and_ids() -> None:
    answer = delete(leading(), by_state(("none", NO_ID), (None, b"x" * 16), ("a/b", NO_ID)))
    assert codes(answer) == [E.UNKNOWN_TOPIC_OR_PARTITION, E.UNKNOWN_TOPIC_ID, E.UNKNOWN_TOPIC_OR_PARTITION]
    assert answer.is_complete


def test_name_and_id_together_refuse_the_whole_request() -> None:
    world = leading()
    answer = delete(world, by_state(("t", b"x" * 16), ("t", NO_ID)))
    assert codes(answer) == [E.INVALID_REQUEST, E.INVALID_REQUEST]
    assert world.transcript() == []


@pytest.mark.parametrize(("version", "code"), [(2, E.INVALID_REQUEST), (3, E.TOPIC_DELETION_DISABLED)])
def test_disabled_deletion(version: int, code: ErrorCode) -> None:
    world = leading(delete_topic_enable="false")
    assert codes(delete(world, by_name("t"), version)) == [code]
    assert world.transcript() == []


def test_marked_topic_is_waited_for_and_is_no_error() -> None:
    world = leading()
    world.silent.add(1)
    world.mark_for_deletion("t")
    world.settle()
    answer = delete(world, by_name("t"), 5)
    assert not answer.is_complete
    world.runtime.on_topics_went = answer.topics_went
    world.silent.clear()
    world.settle()
    assert codes(answer) == [E.NONE]
    assert answer.is_complete


def test_topic_written_but_not_yet_led_can_be_deleted() -> None:
    world = leading()
    world.write_topic("new", {0: (1,)})
    answer = delete(world, by_name("new"), 5)
    world.runtime.on_topics_went = answer.topics_went
    world.settle()
    assert codes(answer) == [E.NONE]
    assert answer.is_complete and not world.exists("/brokers/topics/new")


def test_time_out_marks_every_copy() -> None:
    answer = delete(leading(), by_name("t", "t", "none"), 5)
    answer.time_out()
    assert codes(answer) == [E.REQUEST_TIMED_OUT, E.REQUEST_TIMED_OUT, E.UNKNOWN_TOPIC_OR_PARTITION]


@pytest.mark.parametrize("version", range(7))
def test_answer_can_be_encoded_in_every_version(version: int) -> None:
    encode(delete(leading(), by_name("t", "none"), version).response, version)
