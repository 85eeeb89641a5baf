"""AllocateProducerIds (key 67), version 0: a block of 1000 producer ids for a broker.

The next block begins where the one in `/latest_producer_id_block` ends; the node is set on the condition
that nobody else has set it since (brokers below inter-broker version 3.0 take blocks themselves). A block
that was given out is never given again, whether the answer arrived or not.

PURE. Runs in: controller.
"""
from __future__ import annotations

from typing import Any

from broker.protocol.errors import ErrorCode
from broker.protocol.messages import message_class
from controller import znodes
from controller.metadata_store.errors import BadVersionError, MultiError, StoreError
from controller.metadata_store.operations import GetData, GetDataResult, SetData
from controller.procedures.runtime import Runtime
from controller.znodes import PRODUCER_ID_BLOCK_SIZE, ProducerIdBlock

ATTEMPTS_MAX = 100
"""Others take blocks as well, but a hundred between one read and its write is no longer bad luck."""


async def allocate_producer_ids(runtime: Runtime, request: Any) -> Any:
    broker = runtime.state.brokers.get(request.broker_id)
    if broker is None:
        return refuse_allocate_producer_ids(ErrorCode.BROKER_ID_NOT_REGISTERED)
    if broker.epoch != request.broker_epoch:
        return refuse_allocate_producer_ids(ErrorCode.STALE_BROKER_EPOCH)
    for _ in range(ATTEMPTS_MAX):
        block, outcome = await _try(runtime, request.broker_id)
        if block is None:
            return refuse_allocate_producer_ids(ErrorCode.UNKNOWN_SERVER_ERROR)
        if not isinstance(outcome, StoreError):
            return message_class("AllocateProducerIdsResponse")(
                producer_id_start=block.block_start, producer_id_len=PRODUCER_ID_BLOCK_SIZE)
        cause = outcome.cause if isinstance(outcome, MultiError) else outcome
        if not isinstance(cause, BadVersionError):
            break
    return refuse_allocate_producer_ids(ErrorCode.UNKNOWN_SERVER_ERROR)


async def _try(runtime: Runtime, broker_id: int) -> tuple[ProducerIdBlock | None, object]:
    """(None, ...) when the node is missing or makes no sense, or all ids are used up."""
    (found,) = await runtime.read([GetData(znodes.PRODUCER_ID_BLOCK)])
    if not isinstance(found, GetDataResult):
        return None, found
    try:
        last = znodes.decode_producer_id_block(found.data)
    except znodes.ZnodeFormatError as error:
        return None, error
    start = 0 if last is None else last.block_end + 1
    end = start + PRODUCER_ID_BLOCK_SIZE - 1
    if end > znodes.INT64_MAX:
        return None, found
    block = ProducerIdBlock(broker_id, start, end)
    (outcome,) = await runtime.write([
        (SetData(znodes.PRODUCER_ID_BLOCK, znodes.encode_producer_id_block(block), found.stat.version),)])
    return block, outcome


def refuse_allocate_producer_ids(code: ErrorCode) -> Any:
    return message_class("AllocateProducerIdsResponse")(error_code=code)
