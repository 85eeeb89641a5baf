"""The broker of a crash test: OttlaBroker with quick, exact killing of its parts, and a look at its files.

Why not kill-and-wait: a test that waits until the kernel has cleared the dead away gives the tree time that
an operator's `kill -9` does not give; here the signal is all.
Runs in: the test process; the supervisor is its child.
"""
from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.peers.ottla_broker import OttlaBroker
from tests.peers.processes import descendants, wait_until

CLEAN_SHUTDOWN_MARKER = ".kafka_cleanshutdown"
PART_BACK_SECONDS_MAX = 20


class Node(OttlaBroker):
    """Parts by short names: "front end", "controller", "storage 0", "storage 1".

    Topics are not created by asking for them: a question about one that is just being created or deleted
    would bring it to life with other partitions.
    """

    def properties(self) -> dict[str, str]:
        return {"auto.create.topics.enable": "false"} | super().properties()

    def title_of(self, part: str) -> str:
        kind, _, index = part.partition(" ")
        return f"storage {self.log_dirs[int(index)]}" if kind == "storage" else part

    @property
    def log_path(self) -> Path:
        """Of all incarnations."""
        return self._work_dir / f"ottla-{self.broker_id}.log"

    @property
    def parts(self) -> list[str]:
        return ["front end", "controller", *(f"storage {index}" for index in range(len(self.log_dirs)))]

    def live_pid(self, part: str) -> int | None:
        """None while it is dead or not yet what it will be."""
        wanted = f"ottla: {self.title_of(part)}"
        for title, pid in self.processes().items():
            if title == wanted and is_alive(pid):
                return pid
        return None

    def wait_for_part(self, part: str) -> int:
        """Its pid once it is there; TimeoutError if it does not come back."""
        wait_until(lambda: self.live_pid(part) is not None, f"{part} is running", PART_BACK_SECONDS_MAX)
        pid = self.live_pid(part)
        return self.wait_for_part(part) if pid is None else pid

    def strike(self, *parts: str) -> list[int]:
        """SIGKILL to these parts at once; the pids they had."""
        pids = [self.wait_for_part(part) for part in parts]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return pids

    def strike_supervisor(self) -> list[int]:
        """SIGKILL to the supervisor alone; the pids of what hung on it. The broker may be started again."""
        below = [process.pid for process in descendants(self.pid)[1:]]
        self._strike_and_forget([self.pid])
        return below

    def strike_tree(self) -> None:
        """SIGKILL to all at once; the broker may be started again at once."""
        self._strike_and_forget([process.pid for process in descendants(self.pid)])

    def _strike_and_forget(self, pids: list[int]) -> None:
        """Waits for the supervisor only: its orphans are the business of init, which takes its time."""
        process, self._process = self._running(), None
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while process.return_code is None:
            time.sleep(0.001)
        process.kill()

    def close(self) -> None:
        """For fixtures: gone, running or not."""
        if self._process is not None:
            self.strike_tree()

    def markers(self) -> list[Path]:
        """Clean-shutdown markers that are there."""
        paths = [Path(directory) / CLEAN_SHUTDOWN_MARKER for directory in self.log_dirs]
        return [path for path in paths if path.exists()]


def is_alive(pid: int) -> bool:
    """False for a zombie, too."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def seconds_until(condition: Callable[[], bool], what: str, timeout_seconds: float) -> float:
    """As wait_until, looking every millisecond: for times that are asserted."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > timeout_seconds:
            raise TimeoutError(f"not within {timeout_seconds:g} s: {what}")
        time.sleep(0.001)
    return time.monotonic() - started
