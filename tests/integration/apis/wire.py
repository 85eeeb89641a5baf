"""A client that speaks any message of any version, on top of the broker's own codec.

Why that codec: it is proved against Kafka's Java classes elsewhere (tests/integration/protocol_java), and
here Kafka itself reads what it writes. Requests and answers stay apart (`send`, `receive`), because order,
silence and closed connections are part of what is tested.
Runs in: the test process.
"""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Any, Self

from broker.protocol.api_keys import API_SPECS, ApiKey
from broker.protocol.frames import decode_response, encode_request
from tests.peers.wire import Address

CLIENT_ID = "ottla-tests"
CONNECT_TIMEOUT_SECONDS = 5
ANSWER_TIMEOUT_SECONDS = 30
_SIZE = struct.Struct(">i")


class ConnectionClosed(Exception):  # noqa: N818 - an event that tests wait for, not a fault
    """The broker closed the connection."""


def versions(api_key: ApiKey, first: int = 0) -> list[int]:
    """All versions of an API from `first` on."""
    return list(range(first, API_SPECS[api_key].max_version + 1))


class Client:
    """One connection. Answers are read in the order in which they come."""

    def __init__(
        self, address: Address, client_id: str | None = CLIENT_ID, source_host: str | None = None
    ) -> None:
        source = None if source_host is None else (source_host, 0)
        self._socket = socket.create_connection(address, CONNECT_TIMEOUT_SECONDS, source)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client_id = client_id
        self._correlation_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def call(self, api_key: int, version: int, message: Any) -> Any:
        """The answer to one request."""
        correlation_id = self.send(api_key, version, message)
        answered, answer = self.receive(api_key, version)
        assert answered == correlation_id
        return answer

    def send(self, api_key: int, version: int, message: Any) -> int:
        """Send without waiting; returns the correlation id."""
        self._correlation_id += 1
        self.send_bytes(encode_request(api_key, version, self._correlation_id, self._client_id, message))
        return self._correlation_id

    def send_bytes(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(
        self, api_key: int, version: int, timeout_seconds: float = ANSWER_TIMEOUT_SECONDS
    ) -> tuple[int, Any]:
        """(correlation id, answer) of the next frame, taken for an answer to this API and version."""
        frame = self.receive_frame(timeout_seconds)
        return decode_response(api_key, version, frame, 0, len(frame))

    def receive_frame(self, timeout_seconds: float = ANSWER_TIMEOUT_SECONDS) -> bytes:
        """The next frame without its size. TimeoutError, ConnectionClosed."""
        self._socket.settimeout(timeout_seconds)
        return self._exactly(_SIZE.unpack(self._exactly(_SIZE.size))[0])

    def is_silent(self, seconds: float) -> bool:
        """Whether nothing arrives for that long, not even a close."""
        self._socket.settimeout(seconds)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        return False

    def is_closed(self, timeout_seconds: float = 10) -> bool:
        """Whether the broker closes the connection, without another byte."""
        self._socket.settimeout(timeout_seconds)
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def _exactly(self, size_bytes: int) -> bytes:
        received = bytearray()
        while len(received) < size_bytes:
            try:
                chunk = self._socket.recv(size_bytes - len(received))
            except ConnectionResetError as error:
                raise ConnectionClosed from error
            if not chunk:
                raise ConnectionClosed
            received += chunk
        return bytes(received)
