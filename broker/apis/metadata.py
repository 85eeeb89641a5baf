"""Metadata (key 3): brokers, topics, leaders; may create topics.

Versions: 0 empty list = all, missing replicas are an error; 1 null = all, controller id, rack, internal flag;
2 cluster id; 4 auto-creation flag; 5 offline replicas; 6 LISTENER_NOT_FOUND; 7 leader epoch; 8 authorized
operations; 9 flexible; 10 topic ids in answers; 11 no cluster operations; 12 look-up by topic id.
Behaviours 18-24. A topic that is missing is created by the controller process before the answer leaves, but for
internal topics: those come with the groups and transactions that need them.
Runs in: front end.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from broker.apis.authorized_operations import CLUSTER_OPERATIONS, NOT_REQUESTED, TOPIC_OPERATIONS
from broker.apis.services import Services
from broker.metadata.cache import INTERNAL_TOPICS, ZERO_UUID, PartitionMetadata, TopicMetadata
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class
from broker.protocol.topic_names import is_valid_topic_name

MetadataResponse = response_class(ApiKey.METADATA)
Topic = MetadataResponse.MetadataResponseTopic
Partition = MetadataResponse.MetadataResponsePartition

FIRST_VERSION_WITH_LISTENER_NOT_FOUND = 6
FIRST_VERSION_BY_ID = 12
CLUSTER_OPERATIONS_VERSIONS = range(8, 11)
FIRST_VERSION_WITH_NULL_FOR_ALL = 1
FIRST_VERSION_WITH_TOPIC_OPERATIONS = 8


def handle(services: Services, header: RequestHeader, request: Request) -> Answer | Awaitable[bytes]:
    """Answered at once, unless topics have to be created first."""
    version = header.api_version
    asked = decode_request(ApiKey.METADATA, version, request.view, header.body_position, request.end)
    listener = request.connection.listener_name
    if not _is_valid(asked, version):
        return encode_response(ApiKey.METADATA, version, header.correlation_id, _refused(asked))
    missing = _missing(services, asked, version)
    creatable = [name for name in missing if name not in INTERNAL_TOPICS]
    if creatable and asked.allow_auto_topic_creation and services.config["auto.create.topics.enable"]:
        return _create_first(services, header, asked, listener, missing, creatable)
    return _encode(services, header, asked, listener, missing)


async def _create_first(
    services: Services, header: RequestHeader, asked: Any, listener: str, missing: dict[str, ErrorCode],
    creatable: list[str],
) -> bytes:  # fmt: skip
    missing.update(await services.controller.auto_create(creatable))
    return _encode(services, header, asked, listener, missing)


def _encode(
    services: Services, header: RequestHeader, asked: Any, listener: str, missing: dict[str, ErrorCode]
) -> bytes:
    version = header.api_version
    metadata = services.metadata
    answer = MetadataResponse(
        brokers=[
            MetadataResponse.MetadataResponseBroker(
                node_id=node.broker_id, host=node.host, port=node.port, rack=node.rack
            )
            for node in metadata.endpoints(listener)
        ],
        cluster_id=services.cluster_id,
        controller_id=metadata.controller_id,
        topics=_topics(services, asked, version, listener, missing),
    )
    if version in CLUSTER_OPERATIONS_VERSIONS and asked.include_cluster_authorized_operations:
        answer.cluster_authorized_operations = CLUSTER_OPERATIONS
    if version >= FIRST_VERSION_WITH_TOPIC_OPERATIONS and asked.include_topic_authorized_operations:
        for topic in answer.topics:
            if topic.name is not None:
                topic.topic_authorized_operations = TOPIC_OPERATIONS
    return encode_response(ApiKey.METADATA, version, header.correlation_id, answer)


def _is_valid(asked: Any, version: int) -> bool:
    """Ids and null names came with version 12, though versions 10 and 11 have room for both."""
    if asked.topics is None:
        return True
    if version < FIRST_VERSION_BY_ID:
        return all(topic.name is not None and topic.topic_id == ZERO_UUID for topic in asked.topics)
    return any(topic.topic_id != ZERO_UUID for topic in asked.topics) or all(
        topic.name is not None for topic in asked.topics
    )


def _refused(asked: Any) -> Any:
    """What Kafka makes of a request that it cannot serve at all: the topics with an error, no brokers."""
    return MetadataResponse(
        topics=[
            Topic(error_code=int(ErrorCode.INVALID_REQUEST), name=topic.name or "", topic_id=topic.topic_id)
            for topic in asked.topics
        ]
    )


def _asks_for_all(asked: Any, version: int) -> bool:
    return asked.topics is None or (version < FIRST_VERSION_WITH_NULL_FOR_ALL and not asked.topics)


def _topic_ids(asked: Any) -> dict[bytes, None]:
    """If there are any, names are not looked at."""
    return dict.fromkeys(topic.topic_id for topic in asked.topics if topic.topic_id != ZERO_UUID)


def _missing(services: Services, asked: Any, version: int) -> dict[str, ErrorCode]:
    """Topics asked for by name that do not exist, in the request's order."""
    if _asks_for_all(asked, version) or _topic_ids(asked):
        return {}
    return {
        topic.name: _unknown(topic.name)
        for topic in asked.topics
        if topic.name not in services.metadata.topics
    }


def _topics(
    services: Services, asked: Any, version: int, listener: str, missing: dict[str, ErrorCode]
) -> list[Any]:
    known = services.metadata.topics
    if _asks_for_all(asked, version):
        return [_describe(services, topic, version, listener) for topic in known.values()]
    ids = _topic_ids(asked)
    if ids:
        return [_by_id(services, topic_id, version, listener) for topic_id in ids]
    names = dict.fromkeys(topic.name for topic in asked.topics if topic.name not in missing)
    answers = [_describe(services, known[name], version, listener) for name in names if name in known]
    return answers + [_without_partitions(error, name) for name, error in missing.items()]


def _unknown(name: str) -> ErrorCode:
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if is_valid_topic_name(name) else (
        ErrorCode.INVALID_TOPIC_EXCEPTION
    )


def _without_partitions(error: int, name: str | None, topic_id: bytes = ZERO_UUID) -> Any:
    return Topic(error_code=int(error), name=name, topic_id=topic_id, is_internal=name in INTERNAL_TOPICS,
                 topic_authorized_operations=NOT_REQUESTED)  # fmt: skip


def _by_id(services: Services, topic_id: bytes, version: int, listener: str) -> Any:
    name = services.metadata.name_of(topic_id)
    if name is None:
        return _without_partitions(ErrorCode.UNKNOWN_TOPIC_ID, None, topic_id)
    return _describe(services, services.metadata.topics[name], version, listener)


def _describe(services: Services, topic: TopicMetadata, version: int, listener: str) -> Any:
    return Topic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.name in INTERNAL_TOPICS,
        partitions=[
            _partition(services, number, state, version, listener)
            for number, state in sorted(topic.partitions.items())
        ],
    )


def _partition(services: Services, number: int, state: PartitionMetadata, version: int, listener: str) -> Any:
    """Error mapping of behaviour 20; dead replicas stay in the lists and are named as offline."""
    metadata = services.metadata
    offline = [
        replica
        for replica in state.replicas
        if replica in state.offline_replicas or metadata.endpoint(replica, listener) is None
    ]
    error, leader = ErrorCode.NONE, state.leader
    if metadata.endpoint(leader, listener) is None:
        error = ErrorCode.LEADER_NOT_AVAILABLE
        if metadata.is_alive(leader) and version >= FIRST_VERSION_WITH_LISTENER_NOT_FOUND:
            error = ErrorCode.LISTENER_NOT_FOUND
        leader = -1
    elif version == 0 and any(metadata.endpoint(replica, listener) is None for replica in state.replicas):
        error = ErrorCode.REPLICA_NOT_AVAILABLE
    return Partition(
        error_code=int(error), partition_index=number, leader_id=leader, leader_epoch=state.leader_epoch,
        replica_nodes=_filtered(services, state.replicas, version, listener),
        isr_nodes=_filtered(services, state.isr, version, listener), offline_replicas=offline,
    )  # fmt: skip


def _filtered(services: Services, nodes: list[int], version: int, listener: str) -> list[int]:
    """Version 0 leaves out nodes that cannot be reached."""
    if version > 0:
        return nodes
    return [node for node in nodes if services.metadata.endpoint(node, listener) is not None]
