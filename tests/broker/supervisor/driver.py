"""Drives a toy node from a test: starts it, reads its trace, kills its parts, talks to its front end."""
from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WAIT_S_MAX = 20.0
POLL_S = 0.01
ROOT = Path(__file__).resolve().parents[3]


def wait_until(condition: Callable[[], Any], what: str, wait_s: float = WAIT_S_MAX) -> Any:
    """First truthy result of `condition`; AssertionError with `what` at the deadline."""
    deadline = time.monotonic() + wait_s
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {wait_s} s: {what}"
        time.sleep(POLL_S)


class ToyNode:
    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        self.options: dict[str, Any] = {"log_dirs": [str(directory / "a"), str(directory / "b")],
                                        "trace": str(directory / "trace")} | options
        self.log_path = directory / "log"
        self._log = self.log_path.open("ab")
        environment = os.environ | self.options.get("environment", {})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.broker.supervisor.toy_node", json.dumps(self.options)],
            stdout=self._log, stderr=self._log, cwd=ROOT, env=environment,
        )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def events(self, process: str = "", event: str = "") -> list[dict[str, Any]]:
        path = Path(self.options["trace"])
        lines = path.read_text().splitlines() if path.exists() else []
        parsed = [json.loads(line) for line in lines]
        return [one for one in parsed if process in ("", one["process"]) and event in ("", one["event"])]

    def wait_event(self, process: str, event: str, count: int = 1) -> dict[str, Any]:
        """The event number `count` of that kind."""
        what = f"{process}: {event} x {count}\n{self.log}"
        found = wait_until(lambda: self.events(process, event)[count - 1:], what)
        return found[0]

    def wait_ready(self) -> None:
        wait_until(lambda: "Ottla is ready" in self.log or self.process.poll() is not None, "ready")
        assert self.process.poll() is None, self.log

    def pid(self, process: str) -> int:
        """Of the newest incarnation."""
        return int(self.events(process, "started")[-1]["pid"])

    def kill(self, process: str, number: int = 9) -> None:
        os.kill(self.pid(process), number)

    @contextmanager
    def client(self) -> Iterator[Callable[..., Any]]:
        """A connection to the front end: call it with a command, get the answer."""
        port = self.events("front end", "started")[-1]["port"]
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock, sock.makefile("r") as lines:
            def ask(**command: Any) -> str:
                sock.sendall((json.dumps(command) + "\n").encode())
                return lines.readline().strip()

            yield ask

    def stop(self) -> int:
        """SIGTERM and the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.wait_exit()

    def wait_exit(self) -> int:
        try:
            return self.process.wait(WAIT_S_MAX)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running\n{self.log}") from None

    def close(self) -> None:
        """End of the test: nothing stays."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._log.close()
