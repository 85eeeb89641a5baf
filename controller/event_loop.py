"""The controller's event loop: one task, one queue, one event at a time.

Everything that happens comes here in order: fired watches, answers of brokers, calls of the front end,
wishes of the supervisor, connections and sessions that come back. The loop keeps the lease and hands each
event to its procedure; it decides nothing itself.

A request to the store that gets no answer ends the event that made it, wherever it was: what became of the
request is not assumed. When the store answers again everything is read again (`_settle`): configuration,
registration if it is due, and `/controller`; a leader that still holds it tells everything again.

Runs in: controller (trio). Owner of everything that the controller knows.
"""
from __future__ import annotations

import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import trio

from broker.config.kafka_config import KafkaConfig
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from controller import controller_election, znodes
from controller.api_calls import ApiCalls, refuse
from controller.channel import Channels, Transport
from controller.cluster import Endpoint
from controller.cluster_runtime import ClusterRuntime, report
from controller.config_overrides import ConfigOverrides
from controller.controller_election import Elected, Holder
from controller.events import (
    BrokerAnswered,
    ConnectionBack,
    FrontEndRestarted,
    LookWanted,
    RegisterWanted,
    SessionRenewed,
    WatchFired,
)
from controller.inter_broker_version import features_of
from controller.lease import HELD, TRANSITIONS, Lease, LeaseAction, LeaseEvent, LeaseState
from controller.metadata_store.errors import ConnectionLossError, SessionExpiredError
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import SessionId, WatchEvent
from controller.outside import Outside
from controller.own_registration import OwnRegistration
from controller.procedures import answers, fail_over
from controller.procedures.runtime import ControllerMovedError
from controller.procedures.watches import cluster_changed
from controller.request_batch import BrokerRequest
from controller.request_server import ApiCall, serve
from controller.session_keeper import SessionKeeper
from controller.store_access import StoreAccess

_log = logging.getLogger(__name__)

Event = (WatchFired | BrokerAnswered | ApiCall | RegisterWanted | FrontEndRestarted | ConnectionBack
         | SessionRenewed | LookWanted)

START_RETRY_SECONDS = 0.2
UNREADABLE_RETRY_SECONDS = 1.0
"""Somebody has written into a node by hand: it is for them to repair."""


class EventLoop:
    """`start`, then `run` until cancelled; everything else posts events."""

    def __init__(self, store: MetadataStore, config: KafkaConfig, broker_id: int, nursery: trio.Nursery,
                 outside: Outside) -> None:
        self._config = config
        self._broker_id = broker_id
        self._nursery = nursery
        self._outside = outside
        self._features = features_of(config["inter.broker.protocol.version"])
        self._lease = Lease(store.session_timeout_ms)
        self._store = access = StoreAccess(store, self._lease, outside.boottime_ns)
        self._keeper = SessionKeeper(access, self._lease, outside, nursery, self.post, self._interrupt)
        self._channels = Channels(broker_id, nursery, self._broker_answered, self._may_send,
                                  config["request.timeout.ms"] / 1000)
        self._overrides = ConfigOverrides(broker_id)
        self._runtime = ClusterRuntime(access, self._lease, self._channels, self._overrides, config, broker_id,
                                       outside)
        self._calls = ApiCalls(self._runtime, access, config, outside.random.randrange)
        self._runtime.on_topics_went = self._calls.topics_went
        self._registration = OwnRegistration(access, broker_id, config, outside.on_registered,
                                             outside.wall_clock_ms)
        self._elected: Elected | None = None
        self._leader: tuple[int, Endpoint] | None = None
        self._server_scope = trio.CancelScope()
        # Unbounded: one-shot watches, one answer per request in flight and a bounded server fill it.
        self._post, self._events = trio.open_memory_channel[Event](math.inf)

    def post(self, event: Event) -> None:
        self._post.send_nowait(event)

    @property
    def lease_state(self) -> LeaseState:
        return self._lease.state

    @property
    def controller_epoch(self) -> int:
        """0 while this node does not lead."""
        return self._runtime.state.epoch

    @property
    def session(self) -> SessionId:
        return self._store.session

    def _broker_answered(self, broker_id: int, request: BrokerRequest, response: Any) -> None:
        self.post(BrokerAnswered(broker_id, request, response))

    def _may_send(self, request: BrokerRequest) -> bool:
        return self._runtime.may_send(request)

    # Life

    async def start(self, to_broker: Transport, from_broker: trio.abc.Stream) -> None:
        """Read the overrides and open the streams to the front end."""
        self._keeper.begin()
        while not await self._try_to_start():
            await trio.sleep(START_RETRY_SECONDS)
        self._open_streams(to_broker, from_broker)

    async def _try_to_start(self) -> bool:
        try:
            await controller_election.give_up_inherited(self._store)
            report(await self._overrides.read_all(self._store))
        except (ConnectionLossError, SessionExpiredError) as error:
            self._keeper.failed(error)
            self._take_new_session()
            return False
        self._keeper.settling()
        return True

    def _take_new_session(self) -> None:
        """Before `run`: the renewed session, if it has come. What else came of the store is read again."""
        waiting = []
        with contextlib.suppress(trio.WouldBlock):
            while True:
                waiting.append(self._events.receive_nowait())
        for event in waiting:
            if isinstance(event, SessionRenewed):
                self._begin_session(event.store)
            elif not isinstance(event, WatchFired | ConnectionBack | LookWanted):
                self.post(event)

    async def run(self) -> None:
        while True:
            event = None
            with trio.move_on_at(min(self._calls.next_deadline(), self._registration.wait_ends_at)):
                event = await self._events.receive()
            if event is not None:
                await self._process(event)
            self._calls.expire()
            if trio.current_time() >= self._registration.wait_ends_at:
                await self._process(LookWanted())

    async def end_session(self) -> None:
        """A clean stop: the session's nodes go, others are told."""
        await self._store.close()

    def _open_streams(self, to_broker: Transport, from_broker: trio.abc.Stream) -> None:
        self._channels.open(self._broker_id, to_broker)
        self._tell_front_end(self._overrides.requests_for_all())
        self._server_scope.cancel()
        self._server_scope = trio.CancelScope()
        self._nursery.start_soon(self._serve, from_broker, self._server_scope)

    async def _serve(self, stream: trio.abc.Stream, scope: trio.CancelScope) -> None:
        with scope:
            await serve(stream, self.post)

    def _tell_front_end(self, requests: Sequence[BrokerRequest]) -> None:
        for request in requests:
            self._channels.enqueue(self._broker_id, request)

    # Events

    async def _process(self, event: Event) -> None:
        """An event that the store did not answer is over: `_settle` finds out what it has left."""
        try:
            await self._process_as_leader(event)
        except (ConnectionLossError, SessionExpiredError) as error:
            self._keeper.failed(error)

    async def _process_as_leader(self, event: Event) -> None:
        changes = self._lease.changes
        try:
            await self._dispatch(event)
        except ControllerMovedError as error:
            _log.warning("controller epoch %d has ended: %s", self._runtime.state.epoch, error)
            if self._lease.changes == changes:
                await self._lease_actions(self._lease.handle(LeaseEvent.MOVED))

    async def _dispatch(self, event: Event) -> None:
        match event:
            case ApiCall():
                await self._serve_call(event)
            case BrokerAnswered():
                await self._answered(event)
            case WatchFired():
                if event.store is self._store.store:
                    await self._watch_fired(event.event)
            case RegisterWanted():
                self._registration.demand(event.ports, event.broker_epoch if event.resume else None)
                await self._register()
            case FrontEndRestarted():
                self._calls.drop_all()
                self._open_streams(event.to_broker, event.from_broker)
                self._registration.demand(event.ports)
                await self._register()
            case LookWanted():
                await self._register()
            case ConnectionBack():
                if event.store is self._store.store:
                    await self._connection_back()
            case SessionRenewed():
                await self._session_renewed(event.store)

    async def _serve_call(self, call: ApiCall) -> None:
        if call.is_local or self._lease.state is LeaseState.LEADING:
            try:
                await self._calls.serve(call)
            except (ConnectionLossError, SessionExpiredError):
                refuse(call, ErrorCode.NOT_CONTROLLER)
                raise
        elif call.is_own and self._leader is not None:
            self._outside.forward(call, *self._leader)
        else:
            refuse(call, ErrorCode.NOT_CONTROLLER)

    async def _watch_fired(self, event: WatchEvent) -> None:
        if event.path == znodes.CONTROLLER:
            await self._lease_actions([LeaseAction.LOOK])
        elif event.path == znodes.CONFIG_CHANGES:
            await self._configs_changed()
        elif self._registration.is_concerned_by(event.path):
            await self._register()
        elif self._lease.state is LeaseState.LEADING:
            await cluster_changed(self._runtime, event)

    async def _configs_changed(self) -> None:
        requests, problems = await self._overrides.read_changes(self._store, self._outside.wall_clock_ms())
        report(problems)
        self._tell_front_end(requests)

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

    # The session

    async def _connection_back(self) -> None:
        """The same session: every watch is gone, and what became of unanswered requests is not known."""
        if self._lease.state is LeaseState.EXPIRED:
            return
        if self._lease.state is LeaseState.LEADING:
            self._interrupt(LeaseEvent.CONNECTION_LOST)
        self._keeper.settling()
        self._registration.wait_anew()
        await self._settle(self._lease.handle(LeaseEvent.CONNECTION_BACK))

    async def _session_renewed(self, store: MetadataStore) -> None:
        self._overrides.must_be_read_anew()
        await self._settle(self._begin_session(store))

    def _begin_session(self, store: MetadataStore) -> Sequence[LeaseAction]:
        self._store.replace(store)
        self._keeper.begin()
        self._registration.session_ended()
        return self._lease.handle(LeaseEvent.SESSION_RENEWED)

    async def _settle(self, actions: Sequence[LeaseAction]) -> None:
        await self._configs_changed()
        await self._registration.attempt()
        await self._lease_actions(actions)

    async def _register(self) -> None:
        """Only a registered broker stands for election, as in Kafka."""
        await self._registration.attempt()
        if self._lease.state in (LeaseState.STANDBY, LeaseState.SUSPENDED):
            await self._lease_actions([LeaseAction.LOOK])

    # Lease

    def _interrupt(self, event: LeaseEvent) -> None:
        """Make an event happen that takes the lease away, whatever the loop's task is waiting for."""
        if (self._lease.state, event) not in TRANSITIONS:
            return
        for action in self._lease.handle(event):
            if action is LeaseAction.GIVE_UP:
                self._give_up()
            else:
                assert action is LeaseAction.LOOK, action
                self.post(LookWanted())

    async def _lease_actions(self, actions: Sequence[LeaseAction]) -> None:
        """Until nothing is left to do, or an interruption, which brings its own."""
        pending = deque(actions)
        while pending:
            changes = self._lease.changes
            try:
                event = await self._perform(pending.popleft())
            except ControllerMovedError as error:
                _log.warning("office is not taken: %s", error)
                event = LeaseEvent.MOVED
            if self._lease.changes != changes:
                return
            if event is not None:
                pending.extend(self._lease.handle(event))

    async def _perform(self, action: LeaseAction) -> LeaseEvent | None:
        match action:
            case LeaseAction.LOOK:
                return await self._look()
            case LeaseAction.STAND:
                return await self._stand()
            case LeaseAction.TAKE_OFFICE:
                await self._take_office()
            case LeaseAction.GIVE_UP:
                self._give_up()
            case LeaseAction.RESIGN:
                await controller_election.give_up_inherited(self._store)
        return None

    def _give_up(self) -> None:
        _log.info("controller epoch %d is given up", self._runtime.state.epoch)
        self._runtime.forget()
        self._calls.resigned()

    async def _look(self) -> LeaseEvent | None:
        if not self._registration.is_made and self._lease.state not in HELD:
            return None
        self._leader = None
        try:
            holder = await controller_election.look(self._store)
        except znodes.ZnodeFormatError as error:
            _log.error("somebody is the controller, but it cannot be read who: %s", error)
            return LeaseEvent.NODE_TAKEN
        if holder is None:
            return LeaseEvent.NODE_ABSENT
        if holder.owner == self._store.session.id:
            return LeaseEvent.NODE_OURS
        _log.info("broker %d is the controller", holder.broker_id)
        self._leader = await self._reach(holder)
        return LeaseEvent.NODE_TAKEN

    async def _reach(self, holder: Holder) -> tuple[int, Endpoint] | None:
        """Where calls are forwarded to."""
        found = await self._store.find_data(znodes.broker_path(holder.broker_id))
        if found is None:
            return None
        try:
            broker = znodes.decode_broker(holder.broker_id, found.data, found.stat.czxid)
        except znodes.ZnodeFormatError as error:
            _log.error("the controller cannot be reached: %s", error)
            return None
        return next(((holder.broker_id, endpoint) for endpoint in broker.endpoints
                     if endpoint.listener == self._config.inter_broker_listener_name), None)

    async def _stand(self) -> LeaseEvent:
        try:
            self._elected = await controller_election.stand(self._store, self._broker_id,
                                                            self._outside.wall_clock_ms())
        except znodes.ZnodeFormatError as error:
            _log.error("nobody can be elected, trying again every second: %s", error)
            self._elected = None
            await trio.sleep(UNREADABLE_RETRY_SECONDS)
        return LeaseEvent.NOT_WON if self._elected is None else LeaseEvent.WON

    async def _take_office(self) -> None:
        """After an election, or in the same epoch after an interruption: everything is read and told."""
        assert self._elected is not None
        started = time.monotonic()
        self._runtime.begin(self._elected)
        self._keeper.lease_held()
        await fail_over.take_office(self._runtime, self._features.feature_node_version)
        state = self._runtime.state
        partition_count = sum(len(topic.partitions) for topic in state.topics.values())
        _log.info("broker %d is the controller with epoch %d: %d brokers, %d topics, %d partitions, %.0f ms",
                  self._broker_id, state.epoch, len(state.brokers), len(state.topics), partition_count,
                  (time.monotonic() - started) * 1000)
