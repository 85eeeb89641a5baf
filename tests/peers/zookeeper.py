"""Real ZooKeeper servers of several releases, alone or three together, that tests stop, kill and pause.

Debian's 3.8.0 lies in /usr/share/java; others come from Maven Central into the cache (see cache.py). The one
in kafka_cluster.py is Kafka's companion and is shared by a whole run; these belong to the test that made them.
Runs in: the test process; the JVMs are its children.
"""
from __future__ import annotations

import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.peers.kafka_jars import java_command, kafka_libs, maven_libs
from tests.peers.processes import ChildProcess, PeerUnavailableError, free_ports, wait_until

START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 20
TICK_MS = 500
"""Sessions last from 2 to 20 ticks: 1 to 10 s."""

DEBIAN = "debian"
KAFKAS = "3.8.4"
NEWEST = "3.9.4"
SLF4J_VERSION = "2.0.13"

_DEBIAN_JARS = Path("/usr/share/java")
_DEBIAN_NAMES = ("zookeeper", "zookeeper-jute", "slf4j-api", "slf4j-simple", "netty-all", "snappy-java",
                 "metrics-core", "commons-cli", "commons-io", "commons-lang3", "jline", "json-simple")
_MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"


def classpath(release: str) -> str:
    """`debian`, or a release of Maven Central; PeerUnavailableError says what is missing."""
    if release == DEBIAN:
        if not (_DEBIAN_JARS / "zookeeper.jar").exists():
            raise PeerUnavailableError("no ZooKeeper found: install Debian's libzookeeper-java")
        names = [_DEBIAN_JARS / f"{name}.jar" for name in _DEBIAN_NAMES]
        return ":".join(str(name) for name in names if name.exists())
    if release == KAFKAS:
        return f"{kafka_libs()}/*"
    coordinates = (f"org.apache.zookeeper:zookeeper:{release}", f"org.slf4j:slf4j-simple:{SLF4J_VERSION}",
                   "org.xerial.snappy:snappy-java:1.1.10.5", "io.dropwizard.metrics:metrics-core:4.1.12.1")
    return f"{maven_libs(f'zookeeper-{release}', coordinates)}/*"


def four_letter_word(address: tuple[str, int], word: str) -> str:
    """The answer of the ZooKeeper there; empty when it does not listen."""
    try:
        with socket.create_connection(address, 5) as connection:
            connection.sendall(word.encode())
            chunks = []
            while chunk := connection.recv(65536):
                chunks.append(chunk)
    except OSError:
        return ""
    return b"".join(chunks).decode(errors="replace")


class ZooKeeperServer:
    """One server. properties: lines of zoo.cfg besides the usual; jvm_options as for java."""

    def __init__(self, classpath: str, work_dir: Path, port: int | None = None,
                 properties: Mapping[str, str] | None = None, jvm_options: Sequence[str] = ()) -> None:
        self.port = port or free_ports(1)[0]
        self._classpath = classpath
        self._work_dir = work_dir
        self._properties = dict(properties or {})
        self._jvm_options = list(jvm_options)
        self._process: ChildProcess | None = None
        (work_dir / "data").mkdir(parents=True, exist_ok=True)

    @property
    def connect_string(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    @property
    def data_dir(self) -> Path:
        """Snapshots and transaction log (`version-2` in it)."""
        return self._work_dir / "data"

    def start(self, wait: bool = True) -> None:
        """Keeps its data and its port over restarts."""
        properties = {
            "tickTime": str(TICK_MS), "initLimit": "20", "syncLimit": "10", "dataDir": str(self.data_dir),
            "clientPort": str(self.port), "clientPortAddress": "127.0.0.1", "maxClientCnxns": "0",
            "admin.enableServer": "false", "4lw.commands.whitelist": "*", **self._properties,
        }
        config = self._work_dir / "zoo.cfg"
        config.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        argv = [java_command(), "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dzookeeper.forceSync=no",
                *self._jvm_options, "-cp", self._classpath, _MAIN, str(config)]
        self._process = ChildProcess("zookeeper", argv, self._work_dir / "zookeeper.log", self._work_dir)
        if wait:
            self.wait_until_serving()

    def wait_until_serving(self) -> None:
        """Until it answers clients; a member of an ensemble only does so with a leader."""
        self._running().wait_until(
            lambda: "Mode:" in self.four_letter_word("srvr"), "ZooKeeper serves", START_SECONDS_MAX)

    def stop(self) -> None:
        """Harmless when it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate(STOP_SECONDS_MAX)

    def kill(self) -> None:
        """Harmless when it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def pause(self) -> None:
        """SIGSTOP: connections stand, nothing answers."""
        psutil.Process(self._running().pid).send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        psutil.Process(self._running().pid).send_signal(signal.SIGCONT)

    @property
    def mode(self) -> str:
        """standalone, leader, follower, or "" while it serves nobody."""
        for line in self.four_letter_word("srvr").splitlines():
            if line.startswith("Mode:"):
                return line.partition(":")[2].strip()
        return ""

    def four_letter_word(self, word: str) -> str:
        """The answer to a ZooKeeper four-letter word; empty when it does not listen."""
        return four_letter_word(self.address, word)

    def log_text(self) -> str:
        return self._running().log_text()

    def _running(self) -> ChildProcess:
        if self._process is None:
            raise RuntimeError("this ZooKeeper is not running")
        return self._process


class ZooKeeperEnsemble:
    """Several servers that elect a leader among themselves."""

    def __init__(self, classpath: str, work_dir: Path, size: int = 3) -> None:
        ports = free_ports(3 * size)
        members = {f"server.{number + 1}": f"127.0.0.1:{ports[3 * number]}:{ports[3 * number + 1]}"
                   for number in range(size)}
        self.servers = [
            ZooKeeperServer(classpath, work_dir / f"server-{number + 1}", ports[3 * number + 2], members)
            for number in range(size)]
        for number, server in enumerate(self.servers, start=1):
            (server.data_dir / "myid").write_text(f"{number}\n")

    @property
    def connect_string(self) -> str:
        return ",".join(server.connect_string for server in self.servers)

    def start(self) -> None:
        for server in self.servers:
            server.start(wait=False)
        for server in self.servers:
            server.wait_until_serving()

    def leader(self) -> ZooKeeperServer:
        """Waits until there is one."""
        found: list[ZooKeeperServer] = []

        def search() -> bool:
            found[:] = [server for server in self.servers if server.mode == "leader"]
            return bool(found)

        wait_until(search, "a ZooKeeper leads", START_SECONDS_MAX)
        return found[0]

    def kill(self) -> None:
        for server in self.servers:
            server.kill()
