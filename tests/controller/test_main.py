"""The controller process as the supervisor and the front end see it, over real sockets and a real file."""
from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import message_class
from broker.protocol.primitives import uuid_to_text
from tests.controller.node import FakeFrontEnd, Node, codes, start_node

pytestmark = pytest.mark.trio
E = ErrorCode


@pytest.fixture
def properties(tmp_path: Path) -> dict[str, str]:
    return {"broker.id": "1", "log.dirs": str(tmp_path), "listeners": "PLAINTEXT://127.0.0.1:9092"}


def keys(front_end: FakeFrontEnd) -> list[ApiKey]:
    return [key for key, _ in front_end.requests]


def leads(topic: str) -> Callable[[ApiKey, Any], bool]:
    """An UpdateMetadata that names a leader of the topic's partitions."""
    return lambda key, request: key is ApiKey.UPDATE_METADATA and any(
        state.topic_name == topic and all(partition.leader >= 0 for partition in state.partition_states)
        for state in request.topic_states)


def leaderships(front_end: FakeFrontEnd) -> dict[tuple[str, int], tuple[bytes, int, int]]:
    """(topic, partition) -> (topic id, leader, leader epoch), as last told."""
    return {(topic.topic_name, state.partition_index): (bytes(topic.topic_id), state.leader, state.leader_epoch)
            for key, request in front_end.requests if key is ApiKey.LEADER_AND_ISR
            for topic in request.topic_states for state in topic.partition_states}


def stored(properties: dict[str, str]) -> dict[str, tuple[Any, int, int]]:
    """path -> (data, JSON parsed; version; cversion as ZooKeeper shows it), read from the file."""
    with sqlite3.connect(properties["log.dirs"] + "/ottla-metadata.sqlite") as connection:
        rows = connection.execute("SELECT path, data, version, creations FROM node").fetchall()
    connection.close()
    children = [path.rpartition("/")[0] or "/" for path, *_ in rows if path != "/"]
    return {path: (data if data is None else json.loads(data), version, 2 * creations - children.count(path))
            for path, data, version, creations in rows}


# Topics


async def test_created_topic_is_configured_then_led_then_announced_then_answered(
        properties: dict[str, str]) -> None:
    async with start_node(properties) as node:
        await node.front_end.wait_for(lambda key, request: key is ApiKey.UPDATE_METADATA)
        node.front_end.requests.clear()
        result = await node.front_end.create_topic("t", 2, {"retention.ms": "1000"})
        assert (result.error_code, result.num_partitions) == (E.NONE, 2)
        assert keys(node.front_end) == [ApiKey.ALTER_CONFIGS, ApiKey.LEADER_AND_ISR, ApiKey.UPDATE_METADATA]
        (_, overrides), (_, leader_and_isr), (_, metadata) = node.front_end.requests
        (resource,) = overrides.resources
        assert [(config.name, config.value) for config in resource.configs] == [("retention.ms", "1000")]
        assert bytes(leader_and_isr.topic_states[0].topic_id) == bytes(result.topic_id)
        assert leader_and_isr.broker_epoch == metadata.broker_epoch == node.broker_epoch
        assert leaderships(node.front_end) == {
            ("t", number): (bytes(result.topic_id), 1, 0) for number in (0, 1)}
        assert await node.stop() == 0


async def test_topic_that_the_front_end_does_not_hear_of_times_out_but_exists(
        properties: dict[str, str]) -> None:
    async with start_node(properties) as node:
        await node.front_end.wait_for(lambda key, request: key is ApiKey.UPDATE_METADATA)
        node.front_end.answer = lambda key, request: None
        result = await node.front_end.create_topic("t", timeout_ms=50)
        assert result.error_code == E.REQUEST_TIMED_OUT
        assert (await node.front_end.create_topic("t", timeout_ms=50)).error_code == E.TOPIC_ALREADY_EXISTS
        assert (await node.front_end.create_topic("u", timeout_ms=0)).error_code == E.REQUEST_TIMED_OUT


async def test_deleted_topic_is_gone_when_the_answer_comes(properties: dict[str, str]) -> None:
    async with start_node(properties) as node:
        first = await node.front_end.create_topic("t", 3)
        node.front_end.requests.clear()
        assert (await node.front_end.delete_topic("t")).error_code == E.NONE
        assert keys(node.front_end) == [ApiKey.UPDATE_METADATA, ApiKey.STOP_REPLICA, ApiKey.STOP_REPLICA]
        _, last = node.front_end.requests[-1]
        assert all(state.delete_partition for state in last.topic_states[0].partition_states)
        again = await node.front_end.create_topic("t")
        assert (again.error_code, again.topic_id != first.topic_id) == (E.NONE, True)
        assert (await node.front_end.delete_topic("none")).error_code == E.UNKNOWN_TOPIC_OR_PARTITION


async def test_pipelined_requests_are_answered_in_order(properties: dict[str, str]) -> None:
    request = message_class("CreateTopicsRequest")
    async with start_node(properties) as node:
        sent = []
        for number in range(50):
            topic = request.CreatableTopic(name=f"t{number}", num_partitions=1, replication_factor=1)
            sent.append(await node.front_end.send(ApiKey.CREATE_TOPICS, 7, request(topics=[topic])))
        answered = []
        for _ in sent:
            correlation_id, response = await node.front_end.receive(ApiKey.CREATE_TOPICS, 7)
            answered.append(correlation_id)
            assert codes(response.topics) == [E.NONE]
        assert answered == sent


async def test_partitions_and_producer_ids(properties: dict[str, str]) -> None:
    grow, allocate = message_class("CreatePartitionsRequest"), message_class("AllocateProducerIdsRequest")
    async with start_node(properties) as node:
        await node.front_end.create_topic("t")
        response = await node.front_end.call(ApiKey.CREATE_PARTITIONS, 3, grow(timeout_ms=10_000, topics=[
            grow.CreatePartitionsTopic(name="t", count=3, assignments=None)]))
        assert codes(response.results) == [E.NONE]
        assert sorted(leaderships(node.front_end)) == [("t", 0), ("t", 1), ("t", 2)]
        blocks = [await node.front_end.call(ApiKey.ALLOCATE_PRODUCER_IDS, 0, allocate(
            broker_id=1, broker_epoch=node.broker_epoch)) for _ in range(2)]
        assert [(block.producer_id_start, block.producer_id_len) for block in blocks] == [(0, 1000), (1000, 1000)]
        stale = await node.front_end.call(ApiKey.ALLOCATE_PRODUCER_IDS, 0, allocate(
            broker_id=1, broker_epoch=node.broker_epoch - 1))
        assert stale.error_code == E.STALE_BROKER_EPOCH


async def test_requests_before_the_registration_are_refused(properties: dict[str, str]) -> None:
    async with trio.open_nursery() as nursery:
        node = Node(properties, nursery)
        await node.start()
        assert (await node.front_end.create_topic("t")).error_code == E.NOT_CONTROLLER
        assert await node.stop() == 0
        nursery.cancel_scope.cancel()


# Restarts


async def test_stop_and_start_keep_cluster_topics_and_leader_epochs(properties: dict[str, str]) -> None:
    async with start_node(properties) as node:
        topic = await node.front_end.create_topic("t", 2, {"retention.ms": "1000"})
        identity, broker_epoch = node.identity, node.broker_epoch
        assert await node.stop() == 0
    ephemeral = {"/controller", "/brokers/ids/1"}
    assert not ephemeral & set(stored(properties))

    async with start_node(properties) as node:
        assert node.identity == identity
        assert node.broker_epoch > broker_epoch
        _, metadata = await node.front_end.wait_for(leads("t"))
        assert metadata.controller_epoch == 2
        assert keys(node.front_end) == [
            ApiKey.ALTER_CONFIGS, ApiKey.UPDATE_METADATA, ApiKey.LEADER_AND_ISR, ApiKey.UPDATE_METADATA]
        assert leaderships(node.front_end) == {
            ("t", number): (bytes(topic.topic_id), 1, 0) for number in (0, 1)}


async def test_killed_controller_resumes_the_session_and_the_registration(properties: dict[str, str]) -> None:
    async with start_node(properties) as node:
        topic = await node.front_end.create_topic("t")
        session, broker_epoch = node.session, node.broker_epoch
        await node.kill()
        await node.start()
        assert node.session == session
        assert await node.register(resume=True) == broker_epoch
        _, metadata = await node.front_end.wait_for(leads("t"))
        assert (metadata.controller_epoch, metadata.broker_epoch) == (2, broker_epoch)
        assert leaderships(node.front_end) == {("t", 0): (bytes(topic.topic_id), 1, 0)}
        assert (await node.front_end.create_topic("u")).error_code == E.NONE


async def test_lost_session_means_a_new_broker_epoch(properties: dict[str, str]) -> None:
    async with start_node(properties) as node:
        broker_epoch = node.broker_epoch
        await node.kill()
        node.session = {}
        await node.start()
        assert await node.register(resume=True) > broker_epoch


async def test_new_front_end_is_told_everything_under_a_new_broker_epoch(properties: dict[str, str]) -> None:
    async with start_node(properties) as node:
        topic = await node.front_end.create_topic("t", configs={"retention.ms": "1000"})
        broker_epoch = node.broker_epoch
        front_end = await node.restart_front_end()
        assert node.broker_epoch > broker_epoch

        def led_by_us(key: ApiKey, request: Any) -> bool:
            return leads("t")(key, request) and request.broker_epoch == node.broker_epoch

        await front_end.wait_for(led_by_us)
        assert keys(front_end)[0] is ApiKey.ALTER_CONFIGS
        assert leaderships(front_end) == {("t", 0): (bytes(topic.topic_id), 1, 2)}
        assert (await front_end.create_topic("u")).error_code == E.NONE


async def test_port_that_the_kernel_gave_is_registered(properties: dict[str, str]) -> None:
    properties["listeners"] = "PLAINTEXT://127.0.0.1:0"
    async with start_node(properties, ports={"PLAINTEXT": 4711}) as node:
        _, metadata = await node.front_end.wait_for(lambda key, request: key is ApiKey.UPDATE_METADATA)
        assert metadata.live_brokers[0].endpoints[0].port == 4711
        await node.restart_front_end()
        _, metadata = await node.front_end.wait_for(lambda key, request: key is ApiKey.UPDATE_METADATA)
        assert metadata.live_brokers[0].endpoints[0].port == 4711


async def test_front_end_and_controller_both_new(properties: dict[str, str]) -> None:
    """The controller dies while the front end is being forked: its first message is the restart."""
    async with start_node(properties) as node:
        topic = await node.front_end.create_topic("t")
        await node.kill()
        await node.start()
        front_end = await node.restart_front_end()
        await front_end.wait_for(lambda key, request: leads("t")(key, request))
        assert leaderships(front_end)["t", 0][0] == bytes(topic.topic_id)


async def test_front_end_that_dies_with_requests_under_way(properties: dict[str, str]) -> None:
    request = message_class("CreateTopicsRequest")
    async with start_node(properties) as node:
        node.front_end.answer = lambda key, message: None
        for number in range(20):
            topic = request.CreatableTopic(name=f"t{number}", num_partitions=1, replication_factor=1)
            await node.front_end.send(ApiKey.CREATE_TOPICS, 7, request(topics=[topic], timeout_ms=60_000))
        front_end = await node.restart_front_end()
        assert (await front_end.create_topic("after")).error_code == E.NONE


@pytest.mark.parametrize("seed", range(3))
async def test_kill_under_load_loses_no_answered_topic(properties: dict[str, str], seed: int) -> None:
    print(f"seed {seed}")
    delays = random.Random(seed)
    request = message_class("CreateTopicsRequest")
    acknowledged: set[str] = set()
    async with start_node(properties) as node:
        for round_number in range(3):
            for number in range(30):
                topic = request.CreatableTopic(name=f"t{round_number}-{number}", num_partitions=2,
                                               replication_factor=1)
                await node.front_end.send(ApiKey.CREATE_TOPICS, 7, request(topics=[topic]))
            for _ in range(delays.randrange(30)):
                _, response = await node.front_end.receive(ApiKey.CREATE_TOPICS, 7)
                assert codes(response.topics) == [E.NONE]
                acknowledged.add(response.topics[0].name)
            await node.kill()
            await node.start()
            await node.register(resume=True)
        _, metadata = await node.front_end.wait_for(
            lambda key, message: key is ApiKey.UPDATE_METADATA and bool(message.topic_states))
        led = {topic.topic_name: len(topic.partition_states) for topic in metadata.topic_states}
        assert acknowledged <= set(led)
        assert set(led.values()) == {2}
        assert await node.stop() == 0
    tree = stored(properties)
    for topic in led:
        states = [tree[f"/brokers/topics/{topic}/partitions/{number}/state"][0] for number in (0, 1)]
        assert [(state["leader"], state["leader_epoch"], state["isr"]) for state in states] == [(1, 0, [1])] * 2


# Refusals and ends


async def refused(properties: dict[str, str]) -> str:
    """Why the process says it failed; it exits with 1."""
    async with trio.open_nursery() as nursery:
        node = Node(properties, nursery)
        try:
            await node.start()
        except AssertionError as error:
            why = str(error.args[0])
        else:
            why = (await node.message("failed"))["why"]
        assert await node.exit_code() == 1
        nursery.cancel_scope.cancel()
    return why


async def test_second_broker_on_the_same_file_is_refused_with_an_explanation(
        properties: dict[str, str]) -> None:
    async with start_node(properties) as node:
        assert node.process is not None
        why = await refused({**properties, "broker.id": "2"})
        assert f"in use by broker 1, process {node.process.pid}" in why
        assert "zookeeper.connect" in why
        assert (await node.front_end.create_topic("t")).error_code == E.NONE


async def test_file_of_another_broker_is_refused_with_both_ids(properties: dict[str, str]) -> None:
    async with start_node(properties) as node:
        await node.stop()
    assert "belongs to broker 1, but broker.id says 2" in await refused({**properties, "broker.id": "2"})


async def test_file_that_cannot_be_made_is_refused(properties: dict[str, str]) -> None:
    path = properties["log.dirs"] + "/missing/metadata.sqlite"
    assert path in await refused({**properties, "ottla.metadata.path": path})


async def test_generated_broker_id_is_kept(properties: dict[str, str]) -> None:
    properties["broker.id"] = "-1"
    for _ in range(2):
        async with start_node(properties) as node:
            assert node.identity["broker_id"] == 1001
            await node.stop()


async def test_controller_ends_with_the_supervisor(properties: dict[str, str]) -> None:
    async with start_node(properties) as node:
        assert node._control is not None and node.process is not None
        node._control.close()
        with trio.fail_after(10):
            assert await trio.to_thread.run_sync(node.process.wait) == 0
        node.process = None


async def test_nothing_runs_while_nothing_happens(properties: dict[str, str]) -> None:
    def switches(pid: int) -> int:
        status = Path(f"/proc/{pid}/status").read_text()
        return sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)

    async with start_node(properties) as node:
        await node.front_end.create_topic("t")
        assert node.process is not None
        await trio.sleep(0.3)
        before = switches(node.process.pid)
        await trio.sleep(1)
        assert switches(node.process.pid) - before <= 1


# The tree


async def test_tree_is_the_one_that_kafka_makes(properties: dict[str, str]) -> None:
    """As a real Kafka 3.9.1 left it after the same actions, with versions and counts of children's changes."""
    properties["broker.rack"] = "r1"
    grow = message_class("CreatePartitionsRequest")
    async with start_node(properties) as node:
        await node.front_end.create_topic("t", 3, {"retention.ms": "1000"})
        await node.front_end.create_topic("plain")
        await node.front_end.call(ApiKey.CREATE_PARTITIONS, 3, grow(timeout_ms=10_000, topics=[
            grow.CreatePartitionsTopic(name="plain", count=2, assignments=None)]))
        await node.front_end.create_topic("gone")
        await node.front_end.delete_topic("gone")
        topic_ids = {name: topic_id for (name, _), (topic_id, _, _) in leaderships(node.front_end).items()}
        cluster_id = node.identity["cluster_id"]
        await node.kill()
    tree = stored(properties)
    del tree["/"]  # ZooKeeper's own root begins with other counts
    expected = _kafkas_tree(cluster_id, topic_ids)
    for path in ("/controller", "/brokers/ids/1"):
        assert int(tree[path][0].pop("timestamp")) > 1_600_000_000_000
    assert set(tree) == set(expected)
    assert {path: node for path, node in tree.items() if node != expected[path]} == {}


def _kafkas_tree(cluster_id: str, topic_ids: dict[str, bytes]) -> dict[str, tuple[Any, int, int]]:
    def topic(name: str, partitions: int) -> dict[str, Any]:
        return {"version": 3, "topic_id": uuid_to_text(topic_ids[name]), "adding_replicas": {},
                "removing_replicas": {}, "partitions": {str(number): [1] for number in range(partitions)}}

    state = {"controller_epoch": 1, "leader": 1, "version": 1, "leader_epoch": 0, "isr": [1]}
    expected: dict[str, tuple[Any, int, int]] = {
        "/admin": (None, 0, 1), "/admin/delete_topics": (None, 0, 2),
        "/brokers": (None, 0, 3), "/brokers/ids": (None, 0, 1), "/brokers/seqid": (None, 0, 0),
        "/brokers/ids/1": ({
            "features": {}, "listener_security_protocol_map": {"PLAINTEXT": "PLAINTEXT"},
            "endpoints": ["PLAINTEXT://127.0.0.1:9092"], "rack": "r1", "jmx_port": -1, "port": 9092,
            "host": "127.0.0.1", "version": 5}, 1, 0),
        "/brokers/topics": (None, 0, 4),
        "/brokers/topics/t": (topic("t", 3), 0, 1), "/brokers/topics/plain": (topic("plain", 2), 1, 1),
        "/brokers/topics/t/partitions": (None, 0, 3), "/brokers/topics/plain/partitions": (None, 0, 2),
        "/cluster": (None, 0, 1), "/cluster/id": ({"version": "1", "id": cluster_id}, 0, 0),
        "/config": (None, 0, 6), "/config/topics": (None, 0, 4),
        "/config/topics/t": ({"version": 1, "config": {"retention.ms": "1000"}}, 0, 0),
        "/config/topics/plain": ({"version": 1, "config": {}}, 0, 0),
        "/controller": ({"version": 2, "brokerid": 1, "kraftControllerEpoch": -1}, 0, 0),
        "/controller_epoch": (1, 1, 0), "/feature": ({"features": {}, "version": 2, "status": 1}, 0, 0),
    }
    for name, partitions in (("t", 3), ("plain", 2)):
        for number in range(partitions):
            expected[f"/brokers/topics/{name}/partitions/{number}"] = (None, 0, 1)
            expected[f"/brokers/topics/{name}/partitions/{number}/state"] = (state, 0, 0)
    for path in ("/config/brokers", "/config/changes", "/config/clients", "/config/ips", "/config/users",
                 "/consumers", "/isr_change_notification", "/latest_producer_id_block",
                 "/log_dir_event_notification"):
        expected[path] = (None, 0, 0)
    return expected
