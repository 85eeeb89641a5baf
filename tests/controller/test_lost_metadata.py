"""Embedded metadata made anew from log directories: what is written, what is refused, and that a kill on the
way leaves an empty store or a complete one."""
from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import trio

from broker.config import build_config
from broker.config.kafka_config import KafkaConfig
from broker.protocol.primitives import uuid_to_text
from controller import identity, znodes
from controller.cluster import TopicPartition
from controller.log_directories import read_claims
from controller.lost_metadata import make_plan, rebuild_if_lost
from controller.metadata_store.embedded import EmbeddedDatabase
from controller.metadata_store.errors import StoreRefusedError
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import Create
from storage.checkpoint.leader_epoch_checkpoint import LEADER_EPOCH_CHECKPOINT, write_leader_epoch_checkpoint
from storage.checkpoint.meta_properties import META_PROPERTIES, MetaProperties, write_meta_properties
from storage.checkpoint.partition_metadata import PARTITION_METADATA, write_partition_metadata
from storage.log.survey import DirectorySurvey, PartitionDirectory, PartitionFindings
from tests.controller.memory_store import MemoryServer, run
from tests.controller.world import OWN_ID, PROPERTIES, World

CLUSTER = "AAAAAAAAAAAAAAAAAAAAAA"
ID, OTHER_ID = bytes(range(16)), bytes(range(1, 17))


def config(**properties: str) -> KafkaConfig:
    return build_config({**PROPERTIES, "broker.id": str(OWN_ID),
                         **{key.replace("_", "."): value for key, value in properties.items()}})


def found(name: str, topic_id: bytes | None = ID, leader_epoch: int = -1, producer_id: int = -1,
          directory: str = "/d") -> PartitionFindings:
    """name: of the partition's directory."""
    topic, _, number = name.rpartition("-")
    return PartitionFindings(PartitionDirectory(topic, int(number), f"{directory}/{name}"), topic_id, leader_epoch,
                             producer_id)


def survey(*partitions: PartitionFindings, path: str = "/d", was_clean: bool = True,
           compacted: frozenset[str] = frozenset(), problems: tuple[str, ...] = ()) -> DirectorySurvey:
    return DirectorySurvey(path, was_clean, partitions, compacted, problems)


class Rebuilt:
    """What a plan makes of a store in which only Kafka's persistent paths exist."""

    def __init__(self, *surveys: DirectorySurvey, **properties: str) -> None:
        self.plan = make_plan(surveys, CLUSTER, OWN_ID, config(**properties))
        self.server = MemoryServer()
        store = self.server.session()
        run(identity.ensure_paths(store))
        for outcome in run(store.submit(self.plan.requests)):
            assert not isinstance(outcome, Exception), outcome

    def data(self, path: str) -> bytes | None:
        node = self.server.tree.node(path)
        assert node is not None, path
        return node.data

    def topic(self, name: str) -> znodes.TopicAssignment:
        return znodes.decode_topic(name, self.data(znodes.topic_path(name)))

    def leader_epoch(self, topic: str, number: int) -> int | None:
        """None: no state node."""
        node = self.server.tree.node(znodes.partition_state_path(topic, number))
        if node is None:
            return None
        state = znodes.decode_partition_state(TopicPartition(topic, number), node.data, node.version)
        assert (state.leader, state.isr) == (OWN_ID, (OWN_ID,))
        return state.leader_epoch

    def overrides(self, topic: str) -> dict[str, str]:
        path = znodes.config_path("topics", topic)
        node = self.server.tree.node(path)
        return {} if node is None else znodes.decode_config(path, node.data)


# What is written


def test_topics_get_their_ids_and_this_broker() -> None:
    rebuilt = Rebuilt(survey(found("a-0"), found("a-1")), survey(found("b-c-0", OTHER_ID), path="/e"))
    a, b = rebuilt.topic("a"), rebuilt.topic("b-c")
    assert (a.topic_id, sorted(a.partitions), b.topic_id, sorted(b.partitions)) == (ID, [0, 1], OTHER_ID, [0])
    assert {assignment.replicas for topic in (a, b) for assignment in topic.partitions.values()} == {(OWN_ID,)}
    assert znodes.decode_cluster_id(rebuilt.data(znodes.CLUSTER_ID)) == CLUSTER


def test_leader_epochs_lie_above_all_that_were_seen() -> None:
    rebuilt = Rebuilt(survey(found("a-0", leader_epoch=7), found("a-1")))
    assert [rebuilt.leader_epoch("a", number) for number in (0, 1)] == [8, 0]


def test_partitions_without_directory_are_new_ones_and_a_warning() -> None:
    rebuilt = Rebuilt(survey(found("a-3", leader_epoch=7), found("a-1")))
    assert sorted(rebuilt.topic("a").partitions) == [0, 1, 2, 3]
    assert [rebuilt.leader_epoch("a", number) for number in range(4)] == [None, 0, None, 8]
    assert any("holds its partitions 0, 2; they are made anew" in text for text in rebuilt.plan.warnings)


def test_topic_without_partition_metadata_is_left_to_the_controller() -> None:
    """It gives ids to topics that have none, as Kafka's does."""
    rebuilt = Rebuilt(survey(found("a-0", None)))
    assert rebuilt.topic("a").topic_id is None
    assert "1 topics have no partition.metadata and get a new topic id" in rebuilt.plan.infos


def test_most_partitions_decide_on_the_topic_id() -> None:
    rebuilt = Rebuilt(survey(found("a-0", OTHER_ID), found("a-1"), found("a-2"), found("a-3", None)))
    assert rebuilt.topic("a").topic_id == ID
    (warning,) = [text for text in rebuilt.plan.warnings if "partition.metadata" in text]
    assert "/d/a-0 names another topic id" in warning


def test_producer_ids_begin_in_the_block_after_the_highest() -> None:
    rebuilt = Rebuilt(survey(found("a-0", producer_id=999), found("a-1", producer_id=2000)))
    block = znodes.decode_producer_id_block(rebuilt.data(znodes.PRODUCER_ID_BLOCK))
    assert block == znodes.ProducerIdBlock(OWN_ID, 2000, 2999)


def test_without_producers_no_block_was_given_out() -> None:
    assert Rebuilt(survey(found("a-0"))).data(znodes.PRODUCER_ID_BLOCK) is None


def test_names_that_no_topic_may_have_are_left_alone() -> None:
    rebuilt = Rebuilt(survey(found("a b-0"), found("a-0")))
    assert sorted(rebuilt.server.tree.children(znodes.TOPICS)) == ["a"]
    assert any("'a b'" in text for text in rebuilt.plan.warnings)


def test_overrides_are_lost_and_that_is_said() -> None:
    rebuilt = Rebuilt(survey(found("a-0")))
    assert rebuilt.overrides("a") == {}
    assert any("configuration overrides" in text for text in rebuilt.plan.warnings)


def test_compacted_topics_stay_compacted() -> None:
    """With the default policy, retention would take what compaction was to keep."""
    rebuilt = Rebuilt(survey(found("a-0"), found("b-0"), compacted=frozenset({"a", "gone"})))
    assert (rebuilt.overrides("a"), rebuilt.overrides("b")) == ({"cleanup.policy": "compact"}, {})


def test_internal_topics_get_what_the_coordinators_need() -> None:
    rebuilt = Rebuilt(survey(found("__consumer_offsets-0"), found("__transaction_state-0", OTHER_ID),
                             compacted=frozenset({"__consumer_offsets"})),
                      offsets_topic_segment_bytes="1000", transaction_state_log_min_isr="1")
    assert rebuilt.overrides("__consumer_offsets") == {
        "cleanup.policy": "compact", "compression.type": "producer", "segment.bytes": "1000"}
    assert rebuilt.overrides("__transaction_state") == {
        "cleanup.policy": "compact", "compression.type": "uncompressed", "min.insync.replicas": "1",
        "segment.bytes": "104857600", "unclean.leader.election.enable": "false"}


def test_problems_of_the_survey_are_named_up_to_a_number() -> None:
    warnings = Rebuilt(survey(problems=tuple(f"problem {number}" for number in range(25)))).plan.warnings
    assert warnings[0] == "problem 0"
    assert warnings[20] == "... and 5 more like these"


def test_partition_in_two_directories_is_refused() -> None:
    surveys = [survey(found("a-0")), survey(found("a-0", directory="/e"), path="/e")]
    with pytest.raises(StoreRefusedError, match="a-0 lies in two log directories: /d/a-0 and /e/a-0"):
        make_plan(surveys, CLUSTER, OWN_ID, config())


def test_controller_leads_what_was_made_anew_without_another_election() -> None:
    rebuilt = Rebuilt(survey(found("a-1", leader_epoch=7)))
    world = World(tree=rebuilt.server.tree)
    world.take_office()
    assert world.leader_of("a", 1) == (OWN_ID, 8, (OWN_ID,))
    assert world.leader_of("a", 0) == (OWN_ID, 0, (OWN_ID,))
    lines = world.transcript()
    assert "to 1: LeaderAndIsr a-1 leader 1 epoch 8/0 isr 1" in lines
    assert "to 1: LeaderAndIsr a-0 leader 1 epoch 0/0 isr 1 new" in lines


# From real directories into a real store


def write_partition(directory: Path, name: str, leader_epoch: int = 3) -> None:
    path = directory / name
    path.mkdir(parents=True)
    write_partition_metadata(str(path / PARTITION_METADATA), ID)
    write_leader_epoch_checkpoint(str(path / LEADER_EPOCH_CHECKPOINT), [(leader_epoch, 0)])


def write_directory(path: Path, *names: str) -> Path:
    path.mkdir(parents=True)
    write_meta_properties(str(path / META_PROPERTIES), MetaProperties(CLUSTER, OWN_ID), 0)
    for name in names:
        write_partition(path, name)
    return path


async def rebuild(database: EmbeddedDatabase, *directories: Path) -> MetadataStore:
    store = await database.open_session()
    await identity.ensure_paths(store)
    settings = config(log_dirs=",".join(map(str, directories)))
    await rebuild_if_lost(store, settings, read_claims(settings.log_dirs), OWN_ID, lambda: "fresh")
    return store


async def cluster_id(store: MetadataStore) -> str | None:
    node = await store.find_data(znodes.CLUSTER_ID)
    return None if node is None else znodes.decode_cluster_id(node.data)


async def open_database(path: Path) -> EmbeddedDatabase:
    return await EmbeddedDatabase.open(str(path), description="this test")


@pytest.mark.trio
async def test_empty_store_is_filled(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "m.sqlite")
    store = await rebuild(database, write_directory(tmp_path / "a", "t-0"), write_directory(tmp_path / "b", "t-1"))
    assert await cluster_id(store) == CLUSTER
    topic = znodes.decode_topic("t", (await store.get_data(znodes.topic_path("t"))).data)
    assert (uuid_to_text(topic.topic_id or b""), sorted(topic.partitions)) == (uuid_to_text(ID), [0, 1])
    await database.close()


@pytest.mark.trio
async def test_store_with_a_cluster_is_left_alone(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "m.sqlite")
    store = await database.open_session()
    await store.submit([Create("/cluster"), Create(znodes.CLUSTER_ID, znodes.encode_cluster_id("mine"))])
    await rebuild(database, write_directory(tmp_path / "a", "t-0"))
    assert await cluster_id(store) == "mine"
    assert await store.get_children(znodes.TOPICS) == ()
    await database.close()


@pytest.mark.trio
async def test_new_directories_leave_the_store_empty(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    database = await open_database(tmp_path / "m.sqlite")
    assert await cluster_id(await rebuild(database, tmp_path / "a", tmp_path / "unreadable")) is None
    await database.close()


@pytest.mark.trio
async def test_partitions_without_meta_properties_get_a_fresh_cluster_id(tmp_path: Path) -> None:
    """An operator removes the file to take a directory into another cluster."""
    write_partition(tmp_path / "a", "t-0")
    database = await open_database(tmp_path / "m.sqlite")
    store = await rebuild(database, tmp_path / "a")
    assert await cluster_id(store) == "fresh"
    assert await store.get_children(znodes.TOPICS) == ("t",)
    await database.close()


@pytest.mark.trio
@pytest.mark.parametrize("what", ["directory", "partition"])
async def test_what_cannot_be_read_whole_is_not_rebuilt(tmp_path: Path, what: str) -> None:
    """Else its partitions would be made anew, empty, and exist twice when it is back."""
    directories = [write_directory(tmp_path / "a", "t-0"), tmp_path / "b"]
    if what == "partition":
        write_directory(tmp_path / "b")
        (tmp_path / "a" / "t-0" / LEADER_EPOCH_CHECKPOINT).unlink()
        (tmp_path / "a" / "t-0" / LEADER_EPOCH_CHECKPOINT).mkdir()  # reading it is an error
    database = await open_database(tmp_path / "m.sqlite")
    store = await database.open_session()
    unreadable = tmp_path / "a" / "t-0" if what == "partition" else directories[1]
    with pytest.raises(StoreRefusedError, match=f"cannot be made anew while {unreadable} cannot be read"):
        await rebuild(database, *directories)
    assert await cluster_id(store) is None
    await database.close()


@pytest.mark.trio
async def test_topics_without_a_cluster_are_nothing_to_build_on(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "m.sqlite")
    store = await database.open_session()
    await identity.ensure_paths(store)
    await store.create(znodes.topic_path("old"))
    with pytest.raises(StoreRefusedError, match="name topics but no cluster"):
        await rebuild(database, write_directory(tmp_path / "a", "t-0"))
    await database.close()


# A kill on the way


def rebuild_and_die(path: Path, directory: Path, statements_left: int) -> bool:
    """In a process of its own, killed before its n-th statement; whether it came to its end."""
    pid = os.fork()
    if pid == 0:
        try:
            trio.run(_rebuild_dying, path, directory, statements_left)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == 0


async def _rebuild_dying(path: Path, directory: Path, statements_left: int) -> None:
    database = await open_database(path)
    left = statements_left

    def count(_statement: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os._exit(9)

    connection: Any = database._connection
    connection.set_trace_callback(count)
    await rebuild(database, directory)
    os._exit(0)


def stored_paths(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    paths = {row[0] for row in connection.execute("SELECT path FROM node")}
    connection.close()
    return paths


def test_kill_leaves_an_empty_store_or_a_complete_one(tmp_path: Path) -> None:
    """After every statement of the database once; the next start finishes what the dead one began."""
    directory = write_directory(tmp_path / "d", "t-0", "t-1", "u-0")
    assert rebuild_and_die(tmp_path / "whole.sqlite", directory, 10_000)
    complete = stored_paths(tmp_path / "whole.sqlite")
    empty_count = 0
    for statements in range(10_000):
        path = tmp_path / f"{statements}.sqlite"
        if rebuild_and_die(path, directory, statements):
            break
        paths = stored_paths(path)
        if znodes.CLUSTER_ID in paths:
            assert paths == complete
        else:
            empty_count += 1
            assert not any(name.startswith(znodes.TOPICS + "/") for name in paths)
        if statements % 8 == 0:
            assert rebuild_and_die(path, directory, 10_000)
            assert stored_paths(path) == complete
    assert empty_count > 20
