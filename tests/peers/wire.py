"""A few requests of the Kafka protocol by hand, for readiness checks and for the benchmark's own clients.

Why not a library: readiness must be seen within milliseconds, thousands of connections must cost
little, and the test side must not share a codec with what is tested. All versions used here are old,
without tagged fields, and served by Kafka 3.9 and Ottla alike.
Runs in: the test process and the benchmark's client processes.
"""
from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from tests.peers.processes import wait_until

Address = tuple[str, int]

LIST_OFFSETS, METADATA, API_VERSIONS, FETCH, CREATE_TOPICS, DELETE_TOPICS = 2, 3, 18, 1, 19, 20
CLIENT_ID = b"ottla-tests"
CONNECT_TIMEOUT_SECONDS = 5
EARLIEST, LATEST = -2, -1


class WireError(Exception):
    """The broker answered with an error code, or closed the connection."""


class Metadata(NamedTuple):
    """Brokers as {node id: (host, port)}, topics as {name: {partition: leader, or -1}} (error-free ones)."""

    brokers: dict[int, Address]
    controller_id: int
    topics: dict[str, dict[int, int]]


def string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack(">h", len(encoded)) + encoded


def array(items: Iterable[bytes]) -> bytes:
    encoded = list(items)
    return struct.pack(">i", len(encoded)) + b"".join(encoded)


def request_frame(api_key: int, version: int, correlation_id: int, body: bytes) -> bytes:
    """A whole frame with its size prefix (request header version 1)."""
    header = struct.pack(">hhih", api_key, version, correlation_id, len(CLIENT_ID)) + CLIENT_ID
    return struct.pack(">i", len(header) + len(body)) + header + body


class Reader:
    """Walks over a response body."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._position = 0

    def take(self, layout: struct.Struct) -> tuple[int, ...]:
        values = layout.unpack_from(self._body, self._position)
        self._position += layout.size
        return values

    def int16(self) -> int:
        return self.take(_INT16)[0]

    def int32(self) -> int:
        return self.take(_INT32)[0]

    def int64(self) -> int:
        return self.take(_INT64)[0]

    def int8(self) -> int:
        return self.take(_INT8)[0]

    def string(self) -> str | None:
        size = self.int16()
        if size < 0:
            return None
        self._position += size
        return self._body[self._position - size : self._position].decode()


_INT8, _INT16, _INT32, _INT64 = (struct.Struct(">" + code) for code in "bhiq")


class WireConnection:
    """One connection, one request at a time."""

    def __init__(self, address: Address, timeout_seconds: float = 30) -> None:
        self._socket = socket.create_connection(address, CONNECT_TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(timeout_seconds)
        self._correlation_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def call(self, api_key: int, version: int, body: bytes) -> Reader:
        self._correlation_id += 1
        self._socket.sendall(request_frame(api_key, version, self._correlation_id, body))
        size, correlation_id = struct.unpack(">ii", self._receive(8))
        if correlation_id != self._correlation_id:
            raise WireError(f"correlation id {correlation_id} answers request {self._correlation_id}")
        return Reader(self._receive(size - 4))

    def _receive(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            chunk = self._socket.recv(size - len(received))
            if not chunk:
                raise WireError(f"connection closed after {len(received)} of {size} bytes")
            received += chunk
        return bytes(received)

    def api_versions(self) -> dict[int, tuple[int, int]]:
        """{API key: (lowest, highest version)}"""
        reader = self.call(API_VERSIONS, 0, b"")
        _check(reader.int16(), "ApiVersions")
        rows = [(reader.int16(), reader.int16(), reader.int16()) for _ in range(reader.int32())]
        return {key: (lowest, highest) for key, lowest, highest in rows}

    def metadata(self, topics: Sequence[str] | None = None) -> Metadata:
        """Metadata v1; None asks for all topics."""
        body = struct.pack(">i", -1) if topics is None else array(string(name) for name in topics)
        reader = self.call(METADATA, 1, body)
        brokers: dict[int, Address] = {}
        for _ in range(reader.int32()):
            node_id, host, port, _rack = reader.int32(), reader.string(), reader.int32(), reader.string()
            brokers[node_id] = (host or "", port)
        controller_id = reader.int32()
        found = dict(_read_topic(reader) for _ in range(reader.int32()))
        return Metadata(brokers, controller_id, {name: parts for name, parts in found.items() if parts})

    def create_topic(self, name: str, partitions: int, configs: Mapping[str, str] | None = None) -> None:
        """CreateTopics v2, replication factor 1."""
        entries = array(string(key) + string(value) for key, value in (configs or {}).items())
        topic = string(name) + struct.pack(">ih", partitions, 1) + array(()) + entries
        reader = self.call(CREATE_TOPICS, 2, array([topic]) + struct.pack(">ib", 30_000, 0))
        reader.int32()
        for _ in range(reader.int32()):
            reader.string()
            _check(reader.int16(), f"CreateTopics {name}", reader.string())

    def delete_topic(self, name: str) -> None:
        """DeleteTopics v1."""
        reader = self.call(DELETE_TOPICS, 1, array([string(name)]) + struct.pack(">i", 30_000))
        reader.int32()
        for _ in range(reader.int32()):
            reader.string()
            _check(reader.int16(), f"DeleteTopics {name}")

    def list_offset(self, topic: str, partition: int, timestamp_ms: int = LATEST) -> int:
        """ListOffsets v1: the offset for a timestamp, EARLIEST or LATEST; -1 when there is none."""
        entry = string(topic) + array([struct.pack(">iq", partition, timestamp_ms)])
        reader = self.call(LIST_OFFSETS, 1, struct.pack(">i", -1) + array([entry]))
        offset = -1
        for _ in range(reader.int32()):
            reader.string()
            for _ in range(reader.int32()):
                reader.int32()
                _check(reader.int16(), f"ListOffsets {topic}-{partition}")
                reader.int64()
                offset = reader.int64()
        return offset


def fetch_body(
    topic: str, partitions: Mapping[int, int], wait_ms_max: int, bytes_max: int = 1 << 20
) -> bytes:
    """Body of Fetch v4 from {partition: offset}, min_bytes 1."""
    entries = array(struct.pack(">iqi", index, offset, bytes_max) for index, offset in partitions.items())
    return struct.pack(">iiiib", -1, wait_ms_max, 1, bytes_max, 0) + array([string(topic) + entries])


def _read_topic(reader: Reader) -> tuple[str, dict[int, int]]:
    error, name, _internal = reader.int16(), reader.string(), reader.int8()
    partitions: dict[int, int] = {}
    for _ in range(reader.int32()):
        partition_error, index, leader = reader.int16(), reader.int32(), reader.int32()
        for _ in range(2):
            reader.take(struct.Struct(f">{reader.int32()}i"))
        partitions[index] = -1 if partition_error else leader
    return name or "", {} if error else partitions


def _check(code: int, what: str, message: str | None = None) -> None:
    if code:
        raise WireError(f"{what}: error code {code} {message or ''}")


def is_serving(address: Address) -> bool:
    """True once the broker answers ApiVersions and its Metadata names a broker and a controller."""
    try:
        with WireConnection(address, timeout_seconds=5) as connection:
            connection.api_versions()
            answer = connection.metadata(())
            return bool(answer.brokers) and answer.controller_id >= 0
    except (OSError, WireError):
        return False


def wait_for_leaders(address: Address, topics: Mapping[str, int], timeout_seconds: float = 30) -> float:
    """Waits until `has_leaders`; returns the seconds that took."""
    return wait_until(lambda: has_leaders(address, topics), f"leaders of {dict(topics)}", timeout_seconds)


def has_leaders(address: Address, topics: Mapping[str, int]) -> bool:
    """True once every partition of {topic: partition count} has a leader."""
    try:
        with WireConnection(address) as connection:
            found = connection.metadata(list(topics)).topics
    except (OSError, WireError):
        return False
    return all(
        len(found.get(name, {})) == count and min(found[name].values()) >= 0 for name, count in topics.items()
    )
