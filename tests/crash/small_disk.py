"""A file system of some megabytes that can be filled to its last byte: a tmpfs of one's own.

Needs root (mount). Where that is not to be had the test says so and skips; in CI it fails, as it must run.
Runs in: the test process.
"""
from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.processes import PeerUnavailableError

PIECE_BYTES = 1 << 20


class SmallDisk:
    """path: the mount point. The ballast is a file of ours on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    @property
    def free_bytes(self) -> int:
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    def fill(self) -> None:
        """To the last byte; what others free meanwhile is taken, too."""
        with self._ballast.open("ab", buffering=0) as ballast:
            size = PIECE_BYTES
            while size:
                try:
                    ballast.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2

    @contextmanager
    def kept_full(self) -> Iterator[None]:
        """What anybody frees is taken within a millisecond: the greedy neighbour."""
        ended = threading.Event()

        def take() -> None:
            while not ended.wait(0.001):
                self.fill()

        self.fill()
        neighbour = threading.Thread(target=take, daemon=True)
        neighbour.start()
        try:
            yield
        finally:
            ended.set()
            neighbour.join()

    def free(self, left_bytes: int = 0) -> None:
        """Take the ballast away, all but `left_bytes` of it."""
        with self._ballast.open("ab") as ballast:
            ballast.truncate(left_bytes)


@contextmanager
def small_disk(path: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """Raises PeerUnavailableError where nothing can be mounted."""
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        raise PeerUnavailableError("a full disk is tested on a small tmpfs, which only root can mount")
    path.mkdir()
    command = [mount, "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        raise PeerUnavailableError(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
        with contextlib.suppress(OSError):
            path.rmdir()
