"""The controller's event loop: one task, one queue, one event at a time.

Everything that happens comes here in order: fired watches, answers of brokers, calls of the front end,
wishes of the supervisor. The loop keeps the registration and the lease and hands each event to its
procedure; it decides nothing itself.

Runs in: controller (trio). Owner of everything that the controller knows.
"""
from __future__ import annotations

import logging
import math
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio

from broker.config.kafka_config import KafkaConfig
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from controller import controller_election, registration, znodes
from controller.api_calls import ApiCalls, refuse
from controller.channel import Channels, OwnFrontEnd
from controller.cluster import Endpoint
from controller.cluster_runtime import ClusterRuntime, report
from controller.config_overrides import ConfigOverrides
from controller.events import BrokerAnswered, FrontEndRestarted, RegisterWanted, WatchFired
from controller.inter_broker_version import features_of
from controller.lease import Lease, LeaseAction, LeaseEvent, LeaseState
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import EventType, WatchEvent
from controller.procedures import answers, fail_over
from controller.procedures.runtime import ControllerMovedError
from controller.procedures.watches import cluster_changed
from controller.request_batch import BrokerRequest
from controller.request_server import ApiCall, serve
from controller.store_access import StoreAccess

_log = logging.getLogger(__name__)

Event = WatchFired | BrokerAnswered | ApiCall | RegisterWanted | FrontEndRestarted


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class EventLoop:
    """`start`, then `run` until cancelled; everything else posts events."""

    def __init__(self, store: MetadataStore, config: KafkaConfig, broker_id: int, nursery: trio.Nursery,
                 on_registered: Callable[[int], None]) -> None:
        """on_registered: told the broker epoch after each registration."""
        self._config = config
        self._broker_id = broker_id
        self._nursery = nursery
        self._on_registered = on_registered
        self._features = features_of(config["inter.broker.protocol.version"])
        self._lease = Lease(store.session_timeout_ms)
        self._store = access = StoreAccess(store, self._lease)
        self._channels = Channels(broker_id, nursery, self._broker_answered)
        self._overrides = ConfigOverrides(broker_id)
        self._runtime = ClusterRuntime(access, self._lease, self._channels, self._overrides, config, broker_id)
        self._calls = ApiCalls(self._runtime, access, config)
        self._runtime.on_topics_went = self._calls.topics_went
        self._ports: Mapping[str, int] = {}
        self._server_scope = trio.CancelScope()
        # Unbounded: one-shot watches, one answer per request in flight and a bounded server fill it.
        self._post, self._events = trio.open_memory_channel[Event](math.inf)

    def post(self, event: Event) -> None:
        self._post.send_nowait(event)

    def _broker_answered(self, broker_id: int, request: BrokerRequest, response: Any) -> None:
        self.post(BrokerAnswered(broker_id, request, response))

    # Life

    async def start(self, to_broker: socket.socket, from_broker: socket.socket) -> None:
        """Read the overrides and open the streams to the front end."""
        report(await self._overrides.read_all(self._store))
        await controller_election.give_up_inherited(self._store)
        self._open_streams(to_broker, from_broker)

    async def run(self) -> None:
        self._nursery.start_soon(self._forward_watches)
        while True:
            event = None
            with trio.move_on_at(self._calls.next_deadline()):
                event = await self._events.receive()
            if event is not None:
                await self._process(event)
            self._calls.expire()

    async def _forward_watches(self) -> None:
        async for event in self._store.events:
            self.post(WatchFired(event))

    def _open_streams(self, to_broker: socket.socket, from_broker: socket.socket) -> None:
        self._channels.open(self._broker_id, OwnFrontEnd(to_broker))
        for request in self._overrides.requests_for_all():
            self._channels.enqueue(self._broker_id, request)
        self._server_scope.cancel()
        self._server_scope = trio.CancelScope()
        from_broker.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(from_broker))
        self._nursery.start_soon(self._serve, stream, self._server_scope)

    async def _serve(self, stream: trio.abc.Stream, scope: trio.CancelScope) -> None:
        with scope:
            await serve(stream, self.post)

    # Events

    async def _process(self, event: Event) -> None:
        try:
            await self._dispatch(event)
        except ControllerMovedError as error:
            _log.warning("controller epoch %d has ended: %s", self._runtime.state.epoch, error)
            await self._lease_actions(self._lease.handle(LeaseEvent.MOVED))

    async def _dispatch(self, event: Event) -> None:
        match event:
            case ApiCall():
                if self._lease.state is LeaseState.LEADING:
                    await self._calls.serve(event)
                else:
                    refuse(event, ErrorCode.NOT_CONTROLLER)
            case BrokerAnswered():
                await self._answered(event)
            case WatchFired():
                await self._watch_fired(event.event)
            case RegisterWanted():
                await self._register(event)
            case FrontEndRestarted():
                await self._front_end_restarted(event)

    async def _watch_fired(self, event: WatchEvent) -> None:
        if event.type is EventType.SESSION:
            _log.info("session with the metadata store: %s", event.state.value)
        elif event.path == znodes.CONTROLLER:
            await self._lease_actions([LeaseAction.LOOK])
        elif event.path == znodes.CONFIG_CHANGES:
            await self._configs_changed()
        elif self._lease.state is LeaseState.LEADING:
            await cluster_changed(self._runtime, event)

    async def _configs_changed(self) -> None:
        requests, problems = await self._overrides.read_changes(self._store, wall_clock_ms())
        report(problems)
        for request in requests:
            self._channels.enqueue(self._broker_id, request)

    async def _answered(self, event: BrokerAnswered) -> None:
        request, response = event.request, event.response
        if request.api_key is ApiKey.ALTER_CONFIGS:
            report(f"overrides of {answer.resource_name!r} were refused with error {answer.error_code}"
                   for answer in response.responses if answer.error_code != ErrorCode.NONE)
            return
        if response.error_code != ErrorCode.NONE:
            _log.warning("broker %d answered %s with error %d", event.broker_id, request.api_key.name,
                         response.error_code)
        if self._lease.state is not LeaseState.LEADING \
                or request.message.controller_epoch != self._runtime.state.epoch:
            return
        await answers.broker_answered(self._runtime, event.broker_id, request, response)
        if request.api_key is ApiKey.UPDATE_METADATA and event.broker_id == self._broker_id \
                and response.error_code == ErrorCode.NONE:
            self._calls.front_end_knows(request.message)

    # Registration

    async def _register(self, event: RegisterWanted) -> None:
        self._ports = event.ports or self._ports
        if event.resume and await registration.resume(self._store, self._broker_id, event.broker_epoch):
            _log.info("broker %d is still registered with epoch %d", self._broker_id, event.broker_epoch)
            self._on_registered(event.broker_epoch)
        else:
            await self._register_anew()
        await self._maybe_stand()

    async def _maybe_stand(self) -> None:
        """Only a registered broker stands for election, as in Kafka."""
        if self._lease.state is LeaseState.STANDBY:
            await self._lease_actions([LeaseAction.LOOK])

    async def _front_end_restarted(self, event: FrontEndRestarted) -> None:
        self._ports = event.ports or self._ports
        self._calls.drop_all()
        self._open_streams(event.to_broker, event.from_broker)
        await self._register_anew()
        await self._maybe_stand()

    async def _register_anew(self) -> None:
        endpoints = tuple(
            Endpoint(listener.name, listener.security_protocol, listener.host,
                     listener.port or self._ports.get(listener.name, 0))
            for listener in self._config.advertised_listeners)
        data = znodes.encode_broker(endpoints, self._config["broker.rack"], wall_clock_ms(),
                                    self._features.broker_node_version)
        epoch = await registration.register_anew(self._store, self._broker_id, endpoints, data)
        _log.info("broker %d is registered with epoch %d", self._broker_id, epoch)
        self._on_registered(epoch)

    # Lease

    async def _lease_actions(self, actions: Sequence[LeaseAction]) -> None:
        pending = deque(actions)
        while pending:
            try:
                event = await self._perform(pending.popleft())
            except ControllerMovedError as error:
                _log.warning("office is not taken: %s", error)
                event = LeaseEvent.MOVED
            if event is not None:
                pending.extend(self._lease.handle(event))

    async def _perform(self, action: LeaseAction) -> LeaseEvent | None:
        match action:
            case LeaseAction.LOOK:
                return await self._look()
            case LeaseAction.STAND:
                elected = await controller_election.stand(self._store, self._broker_id, wall_clock_ms())
                if elected is None:
                    return LeaseEvent.NOT_WON
                self._runtime.begin(elected)
                return LeaseEvent.WON
            case LeaseAction.TAKE_OFFICE:
                await self._take_office()
            case LeaseAction.GIVE_UP:
                self._runtime.forget()
        return None

    async def _look(self) -> LeaseEvent | None:
        holder = await controller_election.look(self._store)
        if holder is None:
            return LeaseEvent.NODE_ABSENT
        if holder == self._broker_id and self._lease.state is LeaseState.LEADING:
            return None
        _log.info("broker %d is the controller", holder)
        return LeaseEvent.NODE_TAKEN

    async def _take_office(self) -> None:
        started = time.monotonic()
        await fail_over.take_office(self._runtime, self._features.feature_node_version)
        state = self._runtime.state
        partition_count = sum(len(topic.partitions) for topic in state.topics.values())
        _log.info("broker %d is the controller with epoch %d: %d brokers, %d topics, %d partitions, %.0f ms",
                  self._broker_id, state.epoch, len(state.brokers), len(state.topics), partition_count,
                  (time.monotonic() - started) * 1000)
