"""Fetch responses by hand equal Fetch responses by the generic codec, in every version."""
from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import UnsupportedVersionError
from broker.protocol.frames import encode_response
from broker.protocol.hot_fetch_response import VERSION_MAX, PartitionResult, fetch_response_encoder
from broker.protocol.messages import message_class

Response = message_class("FetchResponse")
EVERY_VERSION = pytest.mark.parametrize("version", range(VERSION_MAX + 1))
INT16 = st.integers(-(1 << 15), (1 << 15) - 1)
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
TEXT = st.text(max_size=12)
RECORDS = st.sampled_from([None, b"", b"", b"r", b"records" * 30, b"R" * 20000])


def partition_results(version: int) -> st.SearchStrategy[PartitionResult]:
    """Results that the version can carry; most have nothing special."""
    aborted = st.none() | st.lists(st.tuples(INT64, INT64), max_size=3) if version >= 4 else st.none()
    preferred = st.just(-1) | INT32 if version >= 11 else st.just(-1)
    diverging = st.none() | st.tuples(INT32, INT64) if version >= 12 else st.none()
    leader = st.none() | st.tuples(INT32, INT32) if version >= 12 else st.none()
    return st.builds(PartitionResult, INT32, INT16, INT64, INT64, INT64, st.just(0), aborted, preferred,
                     diverging, leader)


def generic_partition(version: int, result: PartitionResult, records: bytes | None) -> Any:
    aborted = result.aborted_transactions
    partition = Response.PartitionData(
        partition_index=result.partition, error_code=result.error_code, high_watermark=result.high_watermark,
        last_stable_offset=result.last_stable_offset, log_start_offset=result.log_start_offset,
        aborted_transactions=None if aborted is None else [
            Response.AbortedTransaction(producer_id=producer_id, first_offset=first_offset)
            for producer_id, first_offset in aborted],
        preferred_read_replica=result.preferred_read_replica, records=records)
    if result.diverging_epoch is not None:
        epoch, end_offset = result.diverging_epoch
        partition.diverging_epoch = Response.EpochEndOffset(epoch=epoch, end_offset=end_offset)
    if result.current_leader is not None:
        leader_id, leader_epoch = result.current_leader
        partition.current_leader = Response.LeaderIdAndEpoch(leader_id=leader_id, leader_epoch=leader_epoch)
    return partition


def joined(parts: list[bytes | int], records: list[bytes | None]) -> bytes:
    """What a client receives: the parts with each partition's records in the place of its index."""
    return b"".join(part if isinstance(part, bytes) else (records[part] or b"") for part in parts)


@EVERY_VERSION
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_response_is_what_the_generic_codec_writes(version: int, data: st.DataObject) -> None:
    results = st.lists(st.tuples(partition_results(version), RECORDS), max_size=4)
    drawn = data.draw(st.lists(st.tuples(TEXT, st.binary(min_size=16, max_size=16), results), max_size=3))
    endpoint = st.tuples(INT32, TEXT, INT32, st.none() | TEXT)
    endpoints = data.draw(st.lists(endpoint, max_size=2)) if version >= 16 else []
    correlation_id, throttle_ms, error_code = data.draw(INT32), data.draw(INT32), data.draw(INT16)
    session_id = data.draw(INT32) if version >= 7 else 0

    topics, generic, all_records = [], [], []
    for name, topic_id, partitions in drawn:
        topics.append((name, topic_id, [
            result._replace(records_size=-1 if records is None else len(records))
            for result, records in partitions]))
        all_records += [records for _, records in partitions]
        generic.append(Response.FetchableTopicResponse(
            topic=name, topic_id=topic_id,
            partitions=[generic_partition(version, result, records) for result, records in partitions]))
    message = Response(
        throttle_time_ms=throttle_ms, error_code=error_code, session_id=session_id, responses=generic,
        node_endpoints=[Response.NodeEndpoint(node_id=node_id, host=host, port=port, rack=rack)
                        for node_id, host, port, rack in endpoints])
    parts = fetch_response_encoder(version).encode(
        correlation_id, throttle_ms, error_code, session_id, topics, endpoints)
    assert joined(parts, all_records) == encode_response(ApiKey.FETCH, version, correlation_id, message)
    assert [part for part in parts if isinstance(part, int)] == [
        index for index, records in enumerate(all_records) if records]


@EVERY_VERSION
def test_indices_stand_where_records_go_and_the_size_counts_them(version: int) -> None:
    with_records = PartitionResult(0, 0, 10, 10, 0, records_size=1000)
    without = PartitionResult(1, 0, 10, 10, 0, records_size=0)
    topics = [("a", b"a" * 16, [with_records, without]), ("b", b"b" * 16, [with_records])]
    parts = fetch_response_encoder(version).encode(7, 0, 0, 0, topics)
    kinds = [part if isinstance(part, int) else "bytes" for part in parts]
    assert kinds == ["bytes", 0, "bytes", 2, *(["bytes"] if version >= 12 else [])]
    size, correlation_id = struct.unpack_from(">ii", parts[0])  # type: ignore[arg-type]
    assert correlation_id == 7
    assert size + 4 == sum(1000 if isinstance(part, int) else len(part) for part in parts)


@EVERY_VERSION
def test_what_a_version_lacks_is_left_out(version: int) -> None:
    result = PartitionResult(0, 0, 10, 9, 8, 0, [(1, 2)], -1, (3, 4), (5, 6))
    topics = [("name", b"i" * 16, [result])]
    frame, = fetch_response_encoder(version).encode(1, 2, 0, 0, topics, [(1, "host", 9092, None)])
    assert isinstance(frame, bytes)
    assert (b"host" in frame) == (version >= 16)
    assert (b"name" in frame) == (version < 13)


def test_a_session_needs_version_7() -> None:
    assert fetch_response_encoder(7).encode(1, 0, 0, 5, [])
    with pytest.raises(UnsupportedVersionError, match="no sessions"):
        fetch_response_encoder(6).encode(1, 0, 0, 5, [])


def test_a_preferred_read_replica_needs_version_11() -> None:
    topics = [("t", None, [PartitionResult(0, 0, 0, 0, 0, 0, preferred_read_replica=3)])]
    assert fetch_response_encoder(11).encode(1, 0, 0, 0, topics)
    with pytest.raises(UnsupportedVersionError, match="preferred read replica"):
        fetch_response_encoder(10).encode(1, 0, 0, 0, topics)


def test_a_topic_needs_its_name_or_its_id() -> None:
    with pytest.raises(ValueError, match="needs a topic id"):
        fetch_response_encoder(13).encode(1, 0, 0, 0, [("t", None, [])])
    with pytest.raises(ValueError, match="needs a topic name"):
        fetch_response_encoder(12).encode(1, 0, 0, 0, [(None, b"i" * 16, [])])


@pytest.mark.parametrize("version", [-1, VERSION_MAX + 1])
def test_other_versions_are_refused(version: int) -> None:
    with pytest.raises(UnsupportedVersionError):
        fetch_response_encoder(version)
