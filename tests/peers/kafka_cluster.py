"""A real ZooKeeper and real Kafka 3.9.1 brokers, on given or temporary directories and free ports.

Why: a Kafka broker on Ottla's directories (and the reverse) is the strongest check of the bytes on
disk, and every claim about clients and speed is made beside it.
Runs in: the test process; the JVMs are its children.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.peers.kafka_jars import java_command
from tests.peers.processes import ChildProcess, free_ports, wait_until
from tests.peers.wire import Address, is_serving
from tests.peers.zookeeper import four_letter_word

START_TIMEOUT_SECONDS = 90
STOP_TIMEOUT_SECONDS = 60
SESSION_TIMEOUT_MS = 6000

_LOG4J = """log4j.rootLogger=INFO, stdout
log4j.appender.stdout=org.apache.log4j.ConsoleAppender
log4j.appender.stdout.layout=org.apache.log4j.PatternLayout
log4j.appender.stdout.layout.ConversionPattern=[%d] %p %m (%c)%n
log4j.logger.org.apache.zookeeper=WARN
"""


def write_properties(path: Path, values: Mapping[str, str]) -> Path:
    path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    return path


class ZooKeeper:
    """A standalone ZooKeeper 3.8.4 (the one that Kafka 3.9.1 brings)."""

    def __init__(self, libs: Path, work_dir: Path, port: int | None = None) -> None:
        self.port = port or free_ports(1)[0]
        self._libs = libs
        self._work_dir = work_dir
        self._process: ChildProcess | None = None
        work_dir.mkdir(parents=True, exist_ok=True)

    @property
    def connect_string(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        config = {
            "tickTime": "1000",
            "dataDir": str(self._work_dir / "zookeeper-data"),
            "clientPort": str(self.port),
            "clientPortAddress": "127.0.0.1",
            "maxClientCnxns": "0",
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "*",
        }
        path = write_properties(self._work_dir / "zoo.cfg", config)
        log4j = _write_log4j(self._work_dir)
        argv = [java_command(), "-Xmx256m", f"-Dlog4j.configuration=file:{log4j}", "-cp", f"{self._libs}/*"]
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        log_path = self._work_dir / "zookeeper.log"
        self._process = ChildProcess("zookeeper", [*argv, main, str(path)], log_path, self._work_dir)
        self._process.wait_until(
            lambda: self.four_letter_word("ruok") == "imok", "ZooKeeper answers", START_TIMEOUT_SECONDS
        )

    def four_letter_word(self, word: str) -> str:
        """The answer to a ZooKeeper four-letter word; empty when it does not listen."""
        return four_letter_word(("127.0.0.1", self.port), word)

    def has_ephemeral(self, path: str) -> bool:
        return any(line.strip() == path for line in self.four_letter_word("dump").splitlines())

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process = None


class KafkaBroker:
    """One Kafka 3.9.1 broker in ZooKeeper mode. `overrides` are server.properties lines."""

    name = "kafka"

    def __init__(
        self,
        libs: Path,
        work_dir: Path,
        zookeeper: ZooKeeper,
        overrides: Mapping[str, str] | None = None,
        broker_id: int = 1,
        port: int | None = None,
        log_dirs: Sequence[Path] | None = None,
        heap: str = "700m",
        chroot: str = "",
    ) -> None:
        self.port = port or free_ports(1)[0]
        self.broker_id = broker_id
        self.log_dirs = list(log_dirs or [work_dir / "kafka-logs"])
        self.zookeeper = zookeeper
        self._libs = libs
        self._work_dir = work_dir
        self._heap = heap
        self._chroot = chroot
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
        return self._running().pid

    def properties(self) -> dict[str, str]:
        """The server.properties it runs with; one node's replication factors, quick group start."""
        return {
            "broker.id": str(self.broker_id),
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "log.dirs": ",".join(map(str, self.log_dirs)),
            "zookeeper.connect": f"{self.zookeeper.connect_string}{self._chroot}",
            "zookeeper.session.timeout.ms": str(SESSION_TIMEOUT_MS),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "5",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "5",
            "group.initial.rebalance.delay.ms": "0",
            **self._overrides,
        }

    def start(self) -> float:
        """Starts and waits until it serves; returns the seconds from exec to the first served Metadata.

        After a kill it first waits for ZooKeeper to drop the old registration (not part of the
        seconds): Kafka refuses to start while its own stale node is there.
        """
        config = write_properties(self._work_dir / f"server-{self.broker_id}.properties", self.properties())
        self._wait_for_stale_registration()
        options = [f"-Xms{self._heap}", f"-Xmx{self._heap}", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]
        options.append(f"-Dlog4j.configuration=file:{_write_log4j(self._work_dir)}")
        argv = [java_command(), *options, "-cp", f"{self._libs}/*", "kafka.Kafka", str(config)]
        log_path = self._work_dir / f"kafka-{self.broker_id}.log"
        self._process = ChildProcess("kafka", argv, log_path, self._work_dir)
        return self._process.wait_until(
            lambda: is_serving(self.address), "Kafka serves clients", START_TIMEOUT_SECONDS
        )

    def _wait_for_stale_registration(self) -> None:
        path = f"{self._chroot}/brokers/ids/{self.broker_id}"
        wait_until(lambda: not self.zookeeper.has_ephemeral(path), f"ZooKeeper drops {path}", 30)

    def stop(self) -> int:
        """Clean stop; returns the exit code (143 from a JVM that ended by SIGTERM)."""
        process, self._process = self._running(), None
        return process.terminate(STOP_TIMEOUT_SECONDS)

    def kill(self) -> None:
        process, self._process = self._running(), None
        process.kill()

    def close(self) -> None:
        """For fixtures: gone, running or not."""
        if self._process:
            self.kill()

    def check_running(self) -> None:
        """PeerFailedError with the end of the log when the process has ended by itself."""
        process = self._running()
        if process.return_code is not None:
            raise process.failure("is gone")

    def log_text(self) -> str:
        return self._running().log_text()

    def _running(self) -> ChildProcess:
        if self._process is None:
            raise RuntimeError("this broker is not running")
        return self._process


def _write_log4j(work_dir: Path) -> Path:
    path = work_dir / "log4j.properties"
    if not path.exists():
        path.write_text(_LOG4J)
    return path
