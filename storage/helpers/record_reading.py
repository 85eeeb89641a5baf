"""Loading a coordinator's log: the records of a stretch of one segment, as a coordinator needs them.

Runs in: helper processes, asked by the front end chunk by chunk. No state; the file is only read.

Keys and values are handed over as they are: what they mean is the coordinator's. Of records outside transactions
only the last with each key is, for a later one takes the place of an earlier one; those of transactions and their
markers keep their order, because a marker decides about what came before it.
A batch whose inside does not decode is stepped over and reported: one bad batch must not cost all groups.
"""
from __future__ import annotations

from typing import Final, NamedTuple

from storage.fs import OS_FILES, FileLayer
from storage.log.segment_walk import WalkedBatch, walk_batches
from storage.record.batch import MAGIC_V2
from storage.record.control import CONTROL_COMMIT, read_control_batch
from storage.record.errors import RecordError
from storage.record.legacy import iterate_legacy_records
from storage.record.records import iterate_records

RECORD: Final = 0
TRANSACTIONAL_RECORD: Final = 1
COMMIT: Final = 2
ABORT: Final = 3
NO_PRODUCER: Final = -1
# One batch, unpacked: a coordinator writes batches of at most some megabytes.
OUTPUT_SIZE_BYTES_MAX: Final = 256 << 20

# kind, offset of the first record of the batch, producer id, key, value
Entry = tuple[int, int, int, bytes, bytes | None]


class RecordChunk(NamedTuple):
    """next_position: where the next chunk begins; not below `limit` at the end. undecodable_positions: see
    above."""

    entries: list[Entry]
    next_position: int
    undecodable_positions: list[int]


def read_records(fd: int, start_position: int, limit: int, size_bytes_max: int, *,
                 files: FileLayer = OS_FILES) -> RecordChunk:
    """Whole batches from [start_position, limit), at least one, until they take `size_bytes_max` of the file."""
    last_of_key: dict[bytes, tuple[int, Entry]] = {}
    ordered: list[tuple[int, Entry]] = []
    undecodable: list[int] = []
    position = start_position
    number = 0
    for batch in walk_batches(lambda size, at: files.pread(fd, size, at), start_position, limit):
        try:
            for entry in _entries(fd, batch, files):
                number += 1
                if entry[0] == RECORD:
                    last_of_key.pop(entry[3], None)
                    last_of_key[entry[3]] = (number, entry)
                else:
                    ordered.append((number, entry))
        except RecordError:
            undecodable.append(batch.position)
        position = batch.position + batch.size_bytes
        if position - start_position >= size_bytes_max:
            break
    else:
        if position < limit:  # nothing that could be a batch
            undecodable.append(position)
        position = limit
    merged = sorted([*ordered, *last_of_key.values()], key=lambda numbered: numbered[0])
    return RecordChunk([entry for _, entry in merged], position, undecodable)


def _entries(fd: int, batch: WalkedBatch, files: FileLayer) -> list[Entry]:
    data = bytearray(batch.size_bytes)
    data = data[:files.read_into(fd, data, batch.position)]
    header = batch.header
    if batch.magic != MAGIC_V2 or header is None:
        records = list(iterate_legacy_records(data, output_size_bytes_max=OUTPUT_SIZE_BYTES_MAX))
    elif header.is_control:
        control = read_control_batch(data)
        if control is None or not control.ends_transaction:
            return []
        kind = COMMIT if control.control_type == CONTROL_COMMIT else ABORT
        return [(kind, header.base_offset, header.producer_id, b"", None)]
    else:
        records = list(iterate_records(data, output_size_bytes_max=OUTPUT_SIZE_BYTES_MAX))
    if not records:
        return []
    first = records[0].offset
    transactional = header is not None and header.is_transactional
    kind = TRANSACTIONAL_RECORD if transactional else RECORD
    producer_id = header.producer_id if header is not None else NO_PRODUCER
    return [(kind, first, producer_id, record.key, record.value) for record in records
            if record.key is not None]
