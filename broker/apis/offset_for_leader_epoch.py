"""OffsetForLeaderEpoch (key 23): where the history of a leader epoch ends.

Versions: 1 leader epoch in the answer; 2 current leader epoch (fencing); 3 replica id; 4 flexible.
Behaviours 45, 52.
Runs in: front end.
"""

from __future__ import annotations

from typing import Any

from broker.apis.services import Services
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

OffsetForLeaderEpochResponse = response_class(ApiKey.OFFSET_FOR_LEADER_EPOCH)
EpochEndOffset = OffsetForLeaderEpochResponse.EpochEndOffset


def handle(services: Services, header: RequestHeader, request: Request) -> Answer:
    version = header.api_version
    asked = decode_request(
        ApiKey.OFFSET_FOR_LEADER_EPOCH, version, request.view, header.body_position, request.end
    )
    answer = OffsetForLeaderEpochResponse(
        topics=[
            OffsetForLeaderEpochResponse.OffsetForLeaderTopicResult(
                topic=topic.topic,
                partitions=[_end_offset(services, topic.topic, wanted) for wanted in topic.partitions],
            )
            for topic in asked.topics
        ]
    )
    return encode_response(ApiKey.OFFSET_FOR_LEADER_EPOCH, version, header.correlation_id, answer)


def _end_offset(services: Services, topic: str, wanted: Any) -> Any:
    partition = services.registry.get(topic, wanted.partition)
    if partition is None:
        known = services.metadata.partition(topic, wanted.partition) is not None
        error = ErrorCode.NOT_LEADER_OR_FOLLOWER if known else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    else:
        error = partition.read_error(wanted.current_leader_epoch)
        if not error:
            epoch, end = partition.end_for_epoch(wanted.leader_epoch)
            return EpochEndOffset(partition=wanted.partition, leader_epoch=epoch, end_offset=end)
    return EpochEndOffset(error_code=int(error), partition=wanted.partition)
