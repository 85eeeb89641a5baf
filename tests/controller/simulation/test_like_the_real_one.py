"""The simulated ZooKeeper beside a real one: the same random sequences, the same answers and events."""
from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import trio

from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import SessionId
from controller.metadata_store.zookeeper import ZooKeeperSettings, ZooKeeperStore, open_session
from tests.conftest import unavailable
from tests.controller.simulation.scheduler import run_repeatably
from tests.controller.simulation.sequences import draw_steps, play
from tests.controller.simulation.servers import TIMEOUT_MS, Servers
from tests.peers.processes import PeerUnavailableError
from tests.peers.zookeeper import KAFKAS, ZooKeeperServer, classpath

SEQUENCES_PER_TEST = 10
_chroots = itertools.count()


class RealSessions:
    def __init__(self, connect_string: str, chroot: str) -> None:
        self._settings = ZooKeeperSettings(connect_string, chroot, TIMEOUT_MS, 2 * TIMEOUT_MS)

    async def open(self, kept: SessionId | None) -> MetadataStore:
        return await open_session(self._settings, kept)

    async def abandon(self, store: MetadataStore) -> None:
        assert isinstance(store, ZooKeeperStore)
        store.abandon()
        await trio.lowlevel.checkpoint()

    async def expire(self, store: MetadataStore) -> None:
        """Somebody else takes the session and ends it."""
        kept = store.session
        await self.abandon(store)
        await (await self.open(kept)).close()


async def _play_simulated(seed: int) -> list[str]:
    async with trio.open_nursery() as nursery:
        lines = await play(Servers(nursery, seed=seed), draw_steps(seed))
        nursery.cancel_scope.cancel()
    return lines


@pytest.fixture(scope="module")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    try:
        server = ZooKeeperServer(classpath(KAFKAS), tmp_path_factory.mktemp("zookeeper"))
    except PeerUnavailableError as error:
        unavailable(error)
    server.start()
    yield server
    server.kill()


@pytest.mark.parametrize("first_seed", range(0, 100, SEQUENCES_PER_TEST))
def test_random_sequences_as_on_a_real_server(real_server: ZooKeeperServer, first_seed: int) -> None:
    for seed in range(first_seed, first_seed + SEQUENCES_PER_TEST):
        sessions = RealSessions(real_server.connect_string, f"/sequence-{next(_chroots)}")
        real = trio.run(play, sessions, draw_steps(seed))
        simulated = run_repeatably(lambda: _play_simulated(seed), seed)  # noqa: B023 - called at once
        assert simulated == real, f"seed {seed}"
