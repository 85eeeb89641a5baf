"""Requests to brokers: their order, how targets merge, and every field that a broker goes by."""
from __future__ import annotations

from broker.protocol.api_keys import ApiKey
from broker.protocol.codec import encode
from controller.cluster import NO_LEADER
from controller.decision import Decision, LeaderAndIsrTarget, StopReplicaTarget, tell_metadata
from controller.records import LeadershipChanged, PartitionState
from controller.request_batch import RequestBatch, alter_configs_request
from controller.state import ControllerState
from tests.controller.cluster_state import KEY, TOPIC_ID, cluster, led_by


def online() -> ControllerState:
    return cluster(1, 2, leader=led_by(1, 1, 2), state=PartitionState.ONLINE)


def batch() -> RequestBatch:
    return RequestBatch(controller_id=1, inter_broker_listener="PLAINTEXT")


def test_each_broker_gets_leader_and_isr_then_metadata_then_stop_replica() -> None:
    collected = batch()
    collected.add(online(), Decision(stop_replica=[StopReplicaTarget(KEY, 2, delete=False)],
                                     leader_and_isr=[LeaderAndIsrTarget(KEY, (1, 2))]))
    requests = collected.take(online())
    for broker_id in (1, 2):
        keys = [request.api_key for told, request in requests if told == broker_id]
        assert keys == sorted(keys, key=[
            ApiKey.LEADER_AND_ISR, ApiKey.UPDATE_METADATA, ApiKey.STOP_REPLICA].index)
    assert [request.version for _, request in requests] == [7, 7, 8, 8, 4]
    assert collected.take(online()) == []


def test_leader_and_isr_carries_everything_a_broker_goes_by() -> None:
    collected = batch()
    collected.add(online(), Decision(leader_and_isr=[LeaderAndIsrTarget(KEY, (2,), is_new=True)]))
    (told, request), *_ = collected.take(online())
    message = request.message
    assert (told, message.controller_id, message.controller_epoch, message.broker_epoch) == (2, 1, 3, 100)
    (leader,) = message.live_leaders
    assert (leader.broker_id, leader.host_name, leader.port) == (1, "host1", 9092)
    (topic,) = message.topic_states
    assert (topic.topic_name, topic.topic_id) == ("t", TOPIC_ID)
    (state,) = topic.partition_states
    assert (state.partition_index, state.leader, state.leader_epoch, state.isr) == (0, 1, 5, [1, 2])
    assert (state.partition_epoch, state.replicas, state.is_new, state.controller_epoch) == (8, [1, 2], True, 2)
    encode(message, request.version)


def test_targets_merge_into_the_final_state_and_new_sticks() -> None:
    state = online()
    collected = batch()
    collected.add(state, Decision(leader_and_isr=[LeaderAndIsrTarget(KEY, (1,), is_new=True)]))
    collected.add(state, Decision(leader_and_isr=[LeaderAndIsrTarget(KEY, (1,))]))
    state.replay(LeadershipChanged(KEY, led_by(2, 2, epoch=6, partition_epoch=9)))
    (_, request), *_ = collected.take(state)
    (partition,) = request.message.topic_states[0].partition_states
    assert (partition.leader, partition.leader_epoch, partition.is_new) == (2, 6, True)


def test_leader_and_isr_is_announced_to_every_broker() -> None:
    collected = batch()
    collected.add(online(), Decision(leader_and_isr=[LeaderAndIsrTarget(KEY, (1,))]))
    told = [broker_id for broker_id, request in collected.take(online())
            if request.api_key is ApiKey.UPDATE_METADATA]
    assert told == [1, 2]


def test_metadata_names_all_live_brokers_and_the_offline_replicas() -> None:
    state = cluster(1, leader=led_by(1, 1), state=PartitionState.ONLINE)
    collected = batch()
    collected.add(state, tell_metadata([1], [KEY]))
    ((_, request),) = collected.take(state)
    (broker,) = request.message.live_brokers
    (endpoint,) = broker.endpoints
    assert (broker.id, broker.rack, endpoint.listener, endpoint.security_protocol) == (1, None, "PLAINTEXT", 0)
    (partition,) = request.message.topic_states[0].partition_states
    assert (partition.leader, partition.zk_version, partition.offline_replicas) == (1, 8, [2])
    encode(request.message, request.version)


def test_metadata_of_a_topic_being_deleted_has_leader_minus_two() -> None:
    state = cluster(1, 2, leader=led_by(1, 1), state=PartitionState.ONLINE, deleting=True)
    collected = batch()
    collected.add(state, tell_metadata([1], [KEY]))
    ((_, request),) = collected.take(state)
    (partition,) = request.message.topic_states[0].partition_states
    assert (partition.leader, partition.leader_epoch, partition.zk_version) == (-2, 0, 0)


def test_partition_without_leadership_is_not_announced() -> None:
    collected = batch()
    collected.add(cluster(1), tell_metadata([1], [KEY]))
    ((_, request),) = collected.take(cluster(1))
    assert request.message.topic_states == []


def test_partition_without_leader_is_announced_as_such() -> None:
    state = cluster(1, leader=led_by(NO_LEADER, 2), state=PartitionState.OFFLINE)
    collected = batch()
    collected.add(state, Decision(leader_and_isr=[LeaderAndIsrTarget(KEY, (1,))]))
    (_, request), *_ = collected.take(state)
    assert request.message.live_leaders == []


def test_dead_brokers_are_told_nothing() -> None:
    collected = batch()
    collected.add(online(), Decision(
        leader_and_isr=[LeaderAndIsrTarget(KEY, (9,))], stop_replica=[StopReplicaTarget(KEY, 9, delete=True)]))
    assert {broker_id for broker_id, _ in collected.take(online())} == {1, 2}


def test_stop_replica_deletes_if_any_target_said_so() -> None:
    state = cluster(1, 2, leader=led_by(1, 1), state=PartitionState.ONLINE, deleting=True)
    collected = batch()
    collected.add(state, Decision(stop_replica=[
        StopReplicaTarget(KEY, 2, delete=True), StopReplicaTarget(KEY, 2, delete=False)]))
    ((_, request),) = collected.take(state)
    (partition,) = request.message.topic_states[0].partition_states
    assert (partition.leader_epoch, partition.delete_partition) == (-2, True)
    encode(request.message, request.version)


def test_overrides_go_as_complete_resources() -> None:
    request = alter_configs_request([(2, "t", {"retention.ms": "1"}), (4, "", {})])
    assert (request.api_key, request.version) == (ApiKey.ALTER_CONFIGS, 2)
    topic, broker = request.message.resources
    assert (topic.resource_type, topic.resource_name) == (2, "t")
    assert [(config.name, config.value) for config in topic.configs] == [("retention.ms", "1")]
    assert (broker.resource_type, broker.resource_name, broker.configs) == (4, "", [])
    encode(request.message, request.version)
