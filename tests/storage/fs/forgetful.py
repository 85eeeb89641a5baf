"""A file layer that forgets what was not fsynced, over real files in one directory.

`crash()` puts the directory into the state that a power cut would leave in the worst case: every file as at
its last fsync (empty if there was none), every directory with the names of its last fsync. `crash_at(n)` makes
the n-th system call from now raise PowerCut instead of happening, so that a test can cut at every step.
"""
from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from storage.fs import OsFileLayer
from storage.fs.layer import WriteBuffer


class PowerCut(BaseException):
    """Not an Exception: no error handling of the code under test runs on a machine without power."""


class ForgetfulFileLayer(OsFileLayer):
    """What the directory holds when the layer is made counts as durable."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.calls_until_cut: int | None = None
        self._contents: dict[int, bytes] = {}
        self._names: dict[str, dict[str, int]] = {}
        for directory, _, names in os.walk(root):
            self._names[directory] = _inodes(directory)
            for name in names:
                path = os.path.join(directory, name)
                with open(path, "rb") as file:
                    self._contents[os.stat(path).st_ino] = file.read()

    def crash_at(self, call_index: int) -> None:
        self.calls_until_cut = call_index

    def crash(self) -> None:
        """The durable state, on disk. Descriptors still open belong to files that are gone."""
        self.calls_until_cut = None
        for name in os.listdir(self.root):
            path = os.path.join(self.root, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        self._restore(self.root)
        self.__init__(self.root)  # type: ignore[misc]

    def _restore(self, directory: str) -> None:
        for name, inode in self._names.get(directory, {}).items():
            path = os.path.join(directory, name)
            if inode in self._contents:
                with open(path, "wb") as file:
                    file.write(self._contents[inode])
            else:
                os.mkdir(path)
                self._restore(path)

    def _step(self) -> None:
        if self.calls_until_cut is not None:
            if self.calls_until_cut == 0:
                raise PowerCut
            self.calls_until_cut -= 1

    def _remember_content(self, fd: int) -> None:
        status = os.fstat(fd)
        self._contents[status.st_ino] = os.pread(fd, status.st_size, 0)

    # -- what a power cut can separate

    def open_write(self, path: str, *, create: bool = True, truncate: bool = False,
                   exclusive: bool = False) -> int:
        self._step()
        is_new = not os.path.exists(path)
        fd = super().open_write(path, create=create, truncate=truncate, exclusive=exclusive)
        if is_new:
            self._contents[os.fstat(fd).st_ino] = b""
        return fd

    def pwritev(self, fd: int, buffers: Sequence[WriteBuffer], position: int) -> int:
        self._step()
        return super().pwritev(fd, buffers, position)

    def truncate(self, fd: int, size_bytes: int) -> None:
        self._step()
        super().truncate(fd, size_bytes)

    def fsync(self, fd: int) -> None:
        self._step()
        self._remember_content(fd)

    def fdatasync(self, fd: int) -> None:
        self.fsync(fd)

    def fsync_directory(self, path: str) -> None:
        self._step()
        self._names[path] = _inodes(path)

    def make_directory(self, path: str) -> bool:
        self._step()
        return super().make_directory(path)

    def rename(self, source: str, target: str) -> None:
        self._step()
        super().rename(source, target)
        moved = [known for known in self._names if known == source or known.startswith(source + os.sep)]
        for known in moved:
            self._names[target + known[len(source):]] = self._names.pop(known)

    def unlink(self, path: str) -> bool:
        self._step()
        return super().unlink(path)


def _inodes(directory: str) -> dict[str, int]:
    with os.scandir(directory) as entries:
        return {entry.name: entry.inode() for entry in entries}
