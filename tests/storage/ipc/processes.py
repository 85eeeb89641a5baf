"""Forked processes for tests of shared memory: started, killed, judged by their exit codes."""
from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable


class Forked:
    """A child that runs `body` and exits with 0, or with 1 and its stack trace on stderr."""

    def __init__(self, body: Callable[[], object]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                body()
                code = 0
            except BaseException:  # noqa: BLE001 - reported by trace and exit code
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)

    def kill(self) -> None:
        """SIGKILL, and wait until it is dead."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """Exit code, negative for a signal."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def is_running(self) -> bool:
        """False once it has ended; it must still be waited for."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def kill_at_step(count: int) -> Callable[[str], None]:
    """A debug hook that ends this very process with SIGKILL at step number `count` (from 0)."""
    left = count

    def hook(step: str) -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    return hook
