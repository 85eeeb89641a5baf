"""The ZooKeeper store against real servers: conformance, and what only a session over a network can meet."""
from __future__ import annotations

import contextlib
import itertools
import random
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from pytest_trio import trio_fixture

from controller.metadata_store.errors import (
    BadArgumentsError,
    ConnectionLossError,
    NodeExistsError,
    SessionExpiredError,
    StoreRefusedError,
)
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import (
    Create,
    CreateResult,
    EventType,
    Exists,
    GetChildren,
    GetData,
    Multi,
    SessionId,
    SessionState,
    SetData,
    WatchEvent,
)
from controller.metadata_store.zookeeper import ZooKeeperSettings, ZooKeeperStore, open_session
from tests.conftest import unavailable
from tests.controller.metadata_store.conformance import MetadataStoreConformance, next_event
from tests.peers.processes import PeerUnavailableError
from tests.peers.tcp_proxy import TcpProxy
from tests.peers.zookeeper import DEBIAN, KAFKAS, NEWEST, ZooKeeperEnsemble, ZooKeeperServer, classpath

SESSION_TIMEOUT_MS = 3000
BREAKS = 20
CONNECTED = WatchEvent(EventType.SESSION, "", SessionState.CONNECTED)
SUSPENDED = WatchEvent(EventType.SESSION, "", SessionState.SUSPENDED)
EXPIRED = WatchEvent(EventType.SESSION, "", SessionState.EXPIRED)

_chroots = itertools.count()


@contextlib.contextmanager
def running_server(release: str, work_dir: Path, **properties: str) -> Iterator[ZooKeeperServer]:
    try:
        server = ZooKeeperServer(classpath(release), work_dir, properties=properties)
    except PeerUnavailableError as error:
        unavailable(error)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module", params=[DEBIAN, KAFKAS, NEWEST])
def each_release(request: pytest.FixtureRequest,
                 tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    with running_server(request.param, tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@pytest.fixture(scope="module")
def zookeeper_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    with running_server(KAFKAS, tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


def settings_of(connect_string: str, chroot: str = "") -> ZooKeeperSettings:
    return ZooKeeperSettings(connect_string, chroot, SESSION_TIMEOUT_MS, 2 * SESSION_TIMEOUT_MS)


class RealServer:
    """A chroot of its own on a running server."""

    def __init__(self, connect_string: str) -> None:
        chroot = f"/test-{next(_chroots)}/deeper"
        self.settings = replace(settings_of(connect_string, chroot), session_timeout_ms=10_000)
        self.opened: list[ZooKeeperStore] = []

    async def open_session(self, resume: SessionId | None = None) -> ZooKeeperStore:
        store = await open_session(self.settings, resume)
        self.opened.append(store)
        return store

    async def expire(self, store: MetadataStore) -> None:
        """Another connection takes the session and ends it."""
        await (await open_session(self.settings, store.session)).close()

    async def close(self) -> None:
        for store in self.opened:
            await store.close()


@trio_fixture
async def server(each_release: ZooKeeperServer) -> AsyncIterator[RealServer]:
    real = RealServer(each_release.connect_string)
    await (await real.open_session()).create("/t")
    yield real
    await real.close()


@pytest.mark.trio
class TestZooKeeperStore(MetadataStoreConformance):
    pass


# Sessions over a connection that breaks.


@pytest.fixture
def proxy(zookeeper_server: ZooKeeperServer) -> Iterator[TcpProxy]:
    proxy = TcpProxy(zookeeper_server.address)
    yield proxy
    proxy.close()


Opener = Callable[..., Awaitable[ZooKeeperStore]]


@trio_fixture
async def open_store(zookeeper_server: ZooKeeperServer, proxy: TcpProxy) -> AsyncIterator[Opener]:
    """open_store(kept=None, direct=False): through the proxy, or past it."""
    chroot = f"/broken-{next(_chroots)}"
    opened: list[ZooKeeperStore] = []

    async def open_(kept: SessionId | None = None, *, direct: bool = False,
                    **changes: object) -> ZooKeeperStore:
        address = zookeeper_server.connect_string if direct else proxy.connect_string
        settings = replace(settings_of(address, chroot), **changes)  # type: ignore[arg-type]
        opened.append(await open_session(settings, kept))
        return opened[-1]

    yield open_
    proxy.heal()
    for store in opened:
        await store.close()


async def end_session(open_store: Opener, session: SessionId) -> None:
    await (await open_store(session, direct=True)).close()


@pytest.mark.trio
async def test_connection_loss_is_told_and_the_same_session_comes_back(
    open_store: Opener, proxy: TcpProxy
) -> None:
    store = await open_store()
    session = store.session
    await store.create("/mine", ephemeral=True)
    proxy.cut()
    assert [await next_event(store), await next_event(store)] == [SUSPENDED, CONNECTED]
    assert store.session == session
    assert (await store.get_data("/mine")).stat.ephemeral_owner == session.id


@pytest.mark.trio
async def test_without_a_connection_submit_fails_at_once(open_store: Opener, proxy: TcpProxy) -> None:
    store = await open_store()
    proxy.refuse()
    assert await next_event(store) == SUSPENDED
    with pytest.raises(ConnectionLossError), trio.fail_after(0.1):
        await store.create("/late")
    proxy.heal()
    assert await next_event(store) == CONNECTED
    assert await store.exists("/late") is None


@pytest.mark.trio
async def test_a_connection_lost_before_the_answer_leaves_the_outcome_unknown(
    open_store: Opener, proxy: TcpProxy
) -> None:
    """The request is held back by the network, and lost with its connection."""
    store = await open_store()
    proxy.black_hole()
    async with trio.open_nursery() as nursery:
        @nursery.start_soon
        async def write() -> None:
            with pytest.raises(ConnectionLossError):
                await store.submit([Create("/first"), Create("/second")])

        await trio.testing.wait_all_tasks_blocked(0.05)
        proxy.cut()
    proxy.heal()
    assert [await next_event(store), await next_event(store)] == [SUSPENDED, CONNECTED]
    await store.submit([Create("/first")])


@pytest.mark.trio
async def test_watches_are_gone_after_a_reconnection(open_store: Opener, proxy: TcpProxy) -> None:
    store, other = await open_store(), await open_store(direct=True)
    await store.submit([Create("/a"), GetData("/a", True), GetChildren("/", True), Exists("/b", True)])
    proxy.cut()
    assert [await next_event(store), await next_event(store)] == [SUSPENDED, CONNECTED]
    await other.submit([SetData("/a", b"1"), Create("/b")])
    await store.exists("/fence", watch=True)
    await other.create("/fence")
    assert await next_event(store) == WatchEvent(EventType.NODE_CREATED, "/fence")


@pytest.mark.trio
async def test_expiry_while_away_is_learned_on_the_return_and_is_for_ever(
    open_store: Opener, proxy: TcpProxy
) -> None:
    store = await open_store()
    proxy.refuse()
    assert await next_event(store) == SUSPENDED
    await end_session(open_store, store.session)
    with pytest.raises(ConnectionLossError):
        await store.exists("/")
    proxy.heal()
    assert await next_event(store) == EXPIRED
    with pytest.raises(trio.EndOfChannel):
        await store.events.receive()
    for _ in range(2):
        with pytest.raises(SessionExpiredError):
            await store.exists("/")


@pytest.mark.trio
async def test_expiry_by_silence(open_store: Opener, proxy: TcpProxy) -> None:
    """The server ends the session by its timeout; nobody asks for it to be ended."""
    store, other = await open_store(), await open_store(direct=True)
    await store.create("/mine", ephemeral=True)
    await other.exists("/mine", watch=True)
    proxy.black_hole()
    with trio.fail_after(SESSION_TIMEOUT_MS / 1000 * 2):
        assert await other.events.receive() == WatchEvent(EventType.NODE_DELETED, "/mine")
    proxy.heal()
    event = await next_event(store)
    while event in (SUSPENDED, CONNECTED):
        event = await next_event(store)
    assert event == EXPIRED


@pytest.mark.trio
async def test_no_ephemeral_node_is_made_in_a_session_that_followed(
    open_store: Opener, proxy: TcpProxy
) -> None:
    """Writes go on through expiry; kazoo by itself would open a session and execute them there."""
    store, other = await open_store(), await open_store(direct=True)
    await other.create("/p")
    written: list[str] = []

    async def write_for_ever() -> None:
        for number in itertools.count():
            try:
                written.append(await store.create(f"/p/{number}", ephemeral=True))
            except ConnectionLossError:
                await trio.sleep(0.001)

    async with trio.open_nursery() as nursery:
        @nursery.start_soon
        async def write() -> None:
            with pytest.raises(SessionExpiredError):
                await write_for_ever()

        while len(written) < 20:
            await trio.sleep(0.01)
        connections = proxy.accepted_count
        await end_session(open_store, store.session)
    await trio.sleep(0.3)  # several times the pause before a reconnection
    assert await other.get_children("/p") == ()
    assert proxy.accepted_count <= connections + 1


@pytest.mark.trio
async def test_submit_ends_behind_a_black_hole_and_cuts_the_connection(
    open_store: Opener, proxy: TcpProxy
) -> None:
    store = await open_store()
    proxy.black_hole()
    started = trio.current_time()
    with pytest.raises(ConnectionLossError):
        await store.exists("/")
    assert (trio.current_time() - started) / (SESSION_TIMEOUT_MS / 1000) < 0.75
    assert await next_event(store) == SUSPENDED


@pytest.mark.trio
async def test_a_black_hole_is_noticed_while_requests_keep_going_out(
    open_store: Opener, proxy: TcpProxy
) -> None:
    """Each request puts off kazoo's ping, so it would wait for ever."""
    store = await open_store()
    proxy.black_hole()

    async def read() -> None:
        with contextlib.suppress(ConnectionLossError):
            await store.exists("/")

    async with trio.open_nursery() as nursery:
        with trio.fail_after(SESSION_TIMEOUT_MS / 1000):
            while True:
                nursery.start_soon(read)
                with trio.move_on_after(SESSION_TIMEOUT_MS / 1000 / 9):
                    assert await store.events.receive() == SUSPENDED
                    break


@pytest.mark.trio
async def test_a_black_hole_is_noticed_while_nothing_goes_out(open_store: Opener, proxy: TcpProxy) -> None:
    store = await open_store()
    proxy.black_hole()
    with trio.fail_after(SESSION_TIMEOUT_MS / 1000):
        assert await store.events.receive() == SUSPENDED


@pytest.mark.trio
async def test_a_kept_session_is_resumed_with_its_ephemeral_nodes(open_store: Opener) -> None:
    store = await open_store()
    assert not store.resumed
    await store.create("/mine", ephemeral=True)
    store.abandon()
    with pytest.raises(SessionExpiredError):
        await store.exists("/mine")
    successor = await open_store(store.session)
    assert successor.resumed
    assert successor.session == store.session
    assert (await successor.get_data("/mine")).stat.ephemeral_owner == store.session.id
    await successor.close()
    other = await open_store()
    assert await other.exists("/mine") is None


@pytest.mark.trio
async def test_a_kept_session_that_has_ended_gives_a_new_one(open_store: Opener) -> None:
    store = await open_store()
    await store.create("/mine", ephemeral=True)
    session = store.session
    await store.close()
    for kept in (session, SessionId(session.id, b"wrong" + session.password[5:])):
        successor = await open_store(kept)
        assert not successor.resumed
        assert successor.session.id != session.id
        assert await successor.exists("/mine") is None


@pytest.mark.trio
async def test_the_wrong_password_does_not_take_a_living_session(open_store: Opener) -> None:
    """The server ends the connection of the rightful one all the same; it comes back."""
    store = await open_store()
    await store.create("/mine", ephemeral=True)
    thief = await open_store(SessionId(store.session.id, b"0" * 16))
    assert not thief.resumed
    assert [await next_event(store), await next_event(store)] == [SUSPENDED, CONNECTED]
    assert await store.exists("/mine") is not None


@pytest.mark.trio
async def test_the_session_timeout_is_the_one_that_the_server_grants(open_store: Opener) -> None:
    for asked_ms, granted_ms in ((500, 1000), (4321, 4321), (600_000, 10_000)):
        store = await open_store(session_timeout_ms=asked_ms)
        assert store.session_timeout_ms == granted_ms


@pytest.mark.trio
async def test_servers_that_do_not_answer_are_named(proxy: TcpProxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        nobody = f"127.0.0.1:{unused.getsockname()[1]}"
    proxy.black_hole()
    settings = replace(settings_of(f"{nobody},{proxy.connect_string}"), connection_timeout_ms=400)
    with pytest.raises(StoreRefusedError, match="400 ms") as raised, trio.fail_after(2):
        await open_session(settings)
    assert nobody in str(raised.value)
    assert proxy.connect_string in str(raised.value)


@pytest.mark.trio
async def test_the_first_server_of_several_that_answers_is_taken(
    open_store: Opener, zookeeper_server: ZooKeeperServer
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        nobody = f"127.0.0.1:{unused.getsockname()[1]}"
    store = await open_store(hosts=f"{nobody},{zookeeper_server.connect_string}")
    assert await store.exists("/") is not None


@pytest.mark.trio
async def test_a_server_with_an_ipv6_address(tmp_path: Path) -> None:
    with running_server(KAFKAS, tmp_path, clientPortAddress="::") as server:
        store = await open_session(settings_of(f"[::1]:{server.port}", "/six"))
        assert await store.get_children("/") == ()
        await store.close()


@pytest.mark.trio
async def test_the_chroot_is_made_once_and_hides_everything_else(open_store: Opener) -> None:
    outside = await open_store()
    inside = await open_store(chroot="/a-chroot/in/levels")
    assert await (await open_store(chroot="/a-chroot/in/levels")).get_children("/") == ()
    assert await inside.create("/n_", sequential=True) == "/n_0000000000"
    assert await inside.get_children("/") == ("n_0000000000",)
    await inside.exists("/w", watch=True)
    await inside.get_children("/", watch=True)
    await inside.create("/w")
    assert [await next_event(inside), await next_event(inside)] == [
        WatchEvent(EventType.NODE_CREATED, "/w"), WatchEvent(EventType.NODE_CHILDREN_CHANGED, "/")]
    assert await outside.exists("/w") is None


@pytest.mark.trio
async def test_no_more_requests_are_outstanding_than_allowed(open_store: Opener) -> None:
    store = await open_store(max_in_flight=3)
    most = 0
    sent = store._window._send

    def send(prepared: object, ticket: object) -> None:
        nonlocal most
        most = max(most, store._window.in_flight)
        sent(prepared, ticket)  # type: ignore[arg-type]

    store._window._send = send  # type: ignore[method-assign]
    await store.submit([Exists("/")] * 50)
    assert most == 3
    assert store._window.in_flight == 0


@pytest.mark.trio
async def test_a_cancelled_batch_gives_its_place_back(open_store: Opener, proxy: TcpProxy) -> None:
    store = await open_store(max_in_flight=2)
    proxy.black_hole()
    with trio.move_on_after(0.05):
        await store.submit([Exists("/")] * 10)
    proxy.heal()
    assert len(await store.submit([Exists("/")] * 10)) == 10
    assert store._window.in_flight == 0


@pytest.mark.trio
async def test_requests_that_the_server_would_hang_up_on_are_refused_here(open_store: Opener) -> None:
    store = await open_store()
    big, fits = b"x" * (1 << 20), b"x" * ((1 << 20) - 200)
    outcomes = await store.submit([
        Create("/big", big), Multi((Create("/m", fits), Create("/n", fits))), Create("/fits", fits)])
    assert [type(outcome) for outcome in outcomes[:2]] == [BadArgumentsError, BadArgumentsError]
    assert (await store.get_data("/fits")).data == fits


@pytest.mark.trio
async def test_close_behind_a_black_hole_is_bounded(open_store: Opener, proxy: TcpProxy) -> None:
    store = await open_store(session_timeout_ms=10_000)
    proxy.black_hole()
    with trio.fail_after(4):
        await store.close()
    with pytest.raises(trio.EndOfChannel):
        await store.events.receive()


@pytest.mark.trio
async def test_every_submit_ends_and_nothing_acknowledged_is_lost_while_the_network_breaks(
    open_store: Opener, proxy: TcpProxy
) -> None:
    """Four writers, and cuts at random moments; who was told of success is right about it."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    store = await open_store(session_timeout_ms=10_000)
    acknowledged: set[str] = set()
    lost_count = 0

    async def write(writer: int) -> None:
        nonlocal lost_count
        for number in itertools.count():
            try:
                outcomes = await store.submit([Create(f"/{writer}-{number}-{each}") for each in range(20)])
                acknowledged.update(outcome.path for outcome in outcomes if isinstance(outcome, CreateResult))
            except ConnectionLossError:
                lost_count += 1
                await trio.sleep(0.001)

    async with trio.open_nursery() as nursery:
        for writer in range(4):
            nursery.start_soon(write, writer)
        for _ in range(BREAKS):
            await trio.sleep(chance.random() * 0.1)
            proxy.cut()
            with trio.fail_after(5):
                while await store.events.receive() != CONNECTED:
                    pass
        nursery.cancel_scope.cancel()
    assert lost_count >= BREAKS
    assert len(acknowledged) > 20
    assert acknowledged <= {f"/{name}" for name in await store.get_children("/")}
    assert store._window.in_flight == 0


@pytest.mark.trio
async def test_a_restarted_server_gives_the_session_back(tmp_path: Path) -> None:
    with running_server(KAFKAS, tmp_path) as server:
        store = await open_session(replace(settings_of(server.connect_string), session_timeout_ms=10_000))
        await store.create("/mine", ephemeral=True)
        server.kill()
        assert await next_event(store) == SUSPENDED
        await trio.to_thread.run_sync(server.start)
        assert await next_event(store) == CONNECTED
        with pytest.raises(NodeExistsError):
            await store.create("/mine")
        assert (await store.get_data("/mine")).stat.ephemeral_owner == store.session.id
        await store.close()


@pytest.mark.trio
async def test_a_session_outlives_the_leader_of_three_servers(tmp_path: Path) -> None:
    try:
        ensemble = ZooKeeperEnsemble(classpath(KAFKAS), tmp_path)
    except PeerUnavailableError as error:
        unavailable(error)
    await trio.to_thread.run_sync(ensemble.start)
    try:
        settings = replace(settings_of(ensemble.connect_string), session_timeout_ms=10_000)
        store, other = await open_session(settings), await open_session(settings)
        await store.create("/mine", ephemeral=True)
        ensemble.leader().kill()
        for each in (store, other):  # followers let go of their clients too
            assert [await next_event(each), await next_event(each)] == [SUSPENDED, CONNECTED]
        assert (await other.get_data("/mine")).stat.ephemeral_owner == store.session.id
        await store.close()
        assert await other.exists("/mine") is None
        await other.close()
    finally:
        ensemble.kill()


def test_kazoo_is_loaded_by_opening_a_session_and_not_before() -> None:
    """A node with the embedded store does not pay for it."""
    program = "import sys, controller.main, controller.metadata_store.zookeeper; print('kazoo' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
