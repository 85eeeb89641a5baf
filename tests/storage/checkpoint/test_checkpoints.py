"""Offset and leader-epoch checkpoints: Kafka's bytes, and a refusal for everything that is not."""
from __future__ import annotations

import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.checkpoint.leader_epoch_checkpoint import (
    EpochEntry,
    decode_leader_epoch_checkpoint,
    encode_leader_epoch_checkpoint,
    read_leader_epoch_checkpoint,
    write_leader_epoch_checkpoint,
)
from storage.checkpoint.offset_checkpoint import (
    decode_offset_checkpoint,
    encode_offset_checkpoint,
    read_offset_checkpoint,
    write_offset_checkpoint,
)
from storage.errors import CorruptLogError

OFFSETS = {("orders", 0): 1234567890123, ("orders", 10): 0, ("_a.b-c", 2147483647): 7}
OFFSETS_BYTES = b"0\n3\n_a.b-c 2147483647 7\norders 0 1234567890123\norders 10 0\n"
# Written by Kafka 3.9.1's LeaderEpochCheckpointFile.
EPOCHS_BYTES = b"0\n2\n0 0\n3 1234567890123\n"


def test_offset_checkpoint_bytes(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "recovery-point-offset-checkpoint")
    write_offset_checkpoint(path, OFFSETS)
    assert pathlib.Path(path).read_bytes() == OFFSETS_BYTES
    assert read_offset_checkpoint(path) == OFFSETS


def test_leader_epoch_checkpoint_bytes(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "leader-epoch-checkpoint")
    write_leader_epoch_checkpoint(path, [(0, 0), (3, 1234567890123)])
    assert pathlib.Path(path).read_bytes() == EPOCHS_BYTES
    assert read_leader_epoch_checkpoint(path) == [EpochEntry(0, 0), EpochEntry(3, 1234567890123)]


def test_no_entries() -> None:
    assert encode_offset_checkpoint({}) == encode_leader_epoch_checkpoint([]) == b"0\n0\n"
    assert decode_offset_checkpoint("p", b"0\n0\n") == {}


def test_missing_file_is_empty(tmp_path: pathlib.Path) -> None:
    assert read_offset_checkpoint(str(tmp_path / "none")) == {}
    assert read_leader_epoch_checkpoint(str(tmp_path / "none")) == []


@pytest.mark.parametrize("data", [b"", b"0", b"0\n"])
def test_file_that_kafka_created_and_did_not_fill_is_empty(data: bytes) -> None:
    assert decode_offset_checkpoint("p", data) == {}


@pytest.mark.parametrize("data", [
    b"0\r\n1\r\na 1 2\r\n", b"0\n1\na 1 2", b"0\n1\na\t1   2  \n", b"+0\n1\na +1 2\n", b"0\n1\na 1 2\x0b\n",
])
def test_what_java_reads_as_well(data: bytes) -> None:
    assert decode_offset_checkpoint("p", data) == {("a", 1): 2}


@pytest.mark.parametrize(("data", "position", "what"), [
    (b"1\n0\n", 0, "version 1"),
    (b"x\n0\n", 0, "'x' is not a number"),
    (b"\n0\n", 0, "'' is not a number"),
    (b" 0\n0\n", 0, "' 0' is not a number"),
    (b"0\nmany\n", 2, "'many' is not a number"),
    (b"0\n2\na 1 2\n", 2, "2 entries announced, 1 found"),
    (b"0\n1\na 1 2\nb 1 2\n", 2, "1 entries announced, 2 found"),
    (b"0\n-1\n", 2, "-1 entries announced, 0 found"),
    (b"0\n1\na 1 2\n\n", 10, "malformed line ''"),
    (b"0\n1\n\n", 4, "malformed line ''"),
    (b"0\n1\na 1\n", 4, "malformed line 'a 1'"),
    (b"0\n1\na b 1 2\n", 4, "malformed line 'a b 1 2'"),
    (b"0\n1\n a 1 2\n", 4, "malformed line"),
    (b"0\n1\na x 2\n", 0, "'x' is not a number"),
    (b"0\n1\na 1_0 2\n", 0, "'1_0' is not a number"),
    (b"0\n1\na 2147483648 2\n", 0, "is not a number in"),
    (b"0\n1\na 1 9223372036854775808\n", 0, "is not a number in"),
    (b"0\n1\n\xff 1 2\n", 4, "not UTF-8"),
    (b"\0" * 30, 0, "is not a number"),
])
def test_refused(data: bytes, position: int, what: str) -> None:
    with pytest.raises(CorruptLogError, match=what) as raised:
        decode_offset_checkpoint("the path", data)
    assert (raised.value.path, raised.value.position) == ("the path", position)


def test_leader_epoch_lines_have_two_fields() -> None:
    with pytest.raises(CorruptLogError, match="malformed line '1 2 3'"):
        decode_leader_epoch_checkpoint("p", b"0\n1\n1 2 3\n")
    with pytest.raises(CorruptLogError, match="not a number"):
        decode_leader_epoch_checkpoint("p", b"0\n1\n2147483648 2\n")


def test_file_too_big_to_be_a_checkpoint(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "checkpoint"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CorruptLogError, match="1099511627776 bytes long"):
        read_offset_checkpoint(str(path))


topics = st.text("abcXYZ09._-", min_size=1, max_size=249)


@given(st.dictionaries(st.tuples(topics, st.integers(0, 2**31 - 1)), st.integers(0, 2**63 - 1), max_size=20))
def test_any_offsets_survive(offsets: dict[tuple[str, int], int]) -> None:
    assert decode_offset_checkpoint("p", encode_offset_checkpoint(offsets)) == offsets


@given(st.binary(max_size=60) | st.text("01 ab\n\r\t+-", max_size=40).map(str.encode))
def test_any_bytes_decode_or_are_corrupt(data: bytes) -> None:
    for decode in (decode_offset_checkpoint, decode_leader_epoch_checkpoint):
        try:
            decode("p", data)
        except CorruptLogError as error:
            assert 0 <= error.position <= len(data)
