"""Two Kafka 3.9.1 brokers replicate among themselves while an Ottla node leads the cluster.

Their leaders ask Ottla for every change of an in-sync set (AlterPartition), and for other leaders before they
stop (ControlledShutdown).
"""
from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.protocol.errors import ErrorCode
from tests.integration.zookeeper.mixed_cluster import BOTH, KAFKA, OTTLA, MixedCluster
from tests.peers.kafka_cluster import KafkaBroker, ZooKeeper

pytestmark = pytest.mark.kafka

E = ErrorCode
SECOND_KAFKA = 3
LAG_MS = 2000
SESSION_TIMEOUT_MS = 20_000
"""Longer than a broker is paused here."""


@pytest.fixture(scope="module")
def cluster(kafka_libs: Path, zookeeper: ZooKeeper,
            tmp_path_factory: pytest.TempPathFactory) -> Iterator[MixedCluster]:
    work_dir, chroot = tmp_path_factory.mktemp("replication"), "/kafka-replication"
    settings = {"replica.lag.time.max.ms": str(LAG_MS), "zookeeper.session.timeout.ms": str(SESSION_TIMEOUT_MS)}
    cluster = MixedCluster(kafka_libs, zookeeper, work_dir, chroot, settings)
    cluster.brokers[SECOND_KAFKA] = KafkaBroker(kafka_libs, work_dir / "kafka-3", zookeeper, cluster.settings,
                                                broker_id=SECOND_KAFKA, heap="400m", chroot=chroot)
    try:
        cluster.start(OTTLA)
        cluster.brokers[SECOND_KAFKA].start()
        cluster.wait_for_brokers(OTTLA, KAFKA, SECOND_KAFKA)
        cluster.create("t", [[KAFKA, SECOND_KAFKA]])
        yield cluster
    finally:
        cluster.close()


def wait_for_in_sync(cluster: MixedCluster, *broker_ids: int) -> None:
    cluster.wait_on(BOTH, lambda each: sorted(cluster.partitions(each, "t")[0].in_sync) == sorted(broker_ids),
                    f"in sync are {broker_ids}")


def test_a_follower_that_lags_leaves_the_in_sync_set_and_comes_back(cluster: MixedCluster) -> None:
    wait_for_in_sync(cluster, KAFKA, SECOND_KAFKA)
    follower = cluster.brokers[SECOND_KAFKA].pid
    os.kill(follower, signal.SIGSTOP)
    paused = time.monotonic()
    try:
        assert cluster.produce(KAFKA, "t", 0, b"acknowledged once the follower was given up") == E.NONE
        assert time.monotonic() - paused > LAG_MS / 1000 / 2
        wait_for_in_sync(cluster, KAFKA)
    finally:
        os.kill(follower, signal.SIGCONT)
    wait_for_in_sync(cluster, KAFKA, SECOND_KAFKA)
    assert cluster.partitions(OTTLA, "t")[0].leader == KAFKA


def test_a_leader_that_stops_is_relieved_before_and_loses_nothing(cluster: MixedCluster) -> None:
    wait_for_in_sync(cluster, KAFKA, SECOND_KAFKA)
    assert cluster.produce(KAFKA, "t", 0, b"before") == E.NONE
    cluster.kafka.stop()
    assert cluster.leaders(OTTLA, "t") == {0: SECOND_KAFKA}
    assert cluster.produce(SECOND_KAFKA, "t", 0, b"meanwhile") == E.NONE
    cluster.kafka.start()
    wait_for_in_sync(cluster, KAFKA, SECOND_KAFKA)
