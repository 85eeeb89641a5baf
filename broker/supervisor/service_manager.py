"""Messages to systemd (sd_notify): ready, status, stopping, more time, alive.

Runs in: supervisor. A node without NOTIFY_SOCKET runs the same, silently.
"""
from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

EXTEND_TIMEOUT_US = 60_000_000
"""Asked for at each progress; progress comes more often than that, or something hangs."""
_log = logging.getLogger("ottla.supervisor")


class ServiceManager:
    """environment: of the process, as systemd set it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        self._status = ""
        self.watchdog_interval_ms = self._watchdog_interval_ms(environment)
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def ready(self) -> None:
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def extend_timeout(self) -> None:
        """The start or stop under way makes progress."""
        self._send(f"EXTEND_TIMEOUT_USEC={EXTEND_TIMEOUT_US}")

    def alive(self) -> None:
        """At least every watchdog_interval_ms, if that is not None."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if self._socket is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            self._socket.sendto(text.encode(), address)
        except OSError as error:
            _log.warning("service manager did not take %s: %s", text, error.strerror)

    @staticmethod
    def _watchdog_interval_ms(environment: Mapping[str, str]) -> int | None:
        """Half of what systemd allows, as its manual advises; None when no watchdog is set for us."""
        period = environment.get("WATCHDOG_USEC", "")
        pid = environment.get("WATCHDOG_PID", str(os.getpid()))
        if not period.isdecimal() or int(period) == 0 or pid != str(os.getpid()):
            return None
        return max(1, int(period) // 2000)
