"""kcat writes lines of every codec and reads back exactly those, with their offsets."""
from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.clients.dataset import (
    PARTITIONS,
    RECORDS_FULL,
    Record,
    digest,
    expected_plain_digests,
    make_plain_record,
)
from tests.clients.programs import ALL_CODECS, run_filter
from tests.conftest import Target


def _lines(partition: int, count: int) -> bytes:
    records = (make_plain_record(index) for index in range(partition, count, PARTITIONS))
    return b"".join(b"%b\t%b\n" % (record.key, record.value) for record in records)


def _parse(output: bytes) -> list[Record]:
    records = []
    for line in output.splitlines():
        offset, key, value = line.split(b"\t")
        records.append(Record(int(offset), 0, key, value))
    return records


@pytest.mark.parametrize("codec", ALL_CODECS)
def test_lines_come_back_as_written(
    codec: str, kcat: str, target: Target, make_topic: Callable[..., str]
) -> None:
    topic = make_topic()
    common = [kcat, "-b", target.bootstrap, "-t", topic]
    read = []
    for partition in range(PARTITIONS):
        at = ["-p", str(partition)]
        # kcat calls no compression "none" only as a property.
        producing = ["-P", "-K", "\t", "-X", f"compression.type={codec}"]
        run_filter([*common, *at, *producing], lambda p=partition: _lines(p, RECORDS_FULL))
        output = run_filter([*common, *at, "-C", "-q", "-e", "-o", "beginning", "-f", "%o\t%k\t%s\n"])
        read.append(digest(_parse(output)))
    assert tuple(read) == expected_plain_digests(RECORDS_FULL, PARTITIONS)


def test_listing_names_topic_and_partitions(
    kcat: str, target: Target, make_topic: Callable[..., str]
) -> None:
    topic = make_topic()
    listing = run_filter([kcat, "-b", target.bootstrap, "-L", "-t", topic]).decode()
    assert f'topic "{topic}" with {PARTITIONS} partitions' in listing
    assert "isrs: 1" in listing
