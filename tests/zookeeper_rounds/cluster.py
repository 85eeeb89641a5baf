"""Real nodes on real ZooKeeper servers, with a proxy between each node and each server, to be broken.

Runs in: the test process.
"""
from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.retry import KazooRetry

from controller import znodes
from controller.cluster import TopicPartition
from tests.peers.ottla_broker import OttlaBroker
from tests.peers.processes import descendants, wait_until
from tests.peers.tcp_proxy import TcpProxy
from tests.peers.wire import WireConnection, WireError
from tests.peers.zookeeper import KAFKAS, ZooKeeperEnsemble, ZooKeeperServer, classpath
from tests.zookeeper_rounds.namespace import Cable, Namespace, NamespaceServer
from tests.zookeeper_rounds.transaction_log import Transaction, read_log, session_password

SESSION_TIMEOUT_MS = 3000
SETTLE_SECONDS_MAX = 40
OPERATOR_SESSION_SECONDS = 8
_CALL_SECONDS_MAX = 5


class Node(OttlaBroker):
    """ways: to the servers, nobody else's."""

    def __init__(self, work_dir: Path, broker_id: int, ways: Sequence[TcpProxy | Cable]) -> None:
        self.ways = ways
        connect = ",".join(way.connect_string for way in ways)
        super().__init__(work_dir / f"node-{broker_id}", {
            "zookeeper.connect": connect, "zookeeper.session.timeout.ms": str(SESSION_TIMEOUT_MS),
            "auto.create.topics.enable": "false"}, broker_id=broker_id)

    @property
    def log_path(self) -> Path:
        """Of all incarnations."""
        return self._work_dir / f"ottla-{self.broker_id}.log"

    def signal_tree(self, signal_number: int) -> None:
        """To all of its processes, the supervisor first (it must not see the others stop)."""
        for process in descendants(self.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal_number)

    def signal_controller(self, signal_number: int) -> None:
        psutil.Process(self.pid_of("controller")).send_signal(signal_number)

    def close(self) -> None:
        if self._process is not None:
            self.signal_tree(signal.SIGCONT)
        super().close()
        for way in self.ways:
            way.close()


def _patience() -> KazooRetry:
    return KazooRetry(max_tries=-1, delay=0.05, max_delay=0.5)


class Cluster:
    """Use `running_cluster`. servers: one, maybe in a namespace, or three that are an ensemble."""

    def __init__(self, work_dir: Path, node_count: int, server_count: int, namespace: Namespace | None) -> None:
        jars = classpath(KAFKAS)
        self.ensemble: ZooKeeperEnsemble | None = None
        self.servers: list[ZooKeeperServer] = []
        self._namespace = namespace
        if namespace is not None:
            self.servers = [NamespaceServer(jars, work_dir / "zookeeper", namespace)]
        elif server_count == 1:
            self.servers = [ZooKeeperServer(jars, work_dir / "zookeeper")]
        else:
            self.ensemble = ZooKeeperEnsemble(jars, work_dir / "zookeeper", server_count)
            self.servers = self.ensemble.servers
        self.nodes = {broker_id: Node(work_dir, broker_id, self._ways(broker_id))
                      for broker_id in range(1, node_count + 1)}
        # Its own way of waiting longer and longer would be measured instead of the nodes'.
        self.operator = KazooClient(self.operator_hosts, timeout=OPERATOR_SESSION_SECONDS,
                                    connection_retry=_patience(), command_retry=_patience())

    def _ways(self, broker_id: int) -> Sequence[TcpProxy | Cable]:
        if self._namespace is not None:
            return [Cable(self._namespace, broker_id, self.servers[0].port)]
        return [TcpProxy(server.address) for server in self.servers]

    def start(self) -> None:
        if self.ensemble is not None:
            self.ensemble.start()
        else:
            self.servers[0].start()
        self.operator.start(timeout=30)
        for node in self.nodes.values():
            node.start()
        self.settle({})

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()
        with contextlib.suppress(KazooException, KazooTimeoutError):
            self.operator.stop()
            self.operator.close()
        for server in self.servers:
            server.kill()

    # What stands in the tree

    def data(self, path: str) -> bytes | None:
        """None when there is no such node. Waits for servers that are away."""
        if self.operator.retry(self.operator.exists, path) is None:
            return None
        found: bytes = self.operator.retry(self.operator.get, path)[0]
        return found

    def owner(self, path: str) -> int:
        """The session of an ephemeral node, 0 when there is none."""
        stat = self.operator.retry(self.operator.exists, path)
        return 0 if stat is None else int(stat.ephemeralOwner)

    def leader(self) -> Node | None:
        data = self.data(znodes.CONTROLLER)
        return None if data is None else self.nodes.get(znodes.decode_controller(data).broker_id)

    def create(self, path: str, data: bytes) -> None:
        self.operator.retry(self.operator.create, path, data)

    def delete(self, path: str) -> None:
        self.operator.retry(self.operator.delete, path)

    def expire(self, session: int) -> None:
        """Take the session over and end it, as its time-out would."""
        if session == 0:
            return
        client = KazooClient(self.operator_hosts, timeout=OPERATOR_SESSION_SECONDS,
                             client_id=(session, session_password(session)))
        try:
            client.start(timeout=10)
        finally:
            client.stop()
            client.close()

    @property
    def operator_hosts(self) -> str:
        return ",".join(server.connect_string for server in self.servers)

    # What is to be reached

    def settle(self, topics: dict[str, int]) -> float:
        """Until everything is registered, led and served; seconds that took. topics: partition counts."""
        started = time.monotonic()
        last: list[str] = []

        def is_settled() -> bool:
            last[:] = self.problems(topics)
            return not last

        try:
            wait_until(is_settled, "the cluster settles", SETTLE_SECONDS_MAX)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {'; '.join(last)}") from error
        return time.monotonic() - started

    def problems(self, topics: dict[str, int]) -> list[str]:
        found = []
        for broker_id in self.nodes:
            if self.owner(znodes.broker_path(broker_id)) == 0:
                found.append(f"broker {broker_id} is not registered")
        if self.owner(znodes.CONTROLLER) == 0:
            found.append("nobody leads")
        found += [problem for topic, count in topics.items() for problem in self._unled(topic, count)]
        return found or [problem for node in self.nodes.values() for problem in self._unserved(node, topics)]

    def _unled(self, topic: str, count: int) -> Iterator[str]:
        for number in range(count):
            key = TopicPartition(topic, number)
            data = self.data(znodes.partition_state_path(*key))
            if data is None:
                yield f"{key} has no state"
            elif znodes.decode_partition_state(key, data, 0).leader not in self.nodes:
                yield f"{key} has no leader"

    def _unserved(self, node: Node, topics: dict[str, int]) -> Iterator[str]:
        """Metadata of this node names all nodes and all leaders, and each leads what it is said to lead."""
        try:
            with WireConnection(node.address, timeout_seconds=_CALL_SECONDS_MAX) as connection:
                metadata = connection.metadata(list(topics))
                if set(metadata.brokers) != set(self.nodes):
                    yield f"node {node.broker_id} knows brokers {sorted(metadata.brokers)}"
                for topic, count in topics.items():
                    leaders = metadata.topics.get(topic, {})
                    if len(leaders) != count or not set(leaders.values()) <= set(self.nodes):
                        yield f"node {node.broker_id} knows {topic} as {leaders}"
                    for number, leader in leaders.items():
                        if leader == node.broker_id:
                            connection.list_offset(topic, number)
        except (OSError, WireError) as error:
            yield f"node {node.broker_id}: {error}"

    def create_topic_by_call(self, topic: str, partitions: int) -> bool:
        """CreateTopics to whoever leads; False when it is refused."""
        leader = self.leader()
        if leader is None:
            return False
        try:
            with WireConnection(leader.address, timeout_seconds=_CALL_SECONDS_MAX) as connection:
                connection.create_topic(topic, partitions)
        except (OSError, WireError):
            return False
        return True

    def transactions(self) -> list[Transaction]:
        """As the leading server has them, now that all is quiet."""
        server = self.servers[0] if self.ensemble is None else self.ensemble.leader()
        return read_log(server.data_dir)


@contextlib.contextmanager
def running_cluster(work_dir: Path, node_count: int, server_count: int = 1, *,
                    in_namespace: bool = False) -> Iterator[Cluster]:
    """in_namespace: the one server is reached by cables that can be unplugged."""
    with contextlib.ExitStack() as stack:
        namespace = None
        if in_namespace:
            namespace = Namespace(1 + node_count)
            stack.callback(namespace.close)
        cluster = Cluster(work_dir, node_count, server_count, namespace)
        stack.callback(cluster.close)
        cluster.start()
        yield cluster
