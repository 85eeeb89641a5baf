from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.cleaner.record_fields import split_records, time_of
from storage.record.errors import InvalidRecordsError, RecordError
from storage.record.records import Record, encode_record

ENDS = st.one_of(st.none(), st.binary(max_size=20), st.binary(min_size=60, max_size=300))
RECORDS = st.lists(st.builds(
    Record, st.integers(0, 2**31 - 1), st.integers(-1, 2**60), ENDS, ENDS,
    st.lists(st.tuples(st.binary(max_size=4), st.one_of(st.none(), st.binary(max_size=4))), max_size=2).map(tuple)),
    max_size=8)


def body_of(records: list[Record]) -> bytes:
    return b"".join(encode_record(record, 0, 1000) for record in records)


@given(RECORDS)
def test_every_field_is_found(records: list[Record]) -> None:
    body = body_of(records)
    fields = split_records(body, len(records))
    assert fields.keys == [record.key for record in records]
    assert fields.tombstones == [index for index, record in enumerate(records) if record.value is None]
    assert fields.offset_deltas == [record.offset for record in records]
    extents = list(zip(fields.bounds, fields.bounds[1:], strict=False))
    assert [body[start:end] for start, end in extents] == [encode_record(record, 0, 1000) for record in records]
    assert [time_of(body, start, end).timestamp_delta + 1000 for start, end in extents] == [
        record.timestamp for record in records]


@given(RECORDS.filter(bool), st.data())
def test_damage_is_an_error_of_the_records_or_changes_them_only(records: list[Record], data: st.DataObject) -> None:
    body = bytearray(body_of(records))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        fields = split_records(bytes(body), len(records))
    except RecordError:
        return
    assert len(fields.keys) == len(records)
    assert fields.bounds[-1] == len(body)


@pytest.mark.parametrize("cut", [1, 5, 9])
def test_a_cut_body_is_invalid(cut: int) -> None:
    with pytest.raises(InvalidRecordsError):
        split_records(body_of([Record(0, 0, b"key", b"value")])[:-cut], 1)


def test_bytes_behind_the_last_record_are_invalid() -> None:
    with pytest.raises(InvalidRecordsError, match="1 bytes behind"):
        split_records(body_of([Record(0, 0, b"key", b"value")]) + b"x", 1)
