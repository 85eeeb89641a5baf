"""The fake that forgets is the real layer until the power goes, and then forgets exactly what it may."""
from __future__ import annotations

import os
import pathlib

import pytest

from tests.storage.fs.forgetful import ForgetfulFileLayer, PowerCut


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "old").write_bytes(b"old content")
    return tmp_path


@pytest.fixture
def files(root: pathlib.Path) -> ForgetfulFileLayer:
    return ForgetfulFileLayer(str(root))


def create(files: ForgetfulFileLayer, path: pathlib.Path, data: bytes, *, sync: bool) -> None:
    fd = files.open_write(str(path))
    files.pwrite_all(fd, data, 0)
    if sync:
        files.fdatasync(fd)
    files.close(fd)


def test_without_a_crash_everything_is_really_there(root: pathlib.Path, files: ForgetfulFileLayer) -> None:
    create(files, root / "new", b"data", sync=False)
    files.rename(str(root / "new"), str(root / "newer"))
    assert (root / "newer").read_bytes() == b"data"


def test_what_was_there_before_survives(root: pathlib.Path, files: ForgetfulFileLayer) -> None:
    files.crash()
    assert (root / "old").read_bytes() == b"old content"


def test_unsynced_content_is_lost(root: pathlib.Path, files: ForgetfulFileLayer) -> None:
    create(files, root / "old", b"OLD", sync=False)
    files.crash()
    assert (root / "old").read_bytes() == b"old content"


def test_synced_content_stays(root: pathlib.Path, files: ForgetfulFileLayer) -> None:
    create(files, root / "old", b"OLD", sync=True)
    files.crash()
    assert (root / "old").read_bytes() == b"OLD content"


def test_synced_content_without_a_synced_name_is_lost(root: pathlib.Path, files: ForgetfulFileLayer) -> None:
    create(files, root / "new", b"data", sync=True)
    files.crash()
    assert os.listdir(root) == ["old"]


def test_synced_name_without_synced_content_is_an_empty_file(root: pathlib.Path,
                                                             files: ForgetfulFileLayer) -> None:
    create(files, root / "new", b"data", sync=False)
    files.fsync_directory(str(root))
    files.crash()
    assert (root / "new").read_bytes() == b""


def test_unsynced_unlink_and_rename_are_undone(root: pathlib.Path, files: ForgetfulFileLayer) -> None:
    files.rename(str(root / "old"), str(root / "renamed"))
    files.unlink(str(root / "renamed"))
    files.crash()
    assert (root / "old").read_bytes() == b"old content"


def test_directories_and_their_files(root: pathlib.Path, files: ForgetfulFileLayer) -> None:
    files.make_directory(str(root / "kept"))
    create(files, root / "kept" / "file", b"1", sync=True)
    files.fsync_directory(str(root / "kept"))
    files.fsync_directory(str(root))
    files.make_directory(str(root / "lost"))
    files.crash()
    assert sorted(os.listdir(root)) == ["kept", "old"]
    assert (root / "kept" / "file").read_bytes() == b"1"


def test_the_cut_comes_instead_of_the_call(root: pathlib.Path, files: ForgetfulFileLayer) -> None:
    files.crash_at(1)
    fd = files.open_write(str(root / "new"))
    with pytest.raises(PowerCut):
        files.pwrite_all(fd, b"data", 0)
    files.close(fd)
    assert (root / "new").read_bytes() == b""
