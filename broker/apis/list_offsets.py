"""ListOffsets (key 2): offsets by special timestamp or by time.

Versions: 0 an array of segment offsets; 1 one offset; 2 isolation level; 4 leader epoch; 6 flexible; 7 max
timestamp (-3); 8 earliest local (-4); 9 latest tiered (-5). Behaviours 45, 50, 51.
Runs in: front end; look-ups that decode a batch go to a helper process.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable
from typing import Any

from broker.apis.services import Services
from broker.log_dirs.helper_link import HelperUnavailableError
from broker.log_dirs.offset_lookup import NOT_FOUND, FoundOffset, OffsetLookup
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class
from broker.replica.log_read import READ_COMMITTED
from broker.replica.partition import Partition
from storage.errors import CorruptLogError

ListOffsetsResponse = response_class(ApiKey.LIST_OFFSETS)
PartitionResponse = ListOffsetsResponse.ListOffsetsPartitionResponse

LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED = -1, -2, -3, -4, -5
FIRST_VERSION_OF = {MAX_TIMESTAMP: 7, EARLIEST_LOCAL: 8, LATEST_TIERED: 9}
CONSUMER_REPLICA_ID = -1
FIRST_VERSION_WITH_OFFSET_NOT_AVAILABLE = 5
NO_TIMESTAMP = -1


def handle(services: Services, header: RequestHeader, request: Request) -> Answer | Awaitable[bytes]:
    """Special timestamps are answered at once; only a look-up by time waits for a helper."""
    version = header.api_version
    asked = decode_request(ApiKey.LIST_OFFSETS, version, request.view, header.body_position, request.end)
    if any(
        wanted.timestamp >= 0 or wanted.timestamp == MAX_TIMESTAMP
        for topic in asked.topics
        for wanted in topic.partitions
    ):
        return _answer_slowly(services, header, asked)
    repeated = _repeated(asked, version)
    return _encode(header, [
        (topic.name, [
            _at_once(services, asked, version, topic.name, wanted, repeated) for wanted in topic.partitions
        ])
        for topic in asked.topics
    ], asked)  # fmt: skip


async def _answer_slowly(services: Services, header: RequestHeader, asked: Any) -> bytes:
    topics = []
    repeated = _repeated(asked, header.api_version)
    for topic in asked.topics:
        answers = []
        for wanted in topic.partitions:
            answer = _at_once(services, asked, header.api_version, topic.name, wanted, repeated)
            if answer is None:
                answer = await _by_time(services, asked, header.api_version, topic.name, wanted)
            answers.append(answer)
        topics.append((topic.name, answers))
    return _encode(header, topics, asked)


def _repeated(asked: Any, version: int) -> set[tuple[str, int]]:
    """Partitions named twice: INVALID_REQUEST for each of them (behaviour 50); version 0 does not mind."""
    if version == 0:
        return set()
    counts = Counter((topic.name, wanted.partition_index) for topic in asked.topics for wanted in topic.partitions)
    return {place for place, count in counts.items() if count > 1}


def _encode(header: RequestHeader, topics: list[tuple[str, list[Any]]], asked: Any) -> bytes:
    answer = ListOffsetsResponse(
        topics=[
            ListOffsetsResponse.ListOffsetsTopicResponse(name=name, partitions=partitions)
            for name, partitions in topics
        ]
    )
    return encode_response(ApiKey.LIST_OFFSETS, header.api_version, header.correlation_id, answer)


def _at_once(
    services: Services, asked: Any, version: int, topic: str, wanted: Any, repeated: set[tuple[str, int]]
) -> Any:
    """The answer when no record has to be decoded, else None."""
    number, timestamp = wanted.partition_index, wanted.timestamp
    if (topic, number) in repeated:
        return _failed(number, ErrorCode.INVALID_REQUEST, version)
    partition = services.registry.get(topic, number)
    if timestamp < 0 and version < FIRST_VERSION_OF.get(timestamp, 0) or timestamp < LATEST_TIERED:
        return _failed(number, ErrorCode.UNSUPPORTED_VERSION, version)
    if partition is None:
        known = services.metadata.partition(topic, number) is not None
        error = ErrorCode.NOT_LEADER_OR_FOLLOWER if known else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return _failed(number, error, version)
    error = partition.read_error(wanted.current_leader_epoch)
    if error:
        return _failed(number, error, version)
    if version == 0:
        return _old_style(services, partition, wanted, asked.replica_id == CONSUMER_REPLICA_ID)
    if timestamp == LATEST:
        if _end_is_uncertain(partition, asked):
            return _failed(number, _not_available(version), version)
        end = _visible_end(partition, asked)
        return _found(number, FoundOffset(end, NO_TIMESTAMP, partition.leader_epoch), version)
    if timestamp in (EARLIEST, EARLIEST_LOCAL):
        start = partition.log_start_offset
        return _found(number, FoundOffset(start, NO_TIMESTAMP, partition.epoch_at(start)), version)
    if timestamp == LATEST_TIERED:
        return _found(number, NOT_FOUND, version)
    return None


async def _by_time(services: Services, asked: Any, version: int, topic: str, wanted: Any) -> Any:
    number = wanted.partition_index
    partition = services.registry.get(topic, number)
    if partition is None:
        return _failed(number, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, version)
    look_up = OffsetLookup(services.log_dirs.segments, services.helpers, partition)
    end = _visible_end(partition, asked)
    try:
        if wanted.timestamp == MAX_TIMESTAMP:
            found = await look_up.of_max_timestamp(end)
        else:
            found = await look_up.first_at_or_after(wanted.timestamp, end)
    except HelperUnavailableError:
        return _failed(number, _not_available(version), version)
    except (CorruptLogError, OSError):
        return _failed(number, ErrorCode.KAFKA_STORAGE_ERROR, version)
    if found is NOT_FOUND and _end_is_uncertain(partition, asked):
        return _failed(number, _not_available(version), version)
    return _found(number, found, version)


def _not_available(version: int) -> ErrorCode:
    if version < FIRST_VERSION_WITH_OFFSET_NOT_AVAILABLE:
        return ErrorCode.LEADER_NOT_AVAILABLE
    return ErrorCode.OFFSET_NOT_AVAILABLE


def _end_is_uncertain(partition: Partition, asked: Any) -> bool:
    """Only consumers mind; followers and tools see the log's own end."""
    return partition.end_is_uncertain and asked.replica_id == CONSUMER_REPLICA_ID


def _visible_end(partition: Partition, asked: Any) -> int:
    """The high watermark; the last stable offset for read_committed; the log end for replicas and tools."""
    if asked.replica_id != CONSUMER_REPLICA_ID:
        return partition.log_end_offset
    if asked.isolation_level == READ_COMMITTED:
        return partition.last_stable_offset
    return partition.high_watermark


def _found(number: int, found: FoundOffset, version: int) -> Any:
    epoch = found.leader_epoch if version >= 4 else -1
    return PartitionResponse(
        partition_index=number, offset=found.offset, timestamp=found.timestamp, leader_epoch=epoch
    )


def _failed(number: int, error: ErrorCode, version: int) -> Any:
    return PartitionResponse(partition_index=number, error_code=int(error))


def _old_style(services: Services, partition: Partition, wanted: Any, is_consumer: bool) -> Any:
    """Version 0: up to max_num_offsets segment offsets, newest first, by the files' modification times.

    A consumer gets the high watermark in place of what lies above it.
    """
    reader = services.log_dirs.segments.reader(partition)
    entries = []
    for base in reader.segments_from(0):
        path = os.path.join(partition.path, f"{base:020d}.log")
        entries.append((max(base, partition.log_start_offset), os.stat(path).st_mtime_ns // 1_000_000))
    if partition.marks.log_end.position > 0:
        entries.append((partition.log_end_offset, services.wall_clock_ms()))
    if wanted.timestamp == LATEST:
        kept = entries
    elif wanted.timestamp == EARLIEST:
        kept = entries[:1]
    else:
        kept = [entry for entry in entries if entry[1] <= wanted.timestamp]
    offsets = [offset for offset, _ in kept[::-1]][: max(wanted.max_num_offsets, 0)]
    if is_consumer and offsets and offsets[0] > partition.high_watermark:
        below = [offset for offset in offsets if offset <= partition.high_watermark]
        offsets = [partition.high_watermark, *below]
    return PartitionResponse(partition_index=wanted.partition_index, old_style_offsets=offsets)
