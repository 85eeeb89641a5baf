"""The test machinery itself: real servers start, are reached, stop, and leave nothing behind."""
from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.peers.cache import cached_directory
from tests.peers.java_tools import JavaTools
from tests.peers.kafka_cluster import KafkaBroker
from tests.peers.ottla_broker import OttlaBroker
from tests.peers.processes import ChildProcess, PeerFailedError, descendants, free_ports
from tests.peers.wire import WireConnection, wait_for_leaders


def _python(code: str, tmp_path: Path) -> ChildProcess:
    return ChildProcess("child", [sys.executable, "-c", code], tmp_path / "child.log", tmp_path)


FORKING_CHILD = """
import os, signal, time
if os.fork() == 0:
    os.setsid()
print("up", flush=True)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(60)
"""


def test_free_ports_are_all_different() -> None:
    assert len(set(free_ports(20))) == 20


def test_child_that_dies_while_awaited_is_reported_with_its_output(tmp_path: Path) -> None:
    child = _python("print('reason'); raise SystemExit(3)", tmp_path)
    with pytest.raises(PeerFailedError, match=r"(?s)exit code 3.*reason"):
        child.wait_until(lambda: False, "never", 10)


def test_kill_takes_grandchildren_of_other_sessions_too(tmp_path: Path) -> None:
    child = _python(FORKING_CHILD, tmp_path)
    child.wait_until(lambda: child.log_text().count("up") == 2, "both are up", 10)
    family = psutil.Process(child.pid).children()
    child.kill()
    assert len(family) == 1
    assert not family[0].is_running()


def test_child_that_ignores_sigterm_is_killed_and_reported(tmp_path: Path) -> None:
    child = _python(FORKING_CHILD, tmp_path)
    child.wait_until(lambda: child.log_text().count("up") == 2, "both are up", 10)
    with pytest.raises(PeerFailedError, match="did not stop within"):
        child.terminate(0.2)
    assert child.return_code is not None


def test_cached_directory_is_built_once_and_again_for_another_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTTLA_TEST_CACHE", str(tmp_path))
    builds: list[Path] = []
    first = cached_directory("thing", "recipe 1", builds.append)
    assert cached_directory("thing", "recipe 1", builds.append) == first
    assert cached_directory("thing", "recipe 2", builds.append) != first
    assert len(builds) == 2


def test_failed_build_leaves_no_cache_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTTLA_TEST_CACHE", str(tmp_path))

    def fail(work: Path) -> None:
        (work / "half").touch()
        raise RuntimeError("network")

    with pytest.raises(RuntimeError, match="network"):
        cached_directory("thing", "recipe", fail)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_ottla_starts_serves_and_stops_with_nothing_left(make_ottla: Callable[..., OttlaBroker]) -> None:
    broker = make_ottla()
    broker.start()
    tree = descendants(broker.pid)
    with WireConnection(broker.address) as connection:
        connection.create_topic("kept", 2)
    wait_for_leaders(broker.address, {"kept": 2})
    assert broker.stop() == 0
    assert len(tree) >= 4
    assert not any(process.is_running() for process in tree)


def test_ottla_processes_are_found_by_title_and_killed(make_ottla: Callable[..., OttlaBroker]) -> None:
    broker = make_ottla()
    broker.start()
    old_pid = broker.kill_process("front end")
    broker.wait_until_serving()
    assert broker.pid_of("front end") != old_pid
    tree = descendants(broker.pid)
    broker.kill()
    assert not any(process.is_running() for process in tree)


@pytest.mark.kafka
def test_kafka_starts_serves_and_survives_kill_and_clean_stop(
    make_kafka: Callable[..., KafkaBroker], java_tools: JavaTools
) -> None:
    broker = make_kafka()
    broker.start()
    with WireConnection(broker.address) as connection:
        connection.create_topic("kept", 2)
    broker.kill()
    broker.start()
    wait_for_leaders(broker.address, {"kept": 2})
    assert broker.stop() in (0, 143)
    segment = broker.log_dirs[0] / "kept-0" / f"{0:020}.log"
    assert java_tools.complaints_about_log(segment) == []
