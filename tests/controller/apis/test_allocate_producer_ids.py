"""AllocateProducerIds: blocks of 1000, each given once."""
from __future__ import annotations

import json
from typing import Any

import pytest

from broker.protocol.codec import encode
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import message_class
from controller import znodes
from controller.apis.allocate_producer_ids import allocate_producer_ids
from controller.metadata_store.operations import SetData
from tests.controller.memory_store import run
from tests.controller.world import World

E = ErrorCode


def leading() -> World:
    world = World((1, 2))
    world.take_office()
    world.transcript()
    return world


def allocate(world: World, broker_id: int = 1, epoch: int | None = None) -> Any:
    if epoch is None:
        epoch = world.runtime.state.brokers[broker_id].epoch
    request = message_class("AllocateProducerIdsRequest")(broker_id=broker_id, broker_epoch=epoch)
    response = run(allocate_producer_ids(world.runtime, request))
    encode(response, 0)
    return response


def test_blocks_follow_each_other_over_brokers() -> None:
    world = leading()
    given = [allocate(world, broker_id) for broker_id in (1, 2, 1)]
    assert [(block.producer_id_start, block.producer_id_len) for block in given] == [
        (0, 1000), (1000, 1000), (2000, 1000)]
    assert json.loads(world.data(znodes.PRODUCER_ID_BLOCK) or b"") == {
        "version": 1, "broker": 1, "block_start": "2000", "block_end": "2999"}


def test_block_that_kafka_took_is_respected() -> None:
    world = leading()
    run(world.store.submit([SetData(znodes.PRODUCER_ID_BLOCK, (
        b'{"version":1,"broker":0,"block_start":"7000","block_end":"7999"}'))]))
    assert allocate(world).producer_id_start == 8000


def test_block_taken_between_read_and_write_is_not_given_twice() -> None:
    world = leading()
    original = world.runtime.read
    rivals = iter([b'{"version":1,"broker":2,"block_start":"0","block_end":"999"}'])

    async def read(requests: Any) -> Any:
        found = await original(requests)
        for taken in rivals:
            await world.store.submit([SetData(znodes.PRODUCER_ID_BLOCK, taken)])
            break
        return found

    world.runtime.read = read  # type: ignore[method-assign]
    assert allocate(world).producer_id_start == 1000


def test_unknown_broker_and_stale_epoch() -> None:
    world = leading()
    assert allocate(world, broker_id=9, epoch=1).error_code == E.BROKER_ID_NOT_REGISTERED
    assert allocate(world, epoch=world.runtime.state.brokers[1].epoch - 1).error_code == E.STALE_BROKER_EPOCH


@pytest.mark.parametrize("block", [
    b"{", b'{"version":1,"broker":1,"block_start":"9223372036854774000","block_end":"9223372036854774999"}'])
def test_unreadable_or_exhausted_ids(block: bytes) -> None:
    world = leading()
    run(world.store.submit([SetData(znodes.PRODUCER_ID_BLOCK, block)]))
    assert allocate(world).error_code == E.UNKNOWN_SERVER_ERROR
    assert world.data(znodes.PRODUCER_ID_BLOCK) == block
