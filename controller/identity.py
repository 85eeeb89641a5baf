"""Who this node is: the paths every broker ensures, the cluster id, the broker id (PURE).

Runs in: controller, at its start, before anything in a log directory is touched.
"""
from __future__ import annotations

from collections.abc import Callable

from controller import znodes
from controller.metadata_store.errors import NodeExistsError, StoreError
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import Create


async def ensure_paths(store: MetadataStore) -> None:
    """Make Kafka's persistent nodes where they are missing, parents first."""
    paths: dict[str, None] = {}
    for path in znodes.PERSISTENT_PATHS:
        parts = path[1:].split("/")
        paths.update(dict.fromkeys("/" + "/".join(parts[:depth]) for depth in range(1, len(parts) + 1)))
    for outcome in await store.submit([Create(path) for path in paths]):
        if isinstance(outcome, StoreError) and not isinstance(outcome, NodeExistsError):
            raise outcome


async def cluster_id(store: MetadataStore, new_id: Callable[[], str]) -> str:
    """The cluster's id, made by the first broker ever. new_id: 22 characters, random."""
    while True:
        found = await store.find_data(znodes.CLUSTER_ID)
        if found is not None:
            return znodes.decode_cluster_id(found.data)
        await store.ensure_path(znodes.CLUSTER_ID.rpartition("/")[0])
        try:
            await store.create(znodes.CLUSTER_ID, znodes.encode_cluster_id(new_id()))
        except NodeExistsError:
            continue


async def generate_broker_id(store: MetadataStore, reserved_broker_id_max: int) -> int:
    """A broker id of its own for broker.id=-1: the counter is the version of a node, ids begin above
    reserved.broker.max.id."""
    stat = await store.set_data(znodes.BROKER_SEQUENCE_ID, None)
    return reserved_broker_id_max + stat.version
