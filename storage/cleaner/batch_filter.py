"""Which records and batches stay when a log is compacted, and what their batches look like then. PURE.

Runs in: the cleaner's helper process; one filter per cleaning. Rules: Kafka's Cleaner.cleanInto and
MemoryRecords.filterTo.

A record stays if it has a key and no later record of the cleaned range has the same key (or if it lies behind
what the offset map covers). A tombstone stays until its batch's delete horizon has passed; a batch gets that
horizon (now + delete.retention.ms) in the first cleaning that meets it with a tombstone, or with a marker of
a transaction of which nothing is left: attribute bit 6, and the base timestamp field holds the horizon.
Offsets stay, so do a batch's base offset, last offset and sequence. A batch without records stays only if it
carries the last sequence, or the last epoch, of a producer that is still known.

Survivors' bytes are copied, not encoded again, unless a horizon is set: the base timestamp of a shortened
batch stays what it was (Kafka takes the first survivor's; every record's time is the same either way).
Formats v0 and v1 have no horizon: tombstones go by the age of the segment (`retain_legacy_deletes`).
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from storage.cleaner.offset_map import OffsetMap
from storage.cleaner.record_fields import RecordFields, split_records, time_of
from storage.cleaner.transactions import CleanedTransactions
from storage.record.batch import (
    BATCH_OVERHEAD,
    CODEC_MASK,
    CODEC_NONE,
    DELETE_HORIZON_BIT,
    HEADER,
    LOG_OVERHEAD,
    MAGIC_V1,
    MAGIC_V2,
    NO_TIMESTAMP,
    BatchHeader,
    crc_is_valid,
    read_header,
    write_crc,
)
from storage.record.compression import compress, decompress
from storage.record.control import read_control_batch
from storage.record.errors import CorruptBatchError
from storage.record.legacy import (
    LegacyMessage,
    build_message,
    build_wrapper,
    iterate_legacy_records,
    legacy_crc_is_valid,
    read_message,
)
from storage.record.records import Record
from storage.record.varint import encode_varint

# What one batch may unpack to in the helper's memory, as for appends (storage.log.batch_validation).
UNPACKED_SIZE_BYTES_MAX: Final = 128 << 20
NO_DATA_OFFSET: Final = -1


class LastRecord(NamedTuple):
    """Of a known producer: the last offset of its last data batch (NO_DATA_OFFSET: only a marker)."""

    last_data_offset: int
    producer_epoch: int


class KeptBatch(NamedTuple):
    """What goes into the cleaned segment. last_offset: what its index says of it."""

    data: memoryview | bytes
    last_offset: int
    max_timestamp: int


@dataclass(slots=True)
class FilterStats:
    """Records, but for what is named otherwise. invalid: without key."""

    records_read: int = 0
    records_kept: int = 0
    invalid: int = 0


@dataclass(slots=True)
class BatchFilter:
    """producers, retain_legacy_deletes: may be replaced between segments."""

    offsets: OffsetMap
    transactions: CleanedTransactions
    now_ms: int
    delete_retention_ms: int
    producers: dict[int, LastRecord]
    retain_legacy_deletes: bool
    stats: FilterStats

    def apply(self, view: memoryview, position: int, size_bytes: int, magic: int) -> KeptBatch | None:
        """What stays of the whole batch at `position`; None: nothing.

        Raises RecordError for a batch that is damaged: nothing can be said about its records then.
        """
        if magic < MAGIC_V2:
            return self._legacy(view[position:position + size_bytes])
        if not crc_is_valid(view, position, size_bytes):
            raise CorruptBatchError(position, "the batch does not match its checksum")
        header = read_header(view, position)
        batch = view[position:position + size_bytes]
        return self._control(batch, header) if header.is_control else self._data(batch, header)

    # -- format v2

    def _control(self, batch: memoryview, header: BatchHeader) -> KeptBatch | None:
        record = read_control_batch(batch)
        may_go = self.transactions.on_control_batch(header, record)
        self.stats.records_read += header.record_count
        if may_go and header.has_delete_horizon and header.base_timestamp <= self.now_ms:
            return self._without_records(header)
        if record is None:
            return self._without_records(header)
        self.stats.records_kept += header.record_count
        if may_go and not header.has_delete_horizon:
            body = bytes(decompress(header.codec, batch[BATCH_OVERHEAD:], UNPACKED_SIZE_BYTES_MAX))
            fields = split_records(body, header.record_count)
            return self._rebuilt(header, body, fields, range(header.record_count), set_horizon=True)
        return KeptBatch(batch, header.last_offset, header.max_timestamp)

    def _data(self, batch: memoryview, header: BatchHeader) -> KeptBatch | None:
        aborted = self.transactions.on_data_batch(header)
        if aborted or header.record_count == 0:
            self.stats.records_read += header.record_count
            return self._without_records(header)
        body = bytes(decompress(header.codec, batch[BATCH_OVERHEAD:], UNPACKED_SIZE_BYTES_MAX))
        fields = split_records(body, header.record_count)
        kept = self._surviving(header, fields)
        self.stats.records_read += header.record_count
        if not kept:
            return self._without_records(header)
        self.stats.records_kept += len(kept)
        tombstones = bool(fields.tombstones) and not set(fields.tombstones).isdisjoint(kept)
        set_horizon = tombstones and not header.has_delete_horizon
        if len(kept) == header.record_count and not set_horizon:
            return KeptBatch(batch, header.last_offset, header.max_timestamp)
        return self._rebuilt(header, body, fields, kept, set_horizon=set_horizon)

    def _surviving(self, header: BatchHeader, fields: RecordFields) -> list[int]:
        """Indices of the records that stay."""
        base, covered = header.base_offset, self.offsets.latest_offset
        if base > covered:
            return list(range(header.record_count))
        keep_tombstones = not header.has_delete_horizon or self.now_ms < header.base_timestamp
        expired = () if keep_tombstones else frozenset(fields.tombstones)
        latest = self.offsets.latest_of(fields.keys)
        kept = []
        for index, (delta, newest) in enumerate(zip(fields.offset_deltas, latest, strict=True)):
            offset = base + delta
            if offset > covered:
                kept.append(index)
            elif offset >= newest and index not in expired:
                if fields.keys[index] is None:
                    self.stats.invalid += 1
                else:
                    kept.append(index)
        return kept

    def _without_records(self, header: BatchHeader) -> KeptBatch | None:
        """An empty batch if it is what is remembered of its producer."""
        if header.producer_id < 0 or not self._is_last_of_producer(header):
            return None
        attributes = header.attributes & ~(CODEC_MASK | DELETE_HORIZON_BIT)
        batch = bytearray(BATCH_OVERHEAD)
        HEADER.pack_into(batch, 0, *header._replace(
            batch_length=BATCH_OVERHEAD - LOG_OVERHEAD, attributes=attributes, base_timestamp=NO_TIMESTAMP,
            record_count=0))
        with memoryview(batch) as view:
            write_crc(view, 0, BATCH_OVERHEAD)
        return KeptBatch(bytes(batch), header.last_offset, header.max_timestamp)

    def _is_last_of_producer(self, header: BatchHeader) -> bool:
        last = self.producers.get(header.producer_id)
        if last is None:
            return False
        if last.last_data_offset >= 0:
            return header.last_offset == last.last_data_offset
        return header.is_control and header.producer_epoch == last.producer_epoch

    def _rebuilt(self, header: BatchHeader, body: bytes, fields: RecordFields, kept: list[int] | range, *,
                 set_horizon: bool) -> KeptBatch:
        """The batch with these records only."""
        attributes, base_timestamp = header.attributes, header.base_timestamp
        if set_horizon:
            attributes |= DELETE_HORIZON_BIT
            base_timestamp = self.now_ms + self.delete_retention_ms
        if set_horizon:
            records = b"".join(_with_base_timestamp(header, body, fields, index, base_timestamp)
                               for index in kept)
        else:
            bounds = fields.bounds
            records = b"".join([body[bounds[index]:bounds[index + 1]] for index in kept])
        max_timestamp = header.max_timestamp
        if not header.is_log_append_time and len(kept) < header.record_count:
            max_timestamp = header.base_timestamp + max(
                time_of(body, fields.bounds[index], fields.bounds[index + 1]).timestamp_delta for index in kept)
        if header.codec != CODEC_NONE:
            records = compress(header.codec, records)
        batch = bytearray(BATCH_OVERHEAD + len(records))
        HEADER.pack_into(batch, 0, *header._replace(
            batch_length=len(batch) - LOG_OVERHEAD, attributes=attributes, base_timestamp=base_timestamp,
            max_timestamp=max_timestamp, record_count=len(kept)))
        batch[BATCH_OVERHEAD:] = records
        with memoryview(batch) as view:
            write_crc(view, 0, len(batch))
        return KeptBatch(memoryview(batch), header.last_offset, max_timestamp)

    # -- formats v0 and v1

    def _legacy(self, message: memoryview) -> KeptBatch | None:
        if not legacy_crc_is_valid(message, 0, len(message)):
            raise CorruptBatchError(0, "the message does not match its checksum")
        wrapper = read_message(message, 0, len(message))
        records = list(iterate_legacy_records(message, output_size_bytes_max=UNPACKED_SIZE_BYTES_MAX))
        latest = self.offsets.latest_of(record.key for record in records)
        kept = [record for record, newest in zip(records, latest, strict=True)
                if self._legacy_survives(record, newest)]
        self.stats.records_read += len(records)
        self.stats.records_kept += len(kept)
        if not kept:
            return None
        if len(kept) == len(records):
            return KeptBatch(message, wrapper.offset, wrapper.timestamp)
        return _legacy_rebuilt(wrapper, kept)

    def _legacy_survives(self, record: Record, newest: int) -> bool:
        if record.offset > self.offsets.latest_offset:
            return True
        if record.key is None:
            self.stats.invalid += 1
            return False
        return record.offset >= newest and (record.value is not None or self.retain_legacy_deletes)


def _with_base_timestamp(header: BatchHeader, body: bytes, fields: RecordFields, index: int,
                         base_timestamp: int) -> bytes:
    """One record with its time counted from another base."""
    end = fields.bounds[index + 1]
    delta, at, rest = time_of(body, fields.bounds[index], end)
    timestamp = header.max_timestamp if header.is_log_append_time else header.base_timestamp + delta
    encoded = body[at:at + 1] + encode_varint(timestamp - base_timestamp) + body[rest:end]
    return encode_varint(len(encoded)) + encoded


def _legacy_rebuilt(wrapper: LegacyMessage, kept: list[Record]) -> KeptBatch:
    """A wrapper around the messages that stay; in v1 their offsets count from the first of them."""
    first = kept[0].offset if wrapper.magic == MAGIC_V1 else 0
    inner = b"".join(build_message(record._replace(offset=record.offset - first), magic=wrapper.magic)
                     for record in kept)
    timestamp = wrapper.timestamp if wrapper.is_log_append_time else max(record.timestamp for record in kept)
    data = build_wrapper(inner, offset=kept[-1].offset, timestamp=timestamp, magic=wrapper.magic,
                         attributes=wrapper.attributes)
    return KeptBatch(data, kept[-1].offset, timestamp)
