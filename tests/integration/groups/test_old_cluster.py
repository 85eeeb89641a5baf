"""While brokers of the cluster may be older than 2.3, nobody keeps instance ids: static members are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.protocol.errors import ErrorCode
from tests.integration.apis.brokers import ApiBroker
from tests.integration.groups.log_records import of_group
from tests.integration.groups.members import Member
from tests.peers.kafka_cluster import KafkaBroker
from tests.peers.ottla_broker import OttlaBroker

SETTINGS = {
    "inter.broker.protocol.version": "2.2", "offsets.topic.num.partitions": "2",
    "group.initial.rebalance.delay.ms": "0",
}  # fmt: skip
GROUP_KEY_VERSION, OFFSET_KEY_VERSION = 2, 1
Make = Callable[..., OttlaBroker | KafkaBroker]


@pytest.fixture(params=["ottla", pytest.param("kafka", marks=pytest.mark.kafka)])
def old(request: pytest.FixtureRequest) -> ApiBroker:
    make: Make = request.getfixturevalue(f"make_{request.param}")
    node = make(overrides=SETTINGS)
    node.start()
    return ApiBroker(node, 0)


def test_static_members_are_refused_and_values_are_old(old: ApiBroker) -> None:
    topic = old.topic().name
    with Member(old, "g", "i1") as static, Member(old, "g") as dynamic:
        assert static.join().error_code == ErrorCode.UNSUPPORTED_VERSION
        assert static.sync().error_code == ErrorCode.UNSUPPORTED_VERSION
        assert static.heartbeat() == ErrorCode.UNSUPPORTED_VERSION
        assert static.commit(topic, 1) == ErrorCode.UNSUPPORTED_VERSION
        dynamic.settle()
        assert dynamic.commit(topic, 1) == ErrorCode.NONE
    written = {
        (int(each.record.key[1]), int(each.record.value[1]))
        for each in of_group(old.node.log_dirs, "g") if each.record.key and each.record.value
    }  # fmt: skip
    assert written == {(GROUP_KEY_VERSION, 2), (OFFSET_KEY_VERSION, 3)}
