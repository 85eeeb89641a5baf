"""`ottla start` of this checkout as a child process, with its own port and directories.

Why a subprocess and not functions: what is tested is the command that a unit file runs, with its
process tree, its signals and its log.
Runs in: the test process; the supervisor is its child.
"""
from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.peers.kafka_cluster import write_properties
from tests.peers.processes import ChildProcess, descendants, free_ports, kill_processes
from tests.peers.wire import Address, is_serving

REPOSITORY = Path(__file__).resolve().parents[2]
START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 60

# Not the installed script: the environment may hold another checkout's.
_START = "import sys; from broker.cli.main import main; sys.exit(main())"


class OttlaBroker:
    """One Ottla node with embedded metadata. `overrides` are server.properties lines."""

    name = "ottla"

    def __init__(
        self,
        work_dir: Path,
        overrides: Mapping[str, str] | None = None,
        broker_id: int = 1,
        port: int | None = None,
        log_dirs: Sequence[Path] | None = None,
    ) -> None:
        self.port = port or free_ports(1)[0]
        self.broker_id = broker_id
        self.log_dirs = list(log_dirs or [work_dir / "ottla-logs"])
        self._work_dir = work_dir
        self._overrides = dict(overrides or {})
        self._process: ChildProcess | None = None
        work_dir.mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> Address:
        return ("127.0.0.1", self.port)

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The supervisor's."""
        return self._running().pid

    def properties(self) -> dict[str, str]:
        return {
            "broker.id": str(self.broker_id),
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "log.dirs": ",".join(map(str, self.log_dirs)),
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            **self._overrides,
        }

    def spawn(
        self, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> ChildProcess:
        """Starts without waiting; more command line arguments, such as --override, may follow."""
        config = write_properties(self._work_dir / f"ottla-{self.broker_id}.properties", self.properties())
        argv = [sys.executable, "-c", _START, "start", str(config), *arguments]
        log_path = self._work_dir / f"ottla-{self.broker_id}.log"
        variables = {"PYTHONPATH": str(REPOSITORY), **(environment or {})}
        self._process = ChildProcess("ottla", argv, log_path, self._work_dir, variables)
        return self._process

    def start(self, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> float:
        """Starts and waits until it serves; returns the seconds from exec to the first served Metadata."""
        process = self.spawn(arguments, environment)
        return process.wait_until(
            lambda: is_serving(self.address), "Ottla serves clients", START_TIMEOUT_SECONDS
        )

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """Clean stop; returns the exit code. Fails when a process is left behind."""
        process, self._process = self._running(), None
        return process.terminate(STOP_TIMEOUT_SECONDS, signal_number)

    def kill(self) -> None:
        """SIGKILL to the whole tree at once, as a power cut for the processes (not for the page cache)."""
        process, self._process = self._running(), None
        process.kill()

    def close(self) -> None:
        """For fixtures: gone, running or not."""
        if self._process:
            self.kill()

    def processes(self) -> dict[str, int]:
        """{process title: pid} of the whole tree, e.g. 'ottla: front end'. The supervisor's too."""
        found = {}
        for process in descendants(self.pid):
            try:
                found[" ".join(process.cmdline()).strip()] = process.pid
            except psutil.NoSuchProcess:
                continue
        return found

    def pid_of(self, title_part: str) -> int:
        """The one process whose title contains this text; AssertionError lists what there is."""
        processes = self.processes()
        matches = [pid for title, pid in processes.items() if title_part in title]
        assert len(matches) == 1, f"{len(matches)} processes have {title_part!r} in the title: {processes}"
        return matches[0]

    def kill_process(self, title_part: str) -> int:
        """SIGKILL to the one process with this text in its title; returns the pid it had."""
        pid = self.pid_of(title_part)
        kill_processes([psutil.Process(pid)])
        return pid

    def check_running(self) -> None:
        """PeerFailedError with the end of the log when the process has ended by itself."""
        process = self._running()
        if process.return_code is not None:
            raise process.failure("is gone")

    def log_text(self) -> str:
        return self._running().log_text()

    def wait_until_serving(self, timeout_seconds: float = START_TIMEOUT_SECONDS) -> float:
        """For use after a part was killed."""
        return self._running().wait_until(
            lambda: is_serving(self.address), "Ottla serves clients again", timeout_seconds
        )

    def _running(self) -> ChildProcess:
        if self._process is None:
            raise RuntimeError("this broker is not running")
        return self._process
