"""The notation of validators."""
from __future__ import annotations

from typing import Any

import pytest

from broker.config.validators import make_validator


@pytest.mark.parametrize(
    ("notation", "accepted", "refused"),
    [
        (">=1", [1, 2**31], [0, -1, None]),
        (">=-2", [-2], [-3]),
        ("0..0.5", [0.0, 0.5, float("nan")], [-1e-9, 0.5000001]),
        ("-131072..22", [-131072, 22], [-131073, 23]),
        ("one-of:a|b", ["a", "b"], ["A", "", "a,b", None]),
        ("any-case:up|down", ["UP", "down"], ["left", None]),
        ("list-of:a|b", [[], ["a"], ["b", "a", "a"]], [["c"], [""]]),
        ("non-null", ["", "x"], [None]),
        ("non-empty", ["x", None], [""]),
        ("gzip-level", [-1, 1, 9], [0, 10, -2, None]),
        ("unset-or-positive", [-1, 1], [0, -2, None]),
        ("metadata-version", ["3.9", "3.9.1", "3.9-IV0", "0.8.2.1", "4.0-IV1"],
         ["4.0", "3", "", "0.8", "3.9."]),
        ("throttled-replicas", [["*"], ["0:1", "1:2"], [], [""]], [["*", "0:1"], ["0"], ["a:1"]]),
        ("host-ports", [["h:1", "[::1]:2"], []], [["h"], ["h:99999"], ["h:x"]]),
        ("voters", [["1@h:9"], []], [["h:9"], ["x@h:9"], ["1@h"], ["1@h:9@x"], [" 1@h:9"]]),
    ],
)
def test_what_a_notation_accepts(notation: str, accepted: list[Any], refused: list[Any]) -> None:
    validator = make_validator(notation)
    assert validator is not None
    assert [value for value in accepted if not validator.accepts(value)] == []
    assert [value for value in refused if validator.accepts(value)] == []


def test_a_dash_is_no_validator() -> None:
    assert make_validator("-") is None


def test_every_validator_says_what_it_allows() -> None:
    validator = make_validator("30000..3600000")
    assert validator is not None
    assert validator.allowed == "from 30000 to 3600000"
