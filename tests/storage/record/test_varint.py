"""Zig-zag varints against the examples of the protocol-buffers encoding."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.record.errors import InvalidRecordsError
from storage.record.varint import encode_varint, read_varint, read_varlong


@pytest.mark.parametrize(("value", "encoded"), [
    (0, "00"), (-1, "01"), (1, "02"), (-64, "7f"), (64, "8001"), (2**31 - 1, "feffffff0f"),
    (-2**31, "ffffffff0f"), (2**63 - 1, "feffffffffffffffff01"), (-2**63, "ffffffffffffffffff01"),
])
def test_known_encodings(value: int, encoded: str) -> None:
    data = bytes.fromhex(encoded)
    assert encode_varint(value) == data
    assert read_varlong(data, 0, len(data)) == (value, len(data))


@given(st.integers(-(2**31), 2**31 - 1), st.binary(max_size=3))
def test_varint_round_trip(value: int, around: bytes) -> None:
    data = around + encode_varint(value) + around
    assert read_varint(data, len(around), len(data)) == (value, len(data) - len(around))


@given(st.integers(-(2**63), 2**63 - 1))
def test_varlong_round_trip(value: int) -> None:
    data = encode_varint(value)
    assert read_varlong(data, 0, len(data)) == (value, len(data))


def test_cut_off_and_too_long() -> None:
    with pytest.raises(InvalidRecordsError, match="cut off"):
        read_varint(b"\x80\x80", 0, 2)
    with pytest.raises(InvalidRecordsError, match="longer than 5"):
        read_varint(b"\x80" * 6, 0, 6)
    with pytest.raises(InvalidRecordsError, match="longer than 10"):
        read_varlong(b"\x80" * 11, 0, 11)
