"""librdkafka (confluent-kafka) writes and reads back every record, with its usual settings and edges."""
from __future__ import annotations

from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError, Message, Producer, TopicPartition

from tests.clients import librdkafka
from tests.clients.dataset import (
    PARTITIONS,
    RECORDS_FULL,
    RECORDS_SHORT,
    expected_digests,
    expected_offset_for_time,
)
from tests.clients.programs import ALL_CODECS
from tests.conftest import Target


def _acked_in_order(offsets: list[int]) -> bool:
    return offsets == [index // PARTITIONS for index in range(len(offsets))]


@pytest.mark.parametrize("codec", ALL_CODECS)
def test_every_codec_comes_back_as_written(
    codec: str, target: Target, base_timestamp_ms: int, make_topic: Callable[..., str]
) -> None:
    topic = make_topic()
    settings = {"compression.type": codec}
    offsets = librdkafka.write(target.bootstrap, topic, RECORDS_FULL, base_timestamp_ms, settings)
    assert _acked_in_order(offsets)
    expected = expected_digests(RECORDS_FULL, base_timestamp_ms)
    assert librdkafka.read_digests(target.bootstrap, topic, PARTITIONS) == expected


@pytest.mark.parametrize("acks", [0, 1, -1])
def test_acks(acks: int, target: Target, base_timestamp_ms: int, make_topic: Callable[..., str]) -> None:
    topic = make_topic()
    offsets = librdkafka.write(
        target.bootstrap, topic, RECORDS_SHORT, base_timestamp_ms, {"acks": acks, "max.in.flight": 1}
    )
    assert acks == 0 or _acked_in_order(offsets)
    expected = expected_digests(RECORDS_SHORT, base_timestamp_ms)
    assert librdkafka.read_digests(target.bootstrap, topic, PARTITIONS, RECORDS_SHORT) == expected


def test_idempotent_producer_with_five_requests_in_flight(
    target: Target, base_timestamp_ms: int, make_topic: Callable[..., str]
) -> None:
    topic = make_topic()
    settings = {"enable.idempotence": True, "batch.num.messages": 100, "linger.ms": 0}
    offsets = librdkafka.write(target.bootstrap, topic, RECORDS_FULL, base_timestamp_ms, settings)
    assert _acked_in_order(offsets)
    expected = expected_digests(RECORDS_FULL, base_timestamp_ms)
    assert librdkafka.read_digests(target.bootstrap, topic, PARTITIONS) == expected


def test_one_record_per_request(
    target: Target, base_timestamp_ms: int, make_topic: Callable[..., str]
) -> None:
    topic = make_topic()
    settings = {"batch.num.messages": 1, "linger.ms": 0, "max.in.flight": 1000}
    offsets = librdkafka.write(target.bootstrap, topic, RECORDS_SHORT, base_timestamp_ms, settings)
    assert _acked_in_order(offsets)
    expected = expected_digests(RECORDS_SHORT, base_timestamp_ms)
    assert librdkafka.read_digests(target.bootstrap, topic, PARTITIONS) == expected


def test_offsets_for_times(target: Target, base_timestamp_ms: int, make_topic: Callable[..., str]) -> None:
    topic = make_topic()
    librdkafka.write(target.bootstrap, topic, RECORDS_SHORT, base_timestamp_ms, {"compression.type": "zstd"})
    client = librdkafka.consumer(target.bootstrap)
    for index in (0, 1, 2, 5000, RECORDS_SHORT - 1):
        timestamp_ms = base_timestamp_ms + index
        asked = [TopicPartition(topic, partition, timestamp_ms) for partition in range(PARTITIONS)]
        for answer in client.offsets_for_times(asked, timeout=30):
            expected = expected_offset_for_time(
                answer.partition, timestamp_ms, base_timestamp_ms, RECORDS_SHORT
            )
            assert answer.offset == expected, (index, answer)
    client.close()


def test_log_append_time_replaces_the_producers(
    target: Target, base_timestamp_ms: int, make_topic: Callable[..., str]
) -> None:
    topic = make_topic(message_timestamp_type="LogAppendTime")
    librdkafka.write(target.bootstrap, topic, 300, base_timestamp_ms, {"compression.type": "gzip"})
    for records in librdkafka.read(target.bootstrap, topic, PARTITIONS):
        assert len(records) == 100
        assert all(record.timestamp_ms > base_timestamp_ms + 60_000 for record in records)


def _delivery_error(target: Target, topic: str, value: bytes, **settings: object) -> KafkaError | None:
    producer = Producer({"bootstrap.servers": target.bootstrap, **settings})
    errors: list[KafkaError | None] = []

    def note(error: KafkaError | None, _message: Message) -> None:
        errors.append(error)

    producer.produce(topic, value=value, partition=0, on_delivery=note)
    assert producer.flush(30) == 0
    return errors[0]


def test_record_above_the_brokers_limit_is_refused(target: Target, make_topic: Callable[..., str]) -> None:
    error = _delivery_error(target, make_topic(), bytes(2_000_000), **{"message.max.bytes": 4_000_000})
    assert error is not None
    assert error.code() == KafkaError.MSG_SIZE_TOO_LARGE


def test_record_above_the_topics_limit_is_refused(target: Target, make_topic: Callable[..., str]) -> None:
    topic = make_topic(max_message_bytes="5000")
    error = _delivery_error(target, topic, bytes(6000))
    assert error is not None
    assert error.code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert _delivery_error(target, topic, bytes(4000)) is None


def test_record_of_almost_the_limit_comes_back(target: Target, make_topic: Callable[..., str]) -> None:
    topic = make_topic(partitions=1)
    value = bytes(range(256)) * 4000
    settings = {"message.max.bytes": 1_048_588}
    assert _delivery_error(target, topic, value, **settings) is None
    assert [record.value for record in librdkafka.read(target.bootstrap, topic, 1)[0]] == [value]
