"""Java's String.hashCode, and the partition it names."""

from __future__ import annotations

import pytest

from broker.coordinators.java_hash import java_string_hash, partition_for


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("a", 97),
        ("hello", 99162322),
        ("group-1", 293427299),
        ("ü", 252),
        ("\U0001f600", 1772899),  # two UTF-16 units
        ("polygenelubricants", -(2**31)),
    ],
)
def test_as_java(text: str, expected: int) -> None:
    assert java_string_hash(text) == expected


def test_the_smallest_number_goes_to_partition_0() -> None:
    assert partition_for("polygenelubricants", 50) == 0


def test_negative_hashes_count_by_their_size() -> None:
    assert java_string_hash("consumers") == -421004483
    assert partition_for("consumers", 50) == 33
