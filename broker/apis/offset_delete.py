"""OffsetDelete (key 47): remove committed offsets of topics that the group does not subscribe to.

Version 0. GROUP_SUBSCRIBED_TO_TOPIC per partition; NON_EMPTY_GROUP for groups that are no consumer groups and have
members (behaviour 64). As Kafka, the answer does not wait for the tombstones. Runs in: front end.
"""

from __future__ import annotations

from typing import Any

from broker.apis.services import Services
from broker.coordinators.group.offsets import TopicPartition
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

OffsetDeleteResponse = response_class(ApiKey.OFFSET_DELETE)
Topic = OffsetDeleteResponse.OffsetDeleteResponseTopic
Partition = OffsetDeleteResponse.OffsetDeleteResponsePartition


def handle(services: Services, header: RequestHeader, request: Request) -> Answer:
    version = header.api_version
    asked = decode_request(ApiKey.OFFSET_DELETE, version, request.view, header.body_position, request.end)
    errors: dict[TopicPartition, ErrorCode] = {}
    known: list[TopicPartition] = []
    for topic in asked.topics:
        for partition in topic.partitions:
            key = (topic.name, partition.partition_index)
            if services.metadata.partition(*key) is None:
                errors[key] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            else:
                known.append(key)
    groups = services.groups
    error, deleted = groups.coordinator.delete_offsets(asked.group_id, known, groups.now())
    groups.settle()
    answer = OffsetDeleteResponse(error_code=int(error))
    if not error:
        answer.topics = _topics(errors | deleted)
    return encode_response(ApiKey.OFFSET_DELETE, version, header.correlation_id, answer)


def _topics(errors: dict[TopicPartition, ErrorCode]) -> list[Any]:
    topics: dict[str, Any] = {}
    for (name, number), error in errors.items():
        topic = topics.setdefault(name, Topic(name=name))
        topic.partitions.append(Partition(partition_index=number, error_code=int(error)))
    return list(topics.values())
