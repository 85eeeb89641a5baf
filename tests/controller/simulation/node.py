"""A node in the simulated world: the real event loop on a simulated session, beside a fake front end.

One `Process` is one life of the controller process. Killed, its tasks end at their next step and nothing that
they still hand over leaves the node.

Runs in: the test process, in tasks of the node (`OWNER`), so that the whole node can be stopped.
"""
from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import trio

from broker.config import build_config
from broker.config.kafka_config import KafkaConfig
from broker.protocol.api_keys import ApiKey
from broker.protocol.messages import message_class
from broker.protocol.primitives import uuid_to_text
from controller import identity, znodes
from controller.cluster import Endpoint
from controller.event_loop import EventLoop
from controller.events import FrontEndRestarted, RegisterWanted
from controller.lease import LeaseState
from controller.metadata_store.errors import ConnectionLossError, SessionExpiredError, StoreRefusedError
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import Check, Multi, Request, SessionId
from controller.outside import Outside
from controller.request_batch import RESOURCE_TOPIC
from controller.request_server import ApiCall
from tests.controller.simulation.client import SimulatedStore, open_session
from tests.controller.simulation.ensemble import WALL_CLOCK_START_MS
from tests.controller.simulation.front_end import FrontEnd, FrontEndDoor, NoCalls, OwnRoad, Road, Way
from tests.controller.simulation.history import Acted, Mended
from tests.controller.simulation.network import Link
from tests.controller.simulation.scheduler import OWNER

if TYPE_CHECKING:
    from tests.controller.simulation.world import World

CONNECTION_TIMEOUT_SECONDS = 6.0
RESTART_SECONDS = 0.5
OVERRIDES_RETRY_SECONDS = 1.0
DESCRIBE_CONFIGS_VERSION = 4
NOT_THE_CONTROLLERS = (znodes.BROKER_IDS, znodes.CONTROLLER, znodes.CLUSTER_ID, znodes.CONFIG_CHANGES,
                       *znodes.PERSISTENT_PATHS)
"""What every node writes: itself, the election, the first paths, old notifications. The election is no act."""

STARTING_FAILURES = (StoreRefusedError, ConnectionLossError, SessionExpiredError)
CONTROLLER_REQUESTS = frozenset({ApiKey.LEADER_AND_ISR, ApiKey.UPDATE_METADATA, ApiKey.STOP_REPLICA})

LoopFactory = Callable[..., EventLoop]


@cache
def config_of(broker_id: int) -> KafkaConfig:
    return build_config({"broker.id": str(broker_id), "log.dirs": "/nowhere",
                         "listeners": f"PLAINTEXT://127.0.0.1:{9090 + broker_id}"})


def changed_paths(request: Request) -> tuple[str, ...]:
    """Those that only the controller may change."""
    operations = request.operations if isinstance(request, Multi) else (request,)
    return tuple(operation.path for operation in operations
                 if not hasattr(operation, "watch") and not isinstance(operation, Check)
                 and not operation.path.startswith(f"{znodes.BROKER_IDS}/")
                 and not operation.path.startswith(f"{znodes.CONFIG_CHANGES}/")
                 and operation.path not in (*NOT_THE_CONTROLLERS, znodes.CONTROLLER_EPOCH)
                 and not any(path.startswith(f"{operation.path}/") for path in znodes.PERSISTENT_PATHS))


def _no_forwarding(call: ApiCall, controller_id: int, endpoint: Endpoint) -> None:
    raise AssertionError("only a front end's own calls are forwarded")


class Process:
    """One controller process. kept: session of its predecessor; front end and broker epoch as they are."""

    def __init__(self, node: Node, kept: SessionId | None) -> None:
        self.node = node
        self.is_dead = False
        self.loop: EventLoop | None = None
        self.store: SimulatedStore | None = None
        self.scope = trio.CancelScope()
        self._kept = kept
        self._ways: list[Way] = []

    async def run(self) -> None:
        """Until it is killed or fails."""
        with self.scope:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                store = await self._open(self._kept)
                await identity.ensure_paths(store)
                loop = self.node.world.make_loop(store, config_of(self.node.id), self.node.id, nursery,
                                                 self._outside())
                await loop.start(self._own_road(), NoCalls())
                self.loop = loop
                nursery.start_soon(loop.run)
                front_end = self.node.door.front_end
                assert front_end is not None
                resume = self._kept is not None and front_end.broker_epoch >= 0
                loop.post(RegisterWanted(resume, front_end.broker_epoch, {}))

    def _outside(self) -> Outside:
        node = self.node
        return Outside(
            on_registered=self._registered, open_session=lambda: self._open(None),
            transport_to=self._road_to, forward=_no_forwarding, boottime_ns=node.boottime_ns,
            wall_clock_ms=node.wall_clock_ms, random=random.Random(node.world.draw.getrandbits(32)))

    async def _open(self, kept: SessionId | None) -> MetadataStore:
        world = self.node.world
        store = SimulatedStore(world.ensemble, self.node.link, world.draw, world.plan.session_timeout_ms)
        store.on_submit = self._submitting
        self.store = store
        await open_session(store, self._nursery, kept, CONNECTION_TIMEOUT_SECONDS)
        world.owners[store.session.id] = self.node.id
        self.node.session = store.session
        return store

    def _registered(self, broker_epoch: int) -> None:
        front_end = self.node.door.front_end
        if front_end is not None and not self.is_dead:
            front_end.broker_epoch = broker_epoch

    # Roads

    def _own_road(self) -> OwnRoad:
        way = Way(self.node.world.timeline, self.node.world.draw, self.node.door, None, self._act_of(self.node.id))
        self._ways.append(way)
        return OwnRoad(way)

    def _road_to(self, broker_id: int, endpoint: Endpoint) -> Road:
        world = self.node.world
        return Road(world.timeline, world.draw, world.nodes[broker_id].door, self._act_of(broker_id))

    def restart_front_end(self) -> None:
        if self.loop is not None:
            self.loop.post(FrontEndRestarted(self._own_road(), NoCalls(), {}))

    # Acts

    def _act_of(self, broker_id: int) -> Callable[[int, Any], None]:
        def act(api_key: int, message: Any) -> None:
            if self.is_dead:
                raise ConnectionResetError("this process is dead")
            if api_key in CONTROLLER_REQUESTS:
                self._acted(message.controller_epoch, f"{ApiKey(api_key).name} to broker {broker_id}")
        return act

    def _submitting(self, store: SimulatedStore, requests: Sequence[Request]) -> None:
        for request in requests:
            paths = changed_paths(request)
            if paths:
                self._acted(self._epoch_of(request, store), f"write of {paths[0]}", store)
                return

    def _epoch_of(self, request: Request, store: SimulatedStore) -> int:
        """Each election sets the epoch node once: its version is the epoch."""
        for operation in request.operations if isinstance(request, Multi) else ():
            if isinstance(operation, Check) and operation.path == znodes.CONTROLLER_EPOCH:
                return operation.version
        return self.node.world.epochs.get(store.session.id, 0)

    def _acted(self, epoch: int, what: str, store: SimulatedStore | None = None) -> None:
        world = self.node.world
        store = store or self.store
        assert store is not None and store.session_timeout_ms is not None
        elected = world.history.elected
        world.history.add(Acted(
            trio.current_time(), self.node.id, epoch, 0 if elected is None else elected.epoch,
            store.session.id in world.expired,
            world.ensemble.earliest_end_after(store.answered_at, store.session_timeout_ms), what))
        self.node.acted()

    def kill(self) -> None:
        self.is_dead = True
        if self.store is not None:
            self.store.die()
        self.scope.cancel()


class Node:
    """clock_rate: seconds of its clock per second of the world."""

    def __init__(self, world: World, broker_id: int, clock_rate: float) -> None:
        self.world = world
        self.id = broker_id
        self.name = f"node {broker_id}"
        self.link = Link(world.timeline, world.draw)
        self.door = FrontEndDoor(Link(world.timeline, world.draw), lambda: not self.is_stopped)
        self.session: SessionId | None = None
        self.process: Process | None = None
        self.is_stopped = False
        self.call_count = 0
        self._acts_until_trap = 0
        self._trap: Callable[[], None] = lambda: None
        self._clock_rate = clock_rate
        self._clock_offset_ns = broker_id * 1_000_000_000_000

    # Clocks

    def boottime_ns(self) -> int:
        return self._clock_offset_ns + round(trio.current_time() * self._clock_rate * 1e9)

    def wall_clock_ms(self) -> int:
        return WALL_CLOCK_START_MS + round(trio.current_time() * self._clock_rate * 1000)

    # Life

    def start(self, kept: SessionId | None = None) -> None:
        """A controller process, and a front end if there is none. It is started again when its start fails."""
        if self.process is not None:
            return
        if self.door.front_end is None:
            self.door.front_end = FrontEnd(self._ask_for_overrides)
        process = self.process = Process(self, kept)
        token = OWNER.set(self.name)
        self.world.nursery.start_soon(self._live, process)
        OWNER.reset(token)

    async def _live(self, process: Process) -> None:
        try:
            await process.run()
        except* STARTING_FAILURES as failures:
            self.world.note(f"{self.name} cannot start: {failures.exceptions[0]!r}")
            if process.loop is not None:
                self.world.failures.append(f"{self.name} failed: {failures.exceptions[0]!r}")
        except* Exception as failures:  # noqa: BLE001 - whatever it is, it is what the seed has found
            text = "".join(traceback.format_exception(failures))
            self.world.note(f"{self.name} crashed")
            self.world.failures.append(f"{self.name} crashed:\n{text}")
        if not process.is_dead and self.process is process:
            process.kill()
            self.process = None
            self.world.timeline.after(RESTART_SECONDS, lambda: self.start(self.session))

    def kill(self, *, with_front_end: bool) -> None:
        self.wake()
        if self.process is not None:
            self.process.kill()
            self.process = None
        if with_front_end:
            self.door.front_end = None
            self.session = None

    def restart_front_end(self) -> None:
        if self.door.front_end is not None and self.process is not None and self.process.loop is not None:
            self.door.front_end = FrontEnd(self._ask_for_overrides)
            self.process.restart_front_end()

    def trap(self, acts: int, what: Callable[[], None]) -> None:
        """It happens at that act from now on, while the node's other tasks have not heard of what led to it."""
        self._acts_until_trap, self._trap = acts, what

    def acted(self) -> None:
        self._acts_until_trap -= 1
        if self._acts_until_trap == 0:
            self._trap()

    def stop(self) -> None:
        """SIGSTOP."""
        self.is_stopped = True
        self.world.queue.hold(self.name)

    def wake(self) -> None:
        """SIGCONT."""
        if self.is_stopped:
            self.is_stopped = False
            self.world.history.add(Mended(trio.current_time(), self.id))
            self.world.queue.release(self.name)

    def heal_link(self) -> None:
        self.world.history.add(Mended(trio.current_time(), self.id))
        self.link.heal()

    # What others see of it

    @property
    def loop(self) -> EventLoop | None:
        return None if self.process is None else self.process.loop

    @property
    def is_leading(self) -> bool:
        return self.loop is not None and self.loop.lease_state is LeaseState.LEADING

    @property
    def holds_office(self) -> bool:
        """As the servers see it."""
        found = self.world.ensemble.tree.node(znodes.CONTROLLER)
        return found is not None and self.session is not None and found.ephemeral_owner == self.session.id

    @property
    def is_registered(self) -> bool:
        """By its present session, as the servers see it."""
        found = self.world.ensemble.tree.node(znodes.broker_path(self.id))
        return found is not None and self.session is not None and found.ephemeral_owner == self.session.id

    @property
    def is_fit(self) -> bool:
        process = self.process
        return process is not None and process.loop is not None and process.store is not None \
            and not self.is_stopped and self.link.is_quick and self.is_registered and process.store.is_connected \
            and process.loop.lease_state is not LeaseState.EXPIRED

    def _ask_for_overrides(self, front_end: FrontEnd, topics: Mapping[str, bytes]) -> None:
        """Of the own controller process, until they have come or the front end is gone."""
        missing = front_end.missing_overrides(topics)
        if self.door.front_end is not front_end or not missing:
            return
        describe = message_class("DescribeConfigsRequest")
        self.call(ApiKey.DESCRIBE_CONFIGS, DESCRIBE_CONFIGS_VERSION, describe(resources=[
            describe.DescribeConfigsResource(resource_type=RESOURCE_TOPIC, resource_name=topic,
                                             configuration_keys=[uuid_to_text(topics[topic])])
            for topic in sorted(missing)]))
        self.world.timeline.after(OVERRIDES_RETRY_SECONDS, lambda: self._ask_for_overrides(front_end, topics))

    def call(self, api_key: int, version: int, request: Any,
             on_answer: Callable[[Any], None] = lambda response: None) -> None:
        """A client's request, if this node's controller runs."""
        if self.loop is not None and not self.is_stopped:
            self.call_count += 1
            self.loop.post(ApiCall(api_key, version, self.call_count, request,
                                   on_answer=lambda call: on_answer(call.response)))
