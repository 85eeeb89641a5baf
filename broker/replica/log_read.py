"""One read of one partition for a Fetch: visibility rules, bounds, and the range to send.

Runs in: front end. Stateless; positions come from marks, hints and the segment readers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from broker.log_dirs.segments import EMPTY, SegmentReaders, Slice
from broker.protocol.errors import ErrorCode
from broker.replica.partition import Partition
from storage.errors import CorruptLogError, OffsetOutOfRangeError
from storage.reader.errors import ColdReadError, SegmentsChangedError

log = logging.getLogger(__name__)

READ_COMMITTED = 1
NO_EPOCH = -1


Obstacle = ColdReadError | SegmentsChangedError
"""Nothing wrong, but the look-up cannot be answered on the loop just now."""


class ReadResult(NamedTuple):
    """obstacle: what has to be overcome before the data can be found. diverging: (epoch, end offset)
    when the reader's history left ours (KIP-595). aborted: None for read_uncommitted, else pairs of
    producer id and first offset. withheld: there is data, but the limits left no room for it."""

    error: int
    high_watermark: int
    last_stable_offset: int
    log_start_offset: int
    data: Slice
    aborted: Sequence[tuple[int, int]] | None
    diverging: tuple[int, int] | None
    obstacle: Obstacle | None = None
    withheld: bool = False


def failed(error: int) -> ReadResult:
    """The result that carries only an error (behaviour 41: bounds are -1)."""
    return ReadResult(int(error), -1, -1, -1, EMPTY, None, None)


def not_found(error: int) -> ReadResult:
    """Of a partition that was not even looked for: as Kafka answers it, aborted transactions are not null."""
    return ReadResult(int(error), -1, -1, -1, EMPTY, (), None)


def read(
    segments: SegmentReaders, partition: Partition, fetch_offset: int, current_leader_epoch: int,
    last_fetched_epoch: int, max_bytes: int, min_one_batch: bool, isolation_level: int,
) -> ReadResult:  # fmt: skip
    """Read up to the high watermark, or the last stable offset for read_committed (behaviours 38-46)."""
    error = partition.read_error(current_leader_epoch)
    if error:
        return failed(error)
    log_start, high_watermark = partition.log_start_offset, partition.high_watermark
    stable = partition.last_stable_offset
    committed = isolation_level == READ_COMMITTED
    if last_fetched_epoch != NO_EPOCH:
        epoch, end = partition.end_for_epoch(last_fetched_epoch)
        if NO_EPOCH in (epoch, end):
            return failed(ErrorCode.OFFSET_OUT_OF_RANGE)
        if epoch < last_fetched_epoch or end < fetch_offset:
            return ReadResult(0, high_watermark, stable, log_start, EMPTY, [] if committed else None, (epoch, end))
    if not log_start <= fetch_offset <= partition.log_end_offset:
        return failed(ErrorCode.OFFSET_OUT_OF_RANGE)
    end_offset = stable if committed else high_watermark
    aborted: Sequence[tuple[int, int]] | None = [] if committed else None
    if fetch_offset >= end_offset:
        return ReadResult(0, high_watermark, stable, log_start, EMPTY, aborted, None)
    if max_bytes <= 0 and not min_one_batch:
        return ReadResult(0, high_watermark, stable, log_start, EMPTY, aborted, None, None, True)
    try:
        data = segments.slice(partition, fetch_offset, end_offset, max_bytes, min_one_batch)
        if committed:
            aborted = segments.aborted_transactions(partition, fetch_offset, end_offset)
    except (ColdReadError, SegmentsChangedError) as obstacle:
        return ReadResult(0, high_watermark, stable, log_start, EMPTY, aborted, None, obstacle)
    except OffsetOutOfRangeError:
        return failed(ErrorCode.OFFSET_OUT_OF_RANGE)
    except (CorruptLogError, OSError) as failure:
        log.error("Reading %s-%d at offset %d: %s", partition.topic, partition.partition, fetch_offset, failure)
        return failed(ErrorCode.KAFKA_STORAGE_ERROR)
    withheld = data.size_bytes == 0
    return ReadResult(0, high_watermark, stable, log_start, data, aborted, None, None, withheld)
