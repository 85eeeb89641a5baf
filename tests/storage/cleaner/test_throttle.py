from __future__ import annotations

import pytest

from storage.cleaner.throttle import BURST_S, IoThrottle


def test_the_rate_is_kept_on_average() -> None:
    throttle, now_s = IoThrottle(1000.0), 0.0
    for _ in range(100):
        now_s += throttle.moved(100, now_s)
    assert now_s == pytest.approx(10.0 - BURST_S)


def test_idle_time_gives_no_credit_beyond_the_burst() -> None:
    throttle = IoThrottle(1000.0)
    throttle.moved(1, 0.0)
    assert throttle.moved(1000, 3600.0) == pytest.approx(1.0 - BURST_S)


def test_no_limit_never_waits() -> None:
    assert IoThrottle(1.7976931348623157e308).moved(1 << 40, 0.0) == 0.0


def test_a_rate_of_zero_stops_instead_of_failing() -> None:
    assert IoThrottle(0.0).moved(1000, 0.0) == pytest.approx(1000 - BURST_S)
