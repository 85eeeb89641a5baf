"""Fetch without sessions: behaviours 38-46 and 48."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import request_class
from tests.integration.apis.brokers import BROKER_ID, ApiBroker, Topic
from tests.integration.apis.records import batch, headers, of_size, records_of, values_of
from tests.integration.apis.requests import (
    READ_COMMITTED,
    append,
    fetch,
    fetch_partition,
    fetch_request,
    fetched,
    only_partition,
    produce_request,
)
from tests.integration.apis.test_delete_topics import delete
from tests.integration.apis.test_metadata import DEAD_BROKER, topic_with_dead_replica
from tests.integration.apis.wire import Client, versions

FETCH_VERSIONS = versions(ApiKey.FETCH, 4)
NAME_VERSIONS = [version for version in FETCH_VERSIONS if version < 13]
ID_VERSIONS = versions(ApiKey.FETCH, 13)
UNKNOWN = Topic("unknown", bytes(range(16)))
FOREVER_MS = 20_000


def data(result: Any) -> bytes:
    return bytes(result.records or b"")


def ask(client: Client, version: int, *topics: tuple[Topic, list[Any]], **options: Any) -> Any:
    return client.call(ApiKey.FETCH, version, fetch_request(version, topics, **options))


def key(topic: Topic, version: int) -> str | bytes:
    return topic.id if version >= 13 else topic.name


@pytest.fixture(scope="module")
def abc(broker: ApiBroker) -> Topic:
    """Partition 0 holds the batches (a, b) and (c); partitions 1 and 2 are empty."""
    topic = broker.topic("abc", partitions=3)
    with broker.connect() as client:
        append(client, topic, batch(b"a", b"b"), batch(b"c"))
    return topic


@pytest.fixture(scope="module")
def sized(broker: ApiBroker) -> Topic:
    """Partitions 1, 2 and 3 hold two batches of SIZED bytes each; partition 0 is empty."""
    topic = broker.topic("sized", partitions=4)
    with broker.connect() as client:
        for partition in (1, 2, 3):
            append_sized(client, topic, partition, 500, count=2)
    return topic


SIZED = len(of_size(500))


# One partition


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_41_records_are_returned_with_the_bounds_of_the_log(abc: Topic, client: Client, version: int) -> None:
    answer = ask(client, version, (abc, [fetch_partition()]))
    assert (answer.error_code, answer.session_id, answer.throttle_time_ms) == (0, 0, 0)
    assert fetched(answer) == [(key(abc, version), 0)]
    result = only_partition(answer)
    assert (result.error_code, result.high_watermark, result.last_stable_offset) == (0, 3, 3)
    assert result.log_start_offset == (0 if version >= 5 else -1)
    assert result.preferred_read_replica == -1
    assert values_of(data(result)) == [b"a", b"b", b"c"]
    assert [header.base_offset for header in headers(data(result))] == [0, 2]
    assert [header.partition_leader_epoch for header in headers(data(result))] == [0, 0]


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_41_at_the_end_of_the_log_there_is_no_data_and_no_error(
    abc: Topic, client: Client, version: int
) -> None:
    for partition, end in ((0, 3), (1, 0)):
        result = fetch(client, abc, end, partition, version)
        assert (result.error_code, result.high_watermark, data(result)) == (0, end, b"")


@pytest.mark.parametrize("version", FETCH_VERSIONS)
@pytest.mark.parametrize("offset", [-1, -2, 4, 2**62])
def test_41_offsets_outside_the_log_are_out_of_range(
    abc: Topic, client: Client, version: int, offset: int
) -> None:
    result = fetch(client, abc, offset, version=version)
    assert result.error_code == ErrorCode.OFFSET_OUT_OF_RANGE
    assert (result.high_watermark, result.last_stable_offset, result.log_start_offset) == (-1, -1, -1)
    assert data(result) == b""


def test_41_between_high_watermark_and_log_end_there_is_no_data_and_no_error(
    broker: ApiBroker, client: Client
) -> None:
    topic = topic_with_dead_replica(broker, "thin", [BROKER_ID, DEAD_BROKER], min_insync_replicas="2")
    client.call(ApiKey.PRODUCE, 9, produce_request({topic.name: {0: batch(b"a", b"b")}}, acks=1))
    for offset in (0, 1, 2):
        result = fetch(client, topic, offset)
        assert (result.error_code, result.high_watermark, data(result)) == (0, 0, b"")
    assert fetch(client, topic, 3).error_code == ErrorCode.OFFSET_OUT_OF_RANGE


@pytest.mark.parametrize("version", FETCH_VERSIONS)
@pytest.mark.parametrize("isolation_level", [0, READ_COMMITTED])
def test_42_aborted_transactions_are_null_unless_read_committed(
    abc: Topic, client: Client, version: int, isolation_level: int
) -> None:
    for partition in (0, 1):
        result = fetch(client, abc, 0, partition, version, isolation_level=isolation_level)
        assert result.aborted_transactions == ([] if isolation_level else None)


def test_42_read_committed_sees_what_is_not_transactional(abc: Topic, client: Client) -> None:
    result = fetch(client, abc, isolation_level=READ_COMMITTED)
    assert (result.last_stable_offset, values_of(data(result))) == (3, [b"a", b"b", b"c"])


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
def test_43_the_batch_that_holds_the_offset_is_returned_whole(
    broker: ApiBroker, client: Client, codec: int
) -> None:
    topic = broker.topic("read")
    append(client, topic, batch(b"a"), batch(b"b", b"c", b"d", codec=codec), batch(b"e"))
    for version in FETCH_VERSIONS:
        result = fetch(client, topic, 2, version=version)
        assert [record.offset for record in records_of(data(result))] == [1, 2, 3, 4]


def test_43_every_offset_finds_its_batch_across_segments(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("rolled", segment_bytes=1000, index_interval_bytes=100)
    append(client, topic, *[batch(b"%d" % number * 40, b"x") for number in range(60)])
    for offset in range(120):
        first = headers(data(fetch(client, topic, offset)))[0]
        assert first.base_offset == offset - offset % 2
    assert data(fetch(client, topic, 120)) == b""


def test_44_zstd_of_a_producer_is_returned_in_every_version(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("zstd")
    append(client, topic, batch(b"v" * 100, codec=4))
    for version in FETCH_VERSIONS:
        result = fetch(client, topic, version=version)
        assert (result.error_code, values_of(data(result))) == (0, [b"v" * 100])


@pytest.mark.parametrize("version", versions(ApiKey.FETCH, 9))
def test_45_a_leader_epoch_from_the_future_is_unknown(abc: Topic, client: Client, version: int) -> None:
    for epoch, error in ((0, 0), (-1, 0), (1, ErrorCode.UNKNOWN_LEADER_EPOCH)):
        answer = ask(client, version, (abc, [fetch_partition(current_leader_epoch=epoch)]))
        result = only_partition(answer)
        assert result.error_code == error
        assert result.high_watermark == (-1 if error else 3)


@pytest.mark.parametrize("version", versions(ApiKey.FETCH, 12))
def test_46_a_last_fetched_epoch_that_ended_earlier_diverges(
    abc: Topic, client: Client, version: int
) -> None:
    good = only_partition(ask(client, version, (abc, [fetch_partition(offset=2, last_fetched_epoch=0)])))
    assert (good.error_code, values_of(data(good))) == (0, [b"c"])
    assert (good.diverging_epoch.epoch, good.diverging_epoch.end_offset) == (-1, -1)
    beyond = fetch_partition(offset=4, last_fetched_epoch=0)
    result = only_partition(ask(client, version, (abc, [beyond]), max_wait_ms=FOREVER_MS))
    assert (result.error_code, data(result), result.high_watermark) == (0, b"", 3)
    assert (result.diverging_epoch.epoch, result.diverging_epoch.end_offset) == (0, 3)


@pytest.mark.parametrize("version", versions(ApiKey.FETCH, 12))
def test_46_a_last_fetched_epoch_that_never_was_is_out_of_range(
    abc: Topic, client: Client, version: int
) -> None:
    result = only_partition(ask(client, version, (abc, [fetch_partition(last_fetched_epoch=5)])))
    assert result.error_code == ErrorCode.OFFSET_OUT_OF_RANGE


# Limits


@pytest.mark.parametrize("version", FETCH_VERSIONS)
@pytest.mark.parametrize("limits", [(1, 1 << 20), (1 << 20, 1), (0, 1 << 20), (1, 1)])
def test_38_the_first_batch_is_returned_whole_whatever_the_limits(
    sized: Topic, client: Client, version: int, limits: tuple[int, int]
) -> None:
    partition_max_bytes, max_bytes = limits
    result = fetch(client, sized, 0, 1, version, partition_max_bytes, max_bytes=max_bytes)
    assert len(data(result)) == headers(data(result))[0].size_bytes == SIZED


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_38_a_batch_may_be_cut_at_the_partition_s_limit(sized: Topic, client: Client, version: int) -> None:
    result = fetch(client, sized, 0, 1, version, partition_max_bytes=700)
    assert len(data(result)) == 700
    assert len(headers(data(result))) == 1


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_38_only_the_first_partition_with_data_may_exceed_the_limits(
    sized: Topic, client: Client, version: int
) -> None:
    wanted = [fetch_partition(partition, max_bytes=100) for partition in range(4)]
    answer = ask(client, version, (sized, wanted), max_bytes=1 << 20)
    assert [len(data(result)) for result in answer.responses[0].partitions] == [0, SIZED, 0, 0]


def append_sized(client: Client, topic: Topic, partition: int, size_bytes: int, count: int = 1) -> int:
    """The size of each of the batches."""
    records = of_size(size_bytes)
    append(client, topic, *[records] * count, partition=partition)
    return len(records)


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_38_partitions_share_the_response_s_limit_in_their_order(
    sized: Topic, client: Client, version: int
) -> None:
    wanted = [fetch_partition(partition) for partition in (3, 1, 2)]
    answer = ask(client, version, (sized, wanted), max_bytes=3 * SIZED + 60)
    found = [(result.partition_index, len(data(result))) for result in answer.responses[0].partitions]
    assert found == [(3, 2 * SIZED), (1, SIZED + 60), (2, 0)]
    answer = ask(client, version, (sized, wanted), max_bytes=2 * SIZED + 60)
    found = [(result.partition_index, len(data(result))) for result in answer.responses[0].partitions]
    assert found == [(3, 2 * SIZED), (1, 0), (2, 0)]


def test_39_fetch_max_bytes_of_the_broker_limits_the_response(variant: ApiBroker) -> None:
    topic = variant.topic("limited")
    with variant.connect() as client:
        append(client, topic, *[of_size(20_000) for _ in range(5)])
        assert len(data(fetch(client, topic, max_bytes=1 << 30))) == 50_000
        started = time.monotonic()
        assert len(data(fetch(client, topic, min_bytes=1 << 20, max_wait_ms=FOREVER_MS))) == 50_000
        assert time.monotonic() - started < FOREVER_MS / 2000


def test_39_min_bytes_beyond_max_bytes_is_as_many_as_max_bytes(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("limited")
    append(client, topic, of_size(500), of_size(500))
    started = time.monotonic()
    result = fetch(client, topic, max_bytes=600, min_bytes=10_000, max_wait_ms=FOREVER_MS)
    assert len(data(result)) == 600
    assert time.monotonic() - started < FOREVER_MS / 2000


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_39_topics_and_partitions_are_answered_in_the_request_s_order(
    abc: Topic, sized: Topic, client: Client, version: int
) -> None:
    wanted = [(sized, [2, 1]), (abc, [0, 2, 1]), (sized, [0])]
    answer = ask(client, version, *[
        (topic, [fetch_partition(number) for number in numbers]) for topic, numbers in wanted])  # fmt: skip
    assert fetched(answer) == [
        (key(topic, version), number) for topic, numbers in wanted for number in numbers]  # fmt: skip


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_39_unknown_partitions_are_answered_behind_the_others(
    abc: Topic, client: Client, version: int
) -> None:
    wanted = [(UNKNOWN, [fetch_partition()]), (abc, [fetch_partition(7), fetch_partition(1), fetch_partition(0)])]
    answer = ask(client, version, *wanted)
    name, unknown = key(abc, version), key(UNKNOWN, version)
    assert fetched(answer) == [(name, 1), (name, 0), (unknown, 0), (name, 7)]


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_39_of_a_repeated_partition_the_last_wish_counts(abc: Topic, client: Client, version: int) -> None:
    wanted = [fetch_partition(0, 0), fetch_partition(1), fetch_partition(0, 2)]
    answer = ask(client, version, (abc, wanted))
    name = key(abc, version)
    assert fetched(answer) == [(name, 0), (name, 1)]
    assert values_of(data(answer.responses[0].partitions[0])) == [b"c"]


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_40_a_fetch_of_nothing_is_answered_at_once(client: Client, version: int) -> None:
    answer = ask(client, version, max_wait_ms=FOREVER_MS)
    assert (answer.error_code, list(answer.responses)) == (0, [])


# Waiting


def in_background(broker: ApiBroker, delay_s: float, action: Callable[[Client], Any]) -> threading.Thread:
    """`action` on a connection of its own, a moment later."""

    def run() -> None:
        time.sleep(delay_s)
        with broker.connect() as other:
            action(other)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_40_without_data_the_answer_comes_when_the_time_is_up(
    abc: Topic, client: Client, version: int
) -> None:
    started = time.monotonic()
    result = fetch(client, abc, 0, 1, version, max_wait_ms=120)
    assert 0.11 < time.monotonic() - started < 2
    assert (result.error_code, result.high_watermark, data(result)) == (0, 0, b"")


@pytest.mark.parametrize("version", [4, 7, 12, 13, 17])
def test_40_data_wakes_the_fetch(broker: ApiBroker, client: Client, version: int) -> None:
    topic = broker.topic("waiting", partitions=2)
    thread = in_background(broker, 0.05, lambda other: append(other, topic, batch(b"v"), partition=1))
    wanted = [fetch_partition(0), fetch_partition(1)]
    answer = ask(client, version, (topic, wanted), max_wait_ms=FOREVER_MS)
    thread.join()
    found = [(result.partition_index, values_of(data(result))) for result in answer.responses[0].partitions]
    assert found == [(0, []), (1, [b"v"])]
    assert answer.responses[0].partitions[1].high_watermark == 1


def test_40_min_bytes_are_waited_for(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("waiting")
    size = append_sized(client, topic, 0, 300)
    thread = in_background(
        broker, 0.1, lambda other: [append(other, topic, of_size(300)) for _ in range(3)]
    )
    result = fetch(client, topic, min_bytes=3 * size, max_wait_ms=FOREVER_MS)
    thread.join()
    assert len(data(result)) >= 3 * size


def test_40_what_is_less_than_min_bytes_comes_when_the_time_is_up(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("waiting")
    append(client, topic, batch(b"v"))
    started = time.monotonic()
    result = fetch(client, topic, min_bytes=10_000, max_wait_ms=150)
    assert time.monotonic() - started > 0.14
    assert values_of(data(result)) == [b"v"]


def test_40_min_bytes_0_does_not_wait(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("waiting")
    started = time.monotonic()
    assert data(fetch(client, topic, min_bytes=0, max_wait_ms=FOREVER_MS)) == b""
    assert time.monotonic() - started < FOREVER_MS / 2000


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_40_an_error_of_any_partition_is_answered_at_once(abc: Topic, client: Client, version: int) -> None:
    started = time.monotonic()
    wanted = [fetch_partition(1), fetch_partition(2, offset=99)]
    answer = ask(client, version, (abc, wanted), max_wait_ms=FOREVER_MS)
    errors = [result.error_code for result in answer.responses[0].partitions]
    assert errors == [0, ErrorCode.OFFSET_OUT_OF_RANGE]
    assert time.monotonic() - started < FOREVER_MS / 2000


@pytest.mark.parametrize("version", [12, 17])
def test_40_an_unknown_partition_does_not_cut_the_wait_short(
    abc: Topic, client: Client, version: int
) -> None:
    started = time.monotonic()
    wanted = [(abc, [fetch_partition(1)]), (UNKNOWN, [fetch_partition()])]
    answer = ask(client, version, *wanted, max_wait_ms=200)
    assert time.monotonic() - started > 0.19
    unknown = ErrorCode.UNKNOWN_TOPIC_ID if version >= 13 else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert [each.partitions[0].error_code for each in answer.responses] == [0, unknown]


@pytest.mark.parametrize("version", [12, 17])
def test_40_a_fetch_of_unknown_partitions_only_is_answered_at_once(client: Client, version: int) -> None:
    started = time.monotonic()
    ask(client, version, (UNKNOWN, [fetch_partition()]), max_wait_ms=FOREVER_MS)
    assert time.monotonic() - started < FOREVER_MS / 2000


@pytest.mark.parametrize("version", [12, 17])
def test_40_the_end_of_the_topic_wakes_the_fetch(broker: ApiBroker, client: Client, version: int) -> None:
    topic = broker.topic("doomed")
    thread = in_background(broker, 0.1, lambda other: delete(other, topic.name))
    started = time.monotonic()
    result = fetch(client, topic, version=version, max_wait_ms=FOREVER_MS)
    thread.join()
    assert time.monotonic() - started < FOREVER_MS / 2000
    assert result.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


# Which partitions


@pytest.mark.parametrize("version", NAME_VERSIONS)
def test_48_unknown_names_and_partitions(abc: Topic, client: Client, version: int) -> None:
    for where, partition in ((UNKNOWN, 0), (abc, 3), (abc, -1), (Topic("", b""), 0)):
        result = fetch(client, where, partition=partition, version=version)
        assert result.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert (result.high_watermark, result.last_stable_offset, result.log_start_offset) == (-1, -1, -1)


@pytest.mark.parametrize("version", ID_VERSIONS)
def test_48_unknown_ids_and_partitions(abc: Topic, client: Client, version: int) -> None:
    assert fetch(client, UNKNOWN, version=version).error_code == ErrorCode.UNKNOWN_TOPIC_ID
    assert fetch(client, Topic("", bytes(16)), version=version).error_code == ErrorCode.UNKNOWN_TOPIC_ID
    for partition in (3, -1):
        result = fetch(client, abc, partition=partition, version=version)
        assert result.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


@pytest.mark.parametrize("version", FETCH_VERSIONS)
@pytest.mark.parametrize("epoch", [-1, 0])
def test_48_a_follower_that_is_none_is_refused(
    abc: Topic, client: Client, version: int, epoch: int
) -> None:
    if epoch >= 0 and version < 9:
        return
    fields = {"current_leader_epoch": epoch} if version >= 9 else {}
    request = fetch_request(version, [(abc, [fetch_partition(**fields)])])
    if version >= 15:
        request.replica_state = request_class(ApiKey.FETCH).ReplicaState(replica_id=5)
    else:
        request.replica_id = 5
    result = only_partition(client.call(ApiKey.FETCH, version, request))
    expected = ErrorCode.NOT_LEADER_OR_FOLLOWER if epoch < 0 else ErrorCode.UNKNOWN_LEADER_EPOCH
    assert result.error_code == expected


def test_49_a_rack_id_changes_nothing_without_a_selector(abc: Topic, client: Client) -> None:
    for version in versions(ApiKey.FETCH, 11):
        request = fetch_request(version, [(abc, [fetch_partition(offset=2)])])
        request.rack_id = "somewhere"
        result = only_partition(client.call(ApiKey.FETCH, version, request))
        assert (result.error_code, result.preferred_read_replica, values_of(data(result))) == (0, -1, [b"c"])


def test_41_large_answers_arrive_whole(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("large")
    records = batch(bytes(range(256)) * 3000, codec=0)
    append(client, topic, *[records] * 8)
    result = fetch(client, topic, partition_max_bytes=50 << 20)
    assert len(data(result)) == 8 * len(records)
    assert {value for value in values_of(data(result))} == {bytes(range(256)) * 3000}
