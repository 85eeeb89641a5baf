"""Which versions the controller speaks to brokers, and the forms of messages that old versions have (PURE).

A controller asks no broker what it understands: `inter.broker.protocol.version` fixes the versions for the
whole cluster, as in Kafka's ControllerChannelManager. Inside the controller a request has one form, that of the
newest version; what goes on the wire below it is made here:

| request | below | form |
|---|---|---|
| LeaderAndIsr | 2 | one list of partitions that name their topic; below 6 no leader recovery state |
| UpdateMetadata | 5 | the same; 1-2 endpoints without listener names; 0 only a plain-text one |
| StopReplica | 3 | no leader epochs, one "delete" for the whole request (two requests); 0 one flat list |

Runs in: controller.
"""
from __future__ import annotations

from typing import Any, NamedTuple

from broker.config.versions import version_index
from broker.protocol.messages import message_class
from controller.cluster import RECOVERED, SECURITY_PROTOCOL_IDS

PLAINTEXT = SECURITY_PROTOCOL_IDS["PLAINTEXT"]
_PROTOCOL_NAMES = {number: name for name, number in SECURITY_PROTOCOL_IDS.items()}


class RequestVersions(NamedTuple):
    leader_and_isr: int
    update_metadata: int
    stop_replica: int
    controlled_shutdown: int


# From this inter-broker version on: LeaderAndIsr, UpdateMetadata, StopReplica, ControlledShutdown.
_TABLE = (
    ("3.4-IV0", RequestVersions(7, 8, 4, 3)),
    ("3.2-IV0", RequestVersions(6, 7, 3, 3)),
    ("2.8-IV1", RequestVersions(5, 7, 3, 3)),
    ("2.6-IV0", RequestVersions(4, 6, 3, 3)),
    ("2.4-IV1", RequestVersions(4, 6, 2, 3)),
    ("2.4-IV0", RequestVersions(3, 5, 1, 2)),
    ("2.2-IV0", RequestVersions(2, 5, 1, 2)),
    ("1.0-IV0", RequestVersions(1, 4, 0, 1)),
    ("0.10.2-IV0", RequestVersions(0, 3, 0, 1)),
    ("0.10.0-IV1", RequestVersions(0, 2, 0, 1)),
    ("0.9.0", RequestVersions(0, 1, 0, 1)),
    ("0.8.0", RequestVersions(0, 0, 0, 0)),
)
NEWEST = _TABLE[0][1]

FIRST_LEADER_AND_ISR_BY_TOPIC = 2
FIRST_LEADER_AND_ISR_WITH_RECOVERY = 6
FIRST_UPDATE_METADATA_WITH_ENDPOINTS = 1
FIRST_UPDATE_METADATA_WITH_LISTENERS = 3
FIRST_UPDATE_METADATA_BY_TOPIC = 5
FIRST_STOP_REPLICA_BY_TOPIC = 1
FIRST_STOP_REPLICA_BY_PARTITION = 3


def request_versions(inter_broker_version: str) -> RequestVersions:
    """inter_broker_version: as configured, already validated."""
    index = version_index(inter_broker_version)
    assert index is not None
    for name, versions in _TABLE:
        first = version_index(name)
        assert first is not None
        if index >= first:
            return versions
    raise AssertionError(f"no versions for {inter_broker_version}")


# LeaderAndIsr


def leader_and_isr_on_wire(message: Any, version: int) -> Any:
    """message: in the newest form; the same object where that is what the version carries."""
    if version >= FIRST_LEADER_AND_ISR_WITH_RECOVERY:
        return message
    request = message_class("LeaderAndIsrRequest")
    topics = [(topic, [_without_recovery(state, topic.topic_name) for state in topic.partition_states])
              for topic in message.topic_states]
    wire = request(controller_id=message.controller_id, controller_epoch=message.controller_epoch,
                   broker_epoch=message.broker_epoch, live_leaders=message.live_leaders)
    if version < FIRST_LEADER_AND_ISR_BY_TOPIC:
        wire.ungrouped_partition_states = [state for _, states in topics for state in states]
    else:
        wire.topic_states = [
            request.LeaderAndIsrTopicState(topic_name=topic.topic_name, topic_id=topic.topic_id,
                                           partition_states=states) for topic, states in topics]
    return wire


def _without_recovery(state: Any, topic: str) -> Any:
    copy = _copied(message_class("LeaderAndIsrRequest").LeaderAndIsrPartitionState, state)
    copy.topic_name, copy.leader_recovery_state = topic, RECOVERED
    return copy


# UpdateMetadata


def update_metadata_on_wire(message: Any, version: int) -> Any:
    """As above. Endpoints that the version cannot name are left out: nobody in such a cluster can use them."""
    if version >= FIRST_UPDATE_METADATA_BY_TOPIC:
        return message
    request = message_class("UpdateMetadataRequest")
    wire = request(controller_id=message.controller_id, controller_epoch=message.controller_epoch,
                   live_brokers=message.live_brokers)
    wire.ungrouped_partition_states = [
        _named(state, topic.topic_name) for topic in message.topic_states for state in topic.partition_states]
    if version < FIRST_UPDATE_METADATA_WITH_LISTENERS:
        brokers = (_with_standard_endpoints(broker) for broker in message.live_brokers)
        wire.live_brokers = [broker for broker in brokers if broker.endpoints]
    if version < FIRST_UPDATE_METADATA_WITH_ENDPOINTS:
        brokers = (_with_plain_text_endpoint(broker) for broker in wire.live_brokers)
        wire.live_brokers = [broker for broker in brokers if broker is not None]
    return wire


def _named(state: Any, topic: str) -> Any:
    copy = _copied(message_class("UpdateMetadataRequest").UpdateMetadataPartitionState, state)
    copy.topic_name = topic
    return copy


def _with_standard_endpoints(broker: Any) -> Any:
    """Listeners that are named as their security protocol: the receiver can infer such a name."""
    return message_class("UpdateMetadataRequest").UpdateMetadataBroker(
        id=broker.id, rack=broker.rack, endpoints=[
            endpoint for endpoint in broker.endpoints
            if endpoint.listener == _PROTOCOL_NAMES.get(endpoint.security_protocol)])


def _with_plain_text_endpoint(broker: Any) -> Any:
    for endpoint in broker.endpoints:
        if endpoint.security_protocol == PLAINTEXT:
            return message_class("UpdateMetadataRequest").UpdateMetadataBroker(
                id=broker.id, v0_host=endpoint.host, v0_port=endpoint.port)
    return None


# StopReplica


def stop_replicas_on_wire(message: Any, version: int) -> list[tuple[Any, Any]]:
    """(part of the message, that part as the version carries it): one pair, or one for each value of "delete"."""
    if version >= FIRST_STOP_REPLICA_BY_PARTITION:
        return [(message, message)]
    parts = (_part(message, delete) for delete in (True, False))
    return [(part, _old_stop_replica(part, version, delete))
            for part, delete in zip(parts, (True, False), strict=True) if part.topic_states]


def _part(message: Any, delete: bool) -> Any:
    request = message_class("StopReplicaRequest")
    part = request(controller_id=message.controller_id, controller_epoch=message.controller_epoch,
                   broker_epoch=message.broker_epoch)
    for topic in message.topic_states:
        states = [state for state in topic.partition_states if state.delete_partition is delete]
        if states:
            part.topic_states.append(request.StopReplicaTopicState(
                topic_name=topic.topic_name, partition_states=states))
    return part


def _old_stop_replica(part: Any, version: int, delete: bool) -> Any:
    request = message_class("StopReplicaRequest")
    wire = request(controller_id=part.controller_id, controller_epoch=part.controller_epoch,
                   broker_epoch=part.broker_epoch, delete_partitions=delete)
    for topic in part.topic_states:
        numbers = [state.partition_index for state in topic.partition_states]
        if version < FIRST_STOP_REPLICA_BY_TOPIC:
            wire.ungrouped_partitions += [
                request.StopReplicaPartitionV0(topic_name=topic.topic_name, partition_index=number)
                for number in numbers]
        else:
            wire.topics.append(request.StopReplicaTopicV1(name=topic.topic_name, partition_indexes=numbers))
    return wire


def _copied(structure: Any, source: Any) -> Any:
    return structure(**{name: getattr(source, name) for name in structure.ATTRIBUTES})
