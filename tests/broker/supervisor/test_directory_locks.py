"""The log directories at start: created, told apart, locked. The lock is tested against real processes."""
from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.supervisor.directory_locks import LOCK_FILE_NAME, LogDirectory, prepare_directories
from broker.supervisor.errors import StartError


@pytest.fixture
def taken() -> Iterator[list[LogDirectory]]:
    """Directories of the test, unlocked at its end."""
    directories: list[LogDirectory] = []
    yield directories
    for directory in directories:
        if directory.lock_fd >= 0:
            os.close(directory.lock_fd)


def in_child(path: Path, posix_lock: bool) -> int:
    """Lock `.lock` in another process, as a JVM does (POSIX) or an Ottla; its pid. Kill it to end the lock."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if posix_lock:
                lock = (path / LOCK_FILE_NAME).open("w")
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                prepare_directories([str(path)])
            os.write(writer, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    os.close(reader)
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_missing_directory_is_created_with_its_parents(tmp_path: Path, taken: list[LogDirectory]) -> None:
    taken += prepare_directories([str(tmp_path / "x" / "y")])
    assert (tmp_path / "x" / "y" / LOCK_FILE_NAME).stat().st_size == 0
    assert taken[0].offline_reason is None


def test_one_directory_named_twice_is_refused_even_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(StartError, match="log.dirs names one directory twice: .*/a and .*/b are both .*/a"):
        prepare_directories([str(tmp_path / "a"), str(tmp_path / "b")])


def test_a_directory_locked_by_a_jvm_is_named_with_its_process(tmp_path: Path) -> None:
    pid = in_child(tmp_path, posix_lock=True)
    try:
        with pytest.raises(StartError, match=rf"{tmp_path} is in use: process {pid} \(a Kafka broker\?\) holds"):
            prepare_directories([str(tmp_path)], wait_ms=0)
    finally:
        end(pid)


def test_a_directory_locked_by_another_ottla_is_refused(tmp_path: Path) -> None:
    pid = in_child(tmp_path, posix_lock=False)
    try:
        with pytest.raises(StartError, match=f"{tmp_path} is in use: another Ottla holds its .lock"):
            prepare_directories([str(tmp_path)], wait_ms=0)
    finally:
        end(pid)


def test_our_lock_refuses_a_jvm(tmp_path: Path, taken: list[LogDirectory]) -> None:
    taken += prepare_directories([str(tmp_path)])
    pid = os.fork()
    if pid == 0:
        try:
            with (tmp_path / LOCK_FILE_NAME).open("w") as lock:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os._exit(0)
        except BlockingIOError:
            os._exit(33)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 33


def test_the_lock_survives_the_closing_of_another_descriptor_of_the_file(
    tmp_path: Path, taken: list[LogDirectory]
) -> None:
    taken += prepare_directories([str(tmp_path)])
    (tmp_path / LOCK_FILE_NAME).read_bytes()
    with pytest.raises(StartError, match="is in use"):
        prepare_directories([str(tmp_path)], wait_ms=0)


def test_the_lock_lasts_until_the_last_heir_is_gone(tmp_path: Path) -> None:
    directory = prepare_directories([str(tmp_path)])[0]
    heir = os.fork()
    if heir == 0:
        try:
            signal.pause()
        finally:
            os._exit(0)
    os.close(directory.lock_fd)
    with pytest.raises(StartError, match="is in use"):
        prepare_directories([str(tmp_path)], wait_ms=0)
    end(heir)
    os.close(prepare_directories([str(tmp_path)], wait_ms=0)[0].lock_fd)


def test_a_dying_tree_is_waited_for(tmp_path: Path, taken: list[LogDirectory]) -> None:
    pid = in_child(tmp_path, posix_lock=False)
    os.kill(pid, signal.SIGKILL)
    taken += prepare_directories([str(tmp_path)])
    os.waitpid(pid, 0)
    assert taken[0].offline_reason is None


def test_an_unusable_directory_is_offline_while_another_is_usable(
    tmp_path: Path, taken: list[LogDirectory]
) -> None:
    (tmp_path / "file").write_text("")
    taken += prepare_directories([str(tmp_path / "file"), str(tmp_path / "ok")])
    assert [directory.offline_reason for directory in taken] == ["not a directory", None]
    assert [directory.lock_fd >= 0 for directory in taken] == [False, True]


def test_a_dangling_link_is_offline(tmp_path: Path, taken: list[LogDirectory]) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    taken += prepare_directories([str(tmp_path / "link"), str(tmp_path / "ok")])
    assert taken[0].offline_reason == "not a directory"


def test_no_usable_directory_ends_the_start_with_every_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="no usable log directory: .*/file: not a directory; .*/file/sub: "):
        prepare_directories([str(tmp_path / "file"), str(tmp_path / "file" / "sub")])
