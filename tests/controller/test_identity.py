"""Paths, cluster id and generated broker ids."""
from __future__ import annotations

from collections.abc import Sequence

from controller import identity, znodes
from controller.metadata_store.operations import Create, Outcome, Request
from tests.controller.memory_store import MemoryServer, MemoryStore, run


def test_paths_are_those_of_kafka_with_null_data() -> None:
    server = MemoryServer()
    run(identity.ensure_paths(server.session()))
    run(identity.ensure_paths(server.session()))
    assert {path for path, _ in server.tree.nodes()} == {
        "/", "/consumers", "/brokers", "/brokers/ids", "/brokers/topics", "/brokers/seqid", "/config",
        "/config/changes", "/config/topics", "/config/clients", "/config/users", "/config/brokers",
        "/config/ips", "/admin", "/admin/delete_topics", "/isr_change_notification",
        "/latest_producer_id_block", "/log_dir_event_notification"}
    assert all(node.data is None for _, node in server.tree.nodes())


def test_cluster_id_is_made_once() -> None:
    server = MemoryServer()
    ids = iter(["first", "second"])
    assert run(identity.cluster_id(server.session(), lambda: next(ids))) == "first"
    assert run(identity.cluster_id(server.session(), lambda: next(ids))) == "first"


def test_loser_of_the_race_takes_the_winner_s_cluster_id() -> None:
    class Raced(MemoryStore):
        async def submit(self, requests: Sequence[Request]) -> list[Outcome]:
            if isinstance(requests[0], Create) and requests[0].path == znodes.CLUSTER_ID:
                await super().submit([Create(znodes.CLUSTER_ID, znodes.encode_cluster_id("winner"))])
            return await super().submit(requests)

    store = MemoryServer().session()
    store.__class__ = Raced
    assert run(identity.cluster_id(store, lambda: "loser")) == "winner"


def test_generated_broker_ids_begin_above_the_reserved_ones() -> None:
    server = MemoryServer()
    store = server.session()
    run(identity.ensure_paths(store))
    assert [run(identity.generate_broker_id(store, 1000)) for _ in range(2)] == [1001, 1002]
