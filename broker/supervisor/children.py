"""Forking a child and knowing why it died.

Runs in: supervisor (start_child, Child) and, between fork and main, in the child itself.

A child never returns into the supervisor's frames: those still hold every socket object of the tree, and
their descriptors are closed in the child; unwinding would close numbers that by then mean something else.
"""
from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass

import setproctitle

from broker.supervisor import log_lines
from broker.supervisor.events import DeathCause, ProcessId
from storage.ipc.control import ControlSocket

PR_SET_PDEATHSIG = 1
SWITCH_INTERVAL_S = 0.0005
"""A thread beside a loop costs it this long instead of 5 ms each time it wants the interpreter back."""
EXIT_CODE_CRASHED = 70
"""A main raised: a bug, with its stack trace in the log."""
EXIT_CODE_ORPHANED = 71
OOM_SCORE_ADJUST_HELPER = 500
"""When memory is short, helpers go first: killing one harms nobody."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(eq=False)
class Child:
    """One incarnation. control: the supervisor's end (None for helpers). killed: by the supervisor."""

    process: ProcessId
    pid: int
    pidfd: int
    control: ControlSocket | None
    killed: bool = False

    def kill(self) -> None:
        """SIGKILL; its death is seen through pidfd."""
        self.killed = True
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> None:
        os.close(self.pidfd)
        if self.control is not None:
            self.control.close()


def start_child(title: str, keep_fds: Collection[int], main: Callable[[], int], oom_score: int = 0) -> int:
    """Fork a process that runs `main` and exits with its result; returns its pid.

    keep_fds: the descriptors of its context; all others but 0-2 are closed in it. OSError if it cannot be
    forked, RuntimeError if this process has threads.
    """
    _refuse_threads()
    sys.stdout.flush()
    sys.stderr.flush()
    supervisor_pid = os.getpid()
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _run_child(title, keep_fds, main, supervisor_pid, oom_score)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
    return pid


def death_cause(status: int, killed_by_supervisor: bool, oom_kills_rose: bool) -> tuple[DeathCause, str]:
    """From the status of waitpid: the cause, and words for the log."""
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return DeathCause.EXIT_CLEAN, "exit code 0"
    if code > 0:
        return DeathCause.FAULT, f"exit code {code}"
    name = signal.Signals(-code).name
    if -code != signal.SIGKILL:
        return DeathCause.FAULT, name
    if killed_by_supervisor:
        return DeathCause.HUNG, f"{name} by the supervisor"
    if oom_kills_rose:
        return DeathCause.OUT_OF_MEMORY, f"{name}, out of memory"
    return DeathCause.KILLED_FROM_OUTSIDE, f"{name} from outside"


class OomCounter:
    """The kernel's count of processes killed for memory, to tell its SIGKILL from an operator's."""

    def __init__(self) -> None:
        self._count = self._read()

    def rose(self) -> bool:
        """Whether the count rose since the last call."""
        before, self._count = self._count, self._read()
        return self._count > before

    def _read(self) -> int:
        """0 where the kernel does not tell."""
        try:
            with open("/proc/vmstat", encoding="ascii") as lines:
                return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
        except FileNotFoundError:
            return 0


def open_descriptors() -> list[int]:
    """Descriptors of this process. The listing has one of its own, which is gone when it returns."""
    listed = [int(name) for name in os.listdir("/proc/self/fd")]
    return [fd for fd in listed if os.path.lexists(f"/proc/self/fd/{fd}")]


def _refuse_threads() -> None:
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise RuntimeError(f"the supervisor has {threads} threads and must not fork")


def _run_child(title: str, keep_fds: Collection[int], main: Callable[[], int], supervisor_pid: int,
               oom_score: int) -> None:
    """Does not return."""
    code = EXIT_CODE_CRASHED
    try:
        signal.set_wakeup_fd(-1)
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        _close_all_but(keep_fds)
        _die_with(supervisor_pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        _become(title, oom_score)
        code = main()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else EXIT_CODE_CRASHED
    except BaseException:  # noqa: BLE001 - whatever it is, it must be logged and must not unwind further
        logging.getLogger("ottla").critical("crashed\n%s", traceback.format_exc())
    finally:
        _flush_and_exit(code)


def _flush_and_exit(code: int) -> None:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _close_all_but(keep_fds: Collection[int]) -> None:
    keep = {0, 1, 2, *keep_fds}
    for fd in open_descriptors():
        if fd not in keep:
            os.close(fd)


def _die_with(supervisor_pid: int) -> None:
    """SIGKILL when the supervisor's only thread ends; and now, if it ended before this took effect."""
    if _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_PDEATHSIG")
    if os.getppid() != supervisor_pid:
        os._exit(EXIT_CODE_ORPHANED)


def _become(title: str, oom_score: int) -> None:
    setproctitle.setproctitle(f"ottla: {title}")
    log_lines.configure(title)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    os.environ.pop("NOTIFY_SOCKET", None)
    if oom_score:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
            score.write(str(oom_score))


def freeze_heap() -> None:
    """Before the first fork: what was imported is never looked at by a collection again, in any child."""
    gc.collect()
    gc.freeze()
