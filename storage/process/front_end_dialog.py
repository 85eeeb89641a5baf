"""Answers to the front end's questions about the whole directory, by datagram.

What: `list` (every log with its slot, and without one those that were set aside) and `stats` (sizes), in
chunks that fit a datagram.
Runs in: storage, writer thread.
"""

from __future__ import annotations

from typing import Any

from storage.ipc.control import ControlClosedError, ControlSocket
from storage.log.directory import LogDirectory
from storage.process.slots import SlotMap

ITEMS_PER_DATAGRAM = 150
"""At most about 330 bytes each (a topic name has up to 249): under 64 KB."""

NO_SLOT = 0xFFFFFFFF


class FrontEndDialog:
    def __init__(self, sock: ControlSocket, directory: LogDirectory, slots: SlotMap) -> None:
        self._socket = sock
        self._directory = directory
        self._slots = slots

    def serve(self) -> None:
        """Answer everything that has arrived."""
        while True:
            try:
                received = self._socket.receive_nowait()
            except ControlClosedError:
                return  # the supervisor keeps both ends open; it says itself when it is gone
            if received is None:
                return
            message, _ = received
            if message["kind"] == "list":
                self._answer("partitions", message.get("number"), self._partitions())
            elif message["kind"] == "stats":
                self._answer("sizes", message.get("number"), self._sizes())

    def _partitions(self) -> list[list[Any]]:
        items = []
        for partition_log in self._slots:
            topic, number = partition_log.topic, partition_log.partition
            watermark = self._directory.checkpoint_high_watermark(topic, number)
            items.append([topic, number, partition_log.topic_id, *self._slots.place_of(partition_log), watermark])
        return items + [[*key, bytes(16), NO_SLOT, 0, 0] for key in self._directory.failed]

    def _sizes(self) -> list[list[Any]]:
        return [[status.topic, status.partition, status.size_bytes] for status in self._directory.status()]

    def _answer(self, kind: str, number: Any, items: list[list[Any]]) -> None:
        for start in range(0, max(len(items), 1), ITEMS_PER_DATAGRAM):
            chunk = items[start : start + ITEMS_PER_DATAGRAM]
            last = start + ITEMS_PER_DATAGRAM >= len(items)
            self._socket.send({"kind": kind, "number": number, "items": chunk, "last": last})
