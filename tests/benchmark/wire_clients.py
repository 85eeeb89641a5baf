"""Many connections from one process: opened in waves, or each with a fetch that waits.

Plain non-blocking sockets and one selector, requests made once (see tests/peers/wire.py): the load
generator must cost less than what it measures.
Runs in: the benchmark process.
"""
from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Iterator, Mapping

from tests.peers.wire import API_VERSIONS, FETCH, Address, fetch_body, request_frame

WAVE = 50  # Kafka's default listen backlog
ANSWER_TIMEOUT_SECONDS = 20
RECEIVE_BYTES = 65536


class ConnectionLostError(Exception):
    """The broker closed a connection, or did not answer on it."""


@contextlib.contextmanager
def open_connections(address: Address, count: int) -> Iterator[list[socket.socket]]:
    """Connections on each of which ApiVersions has been answered."""
    with contextlib.ExitStack() as stack:
        opened: list[socket.socket] = []
        while len(opened) < count:
            wave = [
                stack.enter_context(socket.create_connection(address, ANSWER_TIMEOUT_SECONDS))
                for _ in range(min(WAVE, count - len(opened)))
            ]
            for connection in wave:
                connection.sendall(request_frame(API_VERSIONS, 0, 1, b""))
            for connection in wave:
                _skip_answer(connection)
            opened += wave
        yield opened


def _skip_answer(connection: socket.socket) -> None:
    size = int.from_bytes(_receive(connection, 4), "big")
    _receive(connection, size)


def _receive(connection: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        chunk = connection.recv(size)
        if not chunk:
            raise ConnectionLostError("the broker closed a connection")
        parts.append(chunk)
        size -= len(chunk)
    return b"".join(parts)


def poll_for(address: Address, topic: str, offsets: Mapping[int, int], wait_ms: int, seconds: float) -> int:
    """One consumer per partition that always has a fetch waiting at its offset; the number answered.

    The partitions must have nothing beyond these offsets: answers are taken to be empty, so each fits
    into one read.
    """
    with open_connections(address, len(offsets)) as connections, selectors.DefaultSelector() as selector:
        for connection, (partition, offset) in zip(connections, offsets.items(), strict=True):
            frame = request_frame(FETCH, 4, partition, fetch_body(topic, {partition: offset}, wait_ms))
            connection.sendall(frame)
            selector.register(connection, selectors.EVENT_READ, frame)
        return _answer_until(selector, time.monotonic() + seconds)


def _answer_until(selector: selectors.BaseSelector, deadline: float) -> int:
    answered = 0
    while (left := deadline - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            if not connection.recv(RECEIVE_BYTES):
                raise ConnectionLostError("the broker closed a waiting consumer's connection")
            connection.sendall(key.data)
            answered += 1
    return answered
