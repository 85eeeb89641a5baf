"""Overrides are there before the logs of a topic that another node's controller speaks of."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio
import trio.testing

from broker.client.controller_link import ControllerUnavailableError
from broker.client.topic_overrides import ARRIVAL_WAIT_S, UNKNOWN_WAIT_S_MAX, TopicOverrides
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import response_class

pytestmark = pytest.mark.trio

TOPIC_ID = bytes(range(16))


class Link:
    """A controller process. asked: topics of each request. problems: what the next requests meet instead.
    unknown: topics that the store does not know."""

    def __init__(self) -> None:
        self.unknown: set[str] = set()
        self.asked: list[list[str]] = []
        self.problems: list[ErrorCode | None] = []

    async def request(self, api_key: int, version: int, message: Any) -> Any:
        self.asked.append(sorted(resource.resource_name for resource in message.resources))
        self.ids = [resource.configuration_keys for resource in message.resources]
        await trio.lowlevel.checkpoint()
        code = self.problems.pop(0) if self.problems else ErrorCode.NONE
        if code is None:
            raise ControllerUnavailableError("restarting")
        response = response_class(api_key)
        return response(results=[response.DescribeConfigsResult(
            error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if resource.resource_name in self.unknown else code,
            error_message=None, resource_name=resource.resource_name)
            for resource in message.resources])  # fmt: skip


class Learner:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.link = Link()
        self.overrides = TopicOverrides(cast(Any, self.link))
        self.has_learned = False
        self.absent: set[str] = set()
        self._nursery = nursery

    def learn(self, *topics: str) -> None:
        self._nursery.start_soon(self._learn, topics)

    async def _learn(self, topics: tuple[str, ...]) -> None:
        self.absent = await self.overrides.learn(dict.fromkeys(topics, TOPIC_ID))
        self.has_learned = True


@pytest.fixture
def learner(nursery: trio.Nursery) -> Learner:
    return Learner(nursery)


async def test_it_waits_until_every_topic_has_arrived(learner: Learner) -> None:
    learner.learn("t", "u")
    await trio.testing.wait_all_tasks_blocked()
    learner.overrides.arrived("t")
    await trio.testing.wait_all_tasks_blocked()
    assert not learner.has_learned
    assert not learner.overrides.is_synchronized
    learner.overrides.arrived("u")
    await trio.testing.wait_all_tasks_blocked()
    assert learner.has_learned
    assert learner.overrides.is_synchronized
    assert learner.link.asked == [["t", "u"]]


async def test_the_topic_of_that_id_is_asked_for(learner: Learner) -> None:
    learner.learn("t")
    await trio.testing.wait_all_tasks_blocked()
    assert learner.link.ids == [["AAECAwQFBgcICQoLDA0ODw"]]


async def test_nothing_to_learn_asks_nobody(learner: Learner) -> None:
    learner.learn()
    await trio.testing.wait_all_tasks_blocked()
    assert learner.has_learned
    assert learner.link.asked == []


async def test_without_the_store_it_asks_for_ever(
        learner: Learner, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    learner.link.problems = [ErrorCode.NOT_CONTROLLER, None] * 50
    learner.learn("t")
    await trio.sleep(200)
    assert len(learner.link.asked) > 100
    assert not learner.has_learned
    assert caplog.text.count("cannot be had yet") == 1
    learner.overrides.arrived("t")
    await trio.testing.wait_all_tasks_blocked()
    assert learner.has_learned


async def test_what_died_with_the_controller_process_is_asked_for_again(
        learner: Learner, autojump_clock: trio.testing.MockClock) -> None:
    learner.learn("t", "u")
    await trio.testing.wait_all_tasks_blocked()
    learner.overrides.arrived("t")
    await trio.sleep(ARRIVAL_WAIT_S + 1)
    assert learner.link.asked == [["t", "u"], ["u"]]


async def test_a_topic_that_the_store_does_not_know_yet_is_asked_for_again(
        learner: Learner, autojump_clock: trio.testing.MockClock) -> None:
    learner.link.unknown = {"t"}
    learner.learn("t", "u")
    await trio.testing.wait_all_tasks_blocked()
    learner.overrides.arrived("u")
    await trio.sleep(3)
    assert not learner.has_learned
    assert learner.link.asked[1] == ["t"]
    learner.link.unknown = set()
    await trio.sleep(1)
    learner.overrides.arrived("t")
    await trio.sleep(0.01)
    assert learner.has_learned
    assert learner.absent == set()


async def test_and_given_up_after_a_while(learner: Learner, autojump_clock: trio.testing.MockClock) -> None:
    learner.link.unknown = {"t"}
    learner.learn("t")
    await trio.sleep(UNKNOWN_WAIT_S_MAX - 1)
    assert not learner.has_learned
    await trio.sleep(2)
    assert learner.absent == {"t"}


async def test_overrides_that_nobody_waits_for(learner: Learner) -> None:
    learner.overrides.arrived("t")
    assert not learner.overrides.is_synchronized
