"""Event loops over one tree in memory, with front ends that answer at once, on trio's virtual clock.

`LoopWorld.node()` is a node: its loop, its front end, its present session. Everything runs in the test's task
group; nothing outside the process is used.
"""
from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from broker.config import build_config
from broker.protocol.api_keys import ApiKey
from controller import identity, znodes
from controller.channel import Transport
from controller.cluster import Endpoint
from controller.event_loop import EventLoop
from controller.events import FrontEndRestarted, RegisterWanted
from controller.frame_stream import FrameStream
from controller.lease import LeaseState
from controller.metadata_store.errors import ConnectionLossError
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import Request
from controller.outside import Outside
from controller.request_server import ApiCall
from tests.controller.faulty_store import FaultyServer, FaultyStore, is_write
from tests.controller.memory_store import NOW_MS, MemoryStore, run
from tests.controller.node import FakeFrontEnd

PATIENCE_SECONDS = 60.0


class StreamTransport:
    """One connection, made already."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def connect(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return self._stream

    def close(self) -> None:
        pass


class LoopNode:
    """registered: every epoch that the supervisor was told. renewals_refused: so often no new session is to be had.
    clock_offset_ns: of its lease clock against the test's. writes: (lease state when handed over, request)."""

    def __init__(self, world: LoopWorld, broker_id: int, **properties: str) -> None:
        self.world = world
        self.broker_id = broker_id
        self.front_end = FakeFrontEnd()
        self.store = world.server.session()
        self.registered: list[int] = []
        self.forwarded: list[tuple[ApiCall, int, Endpoint]] = []
        self.writes: list[tuple[LeaseState, Request]] = []
        self.renewals_refused = 0
        self.clock_offset_ns = 0
        self.config = build_config({
            "log.dirs": "/nowhere", "listeners": f"PLAINTEXT://127.0.0.1:{9091 + broker_id}",
            "broker.id": str(broker_id), **properties})
        outside = Outside(self.registered.append, self._renew, self._transport_to, self._forward, self._boottime_ns,
                          lambda: NOW_MS, random.Random(broker_id))
        self.loop = EventLoop(self.store, self.config, broker_id, world.nursery, outside)
        self._record(self.store)

    def _record(self, store: FaultyStore) -> None:
        def on_submit(requests: Sequence[Request]) -> None:
            self.writes += [(self.loop.lease_state, request) for request in requests if is_write(request)]

        store.on_submit = on_submit

    def _boottime_ns(self) -> int:
        return round(trio.current_time() * 1e9) + self.clock_offset_ns

    async def _renew(self) -> MetadataStore:
        await trio.lowlevel.checkpoint()
        if self.renewals_refused:
            self.renewals_refused -= 1
            raise ConnectionLossError(reason="not yet")
        self.store = self.world.server.session()
        self._record(self.store)
        return self.store

    def _transport_to(self, broker_id: int, endpoint: Endpoint) -> Transport:
        ours, theirs = trio.testing.memory_stream_pair()
        other = FakeFrontEnd()
        other.attach(FrameStream(theirs))
        self.world.others.setdefault(broker_id, []).append(other)
        self.world.nursery.start_soon(other.run)
        return StreamTransport(ours)

    def _forward(self, call: ApiCall, controller_id: int, endpoint: Endpoint) -> None:
        self.forwarded.append((call, controller_id, endpoint))

    def _streams(self) -> tuple[Transport, trio.abc.Stream]:
        requests, to_broker = trio.testing.memory_stream_pair()
        calls, from_broker = trio.testing.memory_stream_pair()
        self.front_end.attach(FrameStream(requests), FrameStream(calls))
        self.world.nursery.start_soon(self.front_end.run)
        return StreamTransport(to_broker), from_broker

    async def start(self, register: bool = True) -> None:
        await self.loop.start(*self._streams())
        self.world.nursery.start_soon(self.loop.run)
        if register:
            self.loop.post(RegisterWanted(False, -1, {}))

    def restart_front_end(self) -> None:
        self.front_end = FakeFrontEnd()
        self.loop.post(FrontEndRestarted(*self._streams(), {}))

    async def wait_for_state(self, state: LeaseState) -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            while self.loop.lease_state is not state:
                await trio.sleep(0.01)
            await trio.testing.wait_all_tasks_blocked()

    async def wait_until_told(self, topic: str) -> None:
        """The front end hears that the topic has a leader, from now on."""
        await self.front_end.wait_for(lambda key, request: key is ApiKey.UPDATE_METADATA and any(
            state.topic_name == topic and all(partition.leader >= 0 for partition in state.partition_states)
            for state in request.topic_states))


class LoopWorld:
    """others: what was connected to by each broker id, in order."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.server = FaultyServer()
        self.others: dict[int, list[FakeFrontEnd]] = {}
        # A hand at the tree that no fault touches.
        self.hand = self.server.session()
        run(identity.ensure_paths(MemoryStore(self.server, self.hand.session)))

    async def node(self, broker_id: int = 1, register: bool = True, **properties: str) -> LoopNode:
        node = LoopNode(self, broker_id, **properties)
        await node.start(register)
        return node

    def data(self, path: str) -> Any:
        node = self.server.tree.node(path)
        return None if node is None else node.data

    def holder(self) -> int | None:
        data = self.data(znodes.CONTROLLER)
        return None if data is None else znodes.decode_controller(data).broker_id

    def epoch(self) -> int:
        return znodes.decode_controller_epoch(self.data(znodes.CONTROLLER_EPOCH))


@asynccontextmanager
async def loop_world() -> AsyncIterator[LoopWorld]:
    async with trio.open_nursery() as nursery:
        yield LoopWorld(nursery)
        nursery.cancel_scope.cancel()
