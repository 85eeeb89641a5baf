"""The dataset's own promises, on which every comparison rests."""
from __future__ import annotations

from tests.clients.dataset import (
    PARTITIONS,
    Record,
    digest,
    expected_digests,
    expected_offset_for_time,
    make_record,
)


def test_first_thousand_records_hold_every_kind_of_key_value_and_header() -> None:
    records = [make_record(index, 0) for index in range(1000)]
    assert {None, b""} <= {record.key for record in records}
    assert None in {record.value for record in records}
    assert {len(record.headers) for record in records} == {0, 2}


def test_digest_tells_null_from_empty_and_order_from_order() -> None:
    null, empty = Record(0, 0, None, b"v"), Record(0, 0, b"", b"v")
    assert len({digest([null, empty]), digest([empty, null]), digest([null]), digest([empty])}) == 4


def test_digest_covers_offset_timestamp_value_and_headers() -> None:
    base = Record(1, 2, b"k", b"v", (("h", b"x"),))
    variants = [
        base._replace(offset=2),
        base._replace(timestamp_ms=3),
        base._replace(value=b"w"),
        base._replace(headers=(("h", None),)),
    ]
    assert digest([base]) not in {digest([variant]) for variant in variants}


def test_expected_digests_have_one_per_partition() -> None:
    assert len(set(expected_digests(100, 5))) == PARTITIONS


def test_offset_for_time_is_the_first_record_at_or_after_it() -> None:
    for timestamp_ms in range(990, 1110):
        for partition in range(PARTITIONS):
            matching = [i for i in range(partition, 100, PARTITIONS) if 1000 + i >= timestamp_ms]
            expected = matching[0] // PARTITIONS if matching else -1
            assert expected_offset_for_time(partition, timestamp_ms, 1000, 100) == expected
