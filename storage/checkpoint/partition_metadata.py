"""`partition.metadata` of a partition directory: the topic id, two lines without a final newline.

Runs in: storage, writer thread of the directory. No state. A later Kafka may write a higher version with
the same first two lines, so any version from 0 is read (Kafka's PartitionMetadataReadBuffer does so too).
"""
from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from storage.checkpoint.checkpoint_file import INT32_MAX, parse_number, read_text_file, split_lines
from storage.errors import CorruptLogError
from storage.fs import OS_FILES, FileLayer

PARTITION_METADATA: Final = "partition.metadata"
PARTITION_METADATA_VERSION: Final = 0
_SIZE_BYTES_MAX: Final = 4096
_ZERO_UUID: Final = bytes(16)
_SEPARATOR = re.compile(r":[ \t\n\x0b\f\r]+")


def read_partition_metadata(path: str, files: FileLayer = OS_FILES) -> bytes | None:
    """The 16 bytes of the topic id; None if there is no file. Raises CorruptLogError."""
    data = read_text_file(files, path, _SIZE_BYTES_MAX)
    return None if data is None else decode_partition_metadata(path, data)


def decode_partition_metadata(path: str, data: bytes) -> bytes:
    lines = split_lines(path, data)
    if len(lines) < 2:
        raise CorruptLogError(path, 0, f"two lines expected, {len(lines)} found")
    values = []
    for position, line in lines[:2]:
        fields = _SEPARATOR.split(line)
        if len(fields) != 2:
            raise CorruptLogError(path, position, f"malformed line {line[:200]!r}")
        values.append(fields[1])
    parse_number(path, lines[0][0], values[0], PARTITION_METADATA_VERSION, INT32_MAX)
    topic_id = _decode_uuid(path, lines[1][0], values[1])
    if topic_id == _ZERO_UUID:
        raise CorruptLogError(path, lines[1][0], "the zero topic id")
    return topic_id


def encode_partition_metadata(topic_id: bytes) -> bytes:
    text = base64.urlsafe_b64encode(topic_id).rstrip(b"=")
    return b"version: %d\ntopic_id: %s" % (PARTITION_METADATA_VERSION, text)


def write_partition_metadata(path: str, topic_id: bytes, files: FileLayer = OS_FILES) -> None:
    if len(topic_id) != 16 or topic_id == _ZERO_UUID:
        raise ValueError(f"topic id {topic_id.hex()!r} is not a uuid that a topic may have")
    files.durable_write(path, encode_partition_metadata(topic_id))


def _decode_uuid(path: str, position: int, text: str) -> bytes:
    try:
        uuid = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise CorruptLogError(path, position, f"topic id {text[:100]!r} is not base64") from error
    if len(uuid) != 16:
        raise CorruptLogError(path, position, f"topic id {text[:100]!r} has {len(uuid)} bytes, not 16")
    return uuid
