"""The file that lets a restarted node resume its ZooKeeper session: `ottla-zookeeper-session`.

While the supervisor lives it keeps id and password itself. After `kill -9` of everything this file is what is
left: with it the next start takes its own registration over at once instead of waiting for the session to
expire. It holds a password, so it is readable by its owner only; and it is believed only in the directory and
since the boot that it was written for: a copy of the directory, started elsewhere, must not take the session
of a broker that lives. Plain file in the first log directory: Kafka ignores it.

Runs in: controller. Written at each new session, removed at a clean stop.
"""
from __future__ import annotations

import json
import logging
import os
from typing import Any

from controller.metadata_store.operations import SessionId

_log = logging.getLogger(__name__)

KEPT_SESSION_FILE = "ottla-zookeeper-session"
VERSION = 1
SIZE_BYTES_MAX = 4096
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class KeptSession:
    """log_dir: the first log directory. connect: the ZooKeeper that the session belongs to."""

    def __init__(self, log_dir: str, connect: str) -> None:
        self.path = os.path.join(log_dir, KEPT_SESSION_FILE)
        self._log_dir = log_dir
        self._connect = connect

    def read(self) -> SessionId | None:
        """None also for a file that is not of this place and boot; ZooKeeper judges the rest."""
        try:
            text = _read(self.path)
            where = self._where()
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("%s cannot be read: %s", self.path, error.strerror)
            return None
        try:
            kept = json.loads(text)
            if {key: kept[key] for key in where} != where:
                return None
            return SessionId(int(kept["session"], 16), bytes.fromhex(kept["password"]))
        except (ValueError, KeyError, TypeError):
            _log.warning("%s is not what this broker writes: it is not used", self.path)
            return None

    def write(self, session: SessionId) -> None:
        """Without it a killed node waits for its own session to expire: no reason not to run."""
        temporary = self.path + ".tmp"
        try:
            content = {**self._where(), "session": hex(session.id), "password": session.password.hex()}
            _remove(temporary)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, json.dumps(content).encode() + b"\n")
            finally:
                os.close(descriptor)
            os.rename(temporary, self.path)
        except OSError as error:
            _log.warning("%s cannot be written (%s): after a kill the next start will have to wait for the "
                         "session to expire", self.path, error.strerror)

    def remove(self) -> None:
        try:
            _remove(self.path)
        except OSError as error:
            _log.warning("%s cannot be removed: %s", self.path, error.strerror)

    def _where(self) -> dict[str, Any]:
        status = os.stat(self._log_dir)
        return {"version": VERSION, "connect": self._connect, "boot": _read(_BOOT_ID).strip(),
                "directory": [status.st_dev, status.st_ino]}


def _read(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, SIZE_BYTES_MAX).decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
