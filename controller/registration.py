"""The broker's registration `/brokers/ids/N` (PURE).

The node is made in two operations of one transaction, empty and then set: its czxid, the broker epoch, is
that of the creation, and the payload appears with it. It lives as long as the *front end*: a new front end
means a new node and a new epoch, so that whichever controller rules sends everything again; a new
controller process finds the node of its resumed session and leaves it alone.

Runs in: controller. The node belongs to this process's session.
"""
from __future__ import annotations

from controller import znodes
from controller.cluster import Endpoint
from controller.metadata_store.errors import MultiError, NodeExistsError, NoNodeError
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import Create, GetData, GetDataResult, SetData, SetDataResult


class RegistrationRefusedError(Exception):
    """Another broker stands in the way. The text says which values clash and what to do."""


async def register_anew(store: MetadataStore, broker_id: int, endpoints: tuple[Endpoint, ...],
                        data: bytes) -> int:
    """Register with a new broker epoch, which is returned. A node of our own session is replaced.

    data: the node's JSON. RegistrationRefusedError when the id or an endpoint is another live broker's.
    """
    await _check_endpoints(store, broker_id, endpoints)
    path = znodes.broker_path(broker_id)
    while True:
        found = await store.find_data(path)
        if found is not None:
            if found.stat.ephemeral_owner != store.session.id:
                raise RegistrationRefusedError(
                    f"broker.id {broker_id} is taken: {path} belongs to session "
                    f"{found.stat.ephemeral_owner:#x}, ours is {store.session.id:#x}. Another broker with "
                    "this id is running, or an earlier run's session has not expired yet: stop the other "
                    "broker, or wait for the session time-out and start again")
            await _delete(store, path)
        try:
            _, result = await store.multi(Create(path, None, ephemeral=True), SetData(path, data, 0))
        except MultiError as error:
            if not isinstance(error.cause, NodeExistsError):
                raise
            continue
        assert isinstance(result, SetDataResult)
        return result.stat.czxid


async def _delete(store: MetadataStore, path: str) -> None:
    try:
        await store.delete(path)
    except NoNodeError:
        return


async def resume(store: MetadataStore, broker_id: int, broker_epoch: int) -> bool:
    """Whether the registration with that epoch still stands, in our session."""
    found = await store.find_data(znodes.broker_path(broker_id))
    return found is not None and found.stat.ephemeral_owner == store.session.id \
        and found.stat.czxid == broker_epoch


async def _check_endpoints(store: MetadataStore, broker_id: int, endpoints: tuple[Endpoint, ...]) -> None:
    """No other registered broker may advertise one of our addresses."""
    ids = [int(child) for child in await store.get_children(znodes.BROKER_IDS) if child.isdigit()]
    others = [other for other in sorted(ids) if other != broker_id]
    ours = {(endpoint.host, endpoint.port): endpoint for endpoint in endpoints}
    outcomes = await store.submit([GetData(znodes.broker_path(other)) for other in others])
    for other, outcome in zip(others, outcomes, strict=True):
        if not isinstance(outcome, GetDataResult):
            continue
        for endpoint in znodes.decode_broker(other, outcome.data, outcome.stat.czxid).endpoints:
            clash = ours.get((endpoint.host, endpoint.port))
            if clash is not None:
                raise RegistrationRefusedError(
                    f"advertised listener {clash.listener}://{clash.host}:{clash.port} is also advertised by "
                    f"broker {other}: every broker needs an address of its own (advertised.listeners)")
