"""Recovery scans in helper processes, one for each thread of the loading pool.

What: a scan function for a thread that asks the supervisor for a helper at its first use, waits for it, and
replaces it when it dies.
Why helpers: header walks over small batches keep the interpreter lock, two threads give nothing (REVIEW 7).
After a clean stop nothing is scanned and no helper is ever asked for.
Runs in: storage; `scan` in a thread of the pool, `helper_arrived` in the main thread.
"""

from __future__ import annotations

import logging
import queue
import socket
from collections.abc import Callable
from typing import Any

from storage.helpers.client import HelperClient, HelperDiedError
from storage.helpers.segment_scan import SegmentScan, scan_segment
from storage.log.state_rebuild import Scan

log = logging.getLogger(__name__)

PURPOSE = "recovery scan"
HELPER_WAIT_S_MAX = 30.0
HELPER_DEATHS_MAX = 3


class RecoveryScans:
    """`ask_for_helper` must be callable from any thread."""

    def __init__(self, ask_for_helper: Callable[[], None]) -> None:
        self._ask_for_helper = ask_for_helper
        self._arrived: queue.Queue[socket.socket] = queue.Queue()
        self._clients: list[HelperClient] = []

    def helper_arrived(self, sock: socket.socket) -> None:
        self._arrived.put(sock)

    def for_thread(self) -> Scan:
        """A scan function for one thread, with a helper of its own."""
        client: HelperClient | None = None

        def scan(path: str, start_position: int, base_offset: int, index_interval_bytes: int,
                 **options: Any) -> SegmentScan:  # fmt: skip
            nonlocal client
            for _ in range(HELPER_DEATHS_MAX):
                client = client or self._connect()
                if client is None:
                    break
                try:
                    return client.scan_segment(
                        path, start_position, base_offset, index_interval_bytes, **options
                    )
                except HelperDiedError as error:
                    log.warning("Scanning %s: %s; asking for another helper", path, error)
                    client = None
            log.warning("Scanning %s without a helper", path)
            return scan_segment(path, start_position, base_offset, index_interval_bytes, **options)

        return scan

    def _connect(self) -> HelperClient | None:
        self._ask_for_helper()
        try:
            client = HelperClient(self._arrived.get(timeout=HELPER_WAIT_S_MAX))
        except queue.Empty:
            return None
        self._clients.append(client)
        return client

    def close(self) -> None:
        """Loading is over: the helpers end when they see this."""
        for client in self._clients:
            client.close()
        while not self._arrived.empty():
            self._arrived.get().close()
