"""Fetch requests without the generic codec, as tuples.

With a fetch session a request names few partitions, without one perhaps thousands; both are parsed by one
fused `struct.Struct` per partition into plain tuples in one shape for all versions, equal to what the
generic codec reads (tested). The response's encoder is in `hot_fetch_response`
and can be imported from here.

Runs in: front end. Layouts are made once per version and never change.
"""
from __future__ import annotations

from struct import Struct, unpack_from
from struct import error as StructError
from typing import NamedTuple

from broker.protocol.errors import MalformedError, UnsupportedVersionError
from broker.protocol.hot_common import refuse_count, refuse_string
from broker.protocol.hot_fetch_response import (
    FLEXIBLE_FROM,
    TOPIC_ID_FROM,
    VERSION_MAX,
    FetchResponseEncoder,
    PartitionResult,
    fetch_response_encoder,
)
from broker.protocol.primitives import (
    INT16,
    INT32,
    STRING_SIZE_BYTES_MAX,
    decode_name,
    decode_uvarint,
    skip_tagged_fields,
)

__all__ = ["FetchRequest", "FetchResponseEncoder", "PartitionResult", "fetch_response_encoder",
           "parse_fetch_request"]

REPLICA_STATE_FROM = 15  # the replica id moved into a tagged structure, with the replica's epoch
RESPONSE_MAX_BYTES_DEFAULT = 0x7FFFFFFF  # "no limit": what a request below version 3 means

# partition, current leader epoch, fetch offset, last fetched epoch, log start offset, partition max bytes;
# -1 for what the version lacks
FetchPartition = tuple[int, int, int, int, int, int]
# topic name or None, topic id or None (one of them is set), partitions
FetchTopic = tuple[str | None, bytes | None, list[FetchPartition]]
ForgottenTopic = tuple[str | None, bytes | None, list[int]]


class FetchRequest(NamedTuple):
    """`topics` and `forgotten` in the request's order, repetitions included. Values that the version lacks
    have Kafka's defaults (replica id and epochs -1, session 0, session epoch -1, rack "")."""

    replica_id: int
    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    isolation_level: int
    session_id: int
    session_epoch: int
    topics: list[FetchTopic]
    forgotten: list[ForgottenTopic]
    rack_id: str
    replica_epoch: int


_new_tuple = tuple.__new__
_unpack_int16 = INT16.unpack_from
_unpack_int32 = INT32.unpack_from
# Settings up to the topic count, which is int32 or (the B at the end) the first byte of a varint.
_SETTINGS = {
    0: Struct(">iiii"), 3: Struct(">iiiii"), 4: Struct(">iiiibi"), 7: Struct(">iiiibiii"),
    FLEXIBLE_FROM: Struct(">iiiibiiB"), REPLICA_STATE_FROM: Struct(">iiibiiB"),
}
# partition, [leader epoch,] offset, [log start,] max bytes
_PARTITIONS = {0: Struct(">iqi"), 5: Struct(">iqqi"), 9: Struct(">iiqqi")}
_unpack_compact_partition = Struct(">iiqiqiB").unpack_from  # the B: the count of tagged fields
_COMPACT_PARTITION_SIZE = 33
_unpack_replica_state = Struct(">iq").unpack_from  # replica id, replica epoch
_REPLICA_STATE_TAG = 1


def _newest(layouts: dict[int, Struct], version: int) -> Struct:
    return layouts[max(first for first in layouts if first <= version)]


_SETTINGS_OF = [_newest(_SETTINGS, version) for version in range(VERSION_MAX + 1)]
_PARTITION_OF = [_newest(_PARTITIONS, version) for version in range(VERSION_MAX + 1)]


def parse_fetch_request(view: memoryview, position: int, end: int, version: int) -> FetchRequest:
    """Parse the body in `view[position:end]`.

    Reads are bounded by the view and counts by the frame; that the frame's end was respected is checked
    once at the end, since positions only grow.
    """
    if not 0 <= version <= VERSION_MAX:
        raise UnsupportedVersionError(f"Fetch has versions 0 to {VERSION_MAX}, not {version}")
    try:
        if version < FLEXIBLE_FROM:
            request, position = _parse_classic(view, position, end, version)
        else:
            request, position = _parse_flexible(view, position, end, version)
    except (StructError, IndexError) as error:
        raise MalformedError(f"Fetch request in version {version} ends too early") from error
    except UnicodeDecodeError as error:
        raise MalformedError(f"Fetch request in version {version} holds a string that is no UTF-8: "
                             f"{error.reason}") from error
    if position > end:
        raise MalformedError(f"Fetch request in version {version} ends {position - end} bytes beyond "
                             f"its frame")
    return request


def _parse_classic(view: memoryview, position: int, end: int, version: int) -> tuple[FetchRequest, int]:
    """Versions 0 to 11."""
    settings = _SETTINGS_OF[version]
    values = settings.unpack_from(view, position)
    position += settings.size
    replica_id, max_wait_ms, min_bytes = values[:3]
    max_bytes = values[3] if version >= 3 else RESPONSE_MAX_BYTES_DEFAULT
    isolation_level = values[4] if version >= 4 else 0
    session_id, session_epoch = values[5:7] if version >= 7 else (0, -1)
    topics, position = _classic_topics(view, position, end, version, values[-1])
    forgotten: list[ForgottenTopic] = []
    rack_id = ""
    if version >= 7:
        forgotten, position = _classic_forgotten(view, position, end)
    if version >= 11:
        rack_id, position = _classic_name(view, position)
    return _new_tuple(FetchRequest, (
        replica_id, max_wait_ms, min_bytes, max_bytes, isolation_level, session_id, session_epoch, topics,
        forgotten, rack_id, -1)), position


def _classic_name(view: memoryview, position: int) -> tuple[str, int]:
    size, = _unpack_int16(view, position)
    if size < 0:
        refuse_string(size)
    start = position + 2
    position = start + size
    if position > len(view):
        raise IndexError  # a slice would be cut short silently
    return decode_name(view[start:position].tobytes()), position


def _classic_topics(view: memoryview, position: int, end: int, version: int,
                    topic_count: int) -> tuple[list[FetchTopic], int]:
    layout = _PARTITION_OF[version]
    unpack, size = layout.unpack_from, layout.size
    if not 0 <= topic_count <= end - position:
        refuse_count("topics", topic_count)
    topics: list[FetchTopic] = []
    for _ in range(topic_count):
        name, position = _classic_name(view, position)
        partition_count, = _unpack_int32(view, position)
        position += 4
        if not 0 <= partition_count <= end - position:
            refuse_count("partitions", partition_count)
        partitions: list[FetchPartition] = []
        for _ in range(partition_count):
            if version >= 9:
                partition, epoch, offset, log_start, max_bytes = unpack(view, position)
            elif version >= 5:
                partition, offset, log_start, max_bytes = unpack(view, position)
                epoch = -1
            else:
                partition, offset, max_bytes = unpack(view, position)
                epoch = log_start = -1
            partitions.append((partition, epoch, offset, -1, log_start, max_bytes))
            position += size
        topics.append((name, None, partitions))
    return topics, position


def _classic_forgotten(view: memoryview, position: int, end: int) -> tuple[list[ForgottenTopic], int]:
    count, = _unpack_int32(view, position)
    position += 4
    if not 0 <= count <= end - position:
        refuse_count("forgotten topics", count)
    forgotten: list[ForgottenTopic] = []
    for _ in range(count):
        name, position = _classic_name(view, position)
        partition_count, = _unpack_int32(view, position)
        position += 4
        if not 0 <= partition_count * 4 <= end - position:
            refuse_count("forgotten partitions", partition_count)
        forgotten.append((name, None, list(unpack_from(f">{partition_count}i", view, position))))
        position += partition_count * 4
    return forgotten, position


def _parse_flexible(view: memoryview, position: int, end: int, version: int) -> tuple[FetchRequest, int]:
    """Versions 12 to 17: lengths are varints one too high, every structure ends with tagged fields."""
    settings = _SETTINGS_OF[version]
    replica_id = replica_epoch = -1
    if version >= REPLICA_STATE_FROM:
        (max_wait_ms, min_bytes, max_bytes, isolation_level, session_id, session_epoch,
         topic_count) = settings.unpack_from(view, position)
    else:
        (replica_id, max_wait_ms, min_bytes, max_bytes, isolation_level, session_id, session_epoch,
         topic_count) = settings.unpack_from(view, position)
    position += settings.size
    if topic_count > 127:
        topic_count, position = decode_uvarint(view, position - 1)
    topics, position = _compact_topics(view, position, end, version, topic_count)
    forgotten: list[ForgottenTopic] = []
    if view[position] == 1:
        position += 1
    else:
        forgotten, position = _compact_forgotten(view, position, end, version)
    rack_id = ""
    if view[position] == 1:
        position += 1
    else:
        rack_id, position = _compact_name(view, position)
    if view[position] == 0:
        position += 1
    else:
        replica_id, replica_epoch, position = _replica_state(view, position, end, version, replica_id)
    return _new_tuple(FetchRequest, (
        replica_id, max_wait_ms, min_bytes, max_bytes, isolation_level, session_id, session_epoch, topics,
        forgotten, rack_id, replica_epoch)), position


def _compact_name(view: memoryview, position: int) -> tuple[str, int]:
    size, position = decode_uvarint(view, position)
    if not 0 < size <= STRING_SIZE_BYTES_MAX + 1:
        refuse_string(size - 1)
    start = position
    position += size - 1
    if position > len(view):
        raise IndexError  # a slice would be cut short silently
    return decode_name(view[start:position].tobytes()), position


def _topic_id(view: memoryview, position: int) -> tuple[bytes, int]:
    after = position + 16
    if after > len(view):
        raise IndexError  # a slice would be cut short silently
    return view[position:after].tobytes(), after


def _compact_topics(view: memoryview, position: int, end: int, version: int,
                    topic_count: int) -> tuple[list[FetchTopic], int]:
    """`topic_count` as on the wire, one too high."""
    if not 0 < topic_count <= end - position + 1:
        refuse_count("topics", topic_count - 1)
    topics: list[FetchTopic] = []
    name = topic_id = None
    for _ in range(topic_count - 1):
        if version >= TOPIC_ID_FROM:
            topic_id, position = _topic_id(view, position)
        else:
            name, position = _compact_name(view, position)
        partition_count = view[position]
        position += 1
        if partition_count > 127:
            partition_count, position = decode_uvarint(view, position - 1)
        if not 0 < partition_count <= end - position + 1:
            refuse_count("partitions", partition_count - 1)
        partitions: list[FetchPartition] = []
        for _ in range(partition_count - 1):
            (partition, epoch, offset, last_fetched_epoch, log_start, max_bytes,
             tag_count) = _unpack_compact_partition(view, position)
            partitions.append((partition, epoch, offset, last_fetched_epoch, log_start, max_bytes))
            position += _COMPACT_PARTITION_SIZE
            if tag_count:
                position = skip_tagged_fields(view, position - 1, end)
        position = skip_tagged_fields(view, position, end) if view[position] else position + 1
        topics.append((name, topic_id, partitions))
    return topics, position


def _compact_forgotten(view: memoryview, position: int, end: int,
                       version: int) -> tuple[list[ForgottenTopic], int]:
    count, position = decode_uvarint(view, position)
    if not 0 < count <= end - position + 1:
        refuse_count("forgotten topics", count - 1)
    forgotten: list[ForgottenTopic] = []
    name = topic_id = None
    for _ in range(count - 1):
        if version >= TOPIC_ID_FROM:
            topic_id, position = _topic_id(view, position)
        else:
            name, position = _compact_name(view, position)
        partition_count, position = decode_uvarint(view, position)
        partition_count -= 1
        if not 0 <= partition_count * 4 <= end - position:
            refuse_count("forgotten partitions", partition_count)
        forgotten.append((name, topic_id, list(unpack_from(f">{partition_count}i", view, position))))
        position = skip_tagged_fields(view, position + partition_count * 4, end)
    return forgotten, position


def _replica_state(view: memoryview, position: int, end: int, version: int,
                   replica_id: int) -> tuple[int, int, int]:
    """(replica id, replica epoch, position) from the request's own tagged fields; only followers send any.

    Tag 0, the cluster id, means nothing to a ZooKeeper-mode broker and is skipped like an unknown one.
    """
    replica_epoch = -1
    after = skip_tagged_fields(view, position, end)
    count, position = decode_uvarint(view, position)
    for _ in range(count):
        tag, position = decode_uvarint(view, position)
        size, position = decode_uvarint(view, position)
        if tag == _REPLICA_STATE_TAG and version >= REPLICA_STATE_FROM:
            replica_id, replica_epoch = _unpack_replica_state(view, position)
            used = skip_tagged_fields(view, position + 12, end) - position
            if used != size:
                raise MalformedError(f"the replica's state announces {size} bytes but has {used}")
        position += size
    return replica_id, replica_epoch, after
