"""The helper's loop over a real socket, in a real process: answers, large results, failures, its end."""
from __future__ import annotations

import errno
import os
import pathlib
import socket
from collections.abc import Iterator

import pytest

from storage.helpers import main
from storage.helpers.client import HelperClient, HelperDiedError
from storage.helpers.main import helper_main
from storage.helpers.segment_scan import scan_segment
from storage.ipc.control import ControlSocket
from storage.record.records import Record, build_batch
from tests.storage.helpers import golden


class Helper:
    """A forked helper process and its client."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            os._exit(helper_main(theirs))
        theirs.close()
        self.client = HelperClient(ours)

    def exit_code(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def helper() -> Iterator[Helper]:
    helper = Helper()
    yield helper
    helper.client.close()
    try:
        os.waitpid(helper.pid, 0)
    except ChildProcessError:
        assert helper.pid  # waited for by the test


@pytest.fixture
def segment(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "00000001000000000000.log"
    path.write_bytes(golden.FILES["log"])
    return str(path)


def test_scan_over_there_is_the_scan_here(helper: Helper, segment: str) -> None:
    here = scan_segment(segment, 0, golden.BASE_OFFSET, golden.INDEX_INTERVAL_BYTES)
    assert helper.client.scan_segment(segment, 0, golden.BASE_OFFSET, golden.INDEX_INTERVAL_BYTES) == here


def test_large_result_comes_in_a_memfd(helper: Helper, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(build_batch([Record(i, i, None, b"")]) for i in range(20_000)))
    here = scan_segment(str(path), 0, 0, 0)
    assert len(here.offset_index) > main.INLINE_RESULT_SIZE_BYTES_MAX
    assert helper.client.scan_segment(str(path), 0, 0, 0) == here
    assert helper.client.scan_segment(str(path), 0, 0, 1 << 20).offset_index != here.offset_index


def test_io_error_comes_back_as_os_error(helper: Helper, tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        helper.client.scan_segment(str(tmp_path / "none"), 0, 0, 4096)
    with pytest.raises(OSError) as raised:
        helper.client.scan_segment(str(tmp_path), 0, 0, 4096)
    assert raised.value.errno == errno.EISDIR


def test_look_ups_by_path(helper: Helper, segment: str) -> None:
    end = len(golden.FILES["log"])
    offset, timestamp, epoch, undecodable = helper.client.ask(
        "timestamp_lookup", path=segment, start_position=0, limit=end, timestamp=1_700_000_000_860)
    assert (offset, timestamp, epoch, undecodable) == (1_000_000_000_147, 1_700_000_000_865, 4, [])
    assert helper.client.ask("max_timestamp_lookup", path=segment, start_position=0, limit=end,
                             timestamp=1_700_000_000_865)[0] == 1_000_000_000_147


def test_look_up_by_descriptor_survives_a_rename(segment: str) -> None:
    ours, theirs = (ControlSocket(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    fd = os.open(segment, os.O_RDONLY)
    os.rename(segment, segment + ".deleted")
    ours.send({"kind": "timestamp_lookup", "request_id": 3, "start_position": 0, "limit": 1 << 30,
               "timestamp": 0}, [fd])
    os.close(fd)
    message, fds = theirs.receive_nowait() or ({}, [])
    assert main.answer_request(message, fds)[0] == golden.BASE_OFFSET
    os.close(fds[0])
    ours.close()
    theirs.close()


@pytest.mark.parametrize(("kind", "arguments"), [("nonsense", {}), ("scan_segment", {"path": "x"})])
def test_wrong_request_is_a_failure_and_the_helper_lives(helper: Helper, segment: str, kind: str,
                                                         arguments: dict[str, str]) -> None:
    with pytest.raises(HelperDiedError, match="no request of kind|without"):
        helper.client.ask(kind, **arguments)
    assert helper.client.scan_segment(segment, 0, golden.BASE_OFFSET, 4096).batch_count == 70


def test_helper_exits_when_its_peer_closes(helper: Helper) -> None:
    helper.client.close()
    assert helper.exit_code() == 0


def test_killed_helper_is_noticed(helper: Helper, segment: str) -> None:
    os.kill(helper.pid, 9)
    assert helper.exit_code() == -9
    with pytest.raises(HelperDiedError):
        helper.client.scan_segment(segment, 0, 0, 4096)
