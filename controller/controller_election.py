"""Looking at `/controller` and standing for it: Kafka's election over any metadata store (PURE).

The watch is armed before anything is read, so no change between is lost. A controller that a KRaft
migration registered holds a node that never goes away: it is left alone.

Runs in: controller.
"""
from __future__ import annotations

from dataclasses import dataclass

from controller import znodes
from controller.metadata_store.errors import BadVersionError, MultiError, NodeExistsError, NoNodeError
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import (
    Check,
    Create,
    Delete,
    Exists,
    GetData,
    GetDataResult,
    SetData,
    SetDataResult,
)

FIRST_EPOCH = 0
"""Written when the node is made; the first controller writes the next one."""


@dataclass(frozen=True, slots=True)
class Elected:
    """epoch_version: version of the epoch node, which guards every later write."""

    epoch: int
    epoch_version: int


@dataclass(frozen=True, slots=True)
class Holder:
    """owner: the session that holds `/controller`; 0 for a KRaft migration's node, which stays."""

    broker_id: int
    owner: int


async def look(store: MetadataStore) -> Holder | None:
    """Who is in `/controller`, which is watched from now on; None if there is no node."""
    _, outcome = await store.submit([Exists(znodes.CONTROLLER, watch=True), GetData(znodes.CONTROLLER)])
    if not isinstance(outcome, GetDataResult):
        return None
    return Holder(znodes.decode_controller(outcome.data).broker_id, outcome.stat.ephemeral_owner)


async def give_up_inherited(store: MetadataStore) -> None:
    """Delete `/controller` if our own session holds it.

    It is left from a predecessor of this process, whose state is gone, or of an election whose answer was
    lost, or of an office given up: everything is to be read and told anew, under the next epoch.
    """
    found = await store.find_data(znodes.CONTROLLER)
    epoch = await store.find_data(znodes.CONTROLLER_EPOCH)
    if found is None or found.stat.ephemeral_owner != store.session.id:
        return
    guard = () if epoch is None else (Check(znodes.CONTROLLER_EPOCH, epoch.stat.version),)
    try:
        await store.multi(*guard, Delete(znodes.CONTROLLER, found.stat.version))
    except MultiError as error:
        if not isinstance(error.cause, BadVersionError | NoNodeError):
            raise


async def stand(store: MetadataStore, broker_id: int, now_ms: int) -> Elected | None:
    """Try to become the controller; None when somebody else is or was quicker.

    now_ms: wall clock, for the node's timestamp.
    """
    epoch, version = await _current_epoch(store)
    wanted = epoch + 1
    try:
        results = await store.multi(
            Create(znodes.CONTROLLER, znodes.encode_controller(broker_id, now_ms), ephemeral=True),
            SetData(znodes.CONTROLLER_EPOCH, znodes.encode_controller_epoch(wanted), version))
    except MultiError as error:
        if not isinstance(error.cause, NodeExistsError | BadVersionError):
            raise
        return await _already_won(store, broker_id, wanted)
    set_epoch = results[1]
    assert isinstance(set_epoch, SetDataResult)
    return Elected(wanted, set_epoch.stat.version)


async def _current_epoch(store: MetadataStore) -> tuple[int, int]:
    found = await store.find_data(znodes.CONTROLLER_EPOCH)
    while found is None:
        await store.submit([Create(znodes.CONTROLLER_EPOCH, znodes.encode_controller_epoch(FIRST_EPOCH))])
        found = await store.find_data(znodes.CONTROLLER_EPOCH)
    return znodes.decode_controller_epoch(found.data), found.stat.version


async def _already_won(store: MetadataStore, broker_id: int, wanted: int) -> Elected | None:
    """The answer to an earlier try may have been lost: our id and our epoch in the nodes of our session mean that
    we won."""
    controller = await store.find_data(znodes.CONTROLLER)
    epoch = await store.find_data(znodes.CONTROLLER_EPOCH)
    if controller is None or epoch is None:
        return None
    holds = controller.stat.ephemeral_owner == store.session.id \
        and znodes.decode_controller(controller.data).broker_id == broker_id
    if holds and znodes.decode_controller_epoch(epoch.data) == wanted:
        return Elected(wanted, epoch.stat.version)
    return None
