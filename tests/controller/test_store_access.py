"""Guarded writes: no write by a node that may not act, and what happens when the disk refuses."""
from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

from controller import znodes
from controller.lease import Lease, LeaseState
from controller.metadata_store.errors import BadVersionError, MultiError, NodeExistsError, StoreUnavailableError
from controller.metadata_store.operations import Create, CreateResult, MultiResult, Outcome, Request, SetData
from controller.outside import boottime_ns
from controller.procedures.runtime import ControllerMovedError
from controller.store_access import UNAVAILABLE_RETRY_SECONDS, StoreAccess
from tests.controller.memory_store import MemoryServer, MemoryStore, run


def leading() -> tuple[MemoryStore, StoreAccess, Lease]:
    store = MemoryServer().session()
    run(store.create(znodes.CONTROLLER_EPOCH, b"1"))
    lease = Lease(None)
    lease.state = LeaseState.LEADING
    return store, StoreAccess(store, lease), lease


def test_each_group_is_one_transaction_under_the_epoch() -> None:
    store, access, _ = leading()
    outcomes = run(access.write(0, [(Create("/a"), Create("/b")), (Create("/a"),), (SetData("/b", b"", 7),)]))
    assert outcomes[0] == MultiResult((CreateResult("/a"), CreateResult("/b")))
    causes = [outcome.cause for outcome in outcomes[1:] if isinstance(outcome, MultiError)]
    assert [type(cause) for cause in causes] == [NodeExistsError, BadVersionError]
    a, b = run(store.exists("/a")), run(store.exists("/b"))
    assert a is not None and b is not None and a.czxid == b.czxid


def test_moved_epoch_stops_everything() -> None:
    store, access, _ = leading()
    run(store.set_data(znodes.CONTROLLER_EPOCH, b"2"))
    with pytest.raises(ControllerMovedError):
        run(access.write(0, [(Create("/a"),)]))
    assert run(store.exists("/a")) is None


@pytest.mark.parametrize("state", set(LeaseState) - {LeaseState.LEADING})
def test_nothing_is_sent_to_the_store_without_the_lease(state: LeaseState) -> None:
    store, access, lease = leading()
    lease.state = state
    with pytest.raises(ControllerMovedError):
        run(access.write(0, [(Create("/a"),)]))
    assert run(store.exists("/a")) is None


def test_lease_counts_from_the_sending_of_answered_requests() -> None:
    store, _, _ = leading()
    lease = Lease(10_000)
    lease.state = LeaseState.LEADING
    before_ns = boottime_ns()
    run(StoreAccess(store, lease).submit([Create("/a")]))
    assert lease.may_act(before_ns)
    assert not lease.may_act(boottime_ns() + 9_000 * 1_000_000)


class FullDisk(MemoryStore):
    refusals = 3

    async def submit(self, requests: Sequence[Request]) -> list[Outcome]:
        if FullDisk.refusals:
            FullDisk.refusals -= 1
            raise StoreUnavailableError("file", "disk is full")
        return await super().submit(requests)


@pytest.mark.trio
async def test_refusing_disk_is_waited_for_with_one_line(
        autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    store, access, _ = leading()
    FullDisk.refusals = 3
    store.__class__ = FullDisk
    began = trio.current_time()
    assert await access.submit([Create("/a")]) == [CreateResult("/a")]
    assert trio.current_time() - began == pytest.approx(3 * UNAVAILABLE_RETRY_SECONDS)
    assert len(caplog.records) == 1


def test_client_s_write_is_not_waited_for() -> None:
    store, access, _ = leading()
    FullDisk.refusals = 1
    store.__class__ = FullDisk
    access.patient = False
    with pytest.raises(StoreUnavailableError):
        run(access.submit([Create("/a")]))


def test_no_request_asks_nothing_of_the_store() -> None:
    _, access, _ = leading()
    assert run(access.submit([])) == []
