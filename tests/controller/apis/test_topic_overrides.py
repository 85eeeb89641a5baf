"""DescribeConfigs of the own front end: what the store holds goes out as AlterConfigs, and the answer says so."""
from __future__ import annotations

from typing import Any

import pytest

from broker.protocol.codec import encode
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import message_class
from broker.protocol.primitives import uuid_to_text
from controller import znodes
from controller.apis.topic_overrides import refuse_topic_overrides, send_topic_overrides
from tests.controller.memory_store import run
from tests.controller.world import World

E = ErrorCode


def request(*topics: str) -> Any:
    described = message_class("DescribeConfigsRequest")
    return described(resources=[described.DescribeConfigsResource(resource_type=2, resource_name=topic)
                                for topic in topics])


def ask(world: World, *topics: str) -> dict[str, int]:
    response = run(send_topic_overrides(world.runtime, request(*topics)))
    encode(response, 4)
    world.settle()
    return {result.resource_name: result.error_code for result in response.results}


def create(world: World, topic: str, **configs: str) -> None:
    world.write_topic(topic, {0: (2,)}, {name.replace("_", "."): value for name, value in configs.items()})
    world.transcript()


def told(world: World) -> list[str]:
    return [line for line in world.transcript() if "AlterConfigs" in line]


def test_overrides_are_read_now_and_sent_to_the_own_front_end_by_a_node_that_does_not_lead() -> None:
    world = World()
    create(world, "t", retention_ms="-1")
    create(world, "plain")
    assert ask(world, "t", "plain") == {"t": E.NONE, "plain": E.NONE}
    assert told(world) == ["to 1: AlterConfigs 2 't' retention.ms=-1", "to 1: AlterConfigs 2 'plain' "]


def test_an_override_that_is_gone_is_sent_as_none() -> None:
    world = World()
    create(world, "t", retention_ms="-1")
    ask(world, "t")
    run(world.store.set_data(znodes.config_path("topics", "t"), znodes.encode_config({})))
    ask(world, "t")
    assert told(world)[-1] == "to 1: AlterConfigs 2 't' "


def test_a_topic_that_is_not_there_yet_has_no_overrides_that_could_be_trusted() -> None:
    """Our server of the ensemble is behind the one where the topic was created."""
    world = World()
    assert ask(world, "t") == {"t": E.UNKNOWN_TOPIC_OR_PARTITION}
    assert told(world) == []


def test_a_topic_of_another_id_is_not_the_one_that_was_asked_for() -> None:
    """It was deleted and made again; our server of the ensemble still has the old one, with its overrides."""
    world = World()
    create(world, "t", retention_ms="-1")
    (resource,) = (asked := request("t")).resources
    for topic_id, code in ((b"x" * 16, E.UNKNOWN_TOPIC_OR_PARTITION), (bytes(15) + b"\x01", E.NONE)):
        resource.configuration_keys = [uuid_to_text(topic_id)]
        response = run(send_topic_overrides(world.runtime, asked))
        assert [result.error_code for result in response.results] == [code]
    world.settle()
    assert told(world) == ["to 1: AlterConfigs 2 't' retention.ms=-1"]


def test_a_topic_node_that_cannot_be_read_has_no_id(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    create(world, "t")
    run(world.store.set_data(znodes.topic_path("t"), b"{"))
    asked = request("t")
    asked.resources[0].configuration_keys = [uuid_to_text(b"x" * 16)]
    response = run(send_topic_overrides(world.runtime, asked))
    assert [result.error_code for result in response.results] == [E.UNKNOWN_TOPIC_OR_PARTITION]
    assert "/brokers/topics/t" in caplog.text


def test_the_topic_is_read_before_its_overrides() -> None:
    """Created between the two reads, it would come with none; its overrides are written before it is."""
    world = World()
    requests: list[Any] = []
    original = world.runtime.read

    async def read(batch: Any) -> Any:
        requests.extend(batch)
        return await original(batch)

    world.runtime.read = read  # type: ignore[method-assign]
    ask(world, "t", "u")
    assert [request.path for request in requests] == [
        "/brokers/topics/t", "/brokers/topics/u", "/config/topics/t", "/config/topics/u"]


def test_overrides_that_cannot_be_read_are_left_out_with_a_line(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    create(world, "t", retention_ms="-1")
    run(world.store.set_data(znodes.config_path("topics", "t"), b"{"))
    assert ask(world, "t") == {"t": E.NONE}
    assert told(world) == ["to 1: AlterConfigs 2 't' "]
    assert "overrides are left out: /config/topics/t" in caplog.text


def test_refusal_names_every_topic() -> None:
    response = refuse_topic_overrides(request("t", "u"), E.NOT_CONTROLLER, "away")
    encode(response, 4)
    assert [(result.resource_name, result.error_code) for result in response.results] == [
        ("t", E.NOT_CONTROLLER), ("u", E.NOT_CONTROLLER)]
