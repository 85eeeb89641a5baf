"""Kafka's four codecs over cramjam, each decompression with a bound on what it may give. PURE.

Runs in: helper processes (recompression, conversion, time look-ups), storage (the rare batch whose header
must be corrected). No state.

What Kafka's wire format adds to the plain codecs:
- gzip and zstd: plain streams. Level 6 and 3, Kafka's defaults.
- snappy: written in the xerial framing of snappy-java (magic, then blocks with a length each); read in that
  framing or as one raw snappy block, which some clients send and Java accepts.
- lz4: the standard frame with *independent* 64 KB blocks (Java's reader refuses linked ones), written by hand
  here because cramjam sets the block-checksum flag and links blocks by default. Message format v0 computed
  the header checksum over the frame's magic as well: written so on request, not looked at when reading v0.

A compressed block says nothing trustworthy about its size, so output goes into buffers that grow up to the
caller's bound: a bomb costs at most that much memory and ends as OutputBoundError.
"""
from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import cramjam
import xxhash

from storage.record.batch import (
    CODEC_GZIP,
    CODEC_LZ4,
    CODEC_NONE,
    CODEC_SNAPPY,
    CODEC_ZSTD,
    Buffer,
)
from storage.record.errors import InvalidRecordsError, OutputBoundError, UnsupportedCompressionError

GZIP_LEVEL: Final = 6
ZSTD_LEVEL: Final = 3

XERIAL_MAGIC: Final = b"\x82SNAPPY\x00"
XERIAL_HEADER: Final = XERIAL_MAGIC + struct.pack(">ii", 1, 1)
# Block size of snappy-java's stream as Kafka opens it.
XERIAL_BLOCK_SIZE_BYTES: Final = 32 * 1024

LZ4_MAGIC: Final = b"\x04\x22\x4d\x18"
LZ4_BLOCK_SIZE_BYTES: Final = 64 * 1024
# Version 1, independent blocks, no checksums, no content size; blocks of at most 64 KB.
LZ4_DESCRIPTOR: Final = b"\x60\x40"
_LZ4_STORED_BIT: Final = 0x80000000
_LZ4_CONTENT_SIZE_FLAG: Final = 0x08
_LZ4_HEADER_SIZE_BYTES: Final = 7

# First guess of a stream's size is this multiple of its input, then the guess grows by _GROWTH_FACTOR: at
# most a handful of attempts, and at most a third more work than the last one. Buffers are zero-filled, so the
# bound itself (100 MiB in places) is not a fit first guess: 48 ms for a batch of a few records (measured).
_FIRST_GUESS_FACTOR: Final = 4
_FIRST_GUESS_SIZE_BYTES: Final = 64 * 1024
_GROWTH_FACTOR: Final = 4
# cramjam's text when the output buffer is full; a test holds it to that.
_OUTPUT_FULL_TEXT: Final = "failed to write whole buffer"

_INT32 = struct.Struct(">i")
_UINT32_LE = struct.Struct("<I")


def compress(codec: int, data: Buffer, *, broken_lz4_header: bool = False) -> bytes:
    """`data` as one compressed block, as a Java client would write it. CODEC_NONE copies."""
    if codec == CODEC_NONE:
        return bytes(data)
    if codec == CODEC_GZIP:
        return bytes(cramjam.gzip.compress(data, level=GZIP_LEVEL))
    if codec == CODEC_SNAPPY:
        return _compress_xerial(data)
    if codec == CODEC_LZ4:
        return _compress_lz4(data, broken_lz4_header)
    if codec == CODEC_ZSTD:
        return bytes(cramjam.zstd.compress(data, level=ZSTD_LEVEL))
    raise UnsupportedCompressionError(0, f"compression type {codec}")


def decompress(codec: int, data: Buffer, output_size_bytes_max: int,
               *, ignore_lz4_header_checksum: bool = False) -> Buffer:
    """The bytes behind `data`; CODEC_NONE gives `data` itself.

    Raises OutputBoundError above `output_size_bytes_max`, InvalidRecordsError for anything malformed,
    UnsupportedCompressionError for an unknown codec. Positions in errors count from the start of `data`.
    """
    if codec == CODEC_NONE:
        return data
    if codec == CODEC_GZIP:
        return _decompress_stream(cramjam.gzip.decompress_into, data, output_size_bytes_max)
    if codec == CODEC_SNAPPY:
        return _decompress_snappy(memoryview(data), output_size_bytes_max)
    if codec == CODEC_LZ4:
        if ignore_lz4_header_checksum:
            data = _with_lz4_header_checksum(data)
        return _decompress_stream(cramjam.lz4.decompress_into, data, output_size_bytes_max)
    if codec == CODEC_ZSTD:
        return _decompress_stream(cramjam.zstd.decompress_into, data, output_size_bytes_max)
    raise UnsupportedCompressionError(0, f"compression type {codec}")


def _decompress_stream(decompress_into: Callable[[Buffer, bytearray], int], data: Buffer,
                       bound: int) -> memoryview:
    size = min(bound, max(_FIRST_GUESS_SIZE_BYTES, len(data) * _FIRST_GUESS_FACTOR))
    while True:
        output = bytearray(size)
        try:
            count = decompress_into(data, output)
        except cramjam.DecompressionError as error:
            if _OUTPUT_FULL_TEXT not in str(error):
                raise InvalidRecordsError(0, f"compressed block: {error}") from error
            if size >= bound:
                raise OutputBoundError(0, f"{len(data)} compressed bytes give more than {bound}") from error
        else:
            return memoryview(output)[:count]
        size = min(bound, size * _GROWTH_FACTOR)


# -- snappy

def _compress_xerial(data: Buffer) -> bytes:
    parts = [XERIAL_HEADER]
    with memoryview(data) as view:
        for start in range(0, len(view), XERIAL_BLOCK_SIZE_BYTES):
            block = bytes(cramjam.snappy.compress_raw(view[start:start + XERIAL_BLOCK_SIZE_BYTES]))
            parts += (_INT32.pack(len(block)), block)
    return b"".join(parts)


def _decompress_snappy(view: memoryview, bound: int) -> memoryview:
    if len(view) < len(XERIAL_HEADER) or not _is_xerial_header(view, 0):
        return memoryview(_decompress_snappy_block(view, 0, bound))
    parts = []
    total = 0
    position = len(XERIAL_HEADER)
    while position < len(view):
        if _is_xerial_header(view, position):
            position += len(XERIAL_HEADER)  # streams put one after another, each with its header
            continue
        if len(view) - position < _INT32.size:
            raise InvalidRecordsError(position, "snappy block length cut off")
        (size,) = _INT32.unpack_from(view, position)
        position += _INT32.size
        if not 0 <= size <= len(view) - position:
            raise InvalidRecordsError(position, f"snappy block of {size} bytes, {len(view) - position} left")
        parts.append(_decompress_snappy_block(view[position:position + size], position, bound - total))
        total += len(parts[-1])
        position += size
    return memoryview(parts[0] if len(parts) == 1 else b"".join(parts))


def _is_xerial_header(view: memoryview, position: int) -> bool:
    return bytes(view[position:position + len(XERIAL_MAGIC)]) == XERIAL_MAGIC


def _decompress_snappy_block(block: memoryview, position: int, bound: int) -> bytearray:
    try:
        size = cramjam.snappy.decompress_raw_len(block)
        if size > bound:
            raise OutputBoundError(position, f"snappy block announces {size} bytes, bound is {bound}")
        output = bytearray(size)
        count = cramjam.snappy.decompress_raw_into(block, output)
    except cramjam.DecompressionError as error:
        raise InvalidRecordsError(position, f"snappy block: {error}") from error
    if count != size:
        raise InvalidRecordsError(position, f"snappy block announces {size} bytes, gives {count}")
    return output


# -- lz4

def _compress_lz4(data: Buffer, broken_header: bool) -> bytes:
    checksum_start = LZ4_MAGIC if broken_header else b""
    parts = [LZ4_MAGIC, LZ4_DESCRIPTOR, _lz4_header_checksum(checksum_start + LZ4_DESCRIPTOR)]
    with memoryview(data) as view:
        for start in range(0, len(view), LZ4_BLOCK_SIZE_BYTES):
            block = view[start:start + LZ4_BLOCK_SIZE_BYTES]
            compressed = bytes(cramjam.lz4.compress_block(block, store_size=False))
            if len(compressed) < len(block):
                parts += (_UINT32_LE.pack(len(compressed)), compressed)
            else:
                parts += (_UINT32_LE.pack(len(block) | _LZ4_STORED_BIT), bytes(block))
    parts.append(_UINT32_LE.pack(0))
    return b"".join(parts)


def _lz4_header_checksum(descriptor: bytes) -> bytes:
    return bytes([xxhash.xxh32_intdigest(descriptor) >> 8 & 0xFF])


def _with_lz4_header_checksum(data: Buffer) -> bytes:
    """A copy whose header checksum is right, whatever it was: what Java ignores in format v0."""
    frame = bytearray(data)
    if len(frame) < _LZ4_HEADER_SIZE_BYTES:
        raise InvalidRecordsError(0, "lz4 frame header cut off")
    checksum_position = 14 if frame[4] & _LZ4_CONTENT_SIZE_FLAG else 6
    if checksum_position >= len(frame):
        raise InvalidRecordsError(0, "lz4 frame header cut off")
    frame[checksum_position:checksum_position + 1] = _lz4_header_checksum(bytes(frame[4:checksum_position]))
    return bytes(frame)
