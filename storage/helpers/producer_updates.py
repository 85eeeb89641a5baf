"""What a scanned segment says about its producers, reduced to what a replay can still see. PURE.

Runs in: helper processes (writes), storage (reads). The collector belongs to one scan.

A gigabyte of small idempotent batches is millions of updates, of which the producer state keeps the last five
per producer. So of a producer's data batches only those are handed over that a replay in offset order cannot
do without: the last five, and the first of every transaction; control batches all. The state after replaying
these is that after replaying all (a test compares both). Packed, because a log of tiny transactions may still
leave millions.
"""
from __future__ import annotations

import heapq
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from storage.record.batch import NO_SEQUENCE, TRANSACTIONAL_BIT, BatchHeader, Buffer
from storage.record.control import NO_COORDINATOR_EPOCH, ControlRecord

# Kafka's ProducerStateEntry.NUM_BATCHES_TO_RETAIN.
BATCHES_TO_RETAIN: Final = 5
NO_CONTROL_TYPE: Final = -1

UPDATE: Final = struct.Struct(">qqqhiiq?hi")
_PRODUCER_ID: Final = BatchHeader._fields.index("producer_id")
_ATTRIBUTES: Final = BatchHeader._fields.index("attributes")


class ProducerUpdate(NamedTuple):
    """One batch of a producer. control_type: ABORT or COMMIT marker, else NO_CONTROL_TYPE.

    timestamp: the batch's max timestamp in ms. first_sequence is NO_SEQUENCE for markers and for the group
    coordinator's transactional commits.
    """

    last_offset: int
    first_offset: int
    producer_id: int
    producer_epoch: int
    first_sequence: int
    last_sequence: int
    timestamp: int
    is_transactional: bool
    control_type: int
    coordinator_epoch: int

    @property
    def is_control(self) -> bool:
        return self.control_type != NO_CONTROL_TYPE


class _Producer:
    __slots__ = ("recent", "in_transaction")

    def __init__(self) -> None:
        self.recent: list[tuple[int, ...]] = []
        self.in_transaction = False


class ProducerUpdateCollector:
    """Fed in offset order by a scan."""

    def __init__(self) -> None:
        self._producers: dict[int, _Producer] = {}
        self._kept = bytearray()

    def add_data(self, fields: tuple[int, ...]) -> None:
        """fields: the unpacked header of a data batch. Most are dropped again: nothing is made of it yet."""
        producer = self._producers.get(fields[_PRODUCER_ID])
        if producer is None:
            producer = self._producers[fields[_PRODUCER_ID]] = _Producer()
        recent = producer.recent
        recent.append(fields)
        if len(recent) > BATCHES_TO_RETAIN:
            del recent[0]
        if fields[_ATTRIBUTES] & TRANSACTIONAL_BIT and not producer.in_transaction:
            producer.in_transaction = True
            self._kept += UPDATE.pack(*_data_update(fields))

    def add_marker(self, header: BatchHeader, control: ControlRecord) -> None:
        producer = self._producers.get(header.producer_id)
        if producer is not None:
            producer.in_transaction = False
        offset = header.base_offset
        self._kept += UPDATE.pack(offset, offset, header.producer_id, header.producer_epoch, NO_SEQUENCE,
                                  NO_SEQUENCE, header.max_timestamp, True, control.control_type,
                                  control.coordinator_epoch)

    def packed(self) -> bytes:
        """The updates that count, in offset order; read with `unpack_updates`."""
        recent = sorted(_data_update(fields)
                        for producer in self._producers.values() for fields in producer.recent)
        output = bytearray()
        previous_offset = -1
        for update in heapq.merge(unpack_updates(self._kept), recent):
            if update.last_offset != previous_offset:
                output += UPDATE.pack(*update)
                previous_offset = update.last_offset
        return bytes(output)


def _data_update(fields: tuple[int, ...]) -> ProducerUpdate:
    header = BatchHeader._make(fields)
    return ProducerUpdate(header.last_offset, header.base_offset, header.producer_id, header.producer_epoch,
                          header.base_sequence, header.last_sequence, header.max_timestamp,
                          header.is_transactional, NO_CONTROL_TYPE, NO_COORDINATOR_EPOCH)


def unpack_updates(packed: Buffer) -> Iterator[ProducerUpdate]:
    return map(ProducerUpdate._make, UPDATE.iter_unpack(packed))
