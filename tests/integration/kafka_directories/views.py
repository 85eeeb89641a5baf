"""Everything that a client can see of a broker's partitions, to be compared between brokers.

A fetch hands out batches as they are stored, so equal bytes are the strictest comparison there is: records,
offsets, times, codecs, producers and leader epochs. Beside them stand what the broker derives: watermarks,
the stable end, aborted transactions, look-ups by time, and what a read_committed consumer makes of it all.
Runs in: the test process.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

from broker.protocol.api_keys import ApiKey
from broker.protocol.messages import request_class
from storage.record.batch import iterate_extents, read_header
from tests.integration.apis.brokers import Topic
from tests.integration.apis.requests import (
    EARLIEST,
    LATEST,
    MAX_TIMESTAMP,
    READ_COMMITTED,
    fetch,
    list_offsets,
)
from tests.integration.apis.wire import Client
from tests.integration.kafka_directories.settings import FIRST_TIMESTAMP_MS
from tests.peers.wire import Address

Place = tuple[str, int]
TIMES = (0, FIRST_TIMESTAMP_MS, *(FIRST_TIMESTAMP_MS + delta for delta in (1, 40, 20_500, 77_000, 149_000, 10**9)),
         EARLIEST, LATEST, MAX_TIMESTAMP)


class PartitionView(NamedTuple):
    """data: all whole batches from the log start. aborted: (producer id, first offset), ascending.

    times: for each time asked and isolation level, timestamp, offset and, of a record that was found, its
    leader epoch (for the ends of a log a broker gives its own, which differs).
    """

    log_start_offset: int
    high_watermark: int
    last_stable_offset: int
    data: bytes
    aborted: tuple[tuple[int, int], ...]
    times: tuple[tuple[int, int, int, int, int], ...]


def topics_of(address: Address) -> dict[str, tuple[Topic, list[int]]]:
    """name -> (topic, partition numbers) of all topics with leaders everywhere."""
    with Client(address) as client:
        answer = client.call(ApiKey.METADATA, 12, request_class(ApiKey.METADATA)(topics=None))
    found = {}
    for topic in answer.topics:
        assert topic.error_code == 0, topic
        assert all(partition.leader_id >= 0 for partition in topic.partitions), topic
        numbers = sorted(partition.partition_index for partition in topic.partitions)
        found[topic.name] = (Topic(topic.name, bytes(topic.topic_id)), numbers)
    return found


def view_all(address: Address) -> dict[Place, PartitionView]:
    """Every partition of the broker, internal topics too."""
    with Client(address) as client:
        return {(name, number): view(client, topic, number)
                for name, (topic, numbers) in topics_of(address).items() for number in numbers}


def view(client: Client, topic: Topic, partition: int) -> PartitionView:
    start = list_offsets(client, topic, EARLIEST, partition).offset
    offset, data, aborted = start, bytearray(), set()
    while True:
        answer = fetch(client, topic, offset, partition, isolation_level=0)
        assert answer.error_code == 0, (topic.name, partition, offset, answer)
        whole = _whole_batches(bytes(answer.records or b""))
        if not whole:
            break
        data += whole
        aborted |= _aborted(client, topic, offset, partition)
        *_, last = iterate_extents(whole)
        offset = read_header(whole, last.position).next_offset
    assert offset == answer.high_watermark, (topic.name, partition, offset, answer.high_watermark)
    times = tuple(_time(client, topic, time, partition, level) for time in TIMES for level in (0, READ_COMMITTED))
    return PartitionView(answer.log_start_offset, answer.high_watermark, answer.last_stable_offset, bytes(data),
                         tuple(sorted(aborted)), times)


def _whole_batches(data: bytes) -> bytes:
    end = 0
    for extent in iterate_extents(data, allow_partial=True):
        end = extent.position + extent.size_bytes
    return data[:end]


def _aborted(client: Client, topic: Topic, offset: int, partition: int) -> set[tuple[int, int]]:
    answer = fetch(client, topic, offset, partition, isolation_level=READ_COMMITTED)
    assert answer.error_code == 0, answer
    return {(each.producer_id, each.first_offset) for each in answer.aborted_transactions or ()}


def _time(client: Client, topic: Topic, time: int, partition: int, level: int) -> tuple[int, int, int, int, int]:
    found = list_offsets(client, topic, time, partition, isolation_level=level)
    assert found.error_code == 0, found
    return time, level, found.timestamp, found.offset, found.leader_epoch if found.timestamp >= 0 else -1


def consume(bootstrap: str, partitions: Mapping[str, int], **settings: Any) -> dict[Place, list[bytes | None]]:
    """Values in order by partition, as librdkafka reads them from the beginning to the readable end."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False,
                         "enable.partition.eof": True, "auto.offset.reset": "earliest", "check.crcs": True,
                         **{key.replace("_", "."): value for key, value in settings.items()}})
    places = [(topic, number) for topic, count in partitions.items() for number in range(count)]
    values: dict[Place, list[bytes | None]] = {place: [] for place in places}
    consumer.assign([TopicPartition(topic, number, 0) for topic, number in places])
    unread = set(places)
    while unread:
        message = consumer.poll(30)
        assert message is not None, f"no end of {unread}"
        error = message.error()
        if error is None:
            values[message.topic(), message.partition()].append(message.value())
        else:
            assert error.code() == KafkaError._PARTITION_EOF, error
            unread.discard((message.topic(), message.partition()))
    consumer.close()
    return values
