"""The broker's registration `/brokers/ids/N` (PURE).

The node is made in two operations of one transaction, empty and then set: its czxid, the broker epoch, is
that of the creation, and the payload appears with it. It lives as long as the *front end*: a new front end
means a new node and a new epoch, so that whichever controller rules sends everything again; a new
controller process finds the node of its resumed session and leaves it alone.

Runs in: controller. The node belongs to this process's session.
"""
from __future__ import annotations

from datetime import UTC, datetime

from controller import znodes
from controller.cluster import Endpoint
from controller.metadata_store.errors import MultiError, NodeExistsError, NoNodeError
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import Create, GetData, GetDataResult, SetData, SetDataResult


class RegistrationRefusedError(Exception):
    """Another broker stands in the way. The text says which values clash and what to do."""


class IdTakenError(RegistrationRefusedError):
    """Our node belongs to another session: of a broker that lives, or of an earlier run that was killed.

    owner: the session. described: whose it is, in words. The node is watched.
    """

    def __init__(self, broker_id: int, owner: int, own_session: int, described: str) -> None:
        super().__init__(
            f"broker.id {broker_id} is taken: {znodes.broker_path(broker_id)} belongs to session {owner:#x} "
            f"({described}), ours is {own_session:#x}. Another broker with this id is running, or an earlier "
            "run's session has not expired yet: stop the other broker, or give this one a broker.id of its own "
            "and the log directories that belong to it, or wait for the session time-out and start again")
        self.owner = owner
        self.described = described


async def register_anew(store: MetadataStore, broker_id: int, endpoints: tuple[Endpoint, ...],
                        data: bytes) -> int:
    """Register with a new broker epoch, which is returned. A node of our own session is replaced.

    data: the node's JSON. RegistrationRefusedError when an endpoint is another live broker's, IdTakenError
    when the id is.
    """
    await _check_endpoints(store, broker_id, endpoints)
    path = znodes.broker_path(broker_id)
    while True:
        found = await store.find_data(path)
        if found is not None:
            if found.stat.ephemeral_owner != store.session.id:
                if await store.exists(path, watch=True) is None:
                    continue
                raise IdTakenError(broker_id, found.stat.ephemeral_owner, store.session.id,
                                   _described(broker_id, found))
            await _delete(store, path)
        try:
            _, result = await store.multi(Create(path, None, ephemeral=True), SetData(path, data, 0))
        except MultiError as error:
            if not isinstance(error.cause, NodeExistsError):
                raise
            continue
        assert isinstance(result, SetDataResult)
        return result.stat.czxid


def _described(broker_id: int, found: GetDataResult) -> str:
    since = datetime.fromtimestamp(found.stat.ctime_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    where = ", ".join(f"{endpoint.listener}://{endpoint.host}:{endpoint.port}"
                      for endpoint in _endpoints_of(broker_id, found))
    return f"registered {since} with {where or 'nothing that can be read'}"


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
        for endpoint in _endpoints_of(other, outcome):
            clash = ours.get((endpoint.host, endpoint.port))
            if clash is not None:
                raise RegistrationRefusedError(
                    f"broker {broker_id} advertises {clash.listener}://{clash.host}:{clash.port}, and so does "
                    f"broker {other} ({znodes.broker_path(other)}): every broker needs an address of its own. "
                    "Correct advertised.listeners of one of them; if that broker was stopped hard, its "
                    "registration goes with its session's time-out")


def _endpoints_of(broker_id: int, found: GetDataResult) -> tuple[Endpoint, ...]:
    """Empty where the registration cannot be read: that is the controller's business, not ours."""
    try:
        return znodes.decode_broker(broker_id, found.data, found.stat.czxid).endpoints
    except znodes.ZnodeFormatError:
        return ()
