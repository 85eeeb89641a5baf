"""Produce by hand equals Produce by the generic codec, in every version."""
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.protocol.api_keys import ApiKey
from broker.protocol.codec import decode, encode
from broker.protocol.errors import MalformedError, ProtocolError, UnsupportedVersionError
from broker.protocol.frames import encode_response
from broker.protocol.hot_produce import (
    PARTITION_COUNT_MAX,
    VERSION_MAX,
    PartitionResult,
    ProduceRequest,
    encode_produce_response,
    parse_produce_request,
)
from broker.protocol.messages import message_class
from tests.broker.protocol.values import random_message

Request = message_class("ProduceRequest")
Response = message_class("ProduceResponse")
EVERY_VERSION = pytest.mark.parametrize("version", range(VERSION_MAX + 1))
SEEDS = st.integers(0, 1 << 32)
INT16 = st.integers(-(1 << 15), (1 << 15) - 1)
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
TEXT = st.text(max_size=12)


def expected(message: Any, view: memoryview, request: ProduceRequest) -> ProduceRequest:
    """The generic message in the parser's shape, with the parser's extents if their bytes are right."""
    topics = []
    for topic, (_, extents) in zip(message.topic_data, request.topics, strict=True):
        partitions = []
        for partition, extent in zip(topic.partition_data, extents, strict=True):
            records = None if extent[1] == -1 else view[extent[1]:extent[2]]
            assert records == partition.records
            partitions.append((partition.index, *extent[1:]))
        topics.append((topic.name, partitions))
    return ProduceRequest(message.transactional_id, message.acks, message.timeout_ms, topics)


@EVERY_VERSION
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, before=st.integers(0, 9), after=st.integers(0, 9))
def test_a_request_is_what_the_generic_codec_reads(version: int, seed: int, before: int, after: int) -> None:
    message = random_message("ProduceRequest", version, seed)
    data = encode(message, version)
    view = memoryview(bytearray(bytes(before) + data + bytes(after)))
    request = parse_produce_request(view, before, before + len(data), version)
    assert request == expected(message, view, request)


@EVERY_VERSION
def test_null_and_empty_records(version: int) -> None:
    partitions = [Request.PartitionProduceData(index=1, records=None),
                  Request.PartitionProduceData(index=2, records=b"")]
    message = Request(topic_data=[Request.TopicProduceData(name="t", partition_data=partitions)])
    view = memoryview(encode(message, version))
    (name, (null, empty)), = parse_produce_request(view, 0, len(view), version).topics
    assert (name, null) == ("t", (1, -1, -1))
    assert empty[1] == empty[2] > 0


@EVERY_VERSION
def test_a_request_cut_at_any_byte_is_malformed(version: int) -> None:
    partition = Request.PartitionProduceData(index=1, records=b"records" * 20)
    topic = Request.TopicProduceData(name="topic", partition_data=[partition, partition],
                                     unknown_tagged_fields=((1, b"xyz"),) if version >= 9 else ())
    message = Request(topic_data=[topic, topic], transactional_id="id" if version >= 3 else None)
    data = encode(message, version)
    view = memoryview(data + bytes(1000))
    for end in range(len(data)):
        with pytest.raises(MalformedError):
            parse_produce_request(view, 0, end, version)
        with pytest.raises(MalformedError):
            parse_produce_request(view[:end], 0, end, version)


@EVERY_VERSION
@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=3))
def test_changed_bytes_parse_as_the_generic_codec_does_or_are_a_protocol_error(
    version: int, seed: int, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(encode(random_message("ProduceRequest", version, seed), version))
    for position, value in changes:
        data[position % len(data)] = value
    view = memoryview(data)
    try:
        message, _ = decode(Request, view, version)
    except ProtocolError:
        with pytest.raises(ProtocolError):
            parse_produce_request(view, 0, len(view), version)
        return
    request = parse_produce_request(view, 0, len(view), version)
    assert request == expected(message, view, request)


@EVERY_VERSION
@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=100))
def test_any_bytes_are_a_request_or_a_protocol_error(version: int, data: bytes) -> None:
    try:
        parse_produce_request(memoryview(data), 0, len(data), version)
    except ProtocolError:
        return


@pytest.mark.parametrize("version", [-1, VERSION_MAX + 1])
def test_other_versions_are_refused(version: int) -> None:
    with pytest.raises(UnsupportedVersionError):
        parse_produce_request(memoryview(bytes(100)), 0, 100, version)
    with pytest.raises(UnsupportedVersionError):
        encode_produce_response(version, 1, [], 0)


def partition_results(version: int) -> st.SearchStrategy[PartitionResult]:
    """Results that the version can carry, most of them without an error."""
    leader = st.none() | st.tuples(INT32, INT32) if version >= 10 else st.none()
    errors = st.lists(st.tuples(INT32, st.none() | TEXT), max_size=2) if version >= 8 else st.just(())
    text = st.none() | TEXT if version >= 8 else st.none()
    return (st.tuples(INT32, INT16, INT64, INT64, INT64, st.just(()), st.none(), st.none())
            | st.tuples(INT32, INT16, INT64, INT64, INT64, errors, text, leader))


def generic_partition(version: int, result: PartitionResult) -> Any:
    index, error_code, base_offset, time_ms, start_offset, record_errors, text, leader = result
    partition = Response.PartitionProduceResponse(
        index=index, error_code=error_code, base_offset=base_offset, log_append_time_ms=time_ms,
        log_start_offset=start_offset, error_message=text,
        record_errors=[Response.BatchIndexAndErrorMessage(batch_index=index, batch_index_error_message=text)
                       for index, text in record_errors])
    if leader is not None:
        partition.current_leader = Response.LeaderIdAndEpoch(leader_id=leader[0], leader_epoch=leader[1])
    return partition


@EVERY_VERSION
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_response_is_what_the_generic_codec_writes(version: int, data: st.DataObject) -> None:
    results = st.lists(partition_results(version), max_size=3)
    topics = data.draw(st.lists(st.tuples(TEXT, results), max_size=3))
    endpoint = st.tuples(INT32, TEXT, INT32, st.none() | TEXT)
    endpoints = data.draw(st.lists(endpoint, max_size=2)) if version >= 10 else []
    correlation_id, throttle_ms = data.draw(INT32), data.draw(INT32)
    message = Response(
        responses=[Response.TopicProduceResponse(
            name=name, partition_responses=[generic_partition(version, result) for result in partitions])
            for name, partitions in topics],
        throttle_time_ms=throttle_ms,
        node_endpoints=[Response.NodeEndpoint(node_id=node_id, host=host, port=port, rack=rack)
                        for node_id, host, port, rack in endpoints])
    assert encode_produce_response(version, correlation_id, topics, throttle_ms, endpoints) == (
        encode_response(ApiKey.PRODUCE, version, correlation_id, message))


@EVERY_VERSION
def test_what_a_version_lacks_is_left_out(version: int) -> None:
    """The caller need not know which version has record errors, messages, leader hints and endpoints."""
    result = (3, 87, -1, 5, 6, [(0, "bad")], "message", (1, 2))
    frame = encode_produce_response(version, 1, [("t", [result])], 0, [(1, "host", 9092, None)])
    assert (b"bad" in frame) == (b"message" in frame) == (version >= 8)
    assert (b"host" in frame) == (version >= 10)


@pytest.mark.parametrize("version", [3, 9])
def test_more_partitions_than_a_directory_holds_are_refused_before_they_cost(version: int) -> None:
    """100 MiB of partitions without records would occupy the loop for half a minute."""
    def parse(topic_count: int, partition_count: int) -> ProduceRequest:
        partitions = [Request.PartitionProduceData(index=0, records=None)] * partition_count
        topic = Request.TopicProduceData(name="t", partition_data=partitions)
        data = encode(Request(acks=1, timeout_ms=1, topic_data=[topic] * topic_count), version)
        return parse_produce_request(memoryview(data), 0, len(data), version)

    assert len(parse(1, PARTITION_COUNT_MAX - 1).topics[0][1]) == PARTITION_COUNT_MAX - 1
    for topic_count, partition_count in [(1, PARTITION_COUNT_MAX), (2, PARTITION_COUNT_MAX // 2),
                                         (PARTITION_COUNT_MAX + 1, 0)]:
        with pytest.raises(MalformedError, match="are together over 65536"):
            parse(topic_count, partition_count)
