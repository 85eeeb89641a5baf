"""The reserve of the embedded store, on a disk that is really full (a small tmpfs; needs root)."""
from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.metadata_store.disk_reserve import REFILL_SECONDS_MIN, SIZE_BYTES, STEP_BYTES, DiskReserve
from controller.metadata_store.embedded import EmbeddedDatabase
from controller.metadata_store.errors import StoreUnavailableError
from controller.metadata_store.operations import Create, SetData

DISK_BYTES = 8 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)],
                             capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """A neighbour takes every block that is left."""
    hog = disk / "hog"
    with hog.open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1 << 10):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return hog


def test_reserve_is_real_blocks_given_up_in_steps(tmp_path: Path) -> None:
    path = tmp_path / "reserve"
    reserve = DiskReserve(str(path), 0)
    assert path.stat().st_blocks * 512 >= SIZE_BYTES
    steps = 0
    while reserve.release_step(0):
        steps += 1
        assert path.stat().st_size == SIZE_BYTES - steps * STEP_BYTES
    assert (steps, reserve.size_bytes) == (SIZE_BYTES // STEP_BYTES, 0)
    reserve.close()


def test_reserve_is_filled_again_but_not_at_once(tmp_path: Path) -> None:
    reserve = DiskReserve(str(tmp_path / "reserve"), 0)
    reserve.release_step(100)
    reserve.maybe_refill(100 + REFILL_SECONDS_MIN - 1)
    assert reserve.size_bytes == SIZE_BYTES - STEP_BYTES
    reserve.maybe_refill(100 + REFILL_SECONDS_MIN)
    assert reserve.size_bytes == SIZE_BYTES
    reserve.close()


def test_disk_without_room_gives_what_it_has(small_disk: Path) -> None:
    fill(small_disk)
    reserve = DiskReserve(str(small_disk / "reserve"), 0)
    assert reserve.size_bytes == 0
    assert not reserve.release_step(0)
    reserve.close()


@pytest.mark.trio
async def test_node_can_restart_and_write_on_a_full_disk(small_disk: Path) -> None:
    path = str(small_disk / "metadata.sqlite")
    database = await EmbeddedDatabase.open(path, description="first")
    store = await database.open_session()
    await store.submit([Create("/t"), *(Create(f"/t/{number}", b"x" * 100) for number in range(1000))])
    await database.close()
    fill(small_disk)

    database = await EmbeddedDatabase.open(path, description="second")
    store = await database.open_session()
    await store.submit([Create("/mine", b"x", True), *(SetData(f"/t/{number}", b"y") for number in range(100))])
    await database.close()

    database = await EmbeddedDatabase.open(path, description="third")
    store = await database.open_session()
    assert (await store.get_data("/t/99")).data == b"y"
    assert await store.exists("/mine") is None
    await database.close()


@pytest.mark.trio
async def test_used_up_reserve_refuses_writes_and_room_brings_them_back(small_disk: Path) -> None:
    database = await EmbeddedDatabase.open(str(small_disk / "metadata.sqlite"), description="x")
    store = await database.open_session()
    hog = fill(small_disk)
    written = 0
    with pytest.raises(StoreUnavailableError):
        while True:
            await store.create(f"/n{written}", b"x" * 50_000)
            written += 1
            fill(small_disk)
    assert 1 <= written < 100
    children = await store.get_children("/")
    assert len(children) == written
    hog.unlink()
    await store.create("/after", b"x" * 50_000)
    assert len(await store.get_children("/")) == written + 1
    await database.close()
