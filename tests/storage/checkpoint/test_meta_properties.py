"""meta.properties and the properties syntax, against what Kafka 3.9.1 wrote."""
from __future__ import annotations

import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.checkpoint.java_properties import encode_properties, parse_properties
from storage.checkpoint.meta_properties import (
    MetaProperties,
    decode_meta_properties,
    encode_meta_properties,
    read_meta_properties,
    write_meta_properties,
)
from storage.errors import CorruptLogError

NOW_MS = 1_795_369_861_000
CLUSTER = "vPeOCWypqUOSepEvx0cbog"
# Both written by Kafka's PropertiesUtils in version 3.9.1, on Java 17.
JAVA = b"#\n#Sun Nov 22 17:51:01 UTC 2026\nbroker.id=7\nversion=0\ncluster.id=vPeOCWypqUOSepEvx0cbog\n"
JAVA_WITH_DIRECTORY = (b"#\n#Sun Nov 22 17:51:01 UTC 2026\nbroker.id=7\ndirectory.id=JsnDDNVyTL289kYk6sPzig\n"
                       b"version=0\ncluster.id=vPeOCWypqUOSepEvx0cbog\n")
JAVA_ODD_KEY = rb"we\ ird\:k\=ey\#\!=\ va lue\:\=\#\!\t\n\\x" + b"\n"


def test_bytes_are_javas(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "meta.properties")
    write_meta_properties(path, MetaProperties(CLUSTER, 7), NOW_MS)
    assert pathlib.Path(path).read_bytes() == JAVA
    assert read_meta_properties(path) == MetaProperties(CLUSTER, 7)


def test_directory_id_of_a_migration_is_kept() -> None:
    meta = decode_meta_properties("p", JAVA_WITH_DIRECTORY)
    assert meta == MetaProperties(CLUSTER, 7, 0, "JsnDDNVyTL289kYk6sPzig")
    assert encode_meta_properties(meta, NOW_MS) == JAVA_WITH_DIRECTORY


def test_missing_file(tmp_path: pathlib.Path) -> None:
    assert read_meta_properties(str(tmp_path / "meta.properties")) is None


@pytest.mark.parametrize(("data", "meta"), [
    (b"", MetaProperties(None, None)),
    (b"broker.id=3\n", MetaProperties(None, 3)),
    (b"#any\n!comment\n\n version : 0 \nbroker.id 4\ncluster.id=\\u0061b\\\n   c", MetaProperties("abc", 4)),
    (b"version=1\nnode.id=5\ncluster.id=x\nbroker.id=9\n", MetaProperties("x", 5, 1)),
    (b"other=key\r\nbroker.id=-1\r\n", MetaProperties(None, -1)),
])
def test_what_java_reads_as_well(data: bytes, meta: MetaProperties) -> None:
    assert decode_meta_properties("p", data) == meta


@pytest.mark.parametrize(("data", "what"), [
    (b"version=2\n", "version 2 is unknown"),
    (b"version=x\n", "'x' is not a number"),
    (b"broker.id=\n", "'' is not a number"),
    (b"broker.id=1 \n", "'1 ' is not a number"),
    (b"broker.id=2147483648\n", "not a number in"),
    (b"version=1\nbroker.id=1\ncluster.id=x\n", "without node.id"),
    (b"cluster.id=\\u12\n", "malformed"),
])
def test_refused(data: bytes, what: str) -> None:
    with pytest.raises(CorruptLogError, match=what):
        decode_meta_properties("p", data)


def test_kraft_is_never_written() -> None:
    with pytest.raises(ValueError, match="only version 0"):
        encode_meta_properties(MetaProperties("x", 1, 1), NOW_MS)


def test_escapes_are_javas() -> None:
    properties = {"we ird:k=ey#!": " va lue:=#!\t\n\\x"}
    assert encode_properties(properties.items(), NOW_MS).split(b"\n", 2)[2] == JAVA_ODD_KEY
    assert parse_properties(JAVA_ODD_KEY) == properties


printable = st.text(st.characters(min_codepoint=1, max_codepoint=0x7E), max_size=12)


@given(st.dictionaries(printable, printable, max_size=6))
def test_any_properties_survive(properties: dict[str, str]) -> None:
    assert parse_properties(encode_properties(properties.items(), NOW_MS)) == properties


@given(st.binary(max_size=60) | st.text("\\u0=: \n\t#ab", max_size=40).map(str.encode))
def test_any_bytes_parse_or_raise_value_error(data: bytes) -> None:
    try:
        parse_properties(data)
    except ValueError as error:
        assert "escape" in str(error)
