"""Calls: each key has a handler and a refusal in every version; what waits is answered at a resignation."""
from __future__ import annotations

from typing import Any

import pytest
import trio

from broker.protocol.api_keys import API_SPECS, ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import message_class, request_class
from controller.api_calls import ApiCalls, refuse
from controller.procedures.runtime import ControllerMovedError
from controller.request_server import SERVED_KEYS, ApiCall
from controller.store_access import StoreAccess
from tests.controller.world import World

E = ErrorCode
TIMEOUT_MS = 5000


def filled(key: ApiKey) -> Any:
    """A request that names something, where the answer has a place for it."""
    request = request_class(key)
    match key:
        case ApiKey.CREATE_TOPICS:
            return request(timeout_ms=TIMEOUT_MS, topics=[request.CreatableTopic(
                name="t", num_partitions=1, replication_factor=1)])
        case ApiKey.CREATE_PARTITIONS:
            return request(topics=[request.CreatePartitionsTopic(name="t", count=2)])
        case ApiKey.DELETE_TOPICS:
            return request(topic_names=["t"])
        case ApiKey.DESCRIBE_CONFIGS:
            return request(resources=[request.DescribeConfigsResource(resource_type=2, resource_name="t")])
    return request()


@pytest.mark.parametrize("key", sorted(SERVED_KEYS))
def test_every_call_can_be_refused_in_every_version(key: int) -> None:
    for version in range(API_SPECS[ApiKey(key)].min_version, API_SPECS[ApiKey(key)].max_version + 1):
        call = ApiCall(key, version, 1, filled(ApiKey(key)))
        refuse(call, E.NOT_CONTROLLER)
        assert len(call.frame()) > 8
        assert int(E.NOT_CONTROLLER) in _error_codes(call.response)


def _error_codes(message: Any) -> list[int]:
    """Of the message and of everything in it."""
    found = [message.error_code] if hasattr(message, "error_code") else []
    for name in message.ATTRIBUTES:
        value = getattr(message, name)
        for member in value if isinstance(value, list) else ():
            if hasattr(member, "ATTRIBUTES"):
                found += _error_codes(member)
    return found


class Office:
    """A node that leads, with its calls. answered: in the order in which they were."""

    def __init__(self) -> None:
        self.world = World()
        self.world.take_office()
        access = StoreAccess(self.world.store, self.world.lease)
        self.calls = ApiCalls(self.world.runtime, access, self.world.config, lambda limit: 0)
        self.answered: list[ApiCall] = []

    def call(self, key: ApiKey, message: Any = None) -> ApiCall:
        return ApiCall(key, API_SPECS[key].max_version, 1, message or filled(key), on_answer=self.answered.append)


@pytest.mark.trio
@pytest.mark.parametrize("key", sorted(SERVED_KEYS))
async def test_every_call_has_a_handler(key: int) -> None:
    office = Office()
    call = office.call(ApiKey(key))
    await office.calls.serve(call)
    office.calls.resigned()
    assert office.answered == [call]
    call.frame()


@pytest.mark.trio
async def test_what_waits_is_answered_as_too_slow_when_another_node_leads() -> None:
    office = Office()
    waits, follows = office.call(ApiKey.CREATE_TOPICS), office.call(ApiKey.ALLOCATE_PRODUCER_IDS)
    for call in (waits, follows):
        await office.calls.serve(call)
    assert office.answered == [follows]
    office.calls.resigned()
    assert office.answered == [follows, waits]
    assert waits.response.topics[0].error_code == E.REQUEST_TIMED_OUT
    office.calls.expire()
    assert len(office.answered) == 2
    await trio.lowlevel.checkpoint()


@pytest.mark.trio
async def test_a_call_that_finds_another_controller_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    office = Office()

    async def moved(writes: Any) -> Any:
        raise ControllerMovedError("somebody else leads")

    monkeypatch.setattr(office.world.runtime, "write", moved)
    broker = office.world.runtime.state.brokers[1]
    call = office.call(ApiKey.ALLOCATE_PRODUCER_IDS,
                       message_class("AllocateProducerIdsRequest")(broker_id=1, broker_epoch=broker.epoch))
    with pytest.raises(ControllerMovedError):
        await office.calls.serve(call)
    assert call.response.error_code == E.NOT_CONTROLLER
