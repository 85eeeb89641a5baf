"""Clusters in the middle of a rolling upgrade: older inter.broker.protocol.version, either broker the controller.

Kafka takes and sends the request versions of that release then; before 2.8 topics have no ids.
"""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import request_class
from tests.integration.apis.requests import new_producer_id
from tests.integration.zookeeper.mixed_cluster import BOTH, KAFKA, OTTLA, MixedCluster
from tests.peers.kafka_cluster import ZooKeeper

pytestmark = pytest.mark.kafka

E = ErrorCode


@pytest.fixture(params=[("2.7", KAFKA), ("2.3", OTTLA), ("0.11.0", OTTLA), ("0.11.0", KAFKA)],
                ids=lambda param: f"{param[0]}, broker {param[1]} leads")
def cluster(request: pytest.FixtureRequest, kafka_libs: Path, zookeeper: ZooKeeper,
            tmp_path: Path) -> Iterator[MixedCluster]:
    version, leads = request.param
    cluster = MixedCluster(kafka_libs, zookeeper, tmp_path, f"/version-{version}-{leads}", {
        "inter.broker.protocol.version": version, "log.message.format.version": version})
    try:
        cluster.start(leads)
        yield cluster
    finally:
        cluster.close()


def test_a_topics_life(cluster: MixedCluster) -> None:
    cluster.create("t", [[OTTLA], [KAFKA]])
    cluster.wait_for_leaders("t", {0: OTTLA, 1: KAFKA})
    assert [cluster.produce(broker_id, "t", number, b"x") for broker_id, number in ((OTTLA, 0), (KAFKA, 1))] == [
        E.NONE, E.NONE]
    cluster.create("replicated", [[OTTLA, KAFKA]])
    cluster.wait_on(BOTH, lambda each: cluster.partitions(each, "replicated")[0].in_sync == [KAFKA],
                    "Ottla's replica is not in sync")
    ids = []
    for broker_id in BOTH:
        with cluster.client(broker_id) as client:
            ids.append(new_producer_id(client))
    assert ids[0] // 1000 != ids[1] // 1000
    delete = request_class(ApiKey.DELETE_TOPICS)
    with cluster.client(cluster.controller_of(OTTLA)) as client:
        (deleted,) = client.call(ApiKey.DELETE_TOPICS, 4, delete(topic_names=["t"], timeout_ms=10_000)).responses
    assert deleted.error_code == E.NONE
    cluster.wait_on(BOTH, lambda each: cluster.log_files(each, "t") == {}, "has no log of it")
