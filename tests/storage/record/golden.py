"""Batches made by Kafka's own client library (tests/golden/RecordBatchGolden.java), by name."""
from __future__ import annotations

import pathlib

from storage.record.records import Record

_FILE = pathlib.Path(__file__).parents[2] / "golden" / "record_batches.txt"

TIME = 1_700_000_000_000
FIRST_OFFSET = 42

BATCHES: dict[str, bytes] = {
    name: bytes.fromhex(text) for name, text in map(str.split, _FILE.read_text().splitlines())}

RECORD_HEADERS = ((b"h1", b"x"), (b"h2", None), (b"h1", b""))

SMALL_RECORDS = [
    Record(42, TIME, b"k1", b"v1"),
    Record(43, TIME + 5, None, b"v2", RECORD_HEADERS),
    Record(44, TIME - 300, b"", None),
]
SMALL_RECORDS_WITHOUT_HEADERS = [record._replace(headers=()) for record in SMALL_RECORDS]
LARGE_RECORDS = [Record(42 + i, TIME + i, None, bytes([ord("a") + i]) * 10_000) for i in range(20)]
