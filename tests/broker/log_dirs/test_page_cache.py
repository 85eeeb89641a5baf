"""Warming a range: read by a worker, its descriptor kept open meanwhile."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from broker.log_dirs import page_cache
from broker.log_dirs.page_cache import READ_AHEAD_BYTES, DirectoryWarmth
from broker.network.send_file import FileRange
from storage.reader.file_pool import FilePool, OpenFile

pytestmark = pytest.mark.trio


def cold_range(path: Path, size_bytes: int) -> tuple[OpenFile, FileRange]:
    path.write_bytes(bytes(size_bytes))
    file = FilePool().open({}, (0, ".log"), str(path))
    return file, FileRange(file, 0, size_bytes, True, 0)


async def test_a_warmed_range_is_read_to_its_end_off_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[tuple[int, bool]] = []
    preadv = os.preadv

    def watched(fd: int, buffers: list[bytearray], position: int) -> int:
        reads.append((position, threading.current_thread() is threading.main_thread()))
        return preadv(fd, buffers, position)

    monkeypatch.setattr(page_cache.os, "preadv", watched)
    _, part = cold_range(tmp_path / "segment", 2 * READ_AHEAD_BYTES + 10)
    await DirectoryWarmth([str(tmp_path)]).warm(part)
    assert not part.cold
    assert reads == [(0, False), (READ_AHEAD_BYTES, False), (2 * READ_AHEAD_BYTES, False)]


async def test_the_descriptor_stays_while_a_worker_reads_although_the_connection_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the worker would read whatever file has the number by then."""
    file, part = cold_range(tmp_path / "segment", 100)
    pinned: list[bool] = []

    def leave_and_look(fd: int, position: int, size_bytes: int) -> None:
        part.release()
        pinned.append(file.is_pinned)

    monkeypatch.setattr(page_cache, "_read_through", leave_and_look)
    await DirectoryWarmth([str(tmp_path)]).warm(part)
    assert pinned == [True]
    assert not file.is_pinned


async def test_a_range_that_cannot_be_read_stays_cold_and_unpinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, part = cold_range(tmp_path / "segment", 100)

    def fail(fd: int, position: int, size_bytes: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(page_cache, "_read_through", fail)
    with pytest.raises(OSError, match="Input/output"):
        await DirectoryWarmth([str(tmp_path)]).warm(part)
    assert part.cold
    part.release()
    assert not file.is_pinned
