"""ListOffsets: behaviours 45, 50 and 51."""

from __future__ import annotations

from typing import Any

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from tests.integration.apis.brokers import BROKER_ID, ApiBroker, Topic
from tests.integration.apis.records import batch, now_ms
from tests.integration.apis.requests import (
    EARLIEST,
    EARLIEST_LOCAL,
    LATEST,
    LATEST_TIERED,
    MAX_TIMESTAMP,
    READ_COMMITTED,
    ListOffsetsRequest,
    append,
    list_offsets,
    produce_request,
)
from tests.integration.apis.test_metadata import DEAD_BROKER, topic_with_dead_replica
from tests.integration.apis.wire import Client, versions

NEW_VERSIONS = versions(ApiKey.LIST_OFFSETS, 1)
CODECS = [0, 1, 2, 3, 4]


def found(result: Any) -> tuple[int, int, int]:
    """(error code, offset, timestamp)"""
    return (result.error_code, result.offset, result.timestamp)


@pytest.fixture(scope="module")
def filled(broker: ApiBroker) -> Topic:
    """Offsets 0 to 5 with times 100 200 150 | 300 | 250 260."""
    topic = broker.topic("listed")
    with broker.connect() as client:
        append(client, topic, batch(b"a", b"b", b"c", timestamps=[100, 200, 150]))
        append(client, topic, batch(b"d", timestamps=[300]), batch(b"e", b"f", timestamps=[250, 260]))
    return topic


@pytest.mark.parametrize("version", NEW_VERSIONS)
def test_50_latest_and_earliest(filled: Topic, client: Client, version: int) -> None:
    latest = list_offsets(client, filled, LATEST, version=version)
    assert found(latest) == (0, 6, -1)
    assert latest.leader_epoch == (0 if version >= 4 else -1)
    earliest = list_offsets(client, filled, EARLIEST, version=version)
    assert found(earliest) == (0, 0, -1)
    assert earliest.leader_epoch == (0 if version >= 4 else -1)


@pytest.mark.parametrize("version", NEW_VERSIONS)
def test_50_an_empty_partition_begins_and_ends_at_0(broker: ApiBroker, client: Client, version: int) -> None:
    topic = broker.topic("empty")
    for timestamp in (LATEST, EARLIEST):
        result = list_offsets(client, topic, timestamp, version=version)
        assert found(result) == (0, 0, -1)
        assert result.leader_epoch == (0 if version >= 4 else -1)
    result = list_offsets(client, topic, 0, version=version)
    assert (found(result), result.leader_epoch) == ((0, -1, -1), -1)


@pytest.mark.parametrize(
    ("timestamp", "first_version", "expected"),
    [(MAX_TIMESTAMP, 7, (0, 3, 300)), (EARLIEST_LOCAL, 8, (0, 0, -1)), (LATEST_TIERED, 9, (0, -1, -1))],
)
@pytest.mark.parametrize("version", NEW_VERSIONS)
def test_50_younger_special_timestamps_need_their_version(
    filled: Topic, client: Client, version: int, timestamp: int, first_version: int,
    expected: tuple[int, int, int],
) -> None:  # fmt: skip
    result = list_offsets(client, filled, timestamp, version=version)
    if version < first_version:
        expected = (ErrorCode.UNSUPPORTED_VERSION, -1, -1)
    assert found(result) == expected


@pytest.mark.parametrize("version", versions(ApiKey.LIST_OFFSETS))
@pytest.mark.parametrize("timestamp", [-6, -100, -(2**63)])
def test_50_other_negative_timestamps_are_unsupported(
    filled: Topic, client: Client, version: int, timestamp: int
) -> None:
    result = list_offsets(client, filled, timestamp, version=version)
    assert found(result) == (ErrorCode.UNSUPPORTED_VERSION, -1, -1)


@pytest.mark.parametrize("version", NEW_VERSIONS)
@pytest.mark.parametrize(
    ("timestamp", "offset", "its_time"),
    [(0, 0, 100), (100, 0, 100), (101, 1, 200), (160, 1, 200), (201, 3, 300), (300, 3, 300), (301, -1, -1),
     (2**62, -1, -1)],
)  # fmt: skip
def test_50_a_time_finds_the_first_record_at_or_after_it(
    filled: Topic, client: Client, version: int, timestamp: int, offset: int, its_time: int
) -> None:
    result = list_offsets(client, filled, timestamp, version=version)
    assert found(result) == (0, offset, its_time)
    assert result.leader_epoch == (0 if version >= 4 and offset >= 0 else -1)


@pytest.mark.parametrize("codec", CODECS)
def test_50_a_time_is_found_inside_compressed_batches(
    broker: ApiBroker, client: Client, codec: int
) -> None:
    topic = broker.topic("timed")
    times = list(range(1000, 2000, 10))
    append(client, topic, batch(*[b"v%d" % time for time in times], timestamps=times, codec=codec))
    for timestamp in (0, 1000, 1005, 1500, 1990):
        expected = max(0, (timestamp - 1000 + 9) // 10)
        assert found(list_offsets(client, topic, timestamp)) == (0, expected, times[expected])
    assert found(list_offsets(client, topic, 1991)) == (0, -1, -1)
    assert found(list_offsets(client, topic, MAX_TIMESTAMP)) == (0, 99, 1990)


def test_50_times_are_found_across_segments(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("timed", segment_bytes=1000, index_interval_bytes=100, retention_ms=-1)
    times = list(range(10_000, 10_000 + 50 * 100, 100))
    append(client, topic, *[batch(b"v" * 100, timestamps=[time]) for time in times])
    for index, time in enumerate(times):
        assert found(list_offsets(client, topic, time)) == (0, index, time)
        assert found(list_offsets(client, topic, time - 50)) == (0, index, time)
    assert found(list_offsets(client, topic, times[-1] + 1)) == (0, -1, -1)


def test_50_the_maximum_may_lie_in_an_old_segment(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("timed", segment_bytes=1000, retention_ms=-1)
    times = [5000, 9000, 9000, *range(6000, 6040)]
    append(client, topic, *[batch(b"v" * 100, timestamps=[time]) for time in times])
    assert found(list_offsets(client, topic, MAX_TIMESTAMP)) == (0, 1, 9000)
    assert found(list_offsets(client, topic, 9001)) == (0, -1, -1)


@pytest.mark.parametrize("version", versions(ApiKey.LIST_OFFSETS, 7))
def test_50_an_empty_partition_has_no_maximum(broker: ApiBroker, client: Client, version: int) -> None:
    topic = broker.topic("empty")
    result = list_offsets(client, topic, MAX_TIMESTAMP, version=version)
    assert (found(result), result.leader_epoch) == ((0, -1, -1), -1)


def test_50_log_append_time_counts_as_the_record_s_time(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("stamped", message_timestamp_type="LogAppendTime")
    before = now_ms()
    append(client, topic, batch(b"a", b"b", timestamps=[1, 2]))
    result = list_offsets(client, topic, before)
    assert (result.error_code, result.offset) == (0, 0)
    assert before <= result.timestamp <= now_ms()
    assert list_offsets(client, topic, now_ms() + 1000).offset == -1
    assert list_offsets(client, topic, MAX_TIMESTAMP).offset == 0


def test_50_records_without_a_time_are_never_found_by_time(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("timeless")
    append(client, topic, batch(b"a", b"b", timestamps=[-1, -1]))
    assert found(list_offsets(client, topic, 0)) == (0, -1, -1)


@pytest.mark.parametrize("version", NEW_VERSIONS)
def test_50_repeated_partitions_are_an_invalid_request(
    broker: ApiBroker, client: Client, version: int
) -> None:
    topic = broker.topic("twice", partitions=2)
    wanted = [
        ListOffsetsRequest.ListOffsetsPartition(partition_index=number, timestamp=timestamp)
        for number, timestamp in ((0, LATEST), (1, LATEST), (0, 5))
    ]
    named = ListOffsetsRequest.ListOffsetsTopic(name=topic.name, partitions=wanted)
    request = ListOffsetsRequest(replica_id=-1, topics=[named])
    (response,) = client.call(ApiKey.LIST_OFFSETS, version, request).topics
    invalid = (ErrorCode.INVALID_REQUEST, -1, -1)
    assert [(result.partition_index, found(result)) for result in response.partitions] == [
        (0, invalid), (1, (0, 0, -1)), (0, invalid)]  # fmt: skip


@pytest.mark.parametrize("version", versions(ApiKey.LIST_OFFSETS))
def test_50_unknown_topics_and_partitions(broker: ApiBroker, client: Client, version: int) -> None:
    topic = broker.topic("known")
    for name, partition in (("missing", 0), ("", 0), (topic.name, 1), (topic.name, -1)):
        for timestamp in (LATEST, 5):
            result = list_offsets(client, name, timestamp, partition, version)
            assert found(result) == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1, -1)


@pytest.mark.parametrize("version", versions(ApiKey.LIST_OFFSETS, 4))
@pytest.mark.parametrize("timestamp", [LATEST, EARLIEST, 0])
def test_45_a_leader_epoch_from_the_future_is_unknown(
    filled: Topic, client: Client, version: int, timestamp: int
) -> None:
    for epoch, error in ((0, 0), (-1, 0), (1, ErrorCode.UNKNOWN_LEADER_EPOCH)):
        result = list_offsets(client, filled, timestamp, version=version, leader_epoch=epoch)
        assert result.error_code == error


@pytest.mark.parametrize("version", versions(ApiKey.LIST_OFFSETS, 2))
def test_50_read_committed_ends_at_the_last_stable_offset(filled: Topic, client: Client, version: int) -> None:
    result = list_offsets(client, filled, LATEST, version=version, isolation_level=READ_COMMITTED)
    assert found(result) == (0, 6, -1)


def test_51_consumers_see_up_to_the_high_watermark_and_replicas_up_to_the_end(
    broker: ApiBroker, client: Client
) -> None:
    topic = topic_with_dead_replica(broker, "thin", [BROKER_ID, DEAD_BROKER], min_insync_replicas="2")
    records = batch(b"a", b"b", timestamps=[100, 200])
    client.call(ApiKey.PRODUCE, 9, produce_request({topic.name: {0: records}}, acks=1))
    for version in NEW_VERSIONS:
        assert list_offsets(client, topic, LATEST, version=version).offset == 0
        assert found(list_offsets(client, topic, 100, version=version)) == (0, -1, -1)
        for replica_id in (5, -2):
            result = list_offsets(client, topic, LATEST, version=version, replica_id=replica_id)
            assert found(result) == (0, 2, -1)
            result = list_offsets(client, topic, 150, version=version, replica_id=replica_id)
            assert found(result) == (0, 1, 200)
    assert list(list_offsets(client, topic, LATEST, version=0, offset_count_max=5).old_style_offsets) == [0, 0]


def test_50_version_0_lists_segment_offsets_from_the_newest(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("old", segment_bytes=1000, retention_ms=-1)
    append(client, topic, *[batch(b"v" * 400) for _ in range(5)])

    def offsets(timestamp: int, count: int) -> list[int]:
        result = list_offsets(client, topic, timestamp, version=0, offset_count_max=count)
        assert result.error_code == 0
        return list(result.old_style_offsets)

    assert offsets(LATEST, 10) == [5, 4, 2, 0]
    assert offsets(LATEST, 2) == [5, 4]
    assert offsets(EARLIEST, 10) == [0]
    assert offsets(now_ms() + 60_000, 10) == [5, 4, 2, 0]
    assert offsets(1, 10) == []
    assert offsets(LATEST, 0) == []


def test_50_version_0_of_an_empty_partition(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("old")
    result = list_offsets(client, topic, LATEST, version=0, offset_count_max=5)
    assert list(result.old_style_offsets) == [0]
