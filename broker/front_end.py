"""The front end process: composition of its parts, its tasks, its talk with the supervisor.

What: builds the state once, runs the loop (accept, pump, timers, control messages), stops in order.
Why one flush per scheduler pass: an Instrument rings the doorbells just before the loop waits for I/O, so
that every task's submissions of the pass leave together and no task knows of it. The hook must not raise
(trio would drop it silently, REVIEW item 17): it catches, and the flag makes the loop crash loudly.
Runs in: front end. Owner of everything it builds.
"""

from __future__ import annotations

import gc
import logging
import socket
import time
from typing import Any

import trio

from broker.apis.dispatch import dispatcher
from broker.apis.services import Services
from broker.client.controlled_shutdown import shut_down_controlled
from broker.client.controller_link import ControllerLink, ControllerUnavailableError
from broker.client.topic_overrides import TopicOverrides
from broker.coordinators.group_service import GroupService
from broker.coordinators.internal_topics import GROUP_METADATA_TOPIC, InternalTopics
from broker.coordinators.log_loader import LogLoader
from broker.coordinators.log_writer import LogWriter
from broker.log_dirs.helper_link import COORDINATOR_LOADING, HelperLink
from broker.log_dirs.log_dirs import LogDirs
from broker.log_dirs.storage_dialog import DialogError, StorageDialog
from broker.metadata.cache import MetadataCache
from broker.network.listeners import accept_loop
from broker.network.receive import ReceiveBuffers
from broker.network.server import ConnectionLimits, Server
from broker.protocol.api_keys import ApiKey
from broker.protocol.messages import request_class
from broker.replica.fetch_purgatory import FetchPurgatory
from broker.replica.fetch_session import FetchSessions
from broker.replica.partition import Role
from broker.replica.producer_ids import Block, ProducerIds
from broker.replica.registry import PartitionRegistry
from broker.replica.role_changes import RoleChanges
from broker.replica.storage_calls import StorageGoneError
from storage.ipc.contexts import Doorbells, FrontEndContext
from storage.ipc.control import ControlClosedError, ControlSocket

log = logging.getLogger(__name__)

ROLES_WAIT_S_MAX = 10.0
"""How long clients wait for the controller to give every hosted partition it knows its role."""

STOP_PROGRESS_S = 3.0
"""The supervisor gives a front end that stops ten seconds, again at each sign of life."""

SLOW_TIMER_S = 10.0
GC_THRESHOLDS = (50_000, 50, 50)
"""Collections are rare: the heap is frozen at start and requests make no cycles."""


class StopFrontEnd(Exception):  # noqa: N818 - not an error: the supervisor asked
    """Unwinds the nursery."""


class SubmissionFlusher(trio.abc.Instrument):
    """Rings the doorbells once per scheduler pass; its `watch` task crashes the loop if that ever fails."""

    def __init__(self, log_dirs: LogDirs) -> None:
        self._log_dirs = log_dirs
        self._failure: Exception | None = None
        self._failed = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None

    def before_io_wait(self, timeout: float) -> None:
        try:
            self._log_dirs.flush_submissions()
        except Exception as error:  # noqa: BLE001 - `watch` raises it
            self._failure = error
            if self._token is not None:
                self._token.run_sync_soon(self._failed.set, idempotent=True)

    async def watch(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        if self._failure is None:
            await self._failed.wait()
        assert self._failure is not None
        raise self._failure


class FrontEnd:
    """One instance per process; `run` returns the exit code."""

    def __init__(self, context: FrontEndContext) -> None:
        self._context = context
        config = context.config
        self._registry = PartitionRegistry()
        self._metadata = MetadataCache()
        self._table = context.partition_table()
        self._arena = context.arena()
        directories = [link.directory for link in context.storages]
        self._log_dirs = LogDirs(directories, self._registry, self._arena, self._table)
        self._dialogs = {link.index: StorageDialog(link.control) for link in context.storages}
        self._roles = RoleChanges(
            context.broker_id, self._registry, self._log_dirs, self._metadata, config.resolve_topic,
            in_cluster=not config.embedded,
        )  # fmt: skip
        self._pumps: dict[int, tuple[trio.CancelScope, Doorbells]] = {}
        self._entering: dict[int, trio.CancelScope] = {}
        self._accepting = trio.Event()
        self._is_stopping = False
        self._flusher = SubmissionFlusher(self._log_dirs)
        self._helpers = HelperLink(context.control.send)
        self._loading_helpers = HelperLink(context.control.send, COORDINATOR_LOADING)

    def run(self) -> int:
        gc.set_threshold(*GC_THRESHOLDS)
        exit_code = 1
        try:
            trio.run(self._main, instruments=[self._flusher])
        except* StopFrontEnd:
            self._context.control.send({"kind": "stopped"})
            exit_code = 0
        except* ControlClosedError:
            log.error("The supervisor is gone; stopping")
        return exit_code

    async def _main(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._flusher.watch)
            self._build(nursery)
            for link in self._context.storages:
                if link.online:
                    self._attach(link.index, link.doorbells, link.generation)
                elif link.offline:
                    self._log_dirs.links[link.index].failed_reason = "the directory is offline"
            nursery.start_soon(self._control_loop)
            await self._enter_online()
            self._server.serve_controller(self._context.from_controller)
            nursery.start_soon(self._purgatory.run)
            nursery.start_soon(self._server.sweep_idle)
            nursery.start_soon(self._server.sweep_stalled)
            nursery.start_soon(self._slow_timer)
            nursery.start_soon(self._groups.run_deadlines)
            nursery.start_soon(self._groups.run_expiry)
            self._context.control.send({"kind": "ready"})
            for listener, sock in self._context.listeners:
                nursery.start_soon(self._accept, listener.name, sock)

    def _build(self, nursery: trio.Nursery) -> None:
        config = self._context.config
        self._purgatory = FetchPurgatory()
        self._controller = ControllerLink(self._context.to_controller, nursery)
        self._groups = self._build_groups(nursery)
        self._roles.on_role = self._groups.role_changed
        services = Services(
            config=config,
            broker_id=self._context.broker_id,
            cluster_id=self._context.cluster_id,
            wall_clock_ms=_wall_clock_ms,
            metadata=self._metadata,
            registry=self._registry,
            log_dirs=self._log_dirs,
            purgatory=self._purgatory,
            sessions=FetchSessions(
                config["max.incremental.fetch.session.cache.slots"], EVICTION_S, trio.current_time
            ),
            controller=self._controller,
            producer_ids=ProducerIds(self._allocate_producer_ids, nursery),
            helpers=self._helpers,
            roles=self._roles,
            overrides=TopicOverrides(self._controller),
            groups=self._groups,
            start_soon=nursery.start_soon,
            directory_sizes=self._directory_sizes,
        )
        self._services = services
        receive = ReceiveBuffers(self._arena)
        self._arena.room_callback = receive.room_freed
        self._server = Server(
            _limits(config), receive, self._log_dirs.warmth, nursery, dispatcher(services)
        )

    def _build_groups(self, nursery: trio.Nursery) -> GroupService:
        config = self._context.config
        writer = LogWriter(
            GROUP_METADATA_TOPIC, self._registry, self._log_dirs, nursery.start_soon,
            config["offsets.commit.required.acks"], config["offsets.commit.timeout.ms"],
        )  # fmt: skip
        loader = LogLoader(self._log_dirs.segments, self._loading_helpers, config["offsets.load.buffer.size"])
        return GroupService(
            config, self._registry, self._metadata, writer, loader, InternalTopics(self._controller, config),
            _wall_clock_ms, nursery.start_soon,
        )  # fmt: skip

    # Storage processes

    def _attach(self, index: int, doorbells: Doorbells, generation: int) -> None:
        """Rings of a new generation: use them, and pump what comes back."""
        link = self._log_dirs.links[index]
        link.attach(*self._context.open_rings(index, doorbells, generation))
        scope = trio.CancelScope()
        self._pumps[index] = (scope, doorbells)
        self._nursery.start_soon(self._pump, index, doorbells, scope)

    async def _pump(self, index: int, doorbells: Doorbells, scope: trio.CancelScope) -> None:
        """One task per storage process: its doorbell wakes everything that its completions concern."""
        link = self._log_dirs.links[index]
        fd = doorbells.completions.fileno()
        with scope:
            while True:
                try:
                    await trio.lowlevel.wait_readable(fd)
                except trio.ClosedResourceError:
                    return  # detached; what it had published was taken over
                self._log_dirs.pump(link)

    def _detach(self, index: int) -> None:
        """The storage process is dead: take over what it had published, then let its doorbells go."""
        self._log_dirs.storage_died(index)
        entering = self._entering.pop(index, None)
        if entering is not None:
            entering.cancel()
        pump = self._pumps.pop(index, None)
        if pump is not None:
            scope, doorbells = pump
            scope.cancel()
            trio.lowlevel.notify_closing(doorbells.completions.fileno())
            doorbells.close()

    async def _enter_online(self) -> None:
        """Until every storage process that was there at the start has told what it holds, or has died."""
        async with trio.open_nursery() as entering:
            for link in self._log_dirs.links:
                if link.usable:
                    self._start_entering(entering, link.index)

    def _start_entering(self, nursery: trio.Nursery, index: int) -> None:
        scope = self._entering[index] = trio.CancelScope()
        nursery.start_soon(self._enter, index, scope)

    async def _enter(self, index: int, scope: trio.CancelScope) -> None:
        """Take up every log that the storage process has open; roles that are not known come from the
        controller. Ends when that process dies: its successor is asked anew."""
        link = self._log_dirs.links[index]
        with scope:
            while not link.is_listed:
                try:
                    await self._roles.enter(link, await self._dialogs[index].partitions())
                except (DialogError, trio.TooSlowError) as error:
                    log.error("%s: its storage process does not say what it holds: %s", link.directory, error)
                except StorageGoneError:
                    return
        self._log_dirs.settle()

    async def _directory_sizes(self, index: int) -> list[list[Any]] | None:
        try:
            return await self._dialogs[index].sizes()
        except (DialogError, trio.TooSlowError) as error:
            log.warning("%s: sizes are not known: %s", self._log_dirs.links[index].directory, error)
            return None

    # Controller

    async def _allocate_producer_ids(self) -> Block | None:
        request = request_class(ApiKey.ALLOCATE_PRODUCER_IDS)
        message = request(broker_id=self._context.broker_id, broker_epoch=self._services.broker_epoch)
        try:
            answer = await self._controller.request(ApiKey.ALLOCATE_PRODUCER_IDS, 0, message)
        except ControllerUnavailableError as error:
            log.warning("Reserving producer ids: %s", error)
            return None
        if answer.error_code:
            log.warning("Reserving producer ids: error %d", answer.error_code)
            return None
        return (answer.producer_id_start, answer.producer_id_len)

    # Supervisor

    async def _control_loop(self) -> None:
        control = self._context.control
        while True:
            await trio.lowlevel.wait_readable(control.fileno())
            while (received := control.receive_nowait()) is not None:
                self._on_control(*received)

    def _on_control(self, message: dict[str, Any], fds: list[int]) -> None:
        match message["kind"]:
            case "storage_died":
                self._detach(message["index"])
                self._context.control.send({"kind": "taken_over", "index": message["index"]})
            case "storage_started":
                self._attach(message["index"], Doorbells.from_fds(fds), message["generation"])
                self._start_entering(self._nursery, message["index"])
            case "storage_offline":
                self._log_dirs.links[message["index"]].failed_reason = message["why"]
            case "controller_restarted":
                to_controller, from_controller = (socket.socket(fileno=fd) for fd in fds)
                self._controller.replace(to_controller)
                self._server.serve_controller(from_controller)
            case "accept":
                self._services.broker_epoch = message["broker_epoch"]
                self._nursery.start_soon(self._open_doors)
            case "helper":
                loads = message["purpose"] == COORDINATOR_LOADING
                link = self._loading_helpers if loads else self._helpers
                link.arrived(ControlSocket(socket.socket(fileno=fds[0])))
            case "stop":
                self._stop()
            case unknown:
                log.error("Control message of unknown kind %r", unknown)

    def _stop(self) -> None:
        config = self._context.config
        told = not config.embedded and config["controlled.shutdown.enable"] and self._accepting.is_set()
        if told and not self._is_stopping:
            self._is_stopping = True
            self._nursery.start_soon(self._stop_controlled)
        else:
            self._stop_now()

    def _stop_now(self) -> None:
        self._server.close_all()
        raise StopFrontEnd

    async def _stop_controlled(self) -> None:
        """Clients are served meanwhile, as by Kafka."""
        self._nursery.start_soon(self._report_progress)
        config = self._context.config
        await shut_down_controlled(
            self._controller, self._context.broker_id, self._services.broker_epoch,
            config["controlled.shutdown.max.retries"], config["controlled.shutdown.retry.backoff.ms"],
        )  # fmt: skip
        self._stop_now()

    async def _report_progress(self) -> None:
        while True:
            self._context.control.send({"kind": "progress", "text": "controlled shutdown"})
            await trio.sleep(STOP_PROGRESS_S)

    async def _open_doors(self) -> None:
        """Let clients in once the controller has spoken, so that none sees an empty cluster (behaviour 20).

        Another node's controller speaks on the listeners: in ZooKeeper mode they accept at once, and what
        clients ask waits in `dispatch`.
        """
        if not self._context.config.embedded:
            self._accepting.set()
        with trio.move_on_after(ROLES_WAIT_S_MAX):
            while not self._is_informed():
                await trio.sleep(0.005)
        self._services.informed.set()
        self._accepting.set()

    def _is_informed(self) -> bool:
        """The first UpdateMetadata with partitions names all there are; about those in the directories that are
        not among them, or not assigned to this broker, the controller will never speak."""
        metadata = self._metadata
        if not metadata.live_broker_ids():
            return False
        hosted = [(partition, metadata.partition(partition.topic, partition.partition))
                  for partition in self._registry]  # fmt: skip
        if hosted and not metadata.topics:
            return False
        return all(
            partition.role is not Role.NONE
            for partition, known in hosted
            if known is not None and self._context.broker_id in known.replicas
            and (partition.topic, partition.partition) not in self._roles.declined
        )

    # Small tasks

    async def _accept(self, listener_name: str, sock: socket.socket) -> None:
        await self._accepting.wait()
        await accept_loop(sock, listener_name, self._server)

    async def _slow_timer(self) -> None:
        while True:
            await trio.sleep(SLOW_TIMER_S)
            self._helpers.drop_if_idle()
            self._loading_helpers.drop_if_idle()
            self._arena.trim()
            if await self._roles.retry_without_room():
                self._context.control.send({"kind": "register_anew"})


EVICTION_S = 120.0
"""min.incremental.fetch.session.eviction.ms is fixed at two minutes in Kafka."""


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def _limits(config: Any) -> ConnectionLimits:
    """Socket buffers that the operator has not set stay with the kernel's autotuning."""
    overrides = {}
    for entry in config["max.connections.per.ip.overrides"].split(","):
        if entry.strip():
            host, _, count = entry.strip().rpartition(":")
            overrides[_address(host)] = int(count)
    explicit = config.explicit
    protected = config.inter_broker_listener_name if len(config.listeners) > 1 else None
    return ConnectionLimits(
        request_bytes_max=config["socket.request.max.bytes"],
        idle_ms=config["connections.max.idle.ms"],
        connections_max=config["max.connections"],
        per_address_max=config["max.connections.per.ip"],
        per_address_overrides=overrides,
        send_buffer_bytes=config["socket.send.buffer.bytes"] if "socket.send.buffer.bytes" in explicit else -1,
        receive_buffer_bytes=(
            config["socket.receive.buffer.bytes"] if "socket.receive.buffer.bytes" in explicit else -1
        ),
        protected_listener=protected,
        serves_controllers=not config.embedded,
    )


def _address(host: str) -> str:
    """A host of max.connections.per.ip.overrides, as `Connection.peer_host` spells addresses."""
    try:
        return str(socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)[0][4][0])
    except socket.gaierror as error:
        log.warning("max.connections.per.ip.overrides: %s has no effect: %s", host, error.strerror)
        return host


def front_end_main(context: FrontEndContext) -> int:
    """Entry point, called by the supervisor's composition root after the fork."""
    return FrontEnd(context).run()
