"""OffsetFetch (key 9): how far a group has read, as far as that is stored.

| version | what it adds |
|---|---|
| 0 | from ZooKeeper: not served, UNSUPPORTED_VERSION for every partition, not advertised |
| 1 | from the coordinator; its errors stand at every partition |
| 2 | an error of the whole request; null asks for all partitions |
| 3 | throttle time |
| 5 | leader epoch |
| 6 | flexible |
| 7 | require_stable: UNSTABLE_OFFSET_COMMIT while a transaction decides |
| 8 | several groups, an error each |
| 9 | member id and epoch of KIP-848, which a classic group does not need |

What is not there is offset -1 without an error (behaviour 63). Runs in: front end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from broker.apis.services import Services
from broker.coordinators.group.coordinator import FetchedOffset
from broker.coordinators.group.offsets import TopicPartition
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

OffsetFetchResponse = response_class(ApiKey.OFFSET_FETCH)
NO_OFFSET = -1
FIRST_VERSION_IN_COORDINATOR = 1
FIRST_VERSION_WITH_REQUEST_ERROR = 2
FIRST_VERSION_WITH_GROUPS = 8

Fetched = Mapping[TopicPartition, FetchedOffset]


def handle(services: Services, header: RequestHeader, request: Request) -> Answer:
    version = header.api_version
    asked = decode_request(ApiKey.OFFSET_FETCH, version, request.view, header.body_position, request.end)
    if version >= FIRST_VERSION_WITH_GROUPS:
        answer = OffsetFetchResponse(
            groups=[_group(services, group, asked.require_stable) for group in asked.groups]
        )
    else:
        answer = _single(services, version, asked)
    return encode_response(ApiKey.OFFSET_FETCH, version, header.correlation_id, answer)


def _group(services: Services, group: Any, require_stable: bool) -> Any:
    error, fetched = _fetch(services, group.group_id, group.topics, require_stable)
    return OffsetFetchResponse.OffsetFetchResponseGroup(
        group_id=group.group_id, error_code=int(error),
        topics=_topics(
            fetched, OffsetFetchResponse.OffsetFetchResponseTopics,
            OffsetFetchResponse.OffsetFetchResponsePartitions,
        ),
    )  # fmt: skip


def _single(services: Services, version: int, asked: Any) -> Any:
    fetched: dict[TopicPartition, FetchedOffset] = {}
    if version < FIRST_VERSION_IN_COORDINATOR:
        error = ErrorCode.UNSUPPORTED_VERSION
    else:
        error, fetched = _fetch(services, asked.group_id, asked.topics, asked.require_stable)
    if error and version < FIRST_VERSION_WITH_REQUEST_ERROR:
        fetched = dict.fromkeys(_partitions(asked.topics or ()), FetchedOffset(error, None))
    answer = OffsetFetchResponse(
        topics=_topics(
            fetched, OffsetFetchResponse.OffsetFetchResponseTopic,
            OffsetFetchResponse.OffsetFetchResponsePartition,
        )
    )  # fmt: skip
    if version >= FIRST_VERSION_WITH_REQUEST_ERROR:
        answer.error_code = int(error)
    return answer


def _fetch(
    services: Services, group_id: str, topics: Any, require_stable: bool
) -> tuple[ErrorCode, dict[TopicPartition, FetchedOffset]]:
    wanted = None if topics is None else _partitions(topics)
    return services.groups.coordinator.fetch_offsets(group_id, wanted, require_stable)


def _partitions(topics: Iterable[Any]) -> list[TopicPartition]:
    return [(topic.name, number) for topic in topics for number in topic.partition_indexes]


def _topics(fetched: Fetched, topic_class: Any, partition_class: Any) -> list[Any]:
    topics: dict[str, Any] = {}
    for (name, number), (error, committed) in fetched.items():
        topic = topics.setdefault(name, topic_class(name=name))
        if committed is None:
            entry = partition_class(
                partition_index=number, committed_offset=NO_OFFSET, metadata="", error_code=int(error)
            )
        else:
            entry = partition_class(
                partition_index=number, committed_offset=committed.offset, metadata=committed.metadata,
                committed_leader_epoch=committed.leader_epoch,
            )  # fmt: skip
        topic.partitions.append(entry)
    return list(topics.values())
