"""Errors that the storage engine reports, in Kafka's names but free of the protocol package.

Runs in: storage, helpers, front end (read-only look-ups). Pure data, nobody owns state here.
The numeric codes are Kafka's wire codes, so that a completion entry can carry them as they are;
`broker.protocol.errors` has the full list.
"""
from __future__ import annotations

NONE = 0
UNKNOWN_SERVER_ERROR = -1
OFFSET_OUT_OF_RANGE = 1
CORRUPT_MESSAGE = 2
UNKNOWN_TOPIC_OR_PARTITION = 3
NOT_LEADER_OR_FOLLOWER = 6
MESSAGE_TOO_LARGE = 10
RECORD_LIST_TOO_LARGE = 18
NOT_ENOUGH_REPLICAS = 19
INVALID_TIMESTAMP = 32
UNSUPPORTED_FOR_MESSAGE_FORMAT = 43
OUT_OF_ORDER_SEQUENCE_NUMBER = 45
INVALID_PRODUCER_EPOCH = 47
INVALID_TXN_STATE = 48
KAFKA_STORAGE_ERROR = 56
UNSUPPORTED_COMPRESSION_TYPE = 76
INVALID_RECORD = 87
INCONSISTENT_TOPIC_ID = 103


class StorageError(Exception):
    """Base of everything the storage engine raises on purpose."""


class LogAppendError(StorageError):
    """A batch was refused; nothing of it is in the log.

    code: Kafka's wire code. message: sentence for the client (Produce v8+).
    record_errors: (index in the batch, message) of offending records, Produce v8+.
    """

    def __init__(self, code: int, message: str, record_errors: tuple[tuple[int, str], ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.record_errors = record_errors


class CorruptLogError(StorageError):
    """Bytes on disk that cannot be what was written: file, position and what was found."""

    def __init__(self, path: str, position: int, what: str) -> None:
        super().__init__(f"{path} at byte {position}: {what}")
        self.path = path
        self.position = position
        self.what = what


class OffsetOutOfRangeError(StorageError):
    """The asked offset lies outside [log start, readable end]."""
