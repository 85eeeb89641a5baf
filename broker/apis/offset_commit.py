"""OffsetCommit (key 8): keep how far a group has read.

| version | what it adds |
|---|---|
| 0 | kept in ZooKeeper: not served, UNSUPPORTED_VERSION for every partition, not advertised |
| 1 | member and generation; a commit time |
| 2-4 | a retention time instead, which becomes the offset's own expiry |
| 3 | throttle time |
| 5 | no retention time |
| 6 | leader epoch |
| 7 | group.instance.id |
| 8 | flexible |
| 9 | errors of KIP-848, which a classic group does not need |

Answered when the records are in the log. Behaviour 62. Runs in: front end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.apis.parked_request import ParkedRequest
from broker.apis.services import Services
from broker.coordinators.group.offsets import NO_EXPIRY, CommittedOffset, TopicPartition
from broker.coordinators.group.requests import Committer
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

OffsetCommitResponse = response_class(ApiKey.OFFSET_COMMIT)
Topic = OffsetCommitResponse.OffsetCommitResponseTopic
Partition = OffsetCommitResponse.OffsetCommitResponsePartition
NOT_GIVEN = -1
FIRST_VERSION_IN_COORDINATOR = 1

Errors = Mapping[TopicPartition, ErrorCode]


def handle(services: Services, header: RequestHeader, request: Request) -> Answer:
    version = header.api_version
    asked = decode_request(ApiKey.OFFSET_COMMIT, version, request.view, header.body_position, request.end)
    refused: dict[TopicPartition, ErrorCode] = {}
    offsets: dict[TopicPartition, CommittedOffset] = {}
    groups = services.groups
    now = groups.now()
    is_refused = asked.group_instance_id is not None and not groups.serves_static_members
    for topic in asked.topics:
        for partition in topic.partitions:
            key = (topic.name, partition.partition_index)
            if is_refused:
                refused[key] = ErrorCode.UNSUPPORTED_VERSION
            elif services.metadata.partition(*key) is None:
                refused[key] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            elif version < FIRST_VERSION_IN_COORDINATOR:
                refused[key] = ErrorCode.UNSUPPORTED_VERSION
            else:
                offsets[key] = _committed(partition, asked.retention_time_ms, now.wall_ms)
    if not offsets:
        return _encode(header, refused)
    committer = Committer(asked.member_id, asked.group_instance_id, asked.generation_id_or_member_epoch)
    ticket = ParkedRequest(request.connection, lambda errors: _encode(header, {**refused, **errors}))
    groups.coordinator.commit(asked.group_id, committer, offsets, ticket, now)
    groups.settle()
    return ticket.frame_or_park()


def _committed(partition: Any, retention_ms: int, now_ms: int) -> CommittedOffset:
    timestamp = partition.commit_timestamp
    return CommittedOffset(
        partition.committed_offset, partition.committed_leader_epoch, partition.committed_metadata or "",
        now_ms if timestamp == NOT_GIVEN else timestamp,
        NO_EXPIRY if retention_ms == NOT_GIVEN else now_ms + retention_ms,
    )  # fmt: skip


def _encode(header: RequestHeader, errors: Errors) -> bytes:
    topics: dict[str, Any] = {}
    for (name, number), error in errors.items():
        topic = topics.setdefault(name, Topic(name=name))
        topic.partitions.append(Partition(partition_index=number, error_code=int(error)))
    answer = OffsetCommitResponse(topics=list(topics.values()))
    return encode_response(ApiKey.OFFSET_COMMIT, header.api_version, header.correlation_id, answer)
