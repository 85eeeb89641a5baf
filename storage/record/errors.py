"""What goes wrong inside a buffer of records, said without knowing which file it came from.

Runs in: storage, front end, helpers (PURE). Nobody owns state here. Callers that know a path turn these
into `storage.errors.CorruptLogError`; callers that serve a client answer with the Kafka code in `code`.
"""
from __future__ import annotations

from storage.errors import (
    CORRUPT_MESSAGE,
    INVALID_RECORD,
    UNSUPPORTED_COMPRESSION_TYPE,
    UNSUPPORTED_FOR_MESSAGE_FORMAT,
    StorageError,
)


class RecordError(StorageError):
    """Base: the bytes are at fault. position: byte in the buffer given; code: Kafka's wire code."""

    code = CORRUPT_MESSAGE

    def __init__(self, position: int, what: str) -> None:
        super().__init__(f"at byte {position}: {what}")
        self.position = position
        self.what = what


class CorruptBatchError(RecordError):
    """Header, length or checksum of a batch cannot be right; nothing behind it can be trusted."""


class InvalidRecordsError(RecordError):
    """The batch's frame is sound, its insides are not: count, offsets, varints, compressed block."""

    code = INVALID_RECORD


class UnsupportedFormatError(RecordError):
    """A message format (magic) that this call does not read."""

    code = UNSUPPORTED_FOR_MESSAGE_FORMAT


class UnsupportedCompressionError(RecordError):
    """A codec number that this format does not know."""

    code = UNSUPPORTED_COMPRESSION_TYPE


class OutputBoundError(InvalidRecordsError):
    """Decompression would give more than the caller's bound: a bomb, refused before it fills memory."""
