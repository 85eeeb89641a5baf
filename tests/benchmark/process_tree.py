"""CPU seconds, memory and run time of a process and everything below it.

CPU is user plus system time of all living processes and of those they have reaped, so a helper that
came and went counts. It has the kernel's tick (10 ms); `run_seconds` counts in nanoseconds, of living
threads only, for measuring almost nothing. Memory is the proportional set size: shared pages are
counted once over the processes that share them.
Runs in: the benchmark process.
"""
from __future__ import annotations

import os
from pathlib import Path

from tests.peers.processes import descendants

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Of /proc/PID/stat behind the command name: utime, stime, cutime, cstime.
_TIME_FIELDS = slice(11, 15)


def process_ids(root_pid: int) -> list[int]:
    return [process.pid for process in descendants(root_pid)]


def cpu_seconds(root_pid: int) -> float:
    """Of the tree since it was started; a difference of two readings belongs to what lies between."""
    ticks = 0
    for pid in process_ids(root_pid):
        text = _read(f"/proc/{pid}/stat")
        ticks += sum(map(int, text.rpartition(")")[2].split()[_TIME_FIELDS]))
    return ticks / _TICKS_PER_SECOND


def run_seconds(root_pid: int) -> float:
    """Time on a CPU of all living threads of the tree."""
    nanoseconds = 0
    for pid in process_ids(root_pid):
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            nanoseconds += int((_read(str(task)) or "0").split()[0])
    return nanoseconds / 1e9


def memory_bytes(root_pid: int) -> int:
    """Proportional set size of the tree."""
    kilobytes = 0
    for pid in process_ids(root_pid):
        for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                kilobytes += int(line.split()[1])
    return kilobytes * 1024


def _read(path: str) -> str:
    """Empty when the process or thread is gone meanwhile."""
    try:
        return Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
