"""Codecs: round trips, framings of other clients, damage, bombs."""
from __future__ import annotations

import struct

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.record import compression
from storage.record.batch import CODEC_GZIP, CODEC_LZ4, CODEC_NONE, CODEC_SNAPPY, CODEC_ZSTD
from storage.record.compression import XERIAL_HEADER, compress, decompress
from storage.record.errors import InvalidRecordsError, OutputBoundError, UnsupportedCompressionError

CODECS = [CODEC_GZIP, CODEC_SNAPPY, CODEC_LZ4, CODEC_ZSTD]
BOUND = 1 << 20
compressible = st.binary(max_size=50).flatmap(lambda unit: st.integers(0, 3000).map(lambda n: unit * n))
data_to_compress = st.binary(max_size=3000) | compressible.filter(lambda data: len(data) <= BOUND)


def block(data: bytes) -> bytes:
    raw = bytes(cramjam.snappy.compress_raw(data))
    return struct.pack(">i", len(raw)) + raw


@pytest.mark.parametrize("codec", [CODEC_NONE, *CODECS])
@given(data=data_to_compress)
def test_round_trip(codec: int, data: bytes) -> None:
    assert bytes(decompress(codec, compress(codec, data), BOUND)) == data


@pytest.mark.parametrize("codec", CODECS)
@given(data=st.binary(max_size=200))
def test_any_bytes_decompress_or_raise_invalid_records(codec: int, data: bytes) -> None:
    try:
        output = decompress(codec, data, 4096)
    except InvalidRecordsError:
        return
    assert len(output) <= 4096


@pytest.mark.parametrize("codec", CODECS)
def test_bound_is_exact(codec: int) -> None:
    data = bytes(200_000)
    compressed = compress(codec, data)
    assert bytes(decompress(codec, compressed, len(data))) == data
    with pytest.raises(OutputBoundError):
        decompress(codec, compressed, len(data) - 1)


@pytest.mark.parametrize("codec", CODECS)
def test_output_far_beyond_the_first_guess(codec: int) -> None:
    data = bytes(5_000_000)
    assert bytes(decompress(codec, compress(codec, data), 6_000_000)) == data


def test_cramjam_says_in_these_words_that_the_buffer_is_full() -> None:
    """A stream's bound rests on this text; a new cramjam that words it otherwise must be noticed."""
    for module in (cramjam.gzip, cramjam.lz4, cramjam.zstd):
        with pytest.raises(cramjam.DecompressionError, match=compression._OUTPUT_FULL_TEXT):
            module.decompress_into(module.compress(bytes(1000)), bytearray(10))


@pytest.mark.parametrize("codec", CODECS)
def test_cut_at_every_byte_is_an_error(codec: int) -> None:
    compressed = compress(codec, b"some bytes, some bytes, some bytes" * 20)
    for end in range(0 if codec != CODEC_SNAPPY else len(XERIAL_HEADER) + 1, len(compressed)):
        with pytest.raises(InvalidRecordsError):
            decompress(codec, compressed[:end], BOUND)


def test_empty_data_round_trips() -> None:
    for codec in CODECS:
        assert bytes(decompress(codec, compress(codec, b""), BOUND)) == b""


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_unknown_codec(codec: int) -> None:
    with pytest.raises(UnsupportedCompressionError):
        compress(codec, b"x")
    with pytest.raises(UnsupportedCompressionError):
        decompress(codec, b"x", BOUND)


class TestSnappy:
    def test_raw_block_as_some_clients_send_it(self) -> None:
        raw = bytes(cramjam.snappy.compress_raw(b"abc" * 99))
        assert bytes(decompress(CODEC_SNAPPY, raw, BOUND)) == b"abc" * 99

    def test_xerial_blocks_of_any_size(self) -> None:
        assert bytes(decompress(CODEC_SNAPPY, XERIAL_HEADER + block(b"a") + block(b"") + block(b"b" * 70_000),
                                BOUND)) == b"a" + b"b" * 70_000

    def test_concatenated_xerial_streams(self) -> None:
        assert bytes(decompress(CODEC_SNAPPY, (XERIAL_HEADER + block(b"ab")) * 2, BOUND)) == b"abab"

    def test_blocks_are_bounded_together(self) -> None:
        data = XERIAL_HEADER + block(bytes(1000)) * 3
        assert len(decompress(CODEC_SNAPPY, data, 3000)) == 3000
        with pytest.raises(OutputBoundError):
            decompress(CODEC_SNAPPY, data, 2999)

    def test_announced_size_is_not_allocated_beyond_the_bound(self) -> None:
        with pytest.raises(OutputBoundError, match="announces 4294967295"):
            decompress(CODEC_SNAPPY, b"\xff\xff\xff\xff\x0f" + b"x", BOUND)

    @pytest.mark.parametrize("size", [-1, 100, 2**31 - 1])
    def test_block_length_beyond_the_data(self, size: int) -> None:
        with pytest.raises(InvalidRecordsError, match="snappy block of"):
            decompress(CODEC_SNAPPY, XERIAL_HEADER + struct.pack(">i", size) + b"xyz", BOUND)


class TestLz4:
    def test_frame_header_is_kafkas(self) -> None:
        assert compress(CODEC_LZ4, b"abc")[:7].hex() == "04224d18604082"

    def test_broken_header_checksum_of_format_v0(self) -> None:
        broken = compress(CODEC_LZ4, b"abc", broken_lz4_header=True)
        assert broken[:7].hex() == "04224d1860401a"
        with pytest.raises(InvalidRecordsError):
            decompress(CODEC_LZ4, broken, BOUND)
        assert bytes(decompress(CODEC_LZ4, broken, BOUND, ignore_lz4_header_checksum=True)) == b"abc"

    def test_ignoring_the_checksum_with_a_content_size_in_the_header(self) -> None:
        frame = bytearray(cramjam.lz4.compress(b"abc" * 50))
        frame[4] |= 0x08
        frame[6:6] = struct.pack("<Q", 150)
        assert bytes(decompress(CODEC_LZ4, frame, BOUND, ignore_lz4_header_checksum=True)) == b"abc" * 50

    def test_linked_blocks_and_checksums_of_other_clients_are_read(self) -> None:
        compressor = cramjam.lz4.Compressor(content_checksum=True, block_linked=True)
        compressor.compress(b"0123456789" * 30_000)
        assert len(decompress(CODEC_LZ4, bytes(compressor.finish()), BOUND)) == 300_000

    def test_incompressible_block_is_stored(self) -> None:
        data = bytes((i * i * 7919 + (i >> 3)) & 0xFF for i in range(300))
        frame = compress(CODEC_LZ4, data[:20])
        assert data[:20] in frame
        assert bytes(decompress(CODEC_LZ4, frame, BOUND)) == data[:20]
