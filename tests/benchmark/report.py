"""Collects measurements of two brokers over rounds and prints them as ratios.

Why ratios: absolute figures of a shared machine mean little and drift by the minute; a ratio of two
neighbouring measurements means more, and its spread over the rounds says how much. The ratio shown is
the median over rounds of right / left within that round, with the least and the greatest.
Pure.
"""
from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Measure(NamedTuple):
    """One figure of one workload in one round. `unit` is what the figure counts, e.g. 'MB/s'."""

    metric: str
    value: float
    unit: str


class Row(NamedTuple):
    workload: str
    metric: str
    unit: str
    left: tuple[float, ...]
    right: tuple[float, ...]

    def ratios(self) -> list[float]:
        """right / left of each round in which both were measured and left is not zero."""
        pairs = zip(self.left, self.right, strict=False)
        return [right / left for left, right in pairs if left]


class Report:
    """Rows in the order in which they first appear."""

    def __init__(self, left_name: str, right_name: str) -> None:
        self.names = (left_name, right_name)
        self._values: dict[tuple[str, str, str], tuple[list[float], list[float]]] = {}

    def add(self, workload: str, side: int, measures: Iterable[Measure]) -> None:
        """side: 0 for the left broker, 1 for the right one."""
        for measure in measures:
            key = (workload, measure.metric, measure.unit)
            self._values.setdefault(key, ([], []))[side].append(measure.value)

    def rows(self) -> list[Row]:
        return [Row(*key, tuple(left), tuple(right)) for key, (left, right) in self._values.items()]

    def markdown(self) -> str:
        left, right = self.names
        lines = [
            f"| workload | figure | {left} | {right} | {right} / {left} |",
            "|---|---|---:|---:|---:|",
        ]
        for row in self.rows():
            cells = (row.workload, f"{row.metric}, {row.unit}", _spread(row.left), _spread(row.right))
            lines.append(f"| {' | '.join(cells)} | {_spread(row.ratios())} |")
        return "\n".join(lines)


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0:
        return "0"
    digits = 2
    while abs(value) < 10 ** (2 - digits) and digits < 6:
        digits += 1
    digits = max(0, digits - (1 if abs(value) >= 10 else 0) - (1 if abs(value) >= 100 else 0))
    return f"{value:,.{digits}f}"


def _spread(values: Sequence[float]) -> str:
    """Median, and least to greatest when there are several."""
    if not values:
        return "-"
    median = number(statistics.median(values))
    if len(values) == 1:
        return median
    return f"{median} ({number(min(values))} to {number(max(values))})"
