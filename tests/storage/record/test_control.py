"""Transaction markers, against those that Kafka's client library writes."""
from __future__ import annotations

import pytest

from storage.record.batch import CONTROL_BIT, crc_is_valid
from storage.record.control import (
    CONTROL_ABORT,
    CONTROL_COMMIT,
    CONTROL_LEADER_CHANGE,
    ControlRecord,
    build_end_transaction_batch,
    read_control_batch,
)
from storage.record.errors import InvalidRecordsError
from storage.record.records import Producer, Record, build_batch
from tests.storage.record.golden import BATCHES, TIME


def control_batch(key: bytes | None, value: bytes | None) -> bytes:
    return build_batch([Record(7, TIME, key, value)], attributes=CONTROL_BIT)


@pytest.mark.parametrize(("name", "control_type"), [("v2-commit", CONTROL_COMMIT), ("v2-abort", CONTROL_ABORT)])
def test_java_marker(name: str, control_type: int) -> None:
    assert read_control_batch(BATCHES[name]) == ControlRecord(control_type, 12)
    built = build_end_transaction_batch(control_type, 12, Producer(4711, 3), TIME, offset=42, leader_epoch=9)
    assert built == BATCHES[name]
    assert crc_is_valid(memoryview(built), 0, len(built))


def test_marker_has_no_sequence_even_if_the_producer_has() -> None:
    built = build_end_transaction_batch(CONTROL_COMMIT, 12, Producer(4711, 3, 55), TIME, offset=42, leader_epoch=9)
    assert built == BATCHES["v2-commit"]


def test_marker_emptied_by_compaction_ends_nothing() -> None:
    assert read_control_batch(build_batch([], attributes=CONTROL_BIT, base_offset=7)) is None


def test_other_control_types_have_no_coordinator_epoch() -> None:
    control = read_control_batch(control_batch(b"\x00\x00\x00\x02", b"anything"))
    assert control == ControlRecord(CONTROL_LEADER_CHANGE, -1)
    assert not control.ends_transaction


def test_later_versions_are_read_as_version_0() -> None:
    control = read_control_batch(control_batch(b"\x00\x05\x00\x01more", b"\x00\x07\x00\x00\x00\x09more"))
    assert control == ControlRecord(CONTROL_COMMIT, 9)


@pytest.mark.parametrize(("key", "value"), [
    (None, b""), (b"\x00\x00\x00", b""), (b"\x00\x00\x00\x01", None), (b"\x00\x00\x00\x01", b"\x00\x00\x00"),
    (b"\xff\xff\x00\x01", b"\x00\x00\x00\x00\x00\x01"), (b"\x00\x00\x00\x01", b"\xff\xff\x00\x00\x00\x01"),
])
def test_malformed_marker(key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(InvalidRecordsError):
        read_control_batch(control_batch(key, value))
