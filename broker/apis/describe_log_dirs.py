"""DescribeLogDirs (key 35): sizes and lags of the partitions in each log directory.

Versions: 2 flexible; 3 top-level error; 4 total and usable bytes of the volume. Behaviour 81.
Runs in: front end; sizes are asked of each storage process by datagram (`stats`), the volume of the kernel.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable
from typing import Any

from broker.apis.services import Services
from broker.log_dirs.storage_link import StorageLink
from broker.network.connection import Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

DescribeLogDirsResponse = response_class(ApiKey.DESCRIBE_LOG_DIRS)
UNKNOWN_BYTES = -1


def handle(services: Services, header: RequestHeader, request: Request) -> Awaitable[bytes]:
    asked = decode_request(
        ApiKey.DESCRIBE_LOG_DIRS, header.api_version, request.view, header.body_position, request.end
    )
    return _describe(services, header, asked)


async def _describe(services: Services, header: RequestHeader, asked: Any) -> bytes:
    wanted = None
    if asked.topics is not None:
        wanted = {(topic.topic, number) for topic in asked.topics for number in topic.partitions}
    answer = DescribeLogDirsResponse(
        results=[await _directory(services, link, wanted) for link in services.log_dirs.links]
    )
    return encode_response(ApiKey.DESCRIBE_LOG_DIRS, header.api_version, header.correlation_id, answer)


async def _directory(services: Services, link: StorageLink, wanted: set[tuple[str, int]] | None) -> Any:
    result = DescribeLogDirsResponse.DescribeLogDirsResult
    sizes = await services.directory_sizes(link.index) if link.usable else None
    if sizes is None:
        return result(error_code=int(ErrorCode.KAFKA_STORAGE_ERROR), log_dir=link.directory)
    topics: dict[str, list[Any]] = {}
    for topic, number, size_bytes in sizes:
        if wanted is not None and (topic, number) not in wanted:
            continue
        partition = services.registry.get(topic, number)
        lag = 0 if partition is None else max(partition.high_watermark - partition.log_end_offset, 0)
        topics.setdefault(topic, []).append(
            DescribeLogDirsResponse.DescribeLogDirsPartition(
                partition_index=number, partition_size=size_bytes, offset_lag=lag, is_future_key=False
            )
        )
    total, usable = _volume(link.directory)
    return result(
        log_dir=link.directory, total_bytes=total, usable_bytes=usable,
        topics=[
            DescribeLogDirsResponse.DescribeLogDirsTopic(name=topic, partitions=partitions)
            for topic, partitions in topics.items()
        ],
    )  # fmt: skip


def _volume(directory: str) -> tuple[int, int]:
    """(total, usable) bytes of the volume; -1 when the kernel will not say."""
    try:
        figures = os.statvfs(directory)
    except OSError:
        return (UNKNOWN_BYTES, UNKNOWN_BYTES)
    return (figures.f_blocks * figures.f_frsize, figures.f_bavail * figures.f_frsize)
