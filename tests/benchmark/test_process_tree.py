"""CPU and memory of a tree: children count, living and reaped."""
from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.benchmark.process_tree import cpu_seconds, memory_bytes, process_ids, run_seconds
from tests.peers.processes import ChildProcess

BURN = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
SAY_DONE = "print('done', flush=True)"
REAPED = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}]); {SAY_DONE}"
LIVING = f"import os; os.fork(); exec({BURN!r}); {SAY_DONE}"
HOLDING = f"data = bytearray(50_000_000); {SAY_DONE}"


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Callable[[str, int], int]]:
    """tree(code, n) -> pid of a Python that has run the code and said `done` n times, and then sleeps."""
    started: list[ChildProcess] = []

    def start(code: str, done: int) -> int:
        command = [sys.executable, "-c", f"{code}; import time; time.sleep(60)"]
        child = ChildProcess("tree", command, tmp_path / "log", tmp_path)
        started.append(child)
        child.wait_until(lambda: child.log_text().count("done") == done, "the work is done", 60)
        return child.pid

    yield start
    for child in started:
        child.kill()


def test_cpu_of_a_reaped_child_counts(tree: Callable[[str, int], int]) -> None:
    pid = tree(REAPED, 1)
    assert process_ids(pid) == [pid]
    assert cpu_seconds(pid) >= 0.29


def test_cpu_of_living_children_counts(tree: Callable[[str, int], int]) -> None:
    pid = tree(LIVING, 2)
    assert len(process_ids(pid)) == 2
    assert cpu_seconds(pid) >= 0.58
    assert run_seconds(pid) >= 0.58


def test_memory_is_that_of_the_process(tree: Callable[[str, int], int]) -> None:
    assert memory_bytes(tree(HOLDING, 1)) > 50_000_000


def test_process_that_is_gone_has_nothing(tree: Callable[[str, int], int]) -> None:
    assert cpu_seconds(2**22 - 1) == 0
    assert memory_bytes(2**22 - 1) == 0
