"""The real file layer: complete writes, errors that surface, replacements that survive anything."""
from __future__ import annotations

import errno
import os
import pathlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.fs import IOV_MAX, OS_FILES, OsFileLayer
from storage.fs.layer import WriteBuffer
from tests.storage.fs.forgetful import ForgetfulFileLayer, PowerCut


class StingyFileLayer(OsFileLayer):
    """Writes a few bytes of what it is given, as many as it is told, then fails."""

    def __init__(self, counts: list[int], error: int = errno.ENOSPC) -> None:
        self.counts = counts
        self.error = error
        self.calls: list[tuple[int, int]] = []

    def pwritev(self, fd: int, buffers: Sequence[WriteBuffer], position: int) -> int:
        if not self.counts:
            raise OSError(self.error, os.strerror(self.error))
        data = b"".join(buffers)[:self.counts.pop(0)]
        self.calls.append((position, len(data)))
        return os.pwrite(fd, data, position) if data else 0


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "file")


def content(path: str) -> bytes:
    return pathlib.Path(path).read_bytes()


def test_pwritev_all_writes_every_buffer_at_the_position(path: str) -> None:
    fd = OS_FILES.open_write(path)
    assert OS_FILES.pwritev_all(fd, [b"ab", bytearray(b""), memoryview(b"cde")], 3) == 5
    assert content(path) == b"\0\0\0abcde"
    OS_FILES.close(fd)


def test_more_buffers_than_one_call_takes(path: str) -> None:
    buffers = [bytes([i % 251]) for i in range(2 * IOV_MAX + 7)]
    fd = OS_FILES.open_write(path)
    assert OS_FILES.pwritev_all(fd, buffers, 0) == len(buffers)
    assert content(path) == b"".join(buffers)
    OS_FILES.close(fd)


@given(st.lists(st.binary(max_size=9), max_size=6), st.lists(st.integers(1, 5), min_size=60, max_size=60))
def test_partial_writes_are_completed(buffers: list[bytes], counts: list[int]) -> None:
    files = StingyFileLayer(counts)
    fd = os.memfd_create("partial")
    try:
        assert files.pwritev_all(fd, buffers, 2) == sum(map(len, buffers))
        assert os.pread(fd, 1000, 2) == b"".join(buffers)
    finally:
        os.close(fd)


def test_enospc_after_a_partial_write_surfaces(path: str) -> None:
    fd = OS_FILES.open_write(path)
    with pytest.raises(OSError) as raised:
        StingyFileLayer([3]).pwritev_all(fd, [b"ab", b"cdef"], 0)
    assert raised.value.errno == errno.ENOSPC
    assert content(path) == b"abc"
    OS_FILES.close(fd)


def test_a_write_of_nothing_is_an_error_and_not_an_endless_loop(path: str) -> None:
    fd = OS_FILES.open_write(path)
    with pytest.raises(OSError, match="wrote nothing"):
        StingyFileLayer([1, 0]).pwritev_all(fd, [b"ab"], 0)
    OS_FILES.close(fd)


def test_real_enospc_surfaces() -> None:
    fd = os.open("/dev/full", os.O_RDWR)
    with pytest.raises(OSError) as raised:
        OS_FILES.pwrite_all(fd, b"x", 0)
    assert raised.value.errno == errno.ENOSPC
    os.close(fd)


def test_durable_write_replaces_and_leaves_no_temporary_file(path: str) -> None:
    OS_FILES.durable_write(path, b"old")
    OS_FILES.durable_write(path, b"new")
    assert content(path) == b"new"
    assert os.listdir(os.path.dirname(path)) == ["file"]


def test_failed_durable_write_keeps_the_old_content_and_cleans_up(path: str) -> None:
    OS_FILES.durable_write(path, b"old")
    with pytest.raises(OSError) as raised:
        StingyFileLayer([1]).durable_write(path, b"new")
    assert raised.value.errno == errno.ENOSPC
    assert content(path) == b"old"
    assert os.listdir(os.path.dirname(path)) == ["file"]


def test_durable_write_survives_a_power_cut_at_any_step(tmp_path: pathlib.Path) -> None:
    outcomes = []
    for step in range(20):
        root = tmp_path / str(step)
        root.mkdir()
        (root / "file").write_bytes(b"old")
        files = ForgetfulFileLayer(str(root))
        files.crash_at(step)
        finished = True
        try:
            files.durable_write(str(root / "file"), b"new")
        except PowerCut:
            finished = False
        files.crash()
        outcomes.append((finished, (root / "file").read_bytes()))
        assert not finished or outcomes[-1][1] == b"new"
    assert {data for _, data in outcomes} == {b"old", b"new"}


def test_read_into_fills_the_buffer_and_stops_at_the_end(path: str) -> None:
    OS_FILES.durable_write(path, b"0123456789")
    fd = OS_FILES.open_read(path)
    buffer = bytearray(6)
    assert (OS_FILES.read_into(fd, buffer, 1), buffer) == (6, b"123456")
    assert OS_FILES.read_into(fd, memoryview(buffer)[2:4], 9) == 1
    assert buffer == b"129456"
    OS_FILES.close(fd)


def test_read_file_with_a_limit(path: str) -> None:
    OS_FILES.durable_write(path, b"12345")
    assert OS_FILES.read_file(path, 5) == b"12345"
    with pytest.raises(OSError) as raised:
        OS_FILES.read_file(path, 4)
    assert raised.value.errno == errno.EFBIG


def test_open_write_modes(path: str) -> None:
    with pytest.raises(FileNotFoundError):
        OS_FILES.open_write(path, create=False)
    OS_FILES.close(OS_FILES.open_write(path, exclusive=True))
    with pytest.raises(FileExistsError):
        OS_FILES.open_write(path, exclusive=True)
    OS_FILES.durable_write(path, b"abc")
    OS_FILES.close(OS_FILES.open_write(path))
    assert content(path) == b"abc"
    OS_FILES.close(OS_FILES.open_write(path, truncate=True))
    assert content(path) == b""


def test_descriptors_are_not_inherited(path: str) -> None:
    fd = OS_FILES.open_write(path)
    assert not os.get_inheritable(fd)
    OS_FILES.close(fd)


def test_status_and_size(path: str) -> None:
    assert OS_FILES.status(path) is None
    OS_FILES.durable_write(path, b"abc")
    OS_FILES.set_modified_time(path, 1_700_000_000_123)
    assert OS_FILES.status(path) == (3, 1_700_000_000_123, False)
    status = OS_FILES.status(os.path.dirname(path))
    assert status is not None and status.is_directory


def test_fallocate_and_truncate(path: str) -> None:
    fd = OS_FILES.open_write(path)
    OS_FILES.fallocate(fd, 0, 8192)
    assert OS_FILES.size_bytes(fd) == 8192
    OS_FILES.truncate(fd, 5)
    assert content(path) == bytes(5)
    OS_FILES.close(fd)


def test_directories(tmp_path: pathlib.Path) -> None:
    directory = str(tmp_path / "topic-0")
    assert OS_FILES.make_directory(directory)
    assert not OS_FILES.make_directory(directory)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to(directory)
    assert OS_FILES.list_directory(str(tmp_path)) == [("file", False), ("link", True), ("topic-0", True)]
    OS_FILES.durable_rename(str(tmp_path / "file"), directory + "/file")
    assert OS_FILES.unlink(directory + "/file")
    assert not OS_FILES.unlink(directory + "/file")
    OS_FILES.remove_directory(directory)
    with pytest.raises(FileExistsError):
        OS_FILES.durable_write(str(tmp_path / "plain"), b"")
        OS_FILES.make_directory(str(tmp_path / "plain"))
