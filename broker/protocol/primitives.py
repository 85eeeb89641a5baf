"""Primitive values of Kafka's wire format that more than one module of the package needs.

Unsigned varints (LEB128, at most 5 bytes, at most 2^31-1) carry every length of the flexible versions;
UUIDs are 16 bytes here and 22 characters of URL-safe base64 where people read them.

Runs in: every process. Immutable after import, but for the bounded cache of names.
"""
from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache
from struct import Struct

from broker.protocol.errors import MalformedError

Buffer = bytes | bytearray | memoryview

INT16 = Struct(">h")
INT32 = Struct(">i")
INT64 = Struct(">q")

INT32_MAX = (1 << 31) - 1
STRING_SIZE_BYTES_MAX = 32767  # Kafka refuses longer strings even where the length is a varint

ZERO_UUID = bytes(16)
UUID_TEXT_SIZE = 22


def _encode_uvarint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


# Lengths and counts are small as a rule: two bytes' worth of them are made once.
_SMALL_UVARINTS = tuple(map(_encode_uvarint, range(1 << 10)))
_SMALL_UVARINT_COUNT = len(_SMALL_UVARINTS)


def encode_uvarint(value: int) -> bytes:
    """`value` as an unsigned varint; ValueError outside 0..2^31-1, which no peer could read."""
    if 0 <= value < _SMALL_UVARINT_COUNT:
        return _SMALL_UVARINTS[value]
    if not 0 <= value <= INT32_MAX:
        raise ValueError(f"unsigned varint {value} is outside 0..{INT32_MAX}")
    return _encode_uvarint(value)


def decode_uvarint(buffer: Buffer, position: int) -> tuple[int, int]:
    """(value, position after it). IndexError at the end of the buffer: callers map it to MalformedError.

    Written out byte by byte: the hot parsers call it for every record set of a flexible Produce.
    """
    value = buffer[position]
    if value < 128:
        return value, position + 1
    byte = buffer[position + 1]
    if byte < 128:
        return value & 127 | byte << 7, position + 2
    value = value & 127 | (byte & 127) << 7
    byte = buffer[position + 2]
    if byte < 128:
        return value | byte << 14, position + 3
    value |= (byte & 127) << 14
    byte = buffer[position + 3]
    if byte < 128:
        return value | byte << 21, position + 4
    value |= (byte & 127) << 21
    byte = buffer[position + 4]
    if byte > 7:
        raise MalformedError(f"unsigned varint is longer than 5 bytes or above {INT32_MAX}")
    return value | byte << 28, position + 5


def skip_tagged_fields(buffer: Buffer, position: int, end: int) -> int:
    """Position after a tagged-field section whose content is of no interest, nowhere beyond `end`.

    Order and doubles are checked as in the codec.
    """
    count, position = decode_uvarint(buffer, position)
    previous_tag = -1
    for _ in range(count):
        tag, position = decode_uvarint(buffer, position)
        if tag <= previous_tag:
            raise MalformedError(f"tag {tag} after tag {previous_tag}")
        previous_tag = tag
        size, position = decode_uvarint(buffer, position)
        position += size
        if position > end:
            raise MalformedError(f"tagged field {tag} of {size} bytes ends beyond the message")
    return position


def uuid_to_text(uuid: bytes) -> str:
    """16 bytes as Kafka prints them: URL-safe base64 without padding."""
    if len(uuid) != 16:
        raise ValueError(f"a UUID has 16 bytes, not {len(uuid)}")
    return urlsafe_b64encode(uuid)[:UUID_TEXT_SIZE].decode("ascii")


def uuid_from_text(text: str) -> bytes:
    """Reverse of `uuid_to_text`; ValueError for anything else."""
    if len(text) != UUID_TEXT_SIZE or not text.isascii():
        raise ValueError(f"not a UUID in 22 characters of URL-safe base64: {text!r}")
    uuid = urlsafe_b64decode(text + "==")
    if uuid_to_text(uuid) != text:
        raise ValueError(f"not a UUID in 22 characters of URL-safe base64: {text!r}")
    return uuid


NAME_SIZE_MAX = 249  # of a legal topic name; longer ones are never remembered
NAME_COUNT_MAX = 8192  # names remembered by each cache: tens of MB at worst, if a peer sends junk


@lru_cache(NAME_COUNT_MAX)
def _remembered_name(raw: bytes) -> str:
    return raw.decode()


def decode_name(raw: bytes) -> str:
    """A topic name or client id: the same bytes give the same string object, so that later dictionary
    look-ups find its hash ready. UnicodeDecodeError as from `bytes.decode`."""
    return _remembered_name(raw) if len(raw) <= NAME_SIZE_MAX else raw.decode()
