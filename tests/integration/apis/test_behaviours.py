"""BEHAVIOURS.md names exactly the tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
NUMBERED_TEST = re.compile(r"^def test_(\d\d)_", re.MULTILINE)


def listed() -> dict[int, set[str]]:
    """Number -> modules, empty for a behaviour without a test."""
    rows = [line.split("|") for line in (HERE / "BEHAVIOURS.md").read_text().splitlines()]
    return {
        int(row[1]): set() if row[3].strip().startswith("-") else set(row[3].replace(" ", "").split(","))
        for row in rows
        if len(row) == 5 and row[1].strip().isdigit()
    }


def written() -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for path in sorted(HERE.glob("test_*.py")):
        for number in NUMBERED_TEST.findall(path.read_text()):
            found.setdefault(int(number), set()).add(path.stem)
    return found


def test_every_numbered_test_is_listed_and_the_reverse() -> None:
    assert written() == {number: modules for number, modules in listed().items() if modules}


def test_behaviours_without_a_test_say_why() -> None:
    lines = (HERE / "BEHAVIOURS.md").read_text().splitlines()
    untested = [line for line in lines if "| - " in line]
    assert len(untested) == len([modules for modules in listed().values() if not modules])
    assert all(len(line.rsplit("| - ", 1)[1].strip(" |")) > 5 for line in untested)
