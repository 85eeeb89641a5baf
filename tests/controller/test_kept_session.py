"""The kept session: private, and believed only where and while it was written for."""
from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest

from controller.kept_session import KEPT_SESSION_FILE, KeptSession
from controller.metadata_store.operations import SessionId

SESSION = SessionId(0x10000E96B820000, b"p" * 16)


@pytest.fixture
def kept(tmp_path: Path) -> KeptSession:
    made = KeptSession(str(tmp_path), "host:2181/kafka")
    made.write(SESSION)
    return made


def test_session_is_read_back(kept: KeptSession) -> None:
    assert kept.read() == SESSION
    kept.write(SessionId(5, b"q" * 16))
    assert kept.read() == SessionId(5, b"q" * 16)


def test_file_is_its_owner_s_alone_even_where_a_leftover_was_not(kept: KeptSession, tmp_path: Path) -> None:
    leftover = tmp_path / (KEPT_SESSION_FILE + ".tmp")
    leftover.write_text("")
    leftover.chmod(0o666)
    kept.write(SESSION)
    assert stat.S_IMODE((tmp_path / KEPT_SESSION_FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [KEPT_SESSION_FILE]


def test_removed_file_is_no_session(kept: KeptSession) -> None:
    kept.remove()
    kept.remove()
    assert kept.read() is None


def test_copy_of_the_directory_is_not_believed(kept: KeptSession, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(kept.path, copy)
    assert KeptSession(str(copy), "host:2181/kafka").read() is None


def test_other_zookeeper_is_not_offered_the_session(tmp_path: Path, kept: KeptSession) -> None:
    assert KeptSession(str(tmp_path), "host:2181/other").read() is None


def test_earlier_boot_is_not_believed(kept: KeptSession, tmp_path: Path) -> None:
    path = tmp_path / KEPT_SESSION_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"boot": "another"}))
    assert kept.read() is None


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "7", "{", '{"version": 1}', "\x00" * 100])
def test_anything_else_in_the_file_is_no_session(kept: KeptSession, tmp_path: Path, text: str) -> None:
    (tmp_path / KEPT_SESSION_FILE).write_text(text)
    assert kept.read() is None


def test_directory_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    KeptSession(str(tmp_path / "missing"), "host:2181").write(SESSION)
    assert "cannot be written (No such file or directory)" in caplog.text
