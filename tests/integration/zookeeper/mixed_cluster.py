"""One ZooKeeper chroot, an Ottla (broker 1) and a real Kafka 3.9.1 (broker 2); the one started first leads.

Runs in: the test process; the brokers are its children.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import request_class
from tests.integration.apis.records import batch
from tests.integration.apis.requests import produce
from tests.integration.apis.wire import Client
from tests.peers.kafka_cluster import KafkaBroker, ZooKeeper
from tests.peers.ottla_broker import OttlaBroker
from tests.peers.processes import wait_until

OTTLA, KAFKA = BOTH = 1, 2
SESSION_TIMEOUT_MS = 6000
WAIT_SECONDS = 30


class PartitionView(NamedTuple):
    leader: int
    replicas: list[int]
    in_sync: list[int]
    offline: list[int]


class MixedCluster:
    """settings: server.properties lines of both, besides the usual ones."""

    def __init__(self, libs: Path, zookeeper: ZooKeeper, work_dir: Path, chroot: str,
                 settings: Mapping[str, str] | None = None) -> None:
        self.settings = {
            "zookeeper.connect": f"{zookeeper.connect_string}{chroot}",
            "zookeeper.session.timeout.ms": str(SESSION_TIMEOUT_MS),
            "auto.create.topics.enable": "true",
            "num.partitions": "4",
            "controlled.shutdown.retry.backoff.ms": "500",
            **(settings or {}),
        }
        self.ottla = OttlaBroker(work_dir / "ottla", self.settings, broker_id=OTTLA)
        self.kafka = KafkaBroker(libs, work_dir / "kafka", zookeeper, self.settings, broker_id=KAFKA,
                                 heap="400m", chroot=chroot)
        self.brokers: dict[int, OttlaBroker | KafkaBroker] = {OTTLA: self.ottla, KAFKA: self.kafka}

    def start(self, first: int) -> None:
        """The first one has been elected before the second one comes."""
        self.brokers[first].start()
        self.wait_until(lambda: self.controller_of(first) == first, f"broker {first} leads")
        second = OTTLA + KAFKA - first
        self.brokers[second].start()
        self.wait_for_brokers(OTTLA, KAFKA)

    def close(self) -> None:
        for broker in self.brokers.values():
            broker.close()

    def client(self, broker_id: int) -> Client:
        return Client(self.brokers[broker_id].address)

    def wait_until(self, condition: Callable[[], bool], what: str, timeout_seconds: float = WAIT_SECONDS) -> None:
        def tried() -> bool:
            try:
                return condition()
            except (OSError, KeyError, ConnectionError):
                return False
        wait_until(tried, what, timeout_seconds)

    def wait_on(self, broker_ids: Iterable[int], condition: Callable[[int], bool], what: str) -> None:
        """condition: of a broker's id."""
        for broker_id in broker_ids:
            self.wait_until(partial(condition, broker_id), f"broker {broker_id}: {what}")

    # What a broker says

    def metadata(self, broker_id: int, topics: Sequence[str] | None = None, create: bool = False) -> Any:
        request = request_class(ApiKey.METADATA)
        names = None if topics is None else [request.MetadataRequestTopic(name=topic) for topic in topics]
        with self.client(broker_id) as client:
            return client.call(ApiKey.METADATA, 9, request(topics=names, allow_auto_topic_creation=create))

    def controller_of(self, broker_id: int) -> int:
        found: int = self.metadata(broker_id).controller_id
        return found

    def live_brokers(self, broker_id: int) -> list[tuple[int, int]]:
        return sorted((node.node_id, node.port) for node in self.metadata(broker_id).brokers)

    def partitions(self, broker_id: int, topic: str) -> dict[int, PartitionView]:
        """KeyError while it does not know the topic."""
        (found,) = self.metadata(broker_id, [topic]).topics
        if found.error_code:
            raise KeyError(topic)
        return {each.partition_index: PartitionView(each.leader_id, each.replica_nodes, each.isr_nodes,
                                                    each.offline_replicas) for each in found.partitions}

    def leaders(self, broker_id: int, topic: str) -> dict[int, int]:
        return {number: view.leader for number, view in self.partitions(broker_id, topic).items()}

    def wait_for_brokers(self, *broker_ids: int) -> None:
        """Each of them lists all of them."""
        addresses = sorted((broker_id, self.brokers[broker_id].port) for broker_id in broker_ids)
        self.wait_on(broker_ids, lambda each: self.live_brokers(each) == addresses, f"lists {addresses}")

    def wait_for_leaders(self, topic: str, leaders: Mapping[int, int], asked: Iterable[int] = BOTH) -> None:
        self.wait_on(asked, lambda each: self.leaders(each, topic) == leaders, f"{topic} is led as {leaders}")

    # What is done

    def create(self, topic: str, assignment: Sequence[Sequence[int]], **configs: str) -> None:
        """At whoever leads; on return every broker knows."""
        request = request_class(ApiKey.CREATE_TOPICS)
        message = request(timeout_ms=10_000, topics=[request.CreatableTopic(
            name=topic, num_partitions=-1, replication_factor=-1,
            assignments=[request.CreatableReplicaAssignment(partition_index=index, broker_ids=list(replicas))
                         for index, replicas in enumerate(assignment)],
            configs=[request.CreatableTopicConfig(name=name.replace("_", "."), value=value)
                     for name, value in configs.items()])])
        with self.client(self.controller_of(OTTLA)) as client:
            (result,) = client.call(ApiKey.CREATE_TOPICS, 5, message).topics
        assert result.error_code == ErrorCode.NONE, result
        self.wait_on(BOTH, lambda each: len(self.partitions(each, topic)) == len(assignment), f"knows {topic}")

    def produce(self, broker_id: int, topic: str, partition: int, *values: bytes) -> int:
        """One batch; the error code."""
        with self.client(broker_id) as client:
            error: int = produce(client, topic, batch(*values), partition).error_code
            return error

    def log_files(self, broker_id: int, topic: str) -> dict[int, list[str]]:
        """Partition -> names of its segments, as they lie in the broker's directory."""
        (directory,) = self.brokers[broker_id].log_dirs
        return {int(path.name.rpartition("-")[2]): sorted(file.name for file in path.glob("*.log"))
                for path in directory.glob(f"{topic}-[0-9]*") if path.name.rpartition("-")[0] == topic}
