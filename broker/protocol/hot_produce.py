"""Produce without the generic codec: requests as positions in the frame, responses as one frame.

A Produce request is the most frequent thing a broker reads, and all that is wanted of it are the extents of
the record sets: the parser makes no object per record or field, copies nothing and returns positions in the
caller's buffer. The response encoder has one fused `struct.Struct` per version for a partition that went
well; anything else takes the generic codec. Both equal the generic codec in every version (tested).

Runs in: front end. No state.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from struct import Struct
from struct import error as StructError
from typing import Any, NamedTuple, NoReturn

from broker.protocol.api_keys import API_SPECS, ApiKey
from broker.protocol.compile_encode import Encoder, Put, encoder
from broker.protocol.errors import MalformedError, UnsupportedVersionError
from broker.protocol.hot_common import (
    NodeEndpoint,
    classic_string,
    compact_string,
    encode_endpoints_section,
    refuse_count,
    refuse_string,
)
from broker.protocol.messages import message_class
from broker.protocol.primitives import (
    INT16,
    INT32,
    STRING_SIZE_BYTES_MAX,
    decode_name,
    decode_uvarint,
    encode_uvarint,
    skip_tagged_fields,
)

VERSION_MAX = API_SPECS[ApiKey.PRODUCE].max_version
FLEXIBLE_FROM = 9
LEADER_HINT_FROM = 10  # KIP-951: current leader and node endpoints
# Topics and partitions of all topics together: as many partitions as a log directory has room for. Without
# a bound, 100 MiB of partitions without records would occupy the loop for half a minute.
PARTITION_COUNT_MAX = 1 << 16

PartitionExtent = tuple[int, int, int]  # partition, start and end of its record set; start -1: null
# partition, error code, base offset, log append time ms, log start offset, record errors
# [(index in the batch, message or None)], error message or None, current leader (id, epoch) or None
PartitionResult = tuple[
    int, int, int, int, int, Sequence[tuple[int, str | None]], str | None, tuple[int, int] | None
]


class ProduceRequest(NamedTuple):
    """`topics`: (topic name, [PartitionExtent, ...]) in the request's order, repetitions included."""

    transactional_id: str | None
    acks: int
    timeout_ms: int
    topics: list[tuple[str, list[PartitionExtent]]]


_new_tuple = tuple.__new__
_unpack_settings = Struct(">hii").unpack_from
_unpack_partition = Struct(">ii").unpack_from
_unpack_compact_settings = Struct(">hiB").unpack_from
_unpack_compact_partition = Struct(">iB").unpack_from
_unpack_int16 = INT16.unpack_from
_un_pack_int32 = INT32.unpack_from
_pack_int32 = INT32.pack


def parse_produce_request(view: memoryview, position: int, end: int, version: int) -> ProduceRequest:
    """Parse the body in `view[position:end]`; positions in the result are positions in `view`.

    Reads are bounded by the view and counts by the frame; that the frame's end was respected is checked
    once at the end, since positions only grow.
    """
    if not 0 <= version <= VERSION_MAX:
        raise UnsupportedVersionError(f"Produce has versions 0 to {VERSION_MAX}, not {version}")
    try:
        if version < FLEXIBLE_FROM:
            request, position = _parse_classic(view, position, end, version)
        else:
            request, position = _parse_flexible(view, position, end)
    except (StructError, IndexError) as error:
        raise MalformedError(f"Produce request in version {version} ends too early") from error
    except UnicodeDecodeError as error:
        raise MalformedError(f"Produce request in version {version} holds a string that is no UTF-8: "
                             f"{error.reason}") from error
    if position > end:
        raise MalformedError(f"Produce request in version {version} ends {position - end} bytes beyond "
                             f"its frame")
    return request


def _parse_classic(view: memoryview, position: int, end: int, version: int) -> tuple[ProduceRequest, int]:
    """Versions 0 to 8; the transactional id came with version 3."""
    transactional_id = None
    if version >= 3:
        size, = _unpack_int16(view, position)
        position += 2
        if size >= 0:
            transactional_id = str(view[position:position + size], "utf-8")
            position += size
    acks, timeout_ms, topic_count = _unpack_settings(view, position)
    position += 10
    if not 0 <= topic_count <= end - position:
        refuse_count("topics", topic_count)
    count_left = PARTITION_COUNT_MAX - topic_count
    topics = []
    for _ in range(topic_count):
        size, = _unpack_int16(view, position)
        if size < 0:
            refuse_string(size)
        start = position + 2
        position = start + size
        name = decode_name(view[start:position].tobytes())
        partition_count, = _un_pack_int32(view, position)
        position += 4
        if not 0 <= partition_count <= end - position:
            refuse_count("partitions", partition_count)
        count_left -= partition_count
        if count_left < 0:
            _refuse_crowd()
        partitions = []
        for _ in range(partition_count):
            partition, size = _unpack_partition(view, position)
            position += 8
            if size >= 0:
                start = position
                position += size
                partitions.append((partition, start, position))
            else:
                partitions.append((partition, -1, -1))
        topics.append((name, partitions))
    return _new_tuple(ProduceRequest, (transactional_id, acks, timeout_ms, topics)), position


def _parse_flexible(view: memoryview, position: int, end: int) -> tuple[ProduceRequest, int]:
    """Versions 9 to 11: lengths are varints one too high, and every structure ends with tagged fields.

    One byte is read where a varint stands; only a set high bit takes the slow path.
    """
    transactional_id = None
    if view[position]:
        size, position = decode_uvarint(view, position)
        if not 0 < size <= STRING_SIZE_BYTES_MAX + 1:
            refuse_string(size - 1)
        transactional_id = str(view[position:position + size - 1], "utf-8")
        position += size - 1
    else:
        position += 1
    acks, timeout_ms, topic_count = _unpack_compact_settings(view, position)
    position += 7
    if topic_count > 127:
        topic_count, position = decode_uvarint(view, position - 1)
    if not 0 < topic_count <= end - position + 1:
        refuse_count("topics", topic_count - 1)
    count_left = PARTITION_COUNT_MAX - topic_count + 1
    topics = []
    for _ in range(topic_count - 1):
        size = view[position]
        position += 1
        if size > 127:
            size, position = decode_uvarint(view, position - 1)
        if not 0 < size <= STRING_SIZE_BYTES_MAX + 1:
            refuse_string(size - 1)
        start = position
        position += size - 1
        name = decode_name(view[start:position].tobytes())
        partition_count = view[position]
        position += 1
        if partition_count > 127:
            partition_count, position = decode_uvarint(view, position - 1)
        if not 0 < partition_count <= end - position + 1:
            refuse_count("partitions", partition_count - 1)
        count_left -= partition_count - 1
        if count_left < 0:
            _refuse_crowd()
        partitions = []
        for _ in range(partition_count - 1):
            partition, size = _unpack_compact_partition(view, position)
            position += 5
            if size > 127:
                size, position = decode_uvarint(view, position - 1)
            if size:
                start = position
                position += size - 1
                partitions.append((partition, start, position))
            else:
                partitions.append((partition, -1, -1))
            position = skip_tagged_fields(view, position, end) if view[position] else position + 1
        topics.append((name, partitions))
        position = skip_tagged_fields(view, position, end) if view[position] else position + 1
    position = skip_tagged_fields(view, position, end) if view[position] else position + 1
    return _new_tuple(ProduceRequest, (transactional_id, acks, timeout_ms, topics)), position


def _refuse_crowd() -> NoReturn:
    raise MalformedError(f"topics and partitions of a Produce request are together over {PARTITION_COUNT_MAX}")


_FLEXIBLE_HEAD = Struct(">iiB").pack  # size, correlation id, no tagged fields in the header
_CLASSIC_HEAD = Struct(">ii").pack
_ENDINGS = {8: b"\0\0\0\0\xff\xff", 9: b"\1\0\0", 10: b"\1\0\0", 11: b"\1\0\0"}
_PRODUCE_RESPONSE = "ProduceResponse"


class _ResponseLayout(NamedTuple):
    """What a response of one version is made of.

    A partition without an error is the first `field_count` values of its result packed by `pack_partition`,
    then `ending`: no record errors, no message, no tagged fields. All others go by `encode_partitions`.
    """

    flexible: bool
    pack_partition: Callable[..., bytes]
    field_count: int
    ending: bytes
    encode_partitions: Encoder


@cache
def _response_layout(version: int) -> _ResponseLayout:
    if not 0 <= version <= VERSION_MAX:
        raise UnsupportedVersionError(f"Produce has versions 0 to {VERSION_MAX}, not {version}")
    field_count = 3 if version < 2 else 4 if version < 5 else 5
    generic = message_class(_PRODUCE_RESPONSE).PartitionProduceResponse
    return _ResponseLayout(version >= FLEXIBLE_FROM, Struct(">ihqqq"[:field_count + 1]).pack, field_count,
                           _ENDINGS.get(version, b""), encoder(generic, version))


def _put_failed_partition(layout: _ResponseLayout, version: int, result: PartitionResult, put: Put) -> None:
    """A partition with record errors, a message or a leader hint, by the generic codec."""
    response = message_class(_PRODUCE_RESPONSE)
    partition = response.PartitionProduceResponse(
        index=result[0], error_code=result[1], base_offset=result[2], log_append_time_ms=result[3],
        log_start_offset=result[4], error_message=result[6],
        record_errors=[response.BatchIndexAndErrorMessage(batch_index=index, batch_index_error_message=text)
                       for index, text in result[5]])
    if result[7] is not None and version >= LEADER_HINT_FROM:
        leader_id, leader_epoch = result[7]
        partition.current_leader = response.LeaderIdAndEpoch(leader_id=leader_id, leader_epoch=leader_epoch)
    layout.encode_partitions((partition,), put)


def encode_produce_response(
    version: int, correlation_id: int, topics: Sequence[tuple[str, Sequence[PartitionResult]]],
    throttle_ms: int, node_endpoints: Sequence[NodeEndpoint] = (),
) -> bytes:
    """A whole frame, size prefix included.

    What a version lacks is left out: times and log start, record errors and messages below version 8,
    leader hints and endpoints below version 10.
    """
    flexible, pack_partition, field_count, ending, _ = layout = _response_layout(version)
    topic_count = len(topics)
    pieces: list[Any] = [b"", encode_uvarint(topic_count + 1) if flexible else _pack_int32(topic_count)]
    put = pieces.append
    for name, partitions in topics:
        put(compact_string(name) if flexible else classic_string(name))
        partition_count = len(partitions)
        put(encode_uvarint(partition_count + 1) if flexible else _pack_int32(partition_count))
        for result in partitions:
            if result[6] is None and not result[5] and result[7] is None:
                put(pack_partition(*result[:field_count]))
                put(ending)
            else:
                _put_failed_partition(layout, version, result, put)
        if flexible:
            put(b"\0")
    if version >= 1:
        put(_pack_int32(throttle_ms))
    if not flexible:
        pieces[0] = _CLASSIC_HEAD(sum(map(len, pieces)) + 4, correlation_id)
        return b"".join(pieces)
    endpoints = node_endpoints if version >= LEADER_HINT_FROM else ()
    put(encode_endpoints_section(_PRODUCE_RESPONSE, version, endpoints) if endpoints else b"\0")
    pieces[0] = _FLEXIBLE_HEAD(sum(map(len, pieces)) + 5, correlation_id, 0)
    return b"".join(pieces)


@lru_cache(maxsize=4096)
def _single_template(
    version: int, topic: str, partition: int
) -> tuple[int, bytes, Callable[..., bytes], int, bytes]:
    """(frame size, bytes up to base offset, pack of the offsets, how many of them, bytes after)."""
    whole = encode_produce_response(version, 0, [(topic, [(partition, 0, 0, 0, 0, (), None, None)])], 0)
    flexible, _, field_count, _, _ = _response_layout(version)
    offset_count = field_count - 2
    name = compact_string(topic) if flexible else classic_string(topic)
    count_size = 1 if flexible else 4
    head_size = 8 + flexible
    before_end = head_size + count_size + len(name) + count_size + 4 + 2
    pack_offsets = Struct(">qqq"[: offset_count + 1]).pack
    return (len(whole) - 4, whole[8:before_end], pack_offsets, offset_count, whole[before_end + 8 * offset_count:])


def encode_single_success(version: int, correlation_id: int, topic: str, partition: int,
                          offsets: tuple[int, int, int]) -> bytes:
    """The answer to a Produce of one partition that went well; equals `encode_produce_response`.

    offsets: base offset, log append time ms, log start offset. Most requests are answered so, and only
    correlation id and offsets differ between two of the same partition.
    """
    size, before, pack_offsets, offset_count, after = _single_template(version, topic, partition)
    return _CLASSIC_HEAD(size, correlation_id) + before + pack_offsets(*offsets[:offset_count]) + after
