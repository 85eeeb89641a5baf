"""What is in the page cache, by each of the ways to know, on a disk and on tmpfs."""
from __future__ import annotations

import errno
import mmap
import os
import pathlib
from collections.abc import Iterator

import pytest

from storage.reader import page_cache
from storage.reader.errors import ColdReadError
from storage.reader.file_pool import FilePool
from storage.reader.page_cache import PageCacheProbe, Residency, page_count

PAGE = mmap.PAGESIZE
SIZE = 64 * PAGE


@pytest.fixture
def fd(tmp_path: pathlib.Path) -> Iterator[int]:
    """A file whose pages are all on disk, none in the cache; skips where that cannot be arranged."""
    path = tmp_path / "data"
    path.write_bytes(os.urandom(SIZE))
    fd = os.open(path, os.O_RDONLY)
    drop(fd)
    if PageCacheProbe(str(tmp_path)).probe_cold(fd, 0, SIZE) is not Residency.COLD:
        os.close(fd)
        pytest.skip("the temporary directory's file system does not give up its pages (tmpfs?)")
    yield fd
    os.close(fd)


def drop(fd: int) -> None:
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead: only what is read gets warm


@pytest.fixture(params=["cachestat", "nowait"])
def probe(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> PageCacheProbe:
    probe = PageCacheProbe(str(tmp_path))
    if request.param == "nowait":
        probe.cachestat_works = False
    return probe


def test_cold_then_warm(fd: int, probe: PageCacheProbe) -> None:
    assert probe.probe_cold(fd, 0, SIZE) is Residency.COLD
    os.pread(fd, SIZE, 0)
    assert probe.probe_cold(fd, 0, SIZE) is Residency.WARM


def test_one_cold_page_makes_the_range_cold(fd: int, probe: PageCacheProbe) -> None:
    os.pread(fd, 3 * PAGE, 0)
    assert probe.probe_cold(fd, 10, 3 * PAGE - 10) is Residency.WARM
    assert probe.probe_cold(fd, 10, 3 * PAGE) is Residency.COLD


def test_nothing_to_send_is_warm(fd: int, probe: PageCacheProbe) -> None:
    assert probe.probe_cold(fd, 0, 0) is Residency.WARM


def test_only_warm_is_false() -> None:
    assert [bool(residency) for residency in (Residency.WARM, Residency.COLD, Residency.UNKNOWN)] == [0, 1, 1]


def test_memory_file_system_is_always_warm() -> None:
    if not os.path.isdir("/dev/shm"):
        pytest.skip("no /dev/shm here")
    probe = PageCacheProbe("/dev/shm")
    assert probe.always_warm
    fd = os.memfd_create("file")
    os.write(fd, b"data")
    assert probe.probe_cold(fd, 0, 4) is Residency.WARM
    assert probe.pread_nowait(fd, 10, 1) == b"ata"
    os.close(fd)


def test_file_system_that_cannot_tell_is_unknown_but_headers_are_read(
        fd: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    probe = PageCacheProbe(str(tmp_path))
    probe.cachestat_works = False
    monkeypatch.setattr(os, "preadv", refuse)
    assert probe.probe_cold(fd, 0, SIZE) is Residency.UNKNOWN
    assert not probe.nowait_works
    assert probe.pread_nowait(fd, 61, 5) == os.pread(fd, 61, 5)


def test_kernel_without_cachestat_falls_back_once(fd: int, tmp_path: pathlib.Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_cache, "_SYS_CACHESTAT", 100_000)
    probe = PageCacheProbe(str(tmp_path))
    assert probe.probe_cold(fd, 0, SIZE) is Residency.COLD
    assert not probe.cachestat_works


def test_disk_error_is_an_error(fd: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "broken")

    probe = PageCacheProbe(str(tmp_path))
    probe.cachestat_works = False
    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(OSError) as raised:
        probe.probe_cold(fd, 0, SIZE)
    assert raised.value.errno == errno.EIO


def test_pread_nowait_does_not_wait_for_the_disk(fd: int, tmp_path: pathlib.Path) -> None:
    probe = PageCacheProbe(str(tmp_path))
    assert probe.pread_nowait(fd, 61, PAGE - 30) is None
    assert probe.pread_nowait(fd, 61, 20 * PAGE - 30) is None
    expected = os.pread(fd, 61, PAGE - 30)
    assert probe.pread_nowait(fd, 61, PAGE - 30) == expected


def test_pread_nowait_at_the_end_of_the_file_is_short(fd: int, tmp_path: pathlib.Path) -> None:
    probe = PageCacheProbe(str(tmp_path))
    os.pread(fd, SIZE, 0)
    assert probe.pread_nowait(fd, 61, SIZE - 10) == os.pread(fd, 61, SIZE - 10)
    assert probe.pread_nowait(fd, 61, SIZE + 10) == b""


def test_cold_read_of_a_file_asks_for_a_worker_and_keeps_it_open(fd: int, tmp_path: pathlib.Path) -> None:
    pool = FilePool(0)
    file = pool.open({}, (0, ".log"), str(tmp_path / "data"), PageCacheProbe(str(tmp_path)))
    with file, pytest.raises(ColdReadError) as raised:
        file.read(61, 100)
    assert pool.open_count == 1
    raised.value.fetch()
    file.pin()
    raised.value.release()
    assert file.read(61, 100) == os.pread(fd, 61, 100)
    file.release()
    assert pool.open_count == 0


@pytest.mark.parametrize(("position", "size", "count"), [
    (0, 1, 1), (0, PAGE, 1), (0, PAGE + 1, 2), (PAGE - 1, 2, 2), (PAGE, PAGE, 1), (5, 3 * PAGE, 4)])
def test_pages_that_a_range_touches(position: int, size: int, count: int) -> None:
    assert page_count(position, size) == count
