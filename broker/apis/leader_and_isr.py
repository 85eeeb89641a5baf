"""LeaderAndIsr (key 4): the controller tells which partitions to lead or follow.

Versions: 1 isNew; 2 broker epoch, grouped by topic; 3 adding/removing replicas; 4 flexible; 5 topic ids,
answer grouped by id; 6 leader recovery state; 7 KRaft flag.
From another node's controller, by TCP, the overrides of topics that are new here are fetched first; this node's
own sends them before, on the same stream.
Runs in: front end; partitions are opened a bounded number at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Collection, Iterator
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

log = logging.getLogger(__name__)

LeaderAndIsrResponse = response_class(ApiKey.LEADER_AND_ISR)
FIRST_VERSION_BY_TOPIC_ID = 5
AT_ONCE = 64
"""Partitions changed concurrently: fills the storage processes' rings without holding much of the arena.
Those that wait for a storage process to come back do not count: the others go ahead."""


def handle(services: Services, header: RequestHeader, request: Request) -> Awaitable[bytes]:
    asked = decode_request(
        ApiKey.LEADER_AND_ISR, header.api_version, request.view, header.body_position, request.end
    )
    return _apply(services, header, asked, is_remote=not request.connection.privileged)


async def _apply(services: Services, header: RequestHeader, asked: Any, *, is_remote: bool) -> bytes:
    error = fence(services, asked)
    results: list[tuple[str, bytes, int, ErrorCode]] = []
    if not error:
        states = _states(asked)
        if is_remote:
            unknown = await services.overrides.learn(_unknown_topics(services, states))
            results += _refused(states, unknown)
            states = [entry for entry in states if entry[0] not in unknown]
        limiter = trio.CapacityLimiter(AT_ONCE)
        async with trio.open_nursery() as nursery:
            for topic, topic_id, state in states:
                nursery.start_soon(_change, services, limiter, topic, topic_id, state, results)
        _report_declined(services, states)
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


def _unknown_topics(services: Services, states: list[tuple[str, bytes, Any]]) -> dict[str, bytes]:
    """Topics of which a log is to be opened, with their ids. The first time all: what the controller process has
    queued since this front end started may not have been taken yet."""
    everything = not services.overrides.is_synchronized
    return {
        topic: bytes(topic_id) for topic, topic_id, state in states
        if everything or not services.roles.knows(topic, topic_id, state.partition_index)
    }  # fmt: skip


def _refused(
    states: list[tuple[str, bytes, Any]], unknown: Collection[str]
) -> Iterator[tuple[str, bytes, int, ErrorCode]]:
    for topic in unknown:
        log.warning("No log is opened for topic %s: the metadata store does not know it", topic)
    for topic, topic_id, state in states:
        if topic in unknown:
            yield topic, topic_id, state.partition_index, ErrorCode.KAFKA_STORAGE_ERROR


def _report_declined(services: Services, states: list[tuple[str, bytes, Any]]) -> None:
    declined = [
        f"{topic}-{state.partition_index} (replicas {list(state.replicas)})" for topic, _, state in states
        if (topic, state.partition_index) in services.roles.declined
    ]  # fmt: skip
    if declined:
        log.warning(
            "%d partitions are not served here, the first is %s: this version does not replicate between "
            "brokers. The controller is told that these replicas are offline", len(declined), declined[0],
        )  # fmt: skip


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
