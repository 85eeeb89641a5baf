"""Pushing the parts of an answer: in order, resumed anywhere, given back, never short."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.network.send_file import (
    SENDFILE_TURN_BYTES,
    FileRange,
    Part,
    ShortFileError,
    push,
    release_parts,
)
from tests.broker.network.harness import KIB, MIB


class Descriptor:
    """A pinned segment descriptor that counts its releases."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY)
        self.released = 0

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[Descriptor]:
    path = tmp_path / "segment"
    path.write_bytes(os.urandom(3 * MIB))
    descriptor = Descriptor(path)
    yield descriptor
    os.close(descriptor.fd)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        yield ours, theirs


def content(segment: Descriptor, position: int, size_bytes: int) -> bytes:
    return os.pread(segment.fd, size_bytes, position)


def part_of(segment: Descriptor, position: int, size_bytes: int, cold: bool = False) -> FileRange:
    return FileRange(segment, position, size_bytes, cold, 0)


def receive(sock: socket.socket, size_bytes: int = 10 * MIB) -> bytes:
    received = bytearray()
    while len(received) < size_bytes:
        try:
            more = sock.recv(size_bytes - len(received))
        except BlockingIOError:
            break
        if not more:
            break
        received += more
    return bytes(received)


def test_parts_leave_in_their_order(pair: tuple[socket.socket, socket.socket], segment: Descriptor) -> None:
    ours, theirs = pair
    parts: deque[Part] = deque([b"head", part_of(segment, 10, 20), memoryview(b"tail"), b""])
    assert push(ours, parts)
    assert receive(theirs) == b"head" + content(segment, 10, 20) + b"tail"
    assert not parts
    assert segment.released == 1


def test_a_full_socket_stops_the_push_and_nothing_is_lost_or_doubled(
    pair: tuple[socket.socket, socket.socket], segment: Descriptor
) -> None:
    ours, theirs = pair
    expected = bytes(range(256)) * 400 + content(segment, 5, 2 * MIB) + b"end" + content(segment, 0, 100 * KIB)
    parts: deque[Part] = deque(
        [bytes(range(256)) * 400, part_of(segment, 5, 2 * MIB), b"end", part_of(segment, 0, 100 * KIB)]
    )
    received = b""
    pushes = 0
    while not push(ours, parts):
        received += receive(theirs, 3 * KIB)
        pushes += 1
    received += receive(theirs)
    assert received == expected
    assert pushes > 100
    assert segment.released == 2


def test_one_push_sends_no_more_of_files_than_a_turn(segment: Descriptor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * MIB)
        ours.setblocking(False)
        parts: deque[Part] = deque([part_of(segment, 0, 3 * MIB)])
        assert not push(ours, parts)
        (left,) = parts
        assert isinstance(left, FileRange)
        assert left.size_bytes >= 3 * MIB - SENDFILE_TURN_BYTES


def test_a_cold_range_stops_the_push_until_it_is_warm(
    pair: tuple[socket.socket, socket.socket], segment: Descriptor
) -> None:
    ours, theirs = pair
    cold = part_of(segment, 0, 100, cold=True)
    parts: deque[Part] = deque([b"head", cold, b"tail"])
    assert not push(ours, parts)
    assert receive(theirs) == b"head"
    assert list(parts) == [cold, b"tail"]
    cold.cold = False
    assert push(ours, parts)
    assert receive(theirs) == content(segment, 0, 100) + b"tail"


def test_a_file_that_ends_before_the_promise_is_an_error_and_not_a_loop(
    pair: tuple[socket.socket, socket.socket], segment: Descriptor
) -> None:
    """REVIEW item 23."""
    ours, theirs = pair
    parts: deque[Part] = deque([part_of(segment, 3 * MIB - 10, 11), b"tail"])
    with pytest.raises(ShortFileError, match="ended 1 bytes before the promised end"):
        push(ours, parts)
    assert receive(theirs) == content(segment, 3 * MIB - 10, 10)
    release_parts(parts)
    assert segment.released == 1


def test_a_gone_peer_is_an_error(pair: tuple[socket.socket, socket.socket], segment: Descriptor) -> None:
    ours, theirs = pair
    theirs.close()
    parts: deque[Part] = deque([b"head", part_of(segment, 0, 10)])
    with pytest.raises(BrokenPipeError):
        push(ours, parts)
    release_parts(parts)
    assert segment.released == 1
    assert not parts


def test_nothing_to_push_is_finished(pair: tuple[socket.socket, socket.socket]) -> None:
    assert push(pair[0], deque())
