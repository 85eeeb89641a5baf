"""BEHAVIOURS.md names exactly the tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
NUMBERED_TEST = re.compile(r"^def test_(\d\d)_", re.MULTILINE)


def test_every_numbered_test_is_listed_and_the_reverse() -> None:
    rows = [line.split("|") for line in (HERE / "BEHAVIOURS.md").read_text().splitlines()]
    listed = {int(row[1]): {row[3].strip()} for row in rows if len(row) == 5 and row[1].strip().isdigit()}
    written: dict[int, set[str]] = {}
    for path in sorted(HERE.glob("test_*.py")):
        for number in NUMBERED_TEST.findall(path.read_text()):
            written.setdefault(int(number), set()).add(path.stem)
    assert written == listed
