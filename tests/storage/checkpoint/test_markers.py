"""partition.metadata and the clean-shutdown marker, against what Kafka 3.9.1 wrote."""
from __future__ import annotations

import pathlib

import pytest

from storage.checkpoint.clean_shutdown import (
    CLEAN_SHUTDOWN_MARKER,
    has_clean_shutdown_marker,
    read_clean_shutdown_epoch,
    take_clean_shutdown_marker,
    write_clean_shutdown_marker,
)
from storage.checkpoint.partition_metadata import (
    decode_partition_metadata,
    read_partition_metadata,
    write_partition_metadata,
)
from storage.errors import CorruptLogError
from tests.storage.fs.forgetful import ForgetfulFileLayer

TOPIC_ID = bytes.fromhex("26c9c30cd5724cbdbcf64624eac3f38a")
JAVA_METADATA = b"version: 0\ntopic_id: JsnDDNVyTL289kYk6sPzig"
JAVA_MARKER = b'{"version":0,"brokerEpoch":-1}'


def test_partition_metadata_bytes(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "partition.metadata")
    assert read_partition_metadata(path) is None
    write_partition_metadata(path, TOPIC_ID)
    assert pathlib.Path(path).read_bytes() == JAVA_METADATA
    assert read_partition_metadata(path) == TOPIC_ID


@pytest.mark.parametrize("data", [
    JAVA_METADATA + b"\n", b"version: 1\ntopic_id: JsnDDNVyTL289kYk6sPzig\nmore: x\n",
    b"version:\t0\r\ntopic_id:  JsnDDNVyTL289kYk6sPzig",
])
def test_partition_metadata_of_later_releases(data: bytes) -> None:
    assert decode_partition_metadata("p", data) == TOPIC_ID


@pytest.mark.parametrize(("data", "what"), [
    (b"", "two lines expected, 0 found"),
    (b"version: 0\n", "two lines expected, 1 found"),
    (b"version 0\ntopic_id: JsnDDNVyTL289kYk6sPzig", "malformed line 'version 0'"),
    (b"version: -1\ntopic_id: JsnDDNVyTL289kYk6sPzig", "'-1' is not a number"),
    (b"version: x\ntopic_id: JsnDDNVyTL289kYk6sPzig", "'x' is not a number"),
    (b"version: 0\ntopic_id:JsnDDNVyTL289kYk6sPzig", "malformed line"),
    (b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA", "the zero topic id"),
    (b"version: 0\ntopic_id: JsnDDNVyTL289kYk6sPz", "has 15 bytes"),
    (b"version: 0\ntopic_id: J!nDDNVyTL289kYk6sPzig", "not base64"),
    (b"version: 0\ntopic_id: \xc3\xa9snDDNVyTL289kYk6sPzig", "not base64"),
    (b"\xff", "not UTF-8"),
])
def test_malformed_partition_metadata(data: bytes, what: str) -> None:
    with pytest.raises(CorruptLogError, match=what):
        decode_partition_metadata("p", data)


def test_zero_topic_id_is_not_written(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="not a uuid"):
        write_partition_metadata(str(tmp_path / "partition.metadata"), bytes(16))


def test_marker_bytes_and_life(tmp_path: pathlib.Path) -> None:
    directory = str(tmp_path)
    assert not has_clean_shutdown_marker(directory)
    write_clean_shutdown_marker(directory)
    assert (tmp_path / CLEAN_SHUTDOWN_MARKER).read_bytes() == JAVA_MARKER
    assert has_clean_shutdown_marker(directory)
    assert read_clean_shutdown_epoch(directory) == -1
    assert take_clean_shutdown_marker(directory)
    assert not take_clean_shutdown_marker(directory)
    assert read_clean_shutdown_epoch(directory) is None


def test_taken_marker_does_not_come_back_after_a_power_cut(tmp_path: pathlib.Path) -> None:
    write_clean_shutdown_marker(str(tmp_path))
    files = ForgetfulFileLayer(str(tmp_path))
    assert take_clean_shutdown_marker(str(tmp_path), files)
    files.crash()
    assert not has_clean_shutdown_marker(str(tmp_path))


@pytest.mark.parametrize("content", [
    b"", b"{", b"null", b"[1]", b'{"version":0}', b'{"brokerEpoch":"7"}', b'{"brokerEpoch":true}', b"\xff\xfe",
    b"[" * 3000, b" " * 5000,
])
def test_marker_with_any_content_counts_and_has_no_epoch(tmp_path: pathlib.Path, content: bytes) -> None:
    (tmp_path / CLEAN_SHUTDOWN_MARKER).write_bytes(content)
    assert has_clean_shutdown_marker(str(tmp_path))
    assert read_clean_shutdown_epoch(str(tmp_path)) is None


def test_marker_of_later_releases(tmp_path: pathlib.Path) -> None:
    (tmp_path / CLEAN_SHUTDOWN_MARKER).write_bytes(b'{"version":1,"brokerEpoch":42,"more":[]}')
    assert read_clean_shutdown_epoch(str(tmp_path)) == 42
