"""Control batches: the markers that end a transaction. PURE.

Runs in: storage (a marker completes a transaction), helper processes (recovery). No state.
Key: int16 version, int16 type. Value of ABORT and COMMIT: int16 version, int32 coordinator epoch. Higher
versions are read as version 0: they may only add fields at the end.
"""
from __future__ import annotations

import struct
from typing import Final, NamedTuple

from storage.record.batch import CONTROL_BIT, NO_LEADER_EPOCH, NO_SEQUENCE, TRANSACTIONAL_BIT, Buffer
from storage.record.errors import InvalidRecordsError
from storage.record.records import Producer, Record, build_batch, iterate_records

CONTROL_ABORT: Final = 0
CONTROL_COMMIT: Final = 1
CONTROL_LEADER_CHANGE: Final = 2
CONTROL_SNAPSHOT_HEADER: Final = 3
CONTROL_SNAPSHOT_FOOTER: Final = 4
NO_COORDINATOR_EPOCH: Final = -1

# A control batch holds one record of a few bytes; compressed ones are legal, larger ones are not markers.
CONTROL_BATCH_OUTPUT_SIZE_BYTES_MAX: Final = 64 * 1024

_KEY = struct.Struct(">hh")
_VALUE = struct.Struct(">hi")


class ControlRecord(NamedTuple):
    """control_type: CONTROL_*, or a number of a later release. coordinator_epoch: ABORT and COMMIT only."""

    control_type: int
    coordinator_epoch: int

    @property
    def ends_transaction(self) -> bool:
        return self.control_type in (CONTROL_ABORT, CONTROL_COMMIT)


def read_control_batch(view: Buffer, position: int = 0) -> ControlRecord | None:
    """The first (and only) record of the control batch at `position`.

    None for a batch that compaction emptied: the whole transaction is gone, the marker changes nothing.
    """
    records = iterate_records(view, position, output_size_bytes_max=CONTROL_BATCH_OUTPUT_SIZE_BYTES_MAX)
    record = next(records, None)
    if record is None:
        return None
    control_type = _read(_KEY, record.key, position, "key")
    if control_type not in (CONTROL_ABORT, CONTROL_COMMIT):
        return ControlRecord(control_type, NO_COORDINATOR_EPOCH)
    return ControlRecord(control_type, _read(_VALUE, record.value, position, "value"))


def build_end_transaction_batch(control_type: int, coordinator_epoch: int, producer: Producer,
                                timestamp: int, *, offset: int = 0,
                                leader_epoch: int = NO_LEADER_EPOCH) -> bytes:
    """The marker that WriteTxnMarkers appends. producer.base_sequence is not used: markers have none."""
    record = Record(offset, timestamp, _KEY.pack(0, control_type), _VALUE.pack(0, coordinator_epoch))
    return build_batch([record], attributes=CONTROL_BIT | TRANSACTIONAL_BIT,
                       producer=producer._replace(base_sequence=NO_SEQUENCE), leader_epoch=leader_epoch)


def _read(layout: struct.Struct, data: bytes | None, position: int, what: str) -> int:
    """The second field; the first is a version."""
    if data is None or len(data) < layout.size:
        raise InvalidRecordsError(position, f"control record {what} of {len(data or b'')} bytes")
    version, number = layout.unpack_from(data)
    if version < 0:
        raise InvalidRecordsError(position, f"control record {what} version {version}")
    return int(number)
