"""How long the cleaner waits so that it reads and writes no more than so many bytes per second. PURE.

Runs in: the cleaner's helper process; the clock is an argument.
A debt is counted that shrinks with time: what was moved beyond the rate has to be waited for before more is
moved. An idle time gives no credit beyond `BURST_S`.
"""
from __future__ import annotations

from typing import Final

BURST_S: Final = 0.3
"""As long as the interval over which Kafka's throttler measures."""
RATE_MIN: Final = 1.0
"""The configuration has no lower bound; Kafka waits for ever at 0."""


class IoThrottle:
    """bytes_per_second: inf for no limit."""

    __slots__ = ("bytes_per_second", "_free_at_s")

    def __init__(self, bytes_per_second: float) -> None:
        self.bytes_per_second = max(bytes_per_second, RATE_MIN)
        self._free_at_s = float("-inf")

    def moved(self, size_bytes: int, now_s: float) -> float:
        """Seconds to wait after that many bytes were read or written."""
        start_s = max(self._free_at_s, now_s - BURST_S)
        self._free_at_s = start_s + size_bytes / self.bytes_per_second
        return max(self._free_at_s - now_s, 0.0)
