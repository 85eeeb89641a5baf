"""StopReplica (key 5): the controller takes replicas away, deleting their logs if it says so.

Versions: 1 broker epoch, grouped by topic; 2 flexible; 3 leader epoch and deletion per partition; 4 KRaft flag.
Runs in: front end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import Any

from broker.apis.controller_fencing import fence
from broker.apis.services import Services
from broker.network.connection import Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

StopReplicaResponse = response_class(ApiKey.STOP_REPLICA)
UNKNOWN_EPOCH = -1


def handle(services: Services, header: RequestHeader, request: Request) -> Awaitable[bytes]:
    asked = decode_request(
        ApiKey.STOP_REPLICA, header.api_version, request.view, header.body_position, request.end
    )
    return _apply(services, header, asked)


async def _apply(services: Services, header: RequestHeader, asked: Any) -> bytes:
    error = fence(services, asked)
    answer = StopReplicaResponse(error_code=int(error))
    if not error:
        for topic, number, leader_epoch, delete in _partitions(asked):
            outcome = await services.roles.stop(topic, number, leader_epoch, delete)
            answer.partition_errors.append(
                StopReplicaResponse.StopReplicaPartitionError(
                    topic_name=topic, partition_index=number, error_code=int(outcome)
                )
            )
    return encode_response(ApiKey.STOP_REPLICA, header.api_version, header.correlation_id, answer)


def _partitions(asked: Any) -> Iterator[tuple[str, int, int, bool]]:
    """(topic, partition, leader epoch, delete) from any version's form."""
    for flat in asked.ungrouped_partitions:
        yield flat.topic_name, flat.partition_index, UNKNOWN_EPOCH, asked.delete_partitions
    for topic in asked.topics:
        for number in topic.partition_indexes:
            yield topic.name, number, UNKNOWN_EPOCH, asked.delete_partitions
    for topic in asked.topic_states:
        for state in topic.partition_states:
            yield topic.topic_name, state.partition_index, state.leader_epoch, state.delete_partition
