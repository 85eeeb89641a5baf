"""Descriptors: bounded, least recently used first, never one in use."""
from __future__ import annotations

import os
import pathlib

import pytest

from storage.reader.file_pool import FileKey, FilePool, OpenFile


@pytest.fixture
def paths(tmp_path: pathlib.Path) -> list[str]:
    for i in range(8):
        (tmp_path / str(i)).write_bytes(bytes([i]))
    return [str(tmp_path / str(i)) for i in range(8)]


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def open_all(pool: FilePool, home: dict[FileKey, OpenFile], paths: list[str]) -> list[OpenFile]:
    return [pool.open(home, (i, ".log"), path) for i, path in enumerate(paths)]


def test_least_recently_used_is_closed_first(paths: list[str]) -> None:
    pool, home = FilePool(3), dict[FileKey, OpenFile]()
    for file in open_all(pool, home, paths[:3]):
        file.release()
    home[0, ".log"].pin().release()
    pool.open(home, (3, ".log"), paths[3]).release()
    assert sorted(base for base, _ in home) == [0, 2, 3]
    assert pool.open_count == 3


def test_pinned_files_are_never_closed_even_beyond_the_bound(paths: list[str]) -> None:
    pool, home = FilePool(2), dict[FileKey, OpenFile]()
    files = open_all(pool, home, paths)
    assert pool.open_count == len(home) == 8
    assert [os.pread(file.fd, 1, 0) for file in files] == [bytes([i]) for i in range(8)]
    for file in files:
        file.release()
    assert pool.open_count == len(home) == 2


def test_forgotten_file_closes_with_its_last_release(paths: list[str]) -> None:
    pool, home = FilePool(), dict[FileKey, OpenFile]()
    (file,) = open_all(pool, home, paths[:1])
    file.pin()
    fd = file.fd
    home.clear()
    file.forget()
    file.release()
    assert is_open(fd) and pool.open_count == 1
    file.release()
    assert not is_open(fd) and pool.open_count == 0 and file.fd == -1


def test_forgotten_idle_file_closes_at_once(paths: list[str]) -> None:
    pool, home = FilePool(), dict[FileKey, OpenFile]()
    (file,) = open_all(pool, home, paths[:1])
    file.release()
    file.forget()
    assert pool.open_count == 0
    pool.open(home, (1, ".log"), paths[1]).release()
    assert pool.open_count == 1


def test_one_release_too_many_is_our_bug(paths: list[str]) -> None:
    (file,) = open_all(FilePool(), {}, paths[:1])
    file.release()
    with pytest.raises(RuntimeError, match="more often than pinned"):
        file.release()


def test_with_releases_at_its_end(paths: list[str]) -> None:
    with open_all(FilePool(), {}, paths[:1])[0] as file:
        assert file.is_pinned
    assert not file.is_pinned


def test_failed_open_counts_nothing(tmp_path: pathlib.Path) -> None:
    pool, home = FilePool(), dict[FileKey, OpenFile]()
    with pytest.raises(FileNotFoundError):
        pool.open(home, (0, ".log"), str(tmp_path / "none"))
    assert pool.open_count == 0 and not home


def test_descriptors_are_not_inherited(paths: list[str]) -> None:
    with open_all(FilePool(), {}, paths[:1])[0] as file:
        assert not os.get_inheritable(file.fd)
