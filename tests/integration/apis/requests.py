"""Request messages of the data APIs, short to write; the rest are written out in the tests.

Every function takes topics as `Topic` (name and id), so that the same call serves versions by name and by id.
Runs in: the test process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import request_class
from tests.integration.apis.brokers import Topic
from tests.integration.apis.wire import Client

ProduceRequest = request_class(ApiKey.PRODUCE)
FetchRequest = request_class(ApiKey.FETCH)
ListOffsetsRequest = request_class(ApiKey.LIST_OFFSETS)
EpochRequest = request_class(ApiKey.OFFSET_FOR_LEADER_EPOCH)
InitProducerIdRequest = request_class(ApiKey.INIT_PRODUCER_ID)

FIRST_FETCH_BY_ID = 13
LATEST_PRODUCE, LATEST_FETCH, LATEST_LIST_OFFSETS, LATEST_EPOCH = 11, 17, 9, 4
READ_COMMITTED = 1
LATEST_INIT_PRODUCER_ID = 5
LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED = -1, -2, -3, -4, -5


def produce_request(
    topics: Mapping[str, Mapping[int, bytes | None]], acks: int = -1, timeout_ms: int = 10_000,
    transactional_id: str | None = None,
) -> Any:  # fmt: skip
    """topics: name -> partition -> records."""
    return ProduceRequest(
        transactional_id=transactional_id, acks=acks, timeout_ms=timeout_ms,
        topic_data=[
            ProduceRequest.TopicProduceData(name=name, partition_data=[
                ProduceRequest.PartitionProduceData(index=index, records=records)
                for index, records in partitions.items()
            ])
            for name, partitions in topics.items()
        ],
    )  # fmt: skip


def produce(
    client: Client, topic: Topic | str, records: bytes | None, partition: int = 0,
    version: int = LATEST_PRODUCE, acks: int = -1, **options: Any,
) -> Any:  # fmt: skip
    """The partition's answer."""
    name = topic if isinstance(topic, str) else topic.name
    request = produce_request({name: {partition: records}}, acks, **options)
    answer = client.call(ApiKey.PRODUCE, version, request)
    (response,) = answer.responses
    assert response.name == name
    (result,) = response.partition_responses
    assert result.index == partition
    return result


def append(client: Client, topic: Topic | str, *batches: bytes, partition: int = 0) -> list[int]:
    """Base offsets of batches that must be accepted."""
    offsets = []
    for records in batches:
        result = produce(client, topic, records, partition)
        assert result.error_code == 0, result
        offsets.append(result.base_offset)
    return offsets


def fetch_partition(partition: int = 0, offset: int = 0, max_bytes: int = 1 << 20, **fields: Any) -> Any:
    return FetchRequest.FetchPartition(
        partition=partition, fetch_offset=offset, partition_max_bytes=max_bytes, **fields
    )


def fetch_request(
    version: int, topics: Iterable[tuple[Topic, Iterable[Any]]], max_wait_ms: int = 0, min_bytes: int = 1,
    max_bytes: int = 50 << 20, isolation_level: int = 0, session: tuple[int, int] = (0, -1),
    forgotten: Iterable[tuple[Topic, list[int]]] = (),
) -> Any:  # fmt: skip
    """session: (id, epoch); the default wants none. Versions below 7 have no sessions."""
    by_id = version >= FIRST_FETCH_BY_ID

    def named(topic: Topic) -> dict[str, Any]:
        return {"topic_id": topic.id} if by_id else {"topic": topic.name}

    request = FetchRequest(
        max_wait_ms=max_wait_ms, min_bytes=min_bytes, isolation_level=isolation_level,
        topics=[FetchRequest.FetchTopic(**named(topic), partitions=list(wanted)) for topic, wanted in topics],
    )  # fmt: skip
    if version >= 3:
        request.max_bytes = max_bytes
    if version >= 7:
        request.session_id, request.session_epoch = session
        request.forgotten_topics_data = [
            FetchRequest.ForgottenTopic(**named(topic), partitions=partitions) for topic, partitions in forgotten
        ]
    return request


def fetch(
    client: Client, topic: Topic, offset: int = 0, partition: int = 0, version: int = LATEST_FETCH,
    partition_max_bytes: int = 1 << 20, **options: Any,
) -> Any:  # fmt: skip
    """The partition's answer to a fetch without a session."""
    wanted = fetch_partition(partition, offset, partition_max_bytes)
    answer = client.call(ApiKey.FETCH, version, fetch_request(version, [(topic, [wanted])], **options))
    assert answer.error_code == 0
    return only_partition(answer)


def only_partition(answer: Any) -> Any:
    """The one partition of a fetch answer."""
    (response,) = answer.responses
    (result,) = response.partitions
    return result


def fetched(answer: Any) -> list[tuple[str | bytes, int]]:
    """(topic name or id, partition) of a fetch answer, in its order."""
    return [
        (response.topic or bytes(response.topic_id), result.partition_index)
        for response in answer.responses
        for result in response.partitions
    ]


def list_offsets(
    client: Client, topic: Topic | str, timestamp: int, partition: int = 0,
    version: int = LATEST_LIST_OFFSETS, isolation_level: int = 0, leader_epoch: int = -1,
    offset_count_max: int = 1, replica_id: int = -1,
) -> Any:  # fmt: skip
    """The partition's answer."""
    name = topic if isinstance(topic, str) else topic.name
    wanted = ListOffsetsRequest.ListOffsetsPartition(
        partition_index=partition, current_leader_epoch=leader_epoch, timestamp=timestamp,
        max_num_offsets=offset_count_max,
    )  # fmt: skip
    request = ListOffsetsRequest(
        replica_id=replica_id, isolation_level=isolation_level,
        topics=[ListOffsetsRequest.ListOffsetsTopic(name=name, partitions=[wanted])],
    )  # fmt: skip
    answer = client.call(ApiKey.LIST_OFFSETS, version, request)
    (response,) = answer.topics
    (result,) = response.partitions
    return result


def epoch_end(
    client: Client, topic: Topic | str, leader_epoch: int, partition: int = 0, version: int = LATEST_EPOCH,
    current_leader_epoch: int = -1, replica_id: int = -2,
) -> Any:  # fmt: skip
    """The partition's answer to OffsetForLeaderEpoch."""
    name = topic if isinstance(topic, str) else topic.name
    wanted = EpochRequest.OffsetForLeaderPartition(
        partition=partition, current_leader_epoch=current_leader_epoch, leader_epoch=leader_epoch
    )
    request = EpochRequest(
        replica_id=replica_id, topics=[EpochRequest.OffsetForLeaderTopic(topic=name, partitions=[wanted])]
    )
    (response,) = client.call(ApiKey.OFFSET_FOR_LEADER_EPOCH, version, request).topics
    (result,) = response.partitions
    return result


def init_producer_id(client: Client, version: int = LATEST_INIT_PRODUCER_ID, **fields: Any) -> Any:
    """InitProducerId without a transactional id, unless `fields` say otherwise."""
    wanted = {"transactional_id": None, "transaction_timeout_ms": 60_000, **fields}
    return client.call(ApiKey.INIT_PRODUCER_ID, version, InitProducerIdRequest(**wanted))


def new_producer_id(client: Client) -> int:
    """A fresh producer id; asks again while the broker reserves its first block."""
    while (answer := init_producer_id(client)).error_code:
        assert answer.error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    producer_id: int = answer.producer_id
    return producer_id
