"""The topic of the groups is asked for as Kafka asks for it; what goes wrong is said once."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
import trio.testing

from broker.client.controller_link import ControllerUnavailableError
from broker.coordinators.internal_topics import InternalTopics
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import response_class

pytestmark = pytest.mark.trio
CONFIG = {
    "offsets.topic.num.partitions": 50, "offsets.topic.replication.factor": 3,
    "offsets.topic.segment.bytes": 104857600,
}  # fmt: skip
CreateTopicsResponse = response_class(ApiKey.CREATE_TOPICS)


class Controller:
    """Answers every request with the error in `error`; None: it is away."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.error: ErrorCode | None = ErrorCode.NONE

    async def request(self, api_key: ApiKey, version: int, message: Any) -> Any:
        self.asked.append(message)
        await trio.sleep(1)
        if self.error is None:
            raise ControllerUnavailableError("the controller process is gone")
        result = CreateTopicsResponse.CreatableTopicResult(
            name="__consumer_offsets", error_code=int(self.error), error_message="because"
        )
        return CreateTopicsResponse(topics=[result])


@pytest.fixture
def controller() -> Controller:
    return Controller()


@pytest.fixture
def topics(controller: Controller) -> InternalTopics:
    return InternalTopics(controller, CONFIG)  # type: ignore[arg-type]


async def test_the_request_is_kafka_s(
    controller: Controller, topics: InternalTopics, autojump_clock: trio.testing.MockClock
) -> None:
    await topics.create_group_metadata()
    ((topic,),) = [message.topics for message in controller.asked]
    assert (topic.name, topic.num_partitions, topic.replication_factor) == ("__consumer_offsets", 50, 3)
    assert {entry.name: entry.value for entry in topic.configs} == {
        "cleanup.policy": "compact", "segment.bytes": "104857600", "compression.type": "producer",
    }  # fmt: skip


async def test_one_creation_at_a_time(
    controller: Controller, topics: InternalTopics, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(topics.create_group_metadata)
    assert len(controller.asked) == 1
    await topics.create_group_metadata()
    assert len(controller.asked) == 2


@pytest.mark.parametrize("error", [ErrorCode.INVALID_REPLICATION_FACTOR, None])
async def test_failures_are_said_once_and_tried_again(
    controller: Controller, topics: InternalTopics, error: ErrorCode | None, caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:  # fmt: skip
    controller.error = error
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await topics.create_group_metadata()
    assert len(controller.asked) == 3
    (line,) = caplog.messages
    assert ("because" if error else "gone") in line


@pytest.mark.parametrize("error", [ErrorCode.TOPIC_ALREADY_EXISTS, ErrorCode.REQUEST_TIMED_OUT])
async def test_somebody_else_was_quicker(
    controller: Controller, topics: InternalTopics, error: ErrorCode, caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:  # fmt: skip
    controller.error = error
    await topics.create_group_metadata()
    assert not caplog.messages
