"""Idempotent produce: behaviours 33, 34 and 67, InitProducerId without a transactional id."""

from __future__ import annotations

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import request_class
from tests.integration.apis.brokers import ApiBroker, Topic
from tests.integration.apis.records import batch, headers
from tests.integration.apis.requests import fetch, init_producer_id, list_offsets, new_producer_id, produce
from tests.integration.apis.wire import Client, versions

InitProducerIdRequest = request_class(ApiKey.INIT_PRODUCER_ID)
SEQUENCE_MAX = 2**31 - 1
REMEMBERED_BATCHES = 5


def send(
    client: Client, topic: Topic, producer_id: int, sequence: int, count: int = 1, epoch: int = 0,
    version: int = 11, acks: int = -1,
) -> tuple[int, int]:  # fmt: skip
    """(error code, base offset)"""
    records = batch(*[b"v"] * count, producer=(producer_id, epoch, sequence))
    result = produce(client, topic, records, version=version, acks=acks)
    return result.error_code, result.base_offset


@pytest.mark.parametrize("version", versions(ApiKey.PRODUCE, 3))
@pytest.mark.parametrize("acks", [1, -1])
def test_33_duplicate_batches_get_the_original_offset(
    broker: ApiBroker, client: Client, version: int, acks: int
) -> None:
    topic, producer_id = broker.topic("idempotent"), new_producer_id(client)
    for sequence in range(REMEMBERED_BATCHES):
        assert send(client, topic, producer_id, sequence, version=version, acks=acks) == (0, sequence)
    for sequence in range(REMEMBERED_BATCHES):
        assert send(client, topic, producer_id, sequence, version=version, acks=acks) == (0, sequence)
    assert list_offsets(client, topic, -1).offset == REMEMBERED_BATCHES


@pytest.mark.parametrize("timestamp_type", ["CreateTime", "LogAppendTime"])
def test_33_duplicates_are_answered_with_the_original_timestamp(
    broker: ApiBroker, client: Client, timestamp_type: str
) -> None:
    topic = broker.topic("idempotent", message_timestamp_type=timestamp_type)
    records = batch(b"a", b"b", timestamps=[111, 222], producer=(new_producer_id(client), 0, 0))
    first, again = produce(client, topic, records), produce(client, topic, records)
    (header,) = headers(bytes(fetch(client, topic).records))
    assert again.error_code == 0
    assert (again.base_offset, again.log_append_time_ms) == (0, header.max_timestamp)
    assert first.log_append_time_ms == (-1 if timestamp_type == "CreateTime" else header.max_timestamp)


def test_33_a_duplicate_is_known_by_its_first_and_last_sequence(broker: ApiBroker, client: Client) -> None:
    topic, producer_id = broker.topic("idempotent"), new_producer_id(client)
    assert send(client, topic, producer_id, 0, count=3) == (0, 0)
    assert send(client, topic, producer_id, 0, count=2) == (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1)
    assert send(client, topic, producer_id, 1, count=2) == (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1)
    assert send(client, topic, producer_id, 0, count=3) == (0, 0)


def test_33_partitions_remember_apart(broker: ApiBroker, client: Client) -> None:
    topic, producer_id = broker.topic("idempotent", partitions=2), new_producer_id(client)
    for partition in (0, 1):
        records = batch(b"v", producer=(producer_id, 0, 0))
        assert produce(client, topic, records, partition).base_offset == 0


def test_33_producers_are_remembered_apart(broker: ApiBroker, client: Client) -> None:
    topic = broker.topic("idempotent")
    one, other = new_producer_id(client), new_producer_id(client)
    assert send(client, topic, one, 0) == (0, 0)
    assert send(client, topic, other, 0) == (0, 1)
    assert send(client, topic, one, 0) == (0, 0)
    assert send(client, topic, other, 1) == (0, 2)


def test_34_a_duplicate_older_than_five_batches_is_out_of_order(broker: ApiBroker, client: Client) -> None:
    topic, producer_id = broker.topic("idempotent"), new_producer_id(client)
    for sequence in range(REMEMBERED_BATCHES + 1):
        assert send(client, topic, producer_id, sequence) == (0, sequence)
    assert send(client, topic, producer_id, 0) == (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1)
    assert send(client, topic, producer_id, 1) == (0, 1)


@pytest.mark.parametrize("version", versions(ApiKey.PRODUCE, 3))
def test_34_a_gap_is_out_of_order(broker: ApiBroker, client: Client, version: int) -> None:
    topic, producer_id = broker.topic("idempotent"), new_producer_id(client)
    assert send(client, topic, producer_id, 0, count=2, version=version) == (0, 0)
    out_of_order = (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1)
    assert send(client, topic, producer_id, 3, version=version) == out_of_order
    assert send(client, topic, producer_id, 2, version=version) == (0, 2)


def test_34_sequences_wrap_to_0(broker: ApiBroker, client: Client) -> None:
    topic, producer_id = broker.topic("idempotent"), new_producer_id(client)
    assert send(client, topic, producer_id, SEQUENCE_MAX - 1, count=2) == (0, 0)
    assert send(client, topic, producer_id, 1) == (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1)
    assert send(client, topic, producer_id, 0) == (0, 2)


def test_34_sequences_wrap_within_a_batch(broker: ApiBroker, client: Client) -> None:
    topic, producer_id = broker.topic("idempotent"), new_producer_id(client)
    assert send(client, topic, producer_id, SEQUENCE_MAX - 1, count=4) == (0, 0)
    assert send(client, topic, producer_id, SEQUENCE_MAX - 1, count=4) == (0, 0)
    assert send(client, topic, producer_id, 2) == (0, 4)


def test_34_a_new_epoch_starts_at_0(broker: ApiBroker, client: Client) -> None:
    topic, producer_id = broker.topic("idempotent"), new_producer_id(client)
    assert send(client, topic, producer_id, 0, epoch=3) == (0, 0)
    out_of_order = (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1)
    assert send(client, topic, producer_id, 1, epoch=4) == out_of_order
    assert send(client, topic, producer_id, 0, epoch=4) == (0, 1)
    assert send(client, topic, producer_id, 1, epoch=4) == (0, 2)


def test_34_a_lower_epoch_is_invalid(broker: ApiBroker, client: Client) -> None:
    topic, producer_id = broker.topic("idempotent"), new_producer_id(client)
    assert send(client, topic, producer_id, 0, epoch=3) == (0, 0)
    for version in versions(ApiKey.PRODUCE, 3):
        refused = send(client, topic, producer_id, 1, epoch=2, version=version)
        assert refused == (ErrorCode.INVALID_PRODUCER_EPOCH, -1)
    assert send(client, topic, producer_id, 1, epoch=3) == (0, 1)


def test_34_an_unknown_producer_may_start_anywhere(broker: ApiBroker, client: Client) -> None:
    topic, producer_id = broker.topic("idempotent"), new_producer_id(client)
    assert send(client, topic, producer_id, 1234, epoch=5) == (0, 0)
    assert send(client, topic, producer_id, 1235, epoch=5) == (0, 1)


def test_34_a_refused_batch_leaves_the_producer_as_it_was(broker: ApiBroker, client: Client) -> None:
    topic, producer_id = broker.topic("idempotent", max_message_bytes=500), new_producer_id(client)
    assert send(client, topic, producer_id, 0) == (0, 0)
    large = batch(bytes(1000), producer=(producer_id, 0, 1))
    assert produce(client, topic, large).error_code == ErrorCode.MESSAGE_TOO_LARGE
    assert send(client, topic, producer_id, 1) == (0, 1)


@pytest.mark.parametrize("version", versions(ApiKey.INIT_PRODUCER_ID))
def test_67_an_idempotent_producer_gets_a_new_id_at_epoch_0(client: Client, version: int) -> None:
    new_producer_id(client)
    answers = [init_producer_id(client, version) for _ in range(3)]
    assert [(answer.error_code, answer.producer_epoch) for answer in answers] == [(0, 0)] * 3
    ids = [answer.producer_id for answer in answers]
    assert len(set(ids)) == 3
    assert min(ids) >= 0


@pytest.mark.parametrize("version", versions(ApiKey.INIT_PRODUCER_ID, 3))
def test_67_the_id_that_an_idempotent_producer_names_is_not_looked_at(client: Client, version: int) -> None:
    named = new_producer_id(client)
    answer = init_producer_id(client, version, producer_id=named, producer_epoch=0)
    assert (answer.error_code, answer.producer_epoch) == (0, 0)
    assert answer.producer_id > named


def test_67_the_time_out_of_an_idempotent_producer_is_not_looked_at(client: Client) -> None:
    new_producer_id(client)
    for timeout_ms in (0, -1, 2**31 - 1):
        assert init_producer_id(client, 5, transaction_timeout_ms=timeout_ms).error_code == 0


@pytest.mark.parametrize("version", versions(ApiKey.INIT_PRODUCER_ID))
def test_67_an_empty_transactional_id_is_an_invalid_request(client: Client, version: int) -> None:
    answer = init_producer_id(client, version, transactional_id="")
    assert (answer.error_code, answer.producer_id, answer.producer_epoch) == (ErrorCode.INVALID_REQUEST, -1, -1)


@pytest.mark.parametrize("version", versions(ApiKey.INIT_PRODUCER_ID, 3))
def test_67_half_of_an_id_and_epoch_is_an_invalid_request(client: Client, version: int) -> None:
    for producer_id, epoch in ((5, -1), (-1, 5)):
        answer = init_producer_id(client, version, producer_id=producer_id, producer_epoch=epoch)
        assert answer.error_code == ErrorCode.INVALID_REQUEST
