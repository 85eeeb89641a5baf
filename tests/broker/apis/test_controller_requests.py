"""LeaderAndIsr, UpdateMetadata and StopReplica from another node's controller, in every version, by TCP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from broker.apis.dispatch import dispatcher
from broker.apis.ledger import ADVERTISED, ADVERTISED_IN_CLUSTER
from broker.metadata.cache import MetadataCache
from broker.network.connection import Request
from broker.protocol.api_keys import API_SPECS, ApiKey
from broker.protocol.errors import ErrorCode, ProtocolError
from broker.protocol.frames import SIZE_PREFIX_BYTES, decode_response, encode_request
from broker.protocol.messages import message_class, request_class, response_class
from broker.replica.partition import Role
from broker.replica.role_changes import RoleChanges
from tests.broker.replica.fake_storage import Directories
from tests.broker.replica.test_role_changes import resolve

pytestmark = pytest.mark.trio

E = ErrorCode
ME, EPOCH = 1, 500
TOPIC_ID = bytes(range(16))


class Overrides:
    """The controller process has them at once. learned: topics, in the order of the questions. unknown: to the
    metadata store."""

    def __init__(self) -> None:
        self.unknown: set[str] = set()
        self.ids: list[bytes] = []
        self.learned: list[list[str]] = []
        self.is_synchronized = False
        self.arrived: Callable[[str], None] = lambda topic: None

    async def learn(self, topics: Mapping[str, bytes]) -> set[str]:
        self.learned.append(sorted(topics))
        self.ids += topics.values()
        self.is_synchronized = True
        await trio.lowlevel.checkpoint()
        return self.unknown & set(topics)


class Node:
    """The handlers over fake directories. embedded: it keeps its own metadata."""

    def __init__(self, *, embedded: bool = False) -> None:
        self.directories = Directories()
        self.metadata = MetadataCache()
        self.roles = RoleChanges(ME, self.directories.registry, self.directories.log_dirs, self.metadata, resolve,
                                 in_cluster=not embedded)
        self.overrides = Overrides()
        self.services = SimpleNamespace(
            config=Config(embedded), broker_id=ME, cluster_id="c", metadata=self.metadata, roles=self.roles,
            registry=self.directories.registry, overrides=self.overrides, broker_epoch=EPOCH, informed=trio.Event(),
            groups=SimpleNamespace(topics_deleted=lambda topics: None),
        )  # fmt: skip
        self._dispatch = dispatcher(cast(Any, self.services))

    async def start(self) -> None:
        for storage in self.directories.storages:
            storage.start()
            await self.roles.enter(storage, storage.listed())

    def send(self, key: ApiKey, version: int, message: Any, *, privileged: bool = False) -> Any:
        frame = memoryview(encode_request(key, version, 9, "2", message))
        connection = SimpleNamespace(listener_name="PLAINTEXT", privileged=privileged, client_software=None)
        return self._dispatch(Request(
            cast(Any, connection), cast(Any, None), frame, SIZE_PREFIX_BYTES, len(frame)))

    async def ask(self, key: ApiKey, version: int, message: Any, *, privileged: bool = False) -> Any:
        answer = self.send(key, version, message, privileged=privileged)
        if isinstance(answer, Awaitable):
            answer = await answer
        assert isinstance(answer, bytes)
        correlation_id, response = decode_response(key, version, memoryview(answer), SIZE_PREFIX_BYTES, len(answer))
        assert correlation_id == 9
        return response

    def partition(self, number: int = 0) -> Any:
        return self.directories.registry.get("t", number)


class Config(dict[str, Any]):
    def __init__(self, embedded: bool) -> None:
        super().__init__({"auto.create.topics.enable": False})
        self.embedded = embedded


@pytest.fixture
async def node() -> Node:
    node = Node()
    await node.start()
    return node


def leader_and_isr(version: int, *numbers: int, replicas: tuple[int, ...] = (ME,), controller_epoch: int = 3,
                   broker_epoch: int = EPOCH, leader: int = ME, leader_epoch: int = 0) -> Any:
    request = request_class(ApiKey.LEADER_AND_ISR)
    states = [request.LeaderAndIsrPartitionState(
        topic_name="t", partition_index=number, controller_epoch=controller_epoch, leader=leader,
        leader_epoch=leader_epoch, isr=list(replicas), replicas=list(replicas), is_new=True) for number in numbers]
    message = request(controller_id=2, controller_epoch=controller_epoch, broker_epoch=broker_epoch)
    if version < 2:
        message.ungrouped_partition_states = states
    else:
        message.topic_states = [request.LeaderAndIsrTopicState(
            topic_name="t", topic_id=TOPIC_ID, partition_states=states)]
    return message


def errors_of(response: Any, version: int) -> dict[int, int]:
    assert response.error_code == E.NONE
    if version < 5:
        return {each.partition_index: each.error_code for each in response.partition_errors}
    return {each.partition_index: each.error_code for topic in response.topics for each in topic.partition_errors}


def update_metadata(version: int, controller_epoch: int = 3, broker_epoch: int = EPOCH) -> Any:
    request = request_class(ApiKey.UPDATE_METADATA)
    broker = request.UpdateMetadataBroker(id=2, rack="r" if version >= 2 else None)
    if version == 0:
        broker.v0_host, broker.v0_port = "h", 9092
    else:
        broker.endpoints = [request.UpdateMetadataEndpoint(
            host="h", port=9092, listener="PLAINTEXT" if version >= 3 else "", security_protocol=0)]
    state = request.UpdateMetadataPartitionState(
        topic_name="t", partition_index=0, leader=2, leader_epoch=4, isr=[2], replicas=[2], zk_version=6)
    message = request(controller_id=2, controller_epoch=controller_epoch, broker_epoch=broker_epoch,
                      live_brokers=[broker])
    if version < 5:
        message.ungrouped_partition_states = [state]
    else:
        message.topic_states = [request.UpdateMetadataTopicState(
            topic_name="t", topic_id=TOPIC_ID, partition_states=[state])]
    return message


def stop_replica(version: int, number: int = 0, broker_epoch: int = EPOCH, controller_epoch: int = 3,
                 leader_epoch: int = -2) -> Any:
    request = request_class(ApiKey.STOP_REPLICA)
    message = request(controller_id=2, controller_epoch=controller_epoch, broker_epoch=broker_epoch)
    if version < 3:
        message.delete_partitions = True
    if version == 0:
        message.ungrouped_partitions = [request.StopReplicaPartitionV0(topic_name="t", partition_index=number)]
    elif version < 3:
        message.topics = [request.StopReplicaTopicV1(name="t", partition_indexes=[number])]
    else:
        message.topic_states = [request.StopReplicaTopicState(topic_name="t", partition_states=[
            request.StopReplicaPartitionState(
                partition_index=number, leader_epoch=leader_epoch, delete_partition=True)])]
    return message


# Every version


@pytest.mark.parametrize("version", range(8))
async def test_leader_and_isr(node: Node, version: int) -> None:
    response = await node.ask(ApiKey.LEADER_AND_ISR, version, leader_and_isr(version, 0, 1))
    assert errors_of(response, version) == {0: E.NONE, 1: E.NONE}
    assert node.partition().role is Role.LEADER
    assert node.partition().topic_id == (TOPIC_ID if version >= 5 else bytes(16))


@pytest.mark.parametrize("version", range(9))
async def test_update_metadata(node: Node, version: int) -> None:
    assert (await node.ask(ApiKey.UPDATE_METADATA, version, update_metadata(version))).error_code == E.NONE
    endpoint = node.metadata.endpoint(2, "PLAINTEXT")
    assert endpoint is not None
    assert (endpoint.host, endpoint.port, endpoint.rack) == ("h", 9092, "r" if version >= 2 else None)
    known = node.metadata.partition("t", 0)
    assert known is not None
    assert (known.leader, known.leader_epoch, known.partition_epoch) == (2, 4, 6)
    assert node.metadata.controller_id == 2


@pytest.mark.parametrize("version", range(5))
async def test_stop_replica(node: Node, version: int) -> None:
    await node.ask(ApiKey.LEADER_AND_ISR, 7, leader_and_isr(7, 0))
    response = await node.ask(ApiKey.STOP_REPLICA, version, stop_replica(version))
    assert (response.error_code, [each.error_code for each in response.partition_errors]) == (E.NONE, [E.NONE])
    assert node.partition() is None


# Epochs


@pytest.mark.parametrize(("key", "version", "make"), [
    (ApiKey.LEADER_AND_ISR, 7, leader_and_isr), (ApiKey.UPDATE_METADATA, 8, update_metadata),
    (ApiKey.STOP_REPLICA, 4, stop_replica),
])  # fmt: skip
async def test_requests_of_the_past_are_refused_as_a_whole(
        node: Node, key: ApiKey, version: int, make: Callable[..., Any]) -> None:
    await node.ask(ApiKey.LEADER_AND_ISR, 7, leader_and_isr(7, 0, controller_epoch=5))
    fences = [({"broker_epoch": EPOCH - 1, "controller_epoch": 9}, E.STALE_BROKER_EPOCH),
              ({"controller_epoch": 4}, E.STALE_CONTROLLER_EPOCH)]
    for past, error in fences:
        assert (await node.ask(key, version, make(version, **past))).error_code == error
    assert node.partition().role is Role.LEADER
    assert node.metadata.controller_id == -1
    for present in ({"broker_epoch": -1}, {"broker_epoch": EPOCH + 1}):
        asked = make(version, controller_epoch=5, **present)
        assert (await node.ask(key, version, asked)).error_code == E.NONE


async def test_stop_replica_of_an_earlier_leader_epoch(node: Node) -> None:
    await node.ask(ApiKey.LEADER_AND_ISR, 7, leader_and_isr(7, 0, leader_epoch=6))
    response = await node.ask(ApiKey.STOP_REPLICA, 4, stop_replica(4, leader_epoch=5))
    assert [each.error_code for each in response.partition_errors] == [E.FENCED_LEADER_EPOCH]


# Replicas elsewhere


@pytest.mark.parametrize("version", [0, 4, 5, 7])
async def test_partitions_with_replicas_elsewhere_are_an_error_each_and_one_line(
        node: Node, version: int, caplog: pytest.LogCaptureFixture) -> None:
    message = leader_and_isr(version, 0, 1, replicas=(ME, 2))
    response = await node.ask(ApiKey.LEADER_AND_ISR, version, message)
    assert errors_of(response, version) == {0: E.KAFKA_STORAGE_ERROR, 1: E.KAFKA_STORAGE_ERROR}
    assert "2 partitions are not served here, the first is t-0 (replicas [1, 2])" in caplog.text
    assert node.partition() is None


# Overrides


async def test_overrides_of_new_topics_are_had_before_their_logs(node: Node) -> None:
    for numbers, leader_epoch in (((0,), 0), ((0,), 1), ((0, 1), 2)):
        await node.ask(ApiKey.LEADER_AND_ISR, 7, leader_and_isr(7, *numbers, leader_epoch=leader_epoch))
    assert node.overrides.learned == [["t"], [], ["t"]]


async def test_the_first_time_all_topics_are_asked_for(node: Node) -> None:
    """What the controller process queued when this front end started may be under way still."""
    node.directories.storages[0].put_log("t", 0)
    await node.roles.enter(node.directories.storages[0], node.directories.storages[0].listed())
    await node.ask(ApiKey.LEADER_AND_ISR, 7, leader_and_isr(7, 0))
    assert node.overrides.learned == [["t"]]


async def test_a_topic_made_anew_is_asked_for_again(node: Node) -> None:
    await node.ask(ApiKey.LEADER_AND_ISR, 7, leader_and_isr(7, 0))
    again = leader_and_isr(7, 0, leader_epoch=1)
    again.topic_states[0].topic_id = b"x" * 16
    await node.ask(ApiKey.LEADER_AND_ISR, 7, again)
    assert node.overrides.learned == [["t"], ["t"]]
    assert node.overrides.ids == [TOPIC_ID, b"x" * 16]


@pytest.mark.parametrize("version", [0, 7])
async def test_no_log_is_opened_for_a_topic_that_the_store_does_not_know(node: Node, version: int) -> None:
    node.overrides.unknown = {"t"}
    response = await node.ask(ApiKey.LEADER_AND_ISR, version, leader_and_isr(version, 0, 1))
    assert errors_of(response, version) == {0: E.KAFKA_STORAGE_ERROR, 1: E.KAFKA_STORAGE_ERROR}
    assert node.partition() is None


async def test_the_own_controller_process_has_sent_them_before(node: Node) -> None:
    await node.ask(ApiKey.LEADER_AND_ISR, 7, leader_and_isr(7, 0), privileged=True)
    assert node.overrides.learned == []
    assert node.partition().role is Role.LEADER


# Who may ask what


async def test_a_node_alone_serves_no_controller_on_its_listeners() -> None:
    node = Node(embedded=True)
    await node.start()
    for key in (ApiKey.LEADER_AND_ISR, ApiKey.STOP_REPLICA, ApiKey.UPDATE_METADATA, ApiKey.CONTROLLED_SHUTDOWN,
                ApiKey.ALTER_PARTITION, ApiKey.ALLOCATE_PRODUCER_IDS, ApiKey.ALTER_CONFIGS):
        with pytest.raises(ProtocolError, match="is not served on listener PLAINTEXT"):
            node.send(key, API_SPECS[key].max_version, request_class(key)())


@pytest.mark.parametrize(("embedded", "table"), [(True, ADVERTISED), (False, ADVERTISED_IN_CLUSTER)])
async def test_api_versions_names_what_is_served(embedded: bool, table: dict[ApiKey, tuple[int, int]]) -> None:
    response = await Node(embedded=embedded).ask(ApiKey.API_VERSIONS, 2, message_class("ApiVersionsRequest")())
    named = {entry.api_key: (entry.min_version, entry.max_version) for entry in response.api_keys}
    assert named == table


async def test_between_brokers_every_version_of_kafka_is_advertised() -> None:
    more = {int(key): versions for key, versions in ADVERTISED_IN_CLUSTER.items() if key not in ADVERTISED}
    assert more == {4: (0, 7), 5: (0, 4), 6: (0, 8), 7: (0, 3), 56: (0, 3), 67: (0, 0)}


# Before anything is known


async def test_clients_wait_until_a_controller_has_spoken_which_it_may_do_at_once(
        node: Node, nursery: trio.Nursery) -> None:
    answers: list[Any] = []

    async def ask_as_client() -> None:
        answers.append(await node.ask(ApiKey.METADATA, 1, message_class("MetadataRequest")(topics=None)))

    nursery.start_soon(ask_as_client)
    assert (await node.ask(ApiKey.API_VERSIONS, 2, message_class("ApiVersionsRequest")())).error_code == E.NONE
    assert (await node.ask(ApiKey.UPDATE_METADATA, 8, update_metadata(8))).error_code == E.NONE
    await trio.testing.wait_all_tasks_blocked()
    assert answers == []
    node.services.informed.set()
    await trio.testing.wait_all_tasks_blocked()
    assert [broker.node_id for broker in answers[0].brokers] == [2]
    assert [topic.name for topic in answers[0].topics] == ["t"]
    assert answers[0].controller_id == 2
    assert response_class(ApiKey.METADATA) is type(answers[0])
