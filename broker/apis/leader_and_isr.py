"""LeaderAndIsr (key 4): the controller tells which partitions to lead or follow.

Versions: 1 isNew; 2 broker epoch, grouped by topic; 3 adding/removing replicas; 4 flexible; 5 topic ids,
answer grouped by id; 6 leader recovery state; 7 KRaft flag.
Runs in: front end; partitions are opened a bounded number at a time.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import trio

from broker.apis.controller_fencing import fence
from broker.apis.services import Services
from broker.metadata.cache import ZERO_UUID
from broker.network.connection import Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

LeaderAndIsrResponse = response_class(ApiKey.LEADER_AND_ISR)
FIRST_VERSION_BY_TOPIC_ID = 5
AT_ONCE = 64
"""Partitions changed concurrently: fills the storage processes' rings without holding much of the arena.
Those that wait for a storage process to come back do not count: the others go ahead."""


def handle(services: Services, header: RequestHeader, request: Request) -> Awaitable[bytes]:
    asked = decode_request(
        ApiKey.LEADER_AND_ISR, header.api_version, request.view, header.body_position, request.end
    )
    return _apply(services, header, asked)


async def _apply(services: Services, header: RequestHeader, asked: Any) -> bytes:
    error = fence(services, asked)
    results: list[tuple[str, bytes, int, ErrorCode]] = []
    if not error:
        limiter = trio.CapacityLimiter(AT_ONCE)
        async with trio.open_nursery() as nursery:
            for topic, topic_id, state in _states(asked):
                nursery.start_soon(_change, services, limiter, topic, topic_id, state, results)
    answer = LeaderAndIsrResponse(error_code=int(error))
    _fill(answer, results, header.api_version)
    return encode_response(ApiKey.LEADER_AND_ISR, header.api_version, header.correlation_id, answer)


async def _change(
    services: Services, limiter: trio.CapacityLimiter, topic: str, topic_id: bytes, state: Any,
    results: list[tuple[str, bytes, int, ErrorCode]],
) -> None:  # fmt: skip
    await services.roles.wait_until_decided(topic, state.partition_index)
    async with limiter:
        error = await services.roles.lead_or_follow(topic, topic_id, state)
    results.append((topic, topic_id, state.partition_index, error))


def _states(asked: Any) -> list[tuple[str, bytes, Any]]:
    grouped = [
        (topic.topic_name, topic.topic_id, state)
        for topic in asked.topic_states
        for state in topic.partition_states
    ]
    return grouped + [(state.topic_name, ZERO_UUID, state) for state in asked.ungrouped_partition_states]


def _fill(answer: Any, results: list[tuple[str, bytes, int, ErrorCode]], version: int) -> None:
    error_of = LeaderAndIsrResponse.LeaderAndIsrPartitionError
    if version < FIRST_VERSION_BY_TOPIC_ID:
        answer.partition_errors = [
            error_of(topic_name=topic, partition_index=number, error_code=int(error))
            for topic, _, number, error in results
        ]
        return
    by_id: dict[bytes, list[Any]] = {}
    for _, topic_id, number, error in results:
        by_id.setdefault(topic_id, []).append(error_of(partition_index=number, error_code=int(error)))
    answer.topics = [
        LeaderAndIsrResponse.LeaderAndIsrTopicError(topic_id=topic_id, partition_errors=errors)
        for topic_id, errors in by_id.items()
    ]
