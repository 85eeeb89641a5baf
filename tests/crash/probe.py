"""Questions asked while parts die: which partitions serve, how far can be read, is the door open.

By hand and not by librdkafka, so that one answer is one observation: no retries, no cache.
Runs in: the test process.
"""
from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Mapping

from tests.peers.wire import (
    LATEST,
    LIST_OFFSETS,
    Address,
    WireConnection,
    WireError,
    array,
    string,
)


def end_offsets(connection: WireConnection, topic: str, partitions: range) -> dict[int, tuple[int, int]]:
    """{partition: (error code, high watermark or -1)} from one ListOffsets v1."""
    entries = array(struct.pack(">iq", number, LATEST) for number in partitions)
    reader = connection.call(LIST_OFFSETS, 1, struct.pack(">i", -1) + array([string(topic) + entries]))
    found = {}
    for _ in range(reader.int32()):
        reader.string()
        for _ in range(reader.int32()):
            number, error = reader.int32(), reader.int16()
            reader.int64()
            found[number] = (error, reader.int64())
    return found


def all_serve(address: Address, topic: str, partitions: range) -> bool:
    """Every partition is led here and may be read."""
    try:
        with WireConnection(address, timeout_seconds=5) as connection:
            return not any(error for error, _ in end_offsets(connection, topic, partitions).values())
    except (OSError, WireError):
        return False


def watermarks(address: Address, topic: str, partitions: range) -> Mapping[int, int]:
    with WireConnection(address) as connection:
        answers = end_offsets(connection, topic, partitions)
    assert not any(error for error, _ in answers.values()), answers
    return {number: offset for number, (_, offset) in answers.items()}


class DoorWatcher(threading.Thread):
    """Connects again and again; `refused` counts who was turned away, `longest_wait_seconds` who had to queue."""

    def __init__(self, address: Address, pause_seconds: float = 0.01) -> None:
        super().__init__(daemon=True)
        self.attempts = 0
        self.refused: list[str] = []
        self.longest_wait_seconds = 0.0
        self._address = address
        self._pause_seconds = pause_seconds
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(self._pause_seconds):
            started = time.monotonic()
            self.attempts += 1
            try:
                socket.create_connection(self._address, 5).close()
                with WireConnection(self._address, timeout_seconds=5) as connection:
                    connection.api_versions()
            except (OSError, WireError) as error:
                self._note(error)
            self.longest_wait_seconds = max(self.longest_wait_seconds, time.monotonic() - started)

    def _note(self, error: Exception) -> None:
        """Dropped in the middle of an exchange is what a death does; turned away at the door is not."""
        if isinstance(error, ConnectionRefusedError | TimeoutError):
            self.refused.append(repr(error))

    def end(self) -> None:
        self._ended.set()
        self.join()
