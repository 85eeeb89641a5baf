"""What brokers of older releases are sent: versions by inter-broker version, and the very bytes."""
from __future__ import annotations

from typing import Any

import pytest

from broker.config.versions import canonical_version, version_index
from broker.protocol.api_keys import ApiKey
from broker.protocol.codec import decode, encode
from broker.protocol.messages import message_class
from controller.cluster import RECOVERING, Broker, Endpoint, LeaderAndIsr, ReplicaAssignment
from controller.decision import Decision, LeaderAndIsrTarget, StopReplicaTarget
from controller.records import BrokerRegistered, LeadershipChanged, PartitionAssigned, PartitionState
from controller.request_batch import BrokerRequest, RequestBatch
from controller.request_versions import NEWEST, request_versions
from controller.state import ControllerState
from tests.controller.cluster_state import KEY, TOPIC_ID, broker, cluster, led_by

# Inter-broker version: LeaderAndIsr, UpdateMetadata, StopReplica, ControlledShutdown (Kafka 3.9's choice).
VERSIONS = {
    "0.8.0": (0, 0, 0, 0), "0.8.2": (0, 0, 0, 0), "0.9.0": (0, 1, 0, 1), "0.10.0-IV0": (0, 1, 0, 1),
    "0.10.0-IV1": (0, 2, 0, 1), "0.10.1": (0, 2, 0, 1), "0.10.2": (0, 3, 0, 1), "0.11.0": (0, 3, 0, 1),
    "1.0": (1, 4, 0, 1), "1.1": (1, 4, 0, 1), "2.1": (1, 4, 0, 1), "2.2-IV0": (2, 5, 1, 2), "2.3": (2, 5, 1, 2),
    "2.4-IV0": (3, 5, 1, 2), "2.4-IV1": (4, 6, 2, 3), "2.5": (4, 6, 2, 3), "2.6": (4, 6, 3, 3),
    "2.7": (4, 6, 3, 3), "2.8-IV0": (4, 6, 3, 3), "2.8-IV1": (5, 7, 3, 3), "3.0": (5, 7, 3, 3),
    "3.1": (5, 7, 3, 3), "3.2": (6, 7, 3, 3), "3.3": (6, 7, 3, 3), "3.4": (7, 8, 4, 3), "3.7-IV4": (7, 8, 4, 3),
    "3.9": (7, 8, 4, 3),
}


def sent(inter_broker_version: str, state: ControllerState, decision: Decision) -> list[tuple[int, BrokerRequest]]:
    batch = RequestBatch(1, "PLAINTEXT", request_versions(inter_broker_version))
    batch.add(state, decision)
    return batch.take(state)


def to_one(requests: list[tuple[int, BrokerRequest]], api_key: ApiKey) -> BrokerRequest:
    (request,) = [request for told, request in requests if told == 1 and request.api_key is api_key]
    return request


def wire(request: BrokerRequest) -> str:
    return encode(request.on_wire, request.version).hex()


def online() -> ControllerState:
    return cluster(1, 2, leader=led_by(1, 1, 2), state=PartitionState.ONLINE)


LEAD = Decision(leader_and_isr=[LeaderAndIsrTarget(KEY, (1,), is_new=True)])


@pytest.mark.parametrize("name", VERSIONS)
def test_versions_are_those_that_kafka_would_choose(name: str) -> None:
    assert tuple(request_versions(name)) == VERSIONS[name]


def test_no_inter_broker_version_is_without_versions() -> None:
    index, last = version_index("0.8.0"), version_index("3.9-IV0")
    assert index is not None and last is not None
    chosen = [request_versions(canonical_version(each)) for each in range(index, last + 1)]
    assert chosen == sorted(chosen)
    assert chosen[-1] == NEWEST


@pytest.mark.parametrize("name", VERSIONS)
def test_every_version_says_who_leads(name: str) -> None:
    """Decoded again, in whichever form: the same partition, leader, epochs, replicas."""
    request = to_one(sent(name, online(), LEAD), ApiKey.LEADER_AND_ISR)
    assert request.version == VERSIONS[name][0]
    message, _ = decode(message_class("LeaderAndIsrRequest"), encode(request.on_wire, request.version),
                        request.version)
    states = [(state.topic_name, state) for state in message.ungrouped_partition_states]
    states += [(topic.topic_name, state) for topic in message.topic_states for state in topic.partition_states]
    ((topic, state),) = states
    assert (topic, state.partition_index, state.leader) == ("t", 0, 1)
    assert (state.leader_epoch, state.partition_epoch) == (5, 8)
    assert (state.isr, state.replicas, state.is_new) == ([1, 2], [1, 2], request.version >= 1)
    assert (message.controller_epoch, message.broker_epoch) == (3, 100 if request.version >= 2 else -1)
    if request.version >= 5:
        assert message.topic_states[0].topic_id == TOPIC_ID


@pytest.mark.parametrize("name", VERSIONS)
def test_every_version_says_who_is_alive(name: str) -> None:
    request = to_one(sent(name, online(), LEAD), ApiKey.UPDATE_METADATA)
    assert request.version == VERSIONS[name][1]
    message, _ = decode(message_class("UpdateMetadataRequest"), encode(request.on_wire, request.version),
                        request.version)
    assert [_address(broker, request.version) for broker in message.live_brokers] == [
        (1, "host1", 9092), (2, "host2", 9092)]
    states = [*message.ungrouped_partition_states,
              *(state for topic in message.topic_states for state in topic.partition_states)]
    (state,) = states
    assert (state.leader, state.leader_epoch, state.zk_version, state.isr) == (1, 5, 8, [1, 2])


def _address(broker: Any, version: int) -> tuple[int, str, int]:
    if version == 0:
        return broker.id, broker.v0_host, broker.v0_port
    (endpoint,) = broker.endpoints
    assert endpoint.listener == ("PLAINTEXT" if version >= 3 else "")
    return broker.id, endpoint.host, endpoint.port


# The bytes of the oldest and of the last version before the grouping by topic


def test_leader_and_isr_0() -> None:
    request = to_one(sent("0.8.0", online(), LEAD), ApiKey.LEADER_AND_ISR)
    assert wire(request) == (
        "00000001" "00000003"                        # controller id, controller epoch
        "00000001" "0001" "74" "00000000"            # one partition: t, 0
        "00000002" "00000001" "00000005"             # controller epoch of the state, leader, leader epoch
        "00000002" "00000001" "00000002"             # in sync: 1, 2
        "00000008"                                   # partition epoch
        "00000002" "00000001" "00000002"             # replicas: 1, 2
        "00000001" "00000001" "0005" "686f737431" "00002384")  # live leaders: 1, host1, 9092


def test_leader_and_isr_1_says_that_the_partition_is_new() -> None:
    request = to_one(sent("1.0", online(), LEAD), ApiKey.LEADER_AND_ISR)
    assert wire(request) == (
        "00000001" "00000003" "00000001" "0001" "74" "00000000" "00000002" "00000001" "00000005"
        "00000002" "00000001" "00000002" "00000008" "00000002" "00000001" "00000002"
        "01"
        "00000001" "00000001" "0005" "686f737431" "00002384")


def test_leader_and_isr_4_is_flexible_and_knows_the_broker_epoch() -> None:
    request = to_one(sent("2.4", online(), LEAD), ApiKey.LEADER_AND_ISR)
    assert wire(request) == (
        "00000001" "00000003" "0000000000000064"     # ..., broker epoch 100
        "02" "0274" "02" "00000000"                  # one topic t, one partition 0
        "00000002" "00000001" "00000005" "03" "00000001" "00000002" "00000008" "03" "00000001" "00000002"
        "01" "01" "01" "00"                          # none added, none removed, new, no tags
        "00"
        "02" "00000001" "06" "686f737431" "00002384" "00" "00")


def test_update_metadata_0() -> None:
    request = to_one(sent("0.8.0", online(), LEAD), ApiKey.UPDATE_METADATA)
    assert wire(request) == (
        "00000001" "00000003"
        "00000001" "0001" "74" "00000000" "00000002" "00000001" "00000005"
        "00000002" "00000001" "00000002" "00000008" "00000002" "00000001" "00000002"
        "00000002"
        "00000001" "0005" "686f737431" "00002384"
        "00000002" "0005" "686f737432" "00002384")


def test_update_metadata_2_has_endpoints_and_racks_but_no_names() -> None:
    request = to_one(sent("0.10.1", online(), LEAD), ApiKey.UPDATE_METADATA)
    assert wire(request).endswith(
        "00000002"
        "00000001" "00000001" "00002384" "0005" "686f737431" "0000" "ffff"  # 1: one endpoint, PLAINTEXT, no rack
        "00000002" "00000001" "00002384" "0005" "686f737432" "0000" "ffff")


def test_listeners_that_an_old_version_cannot_name_are_left_out() -> None:
    state = online()
    state.replay(BrokerRegistered(Broker(2, 100, (
        Endpoint("INSIDE", "PLAINTEXT", "in2", 9), Endpoint("SSL", "SSL", "host2", 9093)))))
    for name, told in (("0.8.0", [1]), ("0.9.0", [1, 2]), ("0.10.2", [1, 2])):
        request = to_one(sent(name, state, LEAD), ApiKey.UPDATE_METADATA)
        encode(request.on_wire, request.version)
        assert [broker.id for broker in request.on_wire.live_brokers] == told, name
    assert [endpoint.host for endpoint in request.on_wire.live_brokers[1].endpoints] == ["in2", "host2"]
    old = to_one(sent("0.9.0", state, LEAD), ApiKey.UPDATE_METADATA).on_wire
    assert [endpoint.host for endpoint in old.live_brokers[1].endpoints] == ["host2"]


def test_recovery_state_is_left_out_where_there_is_none() -> None:
    state = online()
    state.replay(LeadershipChanged(KEY, LeaderAndIsr(1, 5, (1,), RECOVERING, 8, 2)))
    old = to_one(sent("2.8", state, LEAD), ApiKey.LEADER_AND_ISR)
    encode(old.on_wire, old.version)
    new = to_one(sent("3.2", state, LEAD), ApiKey.LEADER_AND_ISR)
    assert new.on_wire.topic_states[0].partition_states[0].leader_recovery_state == RECOVERING


# StopReplica


STOP = Decision(stop_replica=[StopReplicaTarget(KEY, 1, delete=True)])


def test_stop_replica_0() -> None:
    request = to_one(sent("1.0", online(), STOP), ApiKey.STOP_REPLICA)
    assert wire(request) == "00000001" "00000003" "01" "00000001" "0001" "74" "00000000"


def test_stop_replica_1() -> None:
    request = to_one(sent("2.2", online(), STOP), ApiKey.STOP_REPLICA)
    assert wire(request) == (
        "00000001" "00000003" "0000000000000064" "01" "00000001" "0001" "74" "00000001" "00000000")


def test_stop_replica_3_has_an_epoch_for_each_partition() -> None:
    request = to_one(sent("2.6", online(), STOP), ApiKey.STOP_REPLICA)
    assert wire(request) == (
        "00000001" "00000003" "0000000000000064" "02" "0274" "02" "00000000" "00000005" "01" "00" "00" "00")


@pytest.mark.parametrize(("name", "count"), [("0.8.0", 2), ("2.2", 2), ("2.4", 2), ("2.6", 1), ("3.9", 1)])
def test_before_version_3_deletions_go_by_themselves(name: str, count: int) -> None:
    state = cluster(1, leader=led_by(1, 1), replicas=(1,), state=PartitionState.ONLINE)
    other = KEY._replace(partition=1)
    state.replay(PartitionAssigned(other, ReplicaAssignment((1,))))
    requests = [request for _, request in sent(name, state, Decision(stop_replica=[
        StopReplicaTarget(KEY, 1, delete=True), StopReplicaTarget(other, 1, delete=False)]))]
    assert len(requests) == count
    told = [(partition.partition_index, partition.delete_partition) for request in requests
            for topic in request.message.topic_states for partition in topic.partition_states]
    assert sorted(told) == [(0, True), (1, False)]
    for request in requests:
        encode(request.on_wire, request.version)
    if count == 2:
        assert [request.on_wire.delete_partitions for request in requests] == [True, False]


def test_the_newest_version_goes_as_it_is() -> None:
    state = cluster(1, leader=led_by(1, 1), state=PartitionState.ONLINE)
    assert broker(1) == state.brokers[1]
    assert all(request.on_wire is request.message for _, request in sent("3.9", state, LEAD))
