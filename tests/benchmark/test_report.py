"""The arithmetic of the table."""
from __future__ import annotations

import pytest

from tests.benchmark.report import Measure, Report, number
from tests.benchmark.syscalls import parse_counts


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.00123, "0.00123"), (0.5, "0.500"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"),
     (12345.6, "12,346")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_ratio_is_the_median_of_the_rounds_with_least_and_greatest() -> None:
    report = Report("kafka", "ottla")
    for left, right in ((100, 200), (100, 150), (50, 200)):
        report.add("produce", 0, [Measure("rate", left, "MB/s")])
        report.add("produce", 1, [Measure("rate", right, "MB/s")])
    assert report.rows()[0].ratios() == [2.0, 1.5, 4.0]
    last = report.markdown().splitlines()[-1]
    assert last == "| produce | rate, MB/s | 100 (50.0 to 100) | 200 (150 to 200) | 2.00 (1.50 to 4.00) |"


def test_ratio_to_nothing_is_left_out() -> None:
    report = Report("kafka", "ottla")
    report.add("connections", 0, [Measure("memory", 0, "KB")])
    report.add("connections", 1, [Measure("memory", 9, "KB")])
    assert report.markdown().splitlines()[-1] == "| connections | memory, KB | 0 | 9.00 | - |"


def test_strace_table_is_read_with_and_without_errors_and_without_its_total() -> None:
    table = """% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.11    0.000033           3        11         2 read
 38.89    0.000021           5         4           sendfile
------ ----------- ----------- --------- --------- ----------------
100.00    0.000054           3        15         2 total
"""
    assert parse_counts(table) == {"read": 11, "sendfile": 4}
