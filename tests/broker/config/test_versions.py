"""Inter-broker version names and record formats."""
from __future__ import annotations

import pytest

from broker.config.versions import FORMAT_IGNORED_FROM, canonical_version, record_format, version_index


def test_a_release_means_its_last_version() -> None:
    index = version_index("0.10.1")
    assert index is not None
    assert canonical_version(index) == "0.10.1-IV2"


@pytest.mark.parametrize(
    ("text", "record_format_expected"),
    [("0.8.2", 0), ("0.9.0", 0), ("0.10.0", 1), ("0.10.2", 1), ("0.11.0", 2), ("1.0", 2), ("3.9", 2)],
)
def test_record_formats(text: str, record_format_expected: int) -> None:
    index = version_index(text)
    assert index is not None
    assert record_format(index) == record_format_expected


def test_formats_are_ignored_from_3_0() -> None:
    for text, ignored in (("2.8", False), ("3.0-IV0", False), ("3.0-IV1", True), ("3.0", True)):
        index = version_index(text)
        assert index is not None
        assert (index >= FORMAT_IGNORED_FROM) is ignored
