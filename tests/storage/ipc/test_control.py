"""Control sockets: datagrams of msgpack, descriptors, a peer that lies, sleeps or dies."""
from __future__ import annotations

import os
import socket
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.ipc.control import (
    DATAGRAM_SIZE_BYTES_MAX,
    DESCRIPTORS_MAX,
    ControlBacklogError,
    ControlClosedError,
    ControlFormatError,
    ControlSocket,
    ControlTooLargeError,
    decode,
    encode,
)
from storage.ipc.doorbell import Doorbell


def open_descriptor_count() -> int:
    return len(os.listdir("/proc/self/fd"))


def hostile_pair() -> tuple[socket.socket, ControlSocket]:
    stranger, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return stranger, ControlSocket(ours)


def test_messages_arrive_one_by_one_in_order() -> None:
    one, other = ControlSocket.pair()
    one.send({"kind": "a", "bytes": b"\x00", "list": [1, None, "x"]})
    one.send({"kind": "b"})
    assert other.receive_nowait() == ({"kind": "a", "bytes": b"\x00", "list": [1, None, "x"]}, [])
    assert other.receive_nowait() == ({"kind": "b"}, [])
    assert other.receive_nowait() is None


def test_descriptors_arrive_as_duplicates_that_do_not_outlive_an_exec() -> None:
    one, other = ControlSocket.pair()
    bell = Doorbell.create()
    one.send({"kind": "doorbells"}, [bell.fileno()])
    received = other.receive_nowait()
    assert received is not None
    (fd,) = received[1]
    assert fd != bell.fileno()
    assert not os.get_inheritable(fd)
    bell.ring(5)
    assert Doorbell(fd).take() == 5


def test_the_largest_datagram_passes_and_one_byte_more_does_not() -> None:
    one, other = ControlSocket.pair()
    overhead = len(encode({"kind": "x", "data": bytes(60_000)})) - 60_000
    one.send({"kind": "x", "data": bytes(DATAGRAM_SIZE_BYTES_MAX - overhead)})
    assert other.receive_nowait() is not None
    with pytest.raises(ControlTooLargeError, match="'x' of 65536 bytes, allowed are 65535"):
        one.send({"kind": "x", "data": bytes(DATAGRAM_SIZE_BYTES_MAX - overhead + 1)})


def test_a_message_needs_a_kind() -> None:
    one, _ = ControlSocket.pair()
    with pytest.raises(ValueError, match="needs a kind"):
        one.send({"hello": 1})


def test_a_peer_that_does_not_read_is_noticed_without_waiting_or_after_the_wait() -> None:
    one, other = ControlSocket.pair()
    message = {"kind": "x", "data": bytes(60_000)}
    sent = 0
    while one.send_nowait(message):
        sent += 1
    assert 0 < sent < 100
    with pytest.raises(ControlBacklogError, match="peer left 'x' unread for 20 ms"):
        one.send(message, wait_ms=20)
    assert other.receive_nowait() is not None
    one.send(message)


def test_everything_sent_before_a_death_is_read_before_the_end_is_seen() -> None:
    one, other = ControlSocket.pair()
    one.send({"kind": "failed", "why": "x"})
    one.close()
    assert other.receive_nowait() == ({"kind": "failed", "why": "x"}, [])
    with pytest.raises(ControlClosedError):
        other.receive_nowait()
    with pytest.raises(ControlClosedError):
        other.send({"kind": "x"})


@pytest.mark.parametrize(
    "datagram",
    [b"\xc1", b"\x81", b"\x00", msgpack.packb([1]), msgpack.packb({"kind": 5}), msgpack.packb({"x": "y"}),
     msgpack.packb({"kind": "a"}) + b"more", msgpack.packb({1: 2, "kind": "x"}), b"\x91" * 5000],
    ids=["never used", "cut", "number", "list", "kind is a number", "no kind", "trailing", "key is a number",
         "deep"],
)
def test_what_is_no_message_is_a_clear_error_and_the_next_one_is_read(datagram: bytes) -> None:
    stranger, ours = hostile_pair()
    stranger.send(datagram)
    stranger.send(msgpack.packb({"kind": "fine"}))
    with pytest.raises(ControlFormatError):
        ours.receive_nowait()
    assert ours.receive_nowait() == ({"kind": "fine"}, [])
    stranger.close()


def test_a_datagram_beyond_the_limit_is_refused() -> None:
    stranger, ours = hostile_pair()
    stranger.send(msgpack.packb({"kind": "x", "data": bytes(70_000)}))
    with pytest.raises(ControlFormatError, match="beyond the limit"):
        ours.receive_nowait()
    stranger.close()


def test_descriptors_beside_nonsense_are_closed() -> None:
    stranger, ours = hostile_pair()
    before = open_descriptor_count()
    socket.send_fds(stranger, [b"\xc1"], [0, 1, 2])
    with pytest.raises(ControlFormatError):
        ours.receive_nowait()
    assert open_descriptor_count() == before
    stranger.close()


def test_too_many_descriptors_are_refused_and_closed() -> None:
    stranger, ours = hostile_pair()
    before = open_descriptor_count()
    socket.send_fds(stranger, [msgpack.packb({"kind": "x"})], [0] * (DESCRIPTORS_MAX + 8))
    with pytest.raises(ControlFormatError, match="beyond the limit"):
        ours.receive_nowait()
    assert open_descriptor_count() == before
    stranger.close()


def test_a_full_load_of_descriptors_passes(tmp_path: Path) -> None:
    one, other = ControlSocket.pair()
    with (tmp_path / "x").open("w") as file:
        one.send({"kind": "x"}, [file.fileno()] * DESCRIPTORS_MAX)
    received = other.receive_nowait()
    assert received is not None
    assert len(received[1]) == DESCRIPTORS_MAX
    for fd in received[1]:
        os.close(fd)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_clear_error(datagram: bytes) -> None:
    try:
        message = decode(datagram)
    except ControlFormatError:
        return
    assert isinstance(message["kind"], str)
