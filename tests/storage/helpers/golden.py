"""A segment and what Kafka's own recovery made of it (tests/golden/SegmentRecoveryGolden.java)."""
from __future__ import annotations

import pathlib

_FILE = pathlib.Path(__file__).parents[2] / "golden" / "segment_recovery.txt"
_VALUES = dict(map(str.split, _FILE.read_text().splitlines()))

BASE_OFFSET = 1_000_000_000_000
INDEX_INTERVAL_BYTES = 256
TRUNCATED_SIZE_BYTES = int(_VALUES["truncated"])
NEXT_OFFSET = int(_VALUES["next-offset"])
FILES = {name: bytes.fromhex(text) for name, text in _VALUES.items() if name not in ("truncated", "next-offset")}
