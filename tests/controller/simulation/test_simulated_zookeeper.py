"""The simulated ZooKeeper does what every metadata store must do, and breaks as a real one can."""
from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing
from pytest_trio import trio_fixture

from controller.metadata_store.errors import ConnectionLossError, SessionExpiredError, StoreRefusedError
from controller.metadata_store.operations import (
    Create,
    EventType,
    Exists,
    SessionState,
    SetData,
    WatchEvent,
)
from tests.controller.metadata_store.conformance import MetadataStoreConformance, next_event
from tests.controller.simulation.servers import TIMEOUT_MS, Servers

SUSPENDED = WatchEvent(EventType.SESSION, "", SessionState.SUSPENDED)
CONNECTED = WatchEvent(EventType.SESSION, "", SessionState.CONNECTED)
EXPIRED = WatchEvent(EventType.SESSION, "", SessionState.EXPIRED)


@trio_fixture
async def server() -> AsyncIterator[Servers]:
    async with trio.open_nursery() as nursery:
        servers = Servers(nursery)
        servers.ensemble.write(0, Create("/t"))
        yield servers
        nursery.cancel_scope.cancel()


@pytest.mark.trio
class TestOneServer(MetadataStoreConformance):
    pass


# Sessions, in virtual time.


@trio_fixture
async def three(autojump_clock: trio.testing.MockClock) -> AsyncIterator[Servers]:
    async with trio.open_nursery() as nursery:
        yield Servers(nursery, 3)
        nursery.cancel_scope.cancel()


pytestmark = pytest.mark.trio


async def test_cut_connection_is_told_and_made_again_without_its_watches(
        three: Servers, autojump_clock: trio.testing.MockClock) -> None:
    store, other = await three.open_session(), await three.open_session()
    await store.create("/a", ephemeral=True)
    await store.exists("/a", watch=True)
    three.links[store].cut()
    assert await next_event(store) == SUSPENDED
    with pytest.raises(ConnectionLossError):
        await store.submit([Exists("/a")])
    three.links[store].heal()
    assert await next_event(store) == CONNECTED
    await other.set_data("/a", b"x")
    await trio.sleep(1)
    assert (await store.get_data("/a")).stat.version == 1
    assert store.events.statistics().current_buffer_used == 0


async def test_silent_session_ends_by_the_servers_clock(
        three: Servers, autojump_clock: trio.testing.MockClock) -> None:
    three.ensemble.clock_rate = 2.0
    store, other = await three.open_session(), await three.open_session()
    await store.create("/a", ephemeral=True)
    three.links[store].cut()
    await trio.sleep(TIMEOUT_MS / 1000 / 2 - 0.1)
    assert await other.exists("/a") is not None
    await trio.sleep(0.3)
    assert await other.exists("/a") is None
    three.links[store].heal()
    assert [await next_event(store), await next_event(store)] == [SUSPENDED, EXPIRED]
    with pytest.raises(SessionExpiredError):
        await store.submit([Exists("/a")])


async def test_write_swallowed_by_a_black_hole_takes_effect_after_it(
        three: Servers, autojump_clock: trio.testing.MockClock) -> None:
    store, other = await three.open_session(), await three.open_session()
    await other.create("/a", b"0")
    three.links[store].black_hole()
    with pytest.raises(ConnectionLossError):
        await store.set_data("/a", b"late")
    assert (await other.get_data("/a")).data == b"0"
    three.links[store].heal()
    await trio.sleep(0.5)
    assert (await other.get_data("/a")).data == b"late"


async def test_reset_after_the_write_loses_only_the_answer(
        three: Servers, autojump_clock: trio.testing.MockClock) -> None:
    store, other = await three.open_session(), await three.open_session()
    await other.create("/a", b"0")
    three.ensemble.on_commit = lambda session_id, request, outcome: three.links[store].cut()
    with pytest.raises(ConnectionLossError):
        await store.set_data("/a", b"done")
    await trio.sleep(0.1)
    assert (await other.get_data("/a")).data == b"done"


async def test_sessions_outlive_a_restart_of_all_servers(
        three: Servers, autojump_clock: trio.testing.MockClock) -> None:
    store = await three.open_session()
    await store.create("/a", ephemeral=True)
    three.ensemble.stop()
    assert await next_event(store) == SUSPENDED
    await trio.sleep(3 * TIMEOUT_MS / 1000)
    three.ensemble.start()
    assert await next_event(store) == CONNECTED
    assert await store.exists("/a") is not None


async def test_client_is_refused_by_a_server_that_is_behind_what_it_has_seen(
        three: Servers, autojump_clock: trio.testing.MockClock) -> None:
    store = await three.open_session()
    for server in three.ensemble.servers[1:]:
        server.is_behind = True
    for number in range(20):
        three.links[store].cut()
        three.links[store].heal()
        assert [await next_event(store), await next_event(store)] == [SUSPENDED, CONNECTED]
        await store.create(f"/{number}")
        assert await store.exists(f"/{number}") is not None


async def test_kept_session_is_resumed_or_replaced(
        three: Servers, autojump_clock: trio.testing.MockClock) -> None:
    store = await three.open_session()
    await three.abandon(store)
    successor = await three.open_session(store.session)
    assert successor.resumed and successor.session == store.session
    await successor.close()
    third = await three.open_session(store.session)
    assert not third.resumed and third.session != store.session


async def test_no_server_is_said_so(three: Servers, autojump_clock: trio.testing.MockClock) -> None:
    three.ensemble.stop()
    with pytest.raises(StoreRefusedError):
        await three.open_session(timeout_seconds=5)


async def test_batch_can_be_done_in_part(three: Servers, autojump_clock: trio.testing.MockClock) -> None:
    """A connection that breaks between two requests of a batch: what came before stays."""
    store, other = await three.open_session(), await three.open_session()
    await other.create("/a", b"")
    link, seen = three.links[store], set()

    def flap() -> None:
        link.cut()
        link.heal()

    for _ in range(100):
        before = (await other.get_data("/a")).stat.version
        three.timeline.after(three.draw.uniform(0, 0.05), flap)
        try:
            await store.submit([SetData("/a", b"")] * 5)
        except ConnectionLossError:
            await trio.sleep(0.5)
            seen.add((await other.get_data("/a")).stat.version - before)
        await trio.sleep(0.5)
    assert seen & {1, 2, 3, 4}
