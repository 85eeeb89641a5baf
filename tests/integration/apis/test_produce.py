"""Produce: behaviours 25-32, and the answer's fields in every version."""

from __future__ import annotations

from typing import Any

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from storage.record.batch import read_header
from tests.integration.apis.brokers import BROKER_ID, ApiBroker, Topic
from tests.integration.apis.conftest import Start
from tests.integration.apis.records import (
    LegacyMessage,
    batch,
    headers,
    message_set,
    now_ms,
    of_size,
    records_of,
    values_of,
    with_header,
)
from tests.integration.apis.requests import (
    append,
    fetch,
    list_offsets,
    produce,
    produce_request,
)
from tests.integration.apis.test_metadata import DEAD_BROKER, topic_with_dead_replica
from tests.integration.apis.wire import Client, versions

PRODUCE_VERSIONS = versions(ApiKey.PRODUCE, 3)
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
CODECS = [0, GZIP, SNAPPY, LZ4, ZSTD]
LOG_APPEND_TIME_BIT, TRANSACTIONAL_BIT, CONTROL_BIT = 0x08, 0x10, 0x20
DAY_MS = 86_400_000


def records_fetched(client: Client, topic: Topic, offset: int = 0) -> bytes:
    result = fetch(client, topic, offset)
    assert result.error_code == 0
    return bytes(result.records or b"")


def assert_nothing_appended(client: Client, topic: Topic) -> None:
    assert list_offsets(client, topic, -1).offset == 0


@pytest.fixture(scope="module")
def untouched(broker: ApiBroker) -> Topic:
    """Two partitions; nothing that is sent to partition 0 may be appended."""
    return broker.topic("untouched", partitions=2)


@pytest.fixture(scope="module")
def bounded(broker: ApiBroker) -> Topic:
    """Takes times from an hour ago to ten minutes ahead."""
    return broker.topic(
        "bounded", message_timestamp_before_max_ms=3_600_000, message_timestamp_after_max_ms=600_000
    )


@pytest.fixture(scope="module")
def thin(broker: ApiBroker) -> Topic:
    """One of two in-sync replicas that it needs is dead."""
    return topic_with_dead_replica(broker, "thin", [BROKER_ID, DEAD_BROKER], min_insync_replicas="2")


# The answer


@pytest.mark.parametrize("version", PRODUCE_VERSIONS)
@pytest.mark.parametrize("acks", [-1, 1])
def test_25_an_append_is_answered_with_its_base_offset(
    broker: ApiBroker, client: Client, version: int, acks: int
) -> None:
    topic = broker.topic("appended")
    for base_offset in (0, 3, 6):
        result = produce(client, topic, batch(b"a", b"b", b"c"), version=version, acks=acks)
        assert (result.error_code, result.base_offset, result.log_append_time_ms) == (0, base_offset, -1)
        assert result.log_start_offset == (0 if version >= 5 else -1)
        assert (list(result.record_errors), result.error_message) == ([], None)
        assert (result.current_leader.leader_id, result.current_leader.leader_epoch) == (-1, -1)


@pytest.mark.parametrize("version", PRODUCE_VERSIONS)
@pytest.mark.parametrize("acks", [2, -2, 127, -128])
def test_25_other_acks_are_invalid(untouched: Topic, client: Client, version: int, acks: int) -> None:
    result = produce(client, untouched, batch(b"v"), version=version, acks=acks)
    assert (result.error_code, result.base_offset) == (ErrorCode.INVALID_REQUIRED_ACKS, -1)
    assert_nothing_appended(client, untouched)


def test_25_internal_topics_take_records_of_the_admin_client_only(broker: ApiBroker) -> None:
    if not broker.metadata("__transaction_state").topics[0].partitions:
        broker.create("__transaction_state")
    with broker.connect() as client:
        result = produce(client, "__transaction_state", batch(b"v", keys=[b"k"]))
        assert (result.error_code, result.base_offset) == (ErrorCode.INVALID_TOPIC_EXCEPTION, -1)
    with broker.connect(client_id="__admin_client") as client:
        assert produce(client, "__transaction_state", batch(b"v", keys=[b"k"])).error_code == 0


def test_25_several_topics_and_partitions_in_one_request(broker: ApiBroker, client: Client) -> None:
    one, two = broker.topic("one", partitions=2), broker.topic("two", partitions=2)
    append(client, two, batch(b"first"), partition=1)
    request = produce_request({
        one.name: {0: batch(b"a"), 1: batch(b"b")}, two.name: {1: batch(b"c"), 5: batch(b"d")},
        "missing": {0: batch(b"e")},
    })  # fmt: skip
    for version in PRODUCE_VERSIONS:
        answer = client.call(ApiKey.PRODUCE, version, request)
        found = {
            (response.name, result.index): (result.error_code, result.base_offset)
            for response in answer.responses
            for result in response.partition_responses
        }
        round_number = version - PRODUCE_VERSIONS[0]
        unknown = (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1)
        assert found == {
            (one.name, 0): (0, round_number), (one.name, 1): (0, round_number),
            (two.name, 1): (0, round_number + 1), (two.name, 5): unknown, ("missing", 0): unknown,
        }  # fmt: skip


# What a request may carry


@pytest.mark.parametrize("version", PRODUCE_VERSIONS)
@pytest.mark.parametrize("what", ["two batches", "no batch", "part of a batch", "old format"])
def test_26_anything_but_one_batch_of_format_2_is_an_invalid_record_for_that_partition_only(
    untouched: Topic, client: Client, version: int, what: str
) -> None:
    records = {
        "two batches": batch(b"a") + batch(b"b"),
        "no batch": b"",
        "part of a batch": batch(b"a" * 100)[:90],
        "old format": message_set([LegacyMessage(1, b"a")]),
    }[what]
    answer = client.call(
        ApiKey.PRODUCE, version, produce_request({untouched.name: {0: records, 1: batch(b"good")}})
    )
    (response,) = answer.responses
    results = {result.index: result for result in response.partition_responses}
    assert (results[0].error_code, results[0].base_offset) == (ErrorCode.INVALID_RECORD, -1)
    assert results[1].error_code == 0
    assert_nothing_appended(client, untouched)


@pytest.mark.parametrize("version", PRODUCE_VERSIONS)
def test_26_zstd_is_accepted_from_version_7(untouched: Topic, client: Client, version: int) -> None:
    result = produce(client, untouched, batch(b"v" * 100, codec=ZSTD), partition=1, version=version)
    expected = ErrorCode.UNSUPPORTED_COMPRESSION_TYPE if version < 7 else ErrorCode.NONE
    assert result.error_code == expected


@pytest.mark.parametrize("version", [0, 1, 2])
def test_26_requests_of_versions_before_3_may_carry_format_2(
    broker: ApiBroker, client: Client, version: int
) -> None:
    topic = broker.topic("old-request")
    for records in (batch(b"v"), batch(b"v", codec=ZSTD)):
        assert produce(client, topic, records, version=version).error_code == 0
    assert list_offsets(client, topic, -1).offset == 2


def test_26_bytes_of_a_cut_batch_behind_the_batch_are_dropped(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("trailing")
    whole = batch(b"v")
    for trailing in (b"\0", b"\0" * 11, batch(b"w")[:40]):
        assert produce(client, topic, whole + trailing).error_code == 0
    assert len(records_fetched(client, topic)) == 3 * len(whole)


@pytest.mark.parametrize("version", PRODUCE_VERSIONS)
def test_null_records_are_an_invalid_record(start_broker: Start, version: int) -> None:
    """Ottla alone: Kafka fails on them and never answers."""
    broker = start_broker("ottla", "base")
    topic = broker.topic("null")
    with broker.connect() as client:
        assert produce(client, topic, None, version=version).error_code == ErrorCode.INVALID_RECORD
        assert_nothing_appended(client, topic)


INVALID_HEADERS: dict[str, dict[str, int]] = {
    "base offset": {"base_offset": 1},
    "negative base offset": {"base_offset": -1},
    "fewer offsets than records": {"last_offset_delta": 0},
    "more offsets than records": {"last_offset_delta": 5},
    "negative last offset delta": {"last_offset_delta": -1},
    "no records": {"record_count": 0, "last_offset_delta": -1},
    "record count 0": {"record_count": 0},
    "negative record count": {"record_count": -1},
    "control batch": {"attributes": CONTROL_BIT},
    "producer without a sequence": {"producer_id": 7, "producer_epoch": 0, "base_sequence": -1},
}


@pytest.mark.parametrize("fields", INVALID_HEADERS.values(), ids=INVALID_HEADERS)
def test_27_headers_that_contradict_the_records_are_an_invalid_record(
    untouched: Topic, client: Client, fields: dict[str, int]
) -> None:
    result = produce(client, untouched, with_header(batch(b"a", b"b"), **fields))
    assert (result.error_code, result.base_offset) == (ErrorCode.INVALID_RECORD, -1)
    assert_nothing_appended(client, untouched)


@pytest.mark.parametrize("version", PRODUCE_VERSIONS)
def test_27_a_wrong_checksum_is_a_corrupt_message(untouched: Topic, client: Client, version: int) -> None:
    result = produce(client, untouched, with_header(batch(b"v"), crc=12345), version=version)
    assert (result.error_code, result.base_offset) == (ErrorCode.CORRUPT_MESSAGE, -1)
    assert_nothing_appended(client, untouched)


GARBAGE = {
    "shorter than a length": (b"\0" * 5, ErrorCode.INVALID_RECORD),
    "length 0": (b"\0" * 17, ErrorCode.CORRUPT_MESSAGE),
    "length 0 in a whole header": (b"\0" * 61, ErrorCode.CORRUPT_MESSAGE),
    "negative length": (b"\xff" * 61, ErrorCode.CORRUPT_MESSAGE),
    "length beyond the end": (bytes(range(100)), ErrorCode.CORRUPT_MESSAGE),
}


@pytest.mark.parametrize(("records", "error"), GARBAGE.values(), ids=GARBAGE)
def test_27_garbage_is_refused(untouched: Topic, client: Client, records: bytes, error: ErrorCode) -> None:
    assert produce(client, untouched, records).error_code == error
    assert_nothing_appended(client, untouched)


# Timestamps


@pytest.mark.parametrize("codec", CODECS)
def test_28_log_append_time_is_set_by_the_broker(broker: ApiBroker, client: Client, codec: int) -> None:
    topic = broker.topic("stamped", message_timestamp_type="LogAppendTime")
    for version in PRODUCE_VERSIONS if codec != ZSTD else versions(ApiKey.PRODUCE, 7):
        before = now_ms()
        result = produce(client, topic, batch(b"a", b"b", timestamps=[1, 2], codec=codec), version=version)
        assert before <= result.log_append_time_ms <= now_ms()
        stored = records_fetched(client, topic, result.base_offset)
        (header,) = headers(stored)
        assert header.attributes == LOG_APPEND_TIME_BIT | codec
        assert (header.base_timestamp, header.max_timestamp) == (1, result.log_append_time_ms)
        assert {record.timestamp for record in records_of(stored)} == {result.log_append_time_ms}


def test_28_a_producer_may_not_set_log_append_time_itself(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("stamped", message_timestamp_type="LogAppendTime")
    stamped = with_header(batch(b"a", b"b"), attributes=LOG_APPEND_TIME_BIT)
    for version in (7, 8, 11):
        result = produce(client, topic, stamped, version=version)
        assert result.error_code == ErrorCode.INVALID_TIMESTAMP
        expected = [0, 1] if version >= 8 else []
        assert [error.batch_index for error in result.record_errors] == expected
    assert_nothing_appended(client, topic)


def test_28_the_type_bit_of_a_producer_is_cleared_in_a_create_time_topic(
    broker: ApiBroker, client: Client
) -> None:
    topic = broker.topic("created")
    append(client, topic, with_header(batch(b"a", timestamps=[5]), attributes=LOG_APPEND_TIME_BIT))
    (header,) = headers(records_fetched(client, topic))
    assert (header.attributes, header.max_timestamp) == (0, 5)


@pytest.fixture(scope="module")
def compacted(broker: ApiBroker) -> Topic:
    return broker.topic("compacted", cleanup_policy="compact")


@pytest.mark.parametrize("version", PRODUCE_VERSIONS)
@pytest.mark.parametrize("codec", [0, LZ4])
def test_27_a_record_without_key_refuses_the_whole_batch_in_a_compacted_topic(
    compacted: Topic, client: Client, version: int, codec: int
) -> None:
    before = list_offsets(client, compacted, -1).offset
    records = batch(b"a", b"b", b"c", b"d", keys=[b"1", None, b"2", None], codec=codec)
    result = produce(client, compacted, records, version=version)
    assert (result.error_code, result.base_offset) == (ErrorCode.INVALID_RECORD, -1)
    assert [error.batch_index for error in result.record_errors] == ([1, 3] if version >= 8 else [])
    if version >= 8:
        assert result.error_message
        assert all(error.batch_index_error_message for error in result.record_errors)
    assert list_offsets(client, compacted, -1).offset == before


def test_27_records_with_keys_and_tombstones_are_accepted_in_a_compacted_topic(
    compacted: Topic, client: Client
) -> None:
    before = list_offsets(client, compacted, -1).offset
    append(client, compacted, batch(b"a", None, keys=[b"", b"1"]))
    assert list_offsets(client, compacted, -1).offset == before + 2


@pytest.mark.parametrize("version", PRODUCE_VERSIONS)
@pytest.mark.parametrize("codec", [0, LZ4])
def test_28_timestamps_out_of_bounds_refuse_the_whole_batch_and_name_the_records(
    bounded: Topic, client: Client, version: int, codec: int
) -> None:
    now = now_ms()
    times = [now, now - DAY_MS, now, now + DAY_MS]
    before = list_offsets(client, bounded, -1).offset
    records = batch(b"a", b"b", b"c", b"d", timestamps=times, codec=codec)
    result = produce(client, bounded, records, version=version)
    assert (result.error_code, result.base_offset) == (ErrorCode.INVALID_TIMESTAMP, -1)
    assert result.log_start_offset == (0 if version >= 5 else -1)
    assert [error.batch_index for error in result.record_errors] == ([1, 3] if version >= 8 else [])
    if version >= 8:
        assert result.error_message
        assert all(error.batch_index_error_message for error in result.record_errors)
    assert list_offsets(client, bounded, -1).offset == before


def test_28_timestamps_within_bounds_and_missing_ones_are_accepted(bounded: Topic, client: Client) -> None:
    now = now_ms()
    append(client, bounded, batch(b"a", b"b", timestamps=[now - 3_500_000, now + 500_000]))
    append(client, bounded, batch(b"a", b"b", timestamps=[-1, -1]))


def test_28_bounds_do_not_apply_to_log_append_time(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic(
        "stamped", message_timestamp_type="LogAppendTime", message_timestamp_before_max_ms=1000
    )
    append(client, topic, batch(b"a", timestamps=[1]))


def test_28_the_older_bound_counts_for_both_directions(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("bounded", message_timestamp_difference_max_ms=3_600_000)
    for timestamp in (now_ms() - DAY_MS, now_ms() + DAY_MS):
        result = produce(client, topic, batch(b"a", timestamps=[timestamp]))
        assert result.error_code == ErrorCode.INVALID_TIMESTAMP
    append(client, topic, batch(b"a"))


@pytest.mark.parametrize("codec", CODECS)
def test_28_a_missing_max_timestamp_is_filled_in(broker: ApiBroker, client: Client, codec: int) -> None:
    topic = broker.topic("filled")
    records = batch(b"a", b"b", b"c", timestamps=[10, 30, 20], codec=codec)
    append(client, topic, with_header(records, max_timestamp=-1))
    (header,) = headers(records_fetched(client, topic))
    assert (header.base_timestamp, header.max_timestamp) == (10, 30)
    assert list_offsets(client, topic, 25).offset == 1


# Sizes


def test_29_a_batch_above_max_message_bytes_is_too_large(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("sized", max_message_bytes=1000)
    exact = of_size(1000)
    limit = len(exact)
    sized = broker.topic("sized", max_message_bytes=limit)
    assert produce(client, sized, exact).error_code == 0
    for version in PRODUCE_VERSIONS:
        result = produce(client, topic, of_size(1100), version=version)
        assert (result.error_code, result.base_offset) == (ErrorCode.MESSAGE_TOO_LARGE, -1)
    larger = broker.topic("sized", max_message_bytes=limit - 1)
    assert produce(client, larger, exact).error_code == ErrorCode.MESSAGE_TOO_LARGE


def test_29_the_compressed_size_counts(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("sized", max_message_bytes=1000)
    assert produce(client, topic, batch(bytes(100_000), codec=GZIP)).error_code == 0


def test_29_the_default_limit_is_that_of_the_broker(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("sized")
    assert produce(client, topic, of_size(1_048_588)).error_code == 0
    assert produce(client, topic, of_size(1_048_700)).error_code == ErrorCode.MESSAGE_TOO_LARGE


def test_29_a_batch_above_segment_bytes_is_a_too_large_record_list(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("sized", segment_bytes=1000)
    assert produce(client, topic, of_size(1100)).error_code == ErrorCode.RECORD_LIST_TOO_LARGE
    assert produce(client, topic, of_size(1000)).error_code == 0


# Bytes


@pytest.mark.parametrize("codec", CODECS)
def test_30_the_producer_s_bytes_are_kept_but_for_offset_and_epoch(
    broker: ApiBroker, client: Client, codec: int
) -> None:
    topic = broker.topic("kept")
    sent = batch(b"a" * 200, None, b"", keys=[b"k", None, b""], codec=codec)
    append(client, topic, sent, sent)
    stored = records_fetched(client, topic)
    second = stored[len(stored) // 2 :]
    header = read_header(second)
    assert (header.base_offset, header.partition_leader_epoch) == (3, 0)
    assert with_header(second, base_offset=0, partition_leader_epoch=-1) == sent
    assert values_of(stored) == [b"a" * 200, None, b""] * 2


# In-sync replicas


@pytest.mark.parametrize("version", PRODUCE_VERSIONS)
def test_31_too_few_in_sync_replicas_refuse_acks_all(thin: Topic, client: Client, version: int) -> None:
    result = produce(client, thin, batch(b"v"), version=version, acks=-1)
    assert (result.error_code, result.base_offset) == (ErrorCode.NOT_ENOUGH_REPLICAS, -1)
    assert list_offsets(client, thin, -1, replica_id=-2).offset == 0


def test_31_acks_1_ignores_min_insync_replicas_but_consumers_do_not_see_the_data(
    broker: ApiBroker, client: Client
) -> None:
    topic = topic_with_dead_replica(broker, "thin", [BROKER_ID, DEAD_BROKER], min_insync_replicas="2")
    assert append_with_acks_1(client, topic) == 0
    assert append_with_acks_1(client, topic) == 1
    result = fetch(client, topic)
    assert (result.error_code, result.high_watermark, bytes(result.records or b"")) == (0, 0, b"")
    assert list_offsets(client, topic, -1).offset == 0
    assert fetch(client, topic, offset=2).error_code == 0
    assert fetch(client, topic, offset=3).error_code == ErrorCode.OFFSET_OUT_OF_RANGE


def append_with_acks_1(client: Client, topic: Topic) -> int:
    result = produce(client, topic, batch(b"v"), acks=1)
    assert result.error_code == 0
    base_offset: int = result.base_offset
    return base_offset


def test_31_the_replication_factor_caps_min_insync_replicas(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("thin", min_insync_replicas=3)
    assert append(client, topic, batch(b"v")) == [0]
    assert len(records_fetched(client, topic)) == len(batch(b"v"))


def test_31_in_sync_replicas_alone_decide_about_acks_all(broker: ApiBroker, client: Client) -> None:
    topic = topic_with_dead_replica(broker, "thin", [BROKER_ID, DEAD_BROKER])
    assert append(client, topic, batch(b"v")) == [0]
    assert fetch(client, topic).high_watermark == 1


@pytest.mark.parametrize("version", PRODUCE_VERSIONS)
@pytest.mark.parametrize(("name", "partition"), [("", 0), ("missing", 0), ("a b", 0), (None, 2), (None, -1)])
def test_32_unknown_topics_and_partitions(
    untouched: Topic, client: Client, version: int, name: str | None, partition: int
) -> None:
    topic = name if name is not None else untouched.name
    result = produce(client, topic, batch(b"v"), partition, version)
    assert result.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert (result.base_offset, result.log_append_time_ms, result.log_start_offset) == (-1, -1, -1)
    assert result.current_leader.leader_id == -1


def test_32_produce_does_not_create_topics(broker: ApiBroker, client: Client) -> None:
    name = broker.new_name("unasked")
    assert produce(client, name, batch(b"v")).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    (found,) = broker.metadata(name).topics
    assert found.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_32_a_request_without_topics_is_answered(client: Client) -> None:
    empty: dict[str, Any] = {}
    for version in PRODUCE_VERSIONS:
        answer = client.call(ApiKey.PRODUCE, version, produce_request(empty))
        assert (list(answer.responses), answer.throttle_time_ms) == ([], 0)


def test_32_a_topic_without_partitions_is_left_out(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("empty")
    answer = client.call(ApiKey.PRODUCE, 11, produce_request({topic.name: {}}))
    assert list(answer.responses) == []
