"""Varints, tagged sections to skip, UUIDs as text, remembered names."""
from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.protocol.errors import MalformedError
from broker.protocol.primitives import (
    INT32_MAX,
    decode_name,
    decode_uvarint,
    encode_uvarint,
    skip_tagged_fields,
    uuid_from_text,
    uuid_to_text,
)


@settings(deadline=None)
@given(st.integers(0, INT32_MAX))
@example(127)
@example(128)
@example(16383)
@example(16384)
@example((1 << 21) - 1)
@example(1 << 21)
@example((1 << 28) - 1)
@example(1 << 28)
@example(INT32_MAX)
def test_a_varint_survives_a_round_trip(value: int) -> None:
    data = b"\xaa" + encode_uvarint(value) + b"\xaa"
    assert decode_uvarint(data, 1) == (value, len(data) - 1)


def test_varints_are_the_shortest() -> None:
    assert [encode_uvarint(value) for value in (0, 127, 128, 300)] == [b"\0", b"\x7f", b"\x80\1", b"\xac\2"]
    assert len(encode_uvarint(INT32_MAX)) == 5


@pytest.mark.parametrize("value", [-1, INT32_MAX + 1])
def test_a_varint_out_of_range_is_not_written(value: int) -> None:
    with pytest.raises(ValueError, match=str(value)):
        encode_uvarint(value)


@pytest.mark.parametrize("data", [b"\x80\x80\x80\x80\x08", b"\xff\xff\xff\xff\xff\x01"])
def test_a_varint_above_31_bits_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_uvarint(data, 0)


def test_a_varint_cut_short_is_an_index_error() -> None:
    for size in range(5):
        with pytest.raises(IndexError):
            decode_uvarint(b"\xff\xff\xff\xff\x07"[:size], 0)


def test_tagged_fields_are_skipped_by_their_size() -> None:
    data = b"\2" + b"\0\3abc" + b"\x05\0" + b"next"
    assert skip_tagged_fields(data, 0, len(data)) == len(data) - 4


@pytest.mark.parametrize("data", [b"\1\0\x05abcd", b"\2\1\0\1\0", b"\2\3\0\2\0"],
                         ids=["beyond the end", "tag twice", "tags out of order"])
def test_bad_tagged_fields_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        skip_tagged_fields(data, 0, len(data))


@settings(deadline=None)
@given(st.binary(min_size=16, max_size=16))
def test_a_uuid_survives_its_text(uuid: bytes) -> None:
    text = uuid_to_text(uuid)
    assert len(text) == 22
    assert uuid_from_text(text) == uuid


def test_uuid_text_is_url_safe() -> None:
    assert uuid_to_text(bytes(16)) == "AAAAAAAAAAAAAAAAAAAAAA"
    assert uuid_to_text(b"\xff" * 16) == "_____________________w"
    assert uuid_to_text(b"\xfb\xef\xbe" * 5 + b"\0") == "--------------------AA"


@pytest.mark.parametrize("text", ["", "A" * 21, "A" * 23, "A" * 21 + "!", "A" * 21 + "B", "é" * 22, "A" * 21 + "+"])
def test_other_text_is_no_uuid(text: str) -> None:
    with pytest.raises(ValueError, match="22 characters|base64"):
        uuid_from_text(text)


def test_the_same_name_is_the_same_string_object() -> None:
    assert decode_name(b"topic-a") is decode_name(bytes(bytearray(b"topic-a")))


def test_long_names_are_not_remembered() -> None:
    assert decode_name(b"x" * 300) is not decode_name(b"x" * 300)
