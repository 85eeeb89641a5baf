"""Forking a child and naming the cause of its death."""
from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

from broker.supervisor.children import EXIT_CODE_CRASHED, EXIT_CODE_ORPHANED, death_cause
from broker.supervisor.events import DeathCause


def status_of(*, code: int = 0, number: int = 0) -> int:
    return code << 8 | number


@pytest.mark.parametrize(
    ("status", "by_supervisor", "oom", "cause", "detail"),
    [
        (status_of(), False, False, DeathCause.EXIT_CLEAN, "exit code 0"),
        (status_of(), True, True, DeathCause.EXIT_CLEAN, "exit code 0"),
        (status_of(code=70), False, False, DeathCause.FAULT, "exit code 70"),
        (status_of(number=signal.SIGSEGV), False, False, DeathCause.FAULT, "SIGSEGV"),
        (status_of(number=signal.SIGABRT), True, False, DeathCause.FAULT, "SIGABRT"),
        (status_of(number=signal.SIGKILL), False, False, DeathCause.KILLED_FROM_OUTSIDE, "SIGKILL from outside"),
        (status_of(number=signal.SIGKILL), True, False, DeathCause.HUNG, "SIGKILL by the supervisor"),
        (status_of(number=signal.SIGKILL), False, True, DeathCause.OUT_OF_MEMORY, "SIGKILL, out of memory"),
    ],
)
def test_death_causes(status: int, by_supervisor: bool, oom: bool, cause: DeathCause, detail: str) -> None:
    assert death_cause(status, by_supervisor, oom) == (cause, detail)


def forked(body: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run `body` as the main of a forked child of a fresh interpreter; prints of both come back."""
    program = textwrap.dedent("""
        import os, signal, sys, threading, time
        from broker.supervisor import children
        def main():
        {body}
        {before}
        pid = children.start_child("test", [], main)
        print("parent", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """).format(body=textwrap.indent(textwrap.dedent(body), "    "), before=textwrap.dedent(before))
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)


def test_the_result_of_main_is_the_exit_code() -> None:
    assert forked("return 5").stdout == "parent 5\n"


def test_a_raising_main_is_a_crash_with_its_trace_in_the_log() -> None:
    result = forked("raise ValueError('xyz')")
    assert "FATAL [test] crashed" in result.stdout
    assert "ValueError: xyz" in result.stdout
    assert result.stdout.endswith(f"parent {EXIT_CODE_CRASHED}\n")


def test_output_waiting_in_buffers_is_printed_once() -> None:
    assert forked("print('child'); return 0", before="print('before')").stdout == "before\nchild\nparent 0\n"


def test_inherited_descriptors_are_closed() -> None:
    result = forked("print(children.open_descriptors()); return 0", before="leak = open('/dev/null')")
    assert result.stdout == "[0, 1, 2]\nparent 0\n"


def test_stop_signals_are_the_supervisors_affair() -> None:
    result = forked("""
        for number in children.STOP_SIGNALS:
            os.kill(os.getpid(), number)
        print(signal.pthread_sigmask(signal.SIG_BLOCK, []), sys.getswitchinterval())
        return 0
    """)
    assert result.stdout == "set() 0.0005\nparent 0\n"


def test_a_child_whose_parent_is_already_another_leaves() -> None:
    result = forked("return 0", before="children.os.getppid = lambda: 1")
    assert result.stdout == f"parent {EXIT_CODE_ORPHANED}\n"


def test_a_process_with_threads_must_not_fork() -> None:
    result = forked("return 0", before="threading.Thread(target=time.sleep, args=(9,), daemon=True).start()")
    assert "RuntimeError: the supervisor has 2 threads and must not fork" in result.stderr


def test_the_notify_socket_is_not_for_children() -> None:
    result = forked("print(os.environ.get('NOTIFY_SOCKET')); return 0",
                    before="os.environ['NOTIFY_SOCKET'] = '/x'")
    assert result.stdout == "None\nparent 0\n"


def test_sys_exit_in_a_main_is_honoured() -> None:
    assert forked("sys.exit(3)").stdout == "parent 3\n"
