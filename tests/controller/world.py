"""A controller over a tree in memory, with brokers that answer at once, and a transcript of what it did.

The transcript has a line for each write that succeeded and for each partition in each request to a broker:

    create /brokers/topics/t/partitions/0/state leader 1 epoch 0 isr 1 by 1
    to 1: LeaderAndIsr t-0 leader 1 epoch 0/0 isr 1 new
    to 1: UpdateMetadata brokers 1, t-0 leader 1 epoch 0/0
    to 1: StopReplica t-0 epoch -2 delete

(epoch A/B: leader epoch and partition epoch; by: the controller epoch.)
"""
from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from broker.config import build_config
from broker.protocol.api_keys import ApiKey
from broker.protocol.messages import message_class
from controller import controller_election, identity, registration, znodes
from controller.cluster import Endpoint, TopicPartition
from controller.cluster_runtime import ClusterRuntime
from controller.config_overrides import ConfigOverrides
from controller.lease import Lease, LeaseEvent
from controller.metadata_store.data_tree import DataTree
from controller.metadata_store.errors import StoreError
from controller.metadata_store.operations import Check, Create, Delete, Multi, Outcome, Request, SetData
from controller.outside import Outside
from controller.procedures.answers import broker_answered
from controller.procedures.fail_over import take_office
from controller.procedures.watches import cluster_changed
from controller.request_batch import BrokerRequest
from controller.store_access import StoreAccess
from controller.znodes import TopicAssignment
from tests.controller.memory_store import MemoryServer, MemoryStore, run
from tests.controller.node import answer_of_a_good_broker

PROPERTIES = {"log.dirs": "/nowhere", "listeners": "PLAINTEXT://127.0.0.1:9092"}
OWN_ID = 1


def nobody(*_: Any) -> Any:
    """No other process is reached from here."""


OUTSIDE = Outside(nobody, nobody, nobody, nobody)


class RecordingChannels:
    """Takes what would be sent; `World.settle` answers it."""

    def __init__(self) -> None:
        self.queued: list[tuple[int, BrokerRequest]] = []

    def open(self, broker_id: int, transport: object) -> None:
        self.close(broker_id)

    def enqueue(self, broker_id: int, request: BrokerRequest) -> None:
        self.queued.append((broker_id, request))

    def close(self, broker_id: int) -> None:
        self.queued = [entry for entry in self.queued if entry[0] != broker_id]

    def close_others(self) -> None:
        self.queued.clear()


class World:
    """broker_ids: registered from the start, each by a session of its own.

    codes: (api key, broker id, partition) -> error code of that broker's answer, where not 0.
    """

    def __init__(self, broker_ids: Iterable[int] = (OWN_ID,), tree: DataTree | None = None,
                 **properties: str) -> None:
        self.lines: list[str] = []
        self.codes: dict[tuple[ApiKey, int, TopicPartition], int] = {}
        self.silent: set[int] = set()
        self.config = build_config({
            **PROPERTIES, "broker.id": str(OWN_ID),
            **{key.replace("_", "."): value for key, value in properties.items()}})
        self.server = MemoryServer(tree)
        self.store = self.server.session()
        self.broker_sessions: dict[int, MemoryStore] = {}
        run(identity.ensure_paths(self.store))
        for broker_id in broker_ids:
            self.register(broker_id)
        self.channels = RecordingChannels()
        self.lease = Lease(None)
        self.overrides = ConfigOverrides(OWN_ID)
        self.runtime = ClusterRuntime(StoreAccess(self.store, self.lease), self.lease,
                                      self.channels, self.overrides, self.config, OWN_ID, OUTSIDE)  # type: ignore[arg-type]
        self.next_topic_id = 1
        self.runtime.new_topic_id = self._topic_id  # type: ignore[method-assign]
        self.server.on_request = self._write_line

    def _topic_id(self) -> bytes:
        topic_id = bytes(15) + bytes([self.next_topic_id])
        self.next_topic_id += 1
        return topic_id

    # The cluster

    def register(self, broker_id: int, rack: str | None = None) -> None:
        """The broker starts; if it is there already, it has bounced."""
        if broker_id in self.broker_sessions:
            self.server.expire(self.broker_sessions[broker_id])
        store = self.broker_sessions[broker_id] = self.server.session()
        endpoint = Endpoint("PLAINTEXT", "PLAINTEXT", "127.0.0.1", 9091 + broker_id)
        run(registration.register_anew(store, broker_id, (endpoint,),
                                       znodes.encode_broker((endpoint,), rack, 0, 5)))

    def fail(self, broker_id: int) -> None:
        """The broker dies and its session expires."""
        self.server.expire(self.broker_sessions.pop(broker_id))

    def write_topic(self, topic: str, partitions: dict[int, tuple[int, ...]],
                    configs: dict[str, str] | None = None) -> None:
        """As an old tool does: nodes only."""
        assignment = {number: znodes.ReplicaAssignment(replicas) for number, replicas in partitions.items()}
        data = znodes.encode_topic(TopicAssignment(self._topic_id(), assignment))
        path = znodes.topic_path(topic)
        exists = self.server.tree.node(path) is not None
        if configs is not None:
            run(self.store.create(znodes.config_path("topics", topic), znodes.encode_config(configs)))
        run(self.store.submit([SetData(path, data) if exists else Create(path, data)]))

    def mark_for_deletion(self, topic: str) -> None:
        run(self.store.create(znodes.delete_topic_path(topic)))

    # The controller

    def take_office(self) -> None:
        """Win the election and fail over; afterwards everything has been answered."""
        elected = run(controller_election.stand(self.store, OWN_ID, 0))
        assert elected is not None
        self.lease.handle(LeaseEvent.NODE_ABSENT)
        self.lease.handle(LeaseEvent.WON)
        self.runtime.begin(elected)
        run(take_office(self.runtime, 2))
        self.settle()

    def settle(self) -> None:
        """Deliver events and answers until nothing is left."""
        while True:
            event = self.store.next_event()
            if event is not None:
                run(cluster_changed(self.runtime, event))
                continue
            waiting = [entry for entry in self.channels.queued if entry[0] not in self.silent]
            if not waiting:
                return
            self.channels.queued.remove(waiting[0])
            self._deliver(*waiting[0])

    def _deliver(self, broker_id: int, request: BrokerRequest) -> None:
        self.lines += [f"to {broker_id}: {line}" for line in request_lines(request)]
        if request.api_key is ApiKey.ALTER_CONFIGS:
            return
        response = answer_of_a_good_broker(request.api_key, request.message)
        self._apply_codes(request.api_key, broker_id, response)
        if request.message.controller_epoch == self.runtime.state.epoch:
            run(broker_answered(self.runtime, broker_id, request, response))

    def _apply_codes(self, api_key: ApiKey, broker_id: int, response: Any) -> None:
        if api_key is ApiKey.LEADER_AND_ISR:
            for topic in response.topics:
                name = self.runtime.state.topic_names.get(bytes(topic.topic_id), "")
                for answer in topic.partition_errors:
                    key = TopicPartition(name, answer.partition_index)
                    answer.error_code = self.codes.get((api_key, broker_id, key), 0)
        elif api_key is ApiKey.STOP_REPLICA:
            for answer in response.partition_errors:
                key = TopicPartition(answer.topic_name, answer.partition_index)
                answer.error_code = self.codes.get((api_key, broker_id, key), 0)

    # What happened

    def _write_line(self, request: Request, outcome: Outcome) -> None:
        if isinstance(outcome, StoreError):
            return
        for operation in request.operations if isinstance(request, Multi) else (request,):
            match operation:
                case Create(path, data) | SetData(path, data):
                    verb = "create" if isinstance(operation, Create) else "set"
                    self.lines.append(f"{verb} {path}{_shown(path, data)}")
                case Delete(path):
                    self.lines.append(f"delete {path}")
                case Check(path) if path != znodes.CONTROLLER_EPOCH:
                    self.lines.append(f"check {path}")

    def transcript(self) -> list[str]:
        """Lines since the last call."""
        lines, self.lines = self.lines, []
        return lines

    def data(self, path: str) -> bytes | None:
        node = self.server.tree.node(path)
        assert node is not None, path
        return node.data

    def exists(self, path: str) -> bool:
        return self.server.tree.node(path) is not None

    def children(self, path: str) -> list[str]:
        return sorted(self.server.tree.children(path))

    def leader_of(self, topic: str, partition: int = 0) -> tuple[int, int, tuple[int, ...]]:
        """(leader, leader epoch, in-sync set) as stored."""
        key = TopicPartition(topic, partition)
        node = self.server.tree.node(znodes.partition_state_path(*key))
        assert node is not None
        state = znodes.decode_partition_state(key, node.data, node.version)
        return state.leader, state.leader_epoch, state.isr


def _shown(path: str, data: bytes | None) -> str:
    if data is None:
        return ""
    if not path.endswith("/state"):
        return " " + data.decode()
    try:
        state = json.loads(data)
    except ValueError:
        return " " + data.decode()
    return (f" leader {state['leader']} epoch {state['leader_epoch']} isr {_ids(state['isr'])} "
            f"by {state['controller_epoch']}")


def request_lines(request: BrokerRequest) -> list[str]:
    message = request.message
    match request.api_key:
        case ApiKey.LEADER_AND_ISR:
            return [f"LeaderAndIsr {topic.topic_name}-{state.partition_index} leader {state.leader} "
                    f"epoch {state.leader_epoch}/{state.partition_epoch} isr {_ids(state.isr)}"
                    + (" new" if state.is_new else "") + (" recovering" if state.leader_recovery_state else "")
                    for topic in message.topic_states for state in topic.partition_states]
        case ApiKey.UPDATE_METADATA:
            parts = ["brokers " + _ids(broker.id for broker in message.live_brokers)]
            parts += [f"{topic.topic_name}-{state.partition_index} leader {state.leader} "
                      f"epoch {state.leader_epoch}/{state.zk_version}"
                      + (f" offline {_ids(state.offline_replicas)}" if state.offline_replicas else "")
                      for topic in message.topic_states for state in topic.partition_states]
            return ["UpdateMetadata " + ", ".join(parts)]
        case ApiKey.STOP_REPLICA:
            return [f"StopReplica {topic.topic_name}-{state.partition_index} epoch {state.leader_epoch} "
                    + ("delete" if state.delete_partition else "keep")
                    for topic in message.topic_states for state in topic.partition_states]
        case ApiKey.ALTER_CONFIGS:
            return [f"AlterConfigs {resource.resource_type} {resource.resource_name!r} "
                    + " ".join(f"{config.name}={config.value}" for config in resource.configs)
                    for resource in message.resources]
    raise AssertionError(request)


def _ids(ids: Iterable[int]) -> str:
    return ",".join(map(str, ids)) or "-"


def create_topics_request(*topics: Any, timeout_ms: int = 1000, validate_only: bool = False) -> Any:
    return message_class("CreateTopicsRequest")(topics=list(topics), timeout_ms=timeout_ms,
                                                validate_only=validate_only)


def creatable(name: str, partitions: int = -1, replicas: int = -1,
              assignments: dict[int, list[int]] | None = None,
              configs: dict[str, str | None] | None = None) -> Any:
    request = message_class("CreateTopicsRequest")
    return request.CreatableTopic(
        name=name, num_partitions=partitions, replication_factor=replicas,
        assignments=[request.CreatableReplicaAssignment(partition_index=number, broker_ids=ids)
                     for number, ids in (assignments or {}).items()],
        configs=[request.CreatableTopicConfig(name=key, value=value)
                 for key, value in (configs or {}).items()])


def expect(world: World, transcript: str) -> None:
    """The transcript since the last look, line by line, is this one."""
    assert world.transcript() == [line.strip() for line in transcript.strip().splitlines()]
