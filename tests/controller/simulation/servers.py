"""A simulated ZooKeeper with clients on quick links, for tests of the simulation itself.

Runs in: the test process.
"""
from __future__ import annotations

import random

import trio

from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import SessionId
from tests.controller.simulation.client import SimulatedStore, open_session
from tests.controller.simulation.ensemble import Ensemble
from tests.controller.simulation.network import Link
from tests.controller.simulation.scheduler import Timeline

TIMEOUT_MS = 6000


class QuickLink(Link):
    def delay_seconds(self) -> float:
        return 0.0001


class Servers:
    """A simulated ZooKeeper and its clients, each on a link of its own."""

    def __init__(self, nursery: trio.Nursery, server_count: int = 1, seed: int = 1) -> None:
        self.timeline = Timeline()
        self.draw = random.Random(seed)
        self.ensemble = Ensemble(self.timeline, self.draw, server_count=server_count)
        self.links: dict[MetadataStore, Link] = {}
        self._nursery = nursery
        nursery.start_soon(self.timeline.run)

    async def open_session(self, resume: SessionId | None = None, timeout_seconds: float = 10) -> SimulatedStore:
        link = QuickLink(self.timeline, self.draw)
        store = SimulatedStore(self.ensemble, link, self.draw, TIMEOUT_MS)
        self.links[store] = link
        await open_session(store, self._nursery, resume, timeout_seconds)
        return store

    open = open_session

    async def abandon(self, store: MetadataStore) -> None:
        assert isinstance(store, SimulatedStore)
        store.die()
        await trio.sleep(0.01)

    async def expire(self, store: MetadataStore) -> None:
        session = self.ensemble.session(store.session.id)
        assert session is not None
        self.ensemble.end_session(session, "expired")
        await trio.sleep(0.01)
