"""Copying a tree: what lasts, in an order that an interruption cannot turn into half a cluster."""
from __future__ import annotations

from collections.abc import Sequence

import pytest

from controller import identity, znodes
from controller.metadata_copy import read_tree, write_tree
from controller.metadata_store.errors import StoreRefusedError
from controller.metadata_store.operations import Exists, GetData, Outcome, Request
from tests.controller.memory_store import Crash, MemoryServer, MemoryStore, run

CLUSTER = znodes.encode_cluster_id("A" * 22)


def source() -> MemoryStore:
    """A small cluster with everything that is not to be copied."""
    store = MemoryServer().session()
    run(identity.ensure_paths(store))
    run(store.ensure_path("/cluster"))
    run(store.create(znodes.CLUSTER_ID, CLUSTER))
    run(store.create(znodes.CONTROLLER_EPOCH, b"7"))
    run(store.create("/brokers/topics/t", b"topic"))
    run(store.ensure_path("/brokers/topics/t/partitions/0"))
    run(store.create("/brokers/topics/t/partitions/0/state", b"state"))
    run(store.create("/config/topics/t", b"config"))
    run(store.create("/brokers/ids/1", b"", ephemeral=True))
    run(store.create("/controller", b"", ephemeral=True))
    run(store.create("/config/changes/config_change_", b"", sequential=True))
    for _ in range(3):
        run(store.set_data(znodes.BROKER_SEQUENCE_ID, None))
    return store


def target() -> MemoryStore:
    return MemoryServer().session()


def test_what_lasts_is_copied_and_what_passes_is_not() -> None:
    store = target()
    run(write_tree(store, run(read_tree(source()))))
    assert run(read_tree(store)) == run(read_tree(source()))
    assert run(store.get_data("/brokers/topics/t/partitions/0/state")).data == b"state"
    assert run(store.get_data(znodes.CONTROLLER_EPOCH)).data == b"7"
    for gone in ("/brokers/ids/1", "/controller", "/config/changes/config_change_0000000000"):
        assert run(store.exists(gone)) is None


def test_null_data_stays_null() -> None:
    store = target()
    run(write_tree(store, run(read_tree(source()))))
    assert run(store.get_data("/brokers/topics/t/partitions/0")).data is None


def test_next_generated_broker_id_is_the_one_it_would_have_been() -> None:
    store = target()
    run(write_tree(store, run(read_tree(source()))))
    assert run(identity.generate_broker_id(store, 1000)) == 1004


def count_writes() -> int:
    store = target()
    writes: list[Request] = []

    def see(request: Request, outcome: Outcome) -> None:
        if not isinstance(request, Exists):
            writes.append(request)

    store._server.on_request = see
    run(write_tree(store, run(read_tree(source()))))
    return len(writes)


@pytest.mark.parametrize("writes", range(count_writes()))
def test_interrupted_copy_is_no_cluster_and_can_be_done_again(writes: int) -> None:
    copied = run(read_tree(source()))
    server = MemoryServer()
    server.crash_after = writes
    with pytest.raises(Crash):
        run(write_tree(server.session(), copied))
    server.crash_after = None
    store = server.session()
    assert run(store.exists(znodes.CLUSTER_ID)) is None
    run(write_tree(store, copied))
    assert run(read_tree(store)) == copied


def test_node_that_cannot_be_read_ends_the_copy() -> None:
    store = source()
    submit = store.submit

    async def refuse(requests: Sequence[Request]) -> list[Outcome]:
        return [StoreRefusedError(request.path, "no access") if isinstance(request, GetData)
                and request.path == "/config/users" else outcome
                for request, outcome in zip(requests, await submit(requests), strict=True)]

    store.submit = refuse  # type: ignore[method-assign]
    with pytest.raises(StoreRefusedError, match="/config/users"):
        run(read_tree(store))
