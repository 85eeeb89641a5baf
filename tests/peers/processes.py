"""Child processes that cannot outlive the test run, and waiting with a deadline.

Why: a broker left behind by a failed test holds ports, memory and CPU for the next one. So each child
is started in a session of its own (its whole group can be killed), is killed by the kernel when the
test process dies (`setpriv --pdeathsig`, which works from `exec` and so needs no code after the fork),
and is killed at exit if a test forgot it.
Runs in: the test process, main thread (the kernel ties the death signal to the thread that forked).
"""
from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

LOG_TAIL_BYTES = 6000
POLL_INTERVAL_SECONDS = 0.02

_live: set[ChildProcess] = set()


class PeerFailedError(Exception):
    """A server did not start, did not become ready, or died; the message holds the end of its log."""


class PeerUnavailableError(Exception):
    """Something that the real peer needs (JDK, Maven, Go, network) is not there; says what to install."""


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different (held open together while they are chosen)."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_until(condition: Callable[[], bool], what: str, timeout_seconds: float) -> float:
    """Polls until the condition holds; returns the seconds that took, raises TimeoutError naming `what`."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > timeout_seconds:
            raise TimeoutError(f"not within {timeout_seconds:g} s: {what}")
        time.sleep(POLL_INTERVAL_SECONDS)
    return time.monotonic() - started


def descendants(pid: int) -> list[psutil.Process]:
    """The process and everything below it; an empty list when it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def signal_kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL to those of them that still exist, without waiting."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def kill_processes(processes: Iterable[psutil.Process], timeout_seconds: float = 20) -> None:
    """SIGKILL to all of them at once, and the wait until the kernel has taken them away."""
    victims = list(processes)
    signal_kill(victims)
    psutil.wait_procs(victims, timeout=timeout_seconds)


class ChildProcess:
    """A server started for tests: output in a log file, stopped or killed with everything it started."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log_path: Path,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self.log_start = log_path.stat().st_size if log_path.exists() else 0
        self.started_monotonic = time.monotonic()
        with log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        _live.add(self)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def return_code(self) -> int | None:
        """None while it runs."""
        return self._popen.poll()

    def log_text(self) -> str:
        """What this process has printed since it was started (not its predecessors in the same file)."""
        with self.log_path.open("rb") as log:
            log.seek(self.log_start)
            return log.read().decode(errors="replace")

    def failure(self, what: str) -> PeerFailedError:
        """An error to raise, with the return code and the end of the log."""
        tail = self.log_text()[-LOG_TAIL_BYTES:]
        code = self.return_code
        state = "still running" if code is None else f"exit code {code}"
        return PeerFailedError(f"{self.name}: {what} ({state}); end of {self.log_path}:\n{tail}")

    def wait_until(self, condition: Callable[[], bool], what: str, timeout_seconds: float) -> float:
        """As the function of this name, but an exit of the process ends the wait, with its log."""

        def checked() -> bool:
            if self.return_code is not None:
                raise self.failure(f"exited while waiting: {what}")
            return condition()

        try:
            return wait_until(checked, what, timeout_seconds)
        except TimeoutError as error:
            raise self.failure(str(error)) from error

    def terminate(self, timeout_seconds: float, signal_number: int = signal.SIGTERM) -> int:
        """Asks it to stop and returns its exit code; killed, and an error raised, if it does not."""
        family = descendants(self.pid)
        self._popen.send_signal(signal_number)
        try:
            code = self._popen.wait(timeout_seconds)
        except subprocess.TimeoutExpired as error:
            failure = self.failure(f"did not stop within {timeout_seconds:g} s")
            self.kill()
            raise failure from error
        left_behind = psutil.wait_procs(family, timeout=2)[1]
        kill_processes(left_behind)
        _live.discard(self)
        if left_behind:
            raise self.failure(f"left processes behind: {[process.pid for process in left_behind]}")
        return code

    def kill(self) -> None:
        """SIGKILL to the whole tree at once; harmless when it is already gone."""
        family = descendants(self.pid)
        signal_kill(family)
        self._popen.wait()  # before psutil could reap it and take the exit code away
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        kill_processes(family)
        _live.discard(self)


@atexit.register
def kill_all_children() -> None:
    """What a test forgot to stop, or a failing fixture could not."""
    for child in list(_live):
        child.kill()
