"""Requests to brokers, collected per broker and made from the state when they are sent (PURE).

Kafka's order for each broker: LeaderAndIsr, then UpdateMetadata, then StopReplica. Collected targets are
merged: a partition is told once, in its final state; `is_new` and `delete` stick. Every UpdateMetadata
carries all live brokers.

Messages have the form of the newest version; what an older inter-broker version puts on the wire instead is made
by `request_versions`.

Runs in: controller. A batch belongs to the event loop.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from broker.protocol.api_keys import ApiKey
from broker.protocol.messages import message_class
from controller.cluster import (
    INITIAL_LEADER_EPOCH,
    INITIAL_PARTITION_EPOCH,
    LEADER_DURING_DELETE,
    SECURITY_PROTOCOL_IDS,
    Broker,
    LeaderAndIsr,
    TopicPartition,
)
from controller.decision import Decision, LeaderAndIsrTarget, StopReplicaTarget
from controller.request_versions import (
    NEWEST,
    RequestVersions,
    leader_and_isr_on_wire,
    stop_replicas_on_wire,
    update_metadata_on_wire,
)
from controller.state import ControllerState

ALTER_CONFIGS_VERSION = 2

RESOURCE_TOPIC = 2
RESOURCE_BROKER = 4


@dataclass(frozen=True, slots=True)
class BrokerRequest:
    """message: a request class of `broker.protocol.messages`, in the form of the newest version, which whoever
    hears of the answer goes by. old_form: what is sent instead, if the version cannot carry that."""

    api_key: ApiKey
    version: int
    message: Any
    old_form: Any = None

    @property
    def on_wire(self) -> Any:
        return self.message if self.old_form is None else self.old_form


def _request(api_key: ApiKey, version: int, message: Any, wire: Any) -> BrokerRequest:
    return BrokerRequest(api_key, version, message, None if wire is message else wire)


class RequestBatch:
    """Filled from decisions, emptied by `take`."""

    def __init__(self, controller_id: int, inter_broker_listener: str,
                 versions: RequestVersions = NEWEST) -> None:
        self._controller_id = controller_id
        self._versions = versions
        self._inter_broker_listener = inter_broker_listener
        self._leader_and_isr: dict[int, dict[TopicPartition, bool]] = {}
        self._stop_replica: dict[int, dict[TopicPartition, bool]] = {}
        self._metadata_partitions: dict[TopicPartition, None] = {}
        self._metadata_broker_ids: set[int] = set()

    # Collecting

    def add(self, state: ControllerState, decision: Decision) -> None:
        """What the decision wants told whatever becomes of its writes."""
        for target in decision.leader_and_isr:
            self.add_leader_and_isr(state, target)
        for stop in decision.stop_replica:
            self._add_stop_replica(stop)
        self._metadata_partitions.update(dict.fromkeys(decision.update_metadata))
        self._metadata_broker_ids |= decision.update_metadata_broker_ids

    def add_leader_and_isr(self, state: ControllerState, target: LeaderAndIsrTarget) -> None:
        for broker_id in target.broker_ids:
            told = self._leader_and_isr.setdefault(broker_id, {})
            told[target.partition] = target.is_new or told.get(target.partition, False)
        self._metadata_partitions[target.partition] = None
        self._metadata_broker_ids.update(state.brokers)

    def _add_stop_replica(self, target: StopReplicaTarget) -> None:
        told = self._stop_replica.setdefault(target.broker_id, {})
        told[target.partition] = target.delete or told.get(target.partition, False)

    # Sending

    def take(self, state: ControllerState) -> list[tuple[int, BrokerRequest]]:
        """(broker id, request) in the order in which they go out; brokers that are not alive are left out."""
        requests = [*self._take_leader_and_isr(state), *self._take_update_metadata(state),
                    *self._take_stop_replica(state)]
        for collected in (self._leader_and_isr, self._stop_replica, self._metadata_partitions,
                          self._metadata_broker_ids):
            collected.clear()
        return requests

    def _take_leader_and_isr(self, state: ControllerState) -> Iterable[tuple[int, BrokerRequest]]:
        for broker_id, told in self._leader_and_isr.items():
            broker = state.brokers.get(broker_id)
            if broker is not None and told:
                message = leader_and_isr_request(state, self._controller_id, broker, told,
                                                 self._inter_broker_listener)
                version = self._versions.leader_and_isr
                yield broker_id, _request(ApiKey.LEADER_AND_ISR, version, message,
                                          leader_and_isr_on_wire(message, version))

    def _take_update_metadata(self, state: ControllerState) -> Iterable[tuple[int, BrokerRequest]]:
        topic_states = _metadata_topic_states(state, self._metadata_partitions)
        for broker_id in sorted(self._metadata_broker_ids):
            broker = state.brokers.get(broker_id)
            if broker is not None:
                message = message_class("UpdateMetadataRequest")(
                    controller_id=self._controller_id, controller_epoch=state.epoch, broker_epoch=broker.epoch,
                    topic_states=topic_states, live_brokers=_live_brokers(state))
                version = self._versions.update_metadata
                yield broker_id, _request(ApiKey.UPDATE_METADATA, version, message,
                                          update_metadata_on_wire(message, version))

    def _take_stop_replica(self, state: ControllerState) -> Iterable[tuple[int, BrokerRequest]]:
        for broker_id, told in self._stop_replica.items():
            broker = state.brokers.get(broker_id)
            if broker is not None and told:
                message = stop_replica_request(state, self._controller_id, broker, told)
                version = self._versions.stop_replica
                for part, wire in stop_replicas_on_wire(message, version):
                    yield broker_id, _request(ApiKey.STOP_REPLICA, version, part, wire)


def leader_and_isr_request(state: ControllerState, controller_id: int, broker: Broker,
                           told: Mapping[TopicPartition, bool], inter_broker_listener: str) -> Any:
    """told: partition -> is it new. Partitions without a state node are left out."""
    request = message_class("LeaderAndIsrRequest")
    topics: dict[str, Any] = {}
    leader_ids: set[int] = set()
    for key, is_new in told.items():
        partition = state.partition(key)
        current = partition.leader_and_isr
        if current is None:
            continue
        topic = topics.get(key.topic)
        if topic is None:
            topic = topics[key.topic] = request.LeaderAndIsrTopicState(
                topic_name=key.topic, topic_id=state.topics[key.topic].topic_id)
        leader_ids.add(current.leader)
        topic.partition_states.append(request.LeaderAndIsrPartitionState(
            partition_index=key.partition, controller_epoch=current.controller_epoch, leader=current.leader,
            leader_epoch=current.leader_epoch, isr=list(current.isr),
            partition_epoch=current.partition_epoch, replicas=list(partition.assignment.replicas),
            adding_replicas=list(partition.assignment.adding_replicas),
            removing_replicas=list(partition.assignment.removing_replicas), is_new=is_new,
            leader_recovery_state=current.leader_recovery_state))
    return request(
        controller_id=controller_id, controller_epoch=state.epoch, broker_epoch=broker.epoch,
        topic_states=list(topics.values()),
        live_leaders=_live_leaders(state, leader_ids, inter_broker_listener))


def _live_leaders(state: ControllerState, leader_ids: set[int], listener: str) -> list[Any]:
    leader_class = message_class("LeaderAndIsrRequest").LeaderAndIsrLiveLeader
    return [leader_class(broker_id=broker_id, host_name=endpoint.host, port=endpoint.port)
            for broker_id in sorted(leader_ids) if broker_id in state.brokers
            for endpoint in state.brokers[broker_id].endpoints if endpoint.listener == listener]


def _metadata_topic_states(state: ControllerState, partitions: Iterable[TopicPartition]) -> list[Any]:
    request = message_class("UpdateMetadataRequest")
    topics: dict[str, Any] = {}
    for key in partitions:
        partition = state.find_partition(key)
        if partition is None or partition.leader_and_isr is None:
            continue
        topic = topics.get(key.topic)
        if topic is None:
            topic = topics[key.topic] = request.UpdateMetadataTopicState(
                topic_name=key.topic, topic_id=state.topics[key.topic].topic_id)
        topic.partition_states.append(
            _metadata_partition_state(state, key, partition.leader_and_isr, partition.assignment.replicas))
    return list(topics.values())


def _metadata_partition_state(state: ControllerState, key: TopicPartition, current: LeaderAndIsr,
                              replicas: tuple[int, ...]) -> Any:
    deleted = key.topic in state.topics_to_be_deleted
    return message_class("UpdateMetadataRequest").UpdateMetadataPartitionState(
        partition_index=key.partition, controller_epoch=current.controller_epoch,
        leader=LEADER_DURING_DELETE if deleted else current.leader,
        leader_epoch=INITIAL_LEADER_EPOCH if deleted else current.leader_epoch,
        zk_version=INITIAL_PARTITION_EPOCH if deleted else current.partition_epoch,
        isr=list(current.isr), replicas=list(replicas),
        offline_replicas=[replica for replica in replicas if not state.is_replica_online(replica, key)])


def _live_brokers(state: ControllerState) -> list[Any]:
    request = message_class("UpdateMetadataRequest")
    return [
        request.UpdateMetadataBroker(id=broker.id, rack=broker.rack, endpoints=[
            request.UpdateMetadataEndpoint(
                host=endpoint.host, port=endpoint.port, listener=endpoint.listener,
                security_protocol=SECURITY_PROTOCOL_IDS[endpoint.security_protocol])
            for endpoint in broker.endpoints])
        for _, broker in sorted(state.brokers.items())]


def stop_replica_request(state: ControllerState, controller_id: int, broker: Broker,
                         told: Mapping[TopicPartition, bool]) -> Any:
    """told: partition -> is it to be deleted."""
    request = message_class("StopReplicaRequest")
    topics: dict[str, Any] = {}
    for key, delete in told.items():
        topic = topics.setdefault(key.topic, request.StopReplicaTopicState(topic_name=key.topic))
        topic.partition_states.append(request.StopReplicaPartitionState(
            partition_index=key.partition, leader_epoch=state.leader_epoch_for_stop(key),
            delete_partition=delete))
    return request(controller_id=controller_id, controller_epoch=state.epoch, broker_epoch=broker.epoch,
                   topic_states=list(topics.values()))


def alter_configs_request(resources: Iterable[tuple[int, str, Mapping[str, str]]]) -> BrokerRequest:
    """(resource type, name, complete overrides). To the node's own front end only: it takes them as the whole
    truth about each resource."""
    request = message_class("AlterConfigsRequest")
    return BrokerRequest(ApiKey.ALTER_CONFIGS, ALTER_CONFIGS_VERSION, request(resources=[
        request.AlterConfigsResource(resource_type=resource_type, resource_name=name, configs=[
            request.AlterableConfig(name=key, value=value) for key, value in overrides.items()])
        for resource_type, name, overrides in resources]))
