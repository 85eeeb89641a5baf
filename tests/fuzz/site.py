"""The real front end as tasks of the test: connections over socket pairs, fake storage, a fake controller.

Why the whole `FrontEnd` and not a dispatcher with stand-ins: what a client's bytes can reach is exactly what
is under test, down to the rings. The controller's end uses the controller's own stream server, which closes
the stream on anything malformed: a client must not be able to bring that about.
Runs in: the test process, on a virtual clock. Owner: the test.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
import trio.testing

from broker import front_end as front_end_module
from broker.config import load_config
from broker.front_end import FrontEnd
from broker.network.connection import Connection
from broker.protocol.api_keys import ApiKey
from broker.protocol.messages import request_class, response_class
from controller.request_server import ApiCall, serve
from storage.helpers.main import answer_request
from storage.ipc.contexts import FrontEndContext, StorageLink
from storage.ipc.control import ControlSocket
from storage.ipc.layout import ControlLayout
from storage.ipc.region import Region, create_control_region
from tests.broker.network.harness import Peer
from tests.fuzz.fake_storage import FakeStorage
from tests.fuzz.inputs import PARTITION_COUNT, TOPIC, TOPIC_ID
from tests.fuzz.wire import call

NEVER_S = 1e12
BROKER_ID = 0
MIB = 1 << 20
REQUEST_BYTES_MAX = 2 * MIB
ARENA_BYTES = 512 * MIB


class Lines(logging.Handler):
    """What an operator would see, and who was closed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.closings: list[str] = []
        self.complaints: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith("Closing connection from"):
            self.closings.append(text)
        if record.levelno >= logging.ERROR:
            self.complaints.append(f"{text} {record.exc_info}")


class Site:
    """Made by `running_site`."""

    def __init__(self, nursery: trio.Nursery, directory: Path, budget_bytes: int, seed: int) -> None:
        self.nursery = nursery
        self.lines = Lines()
        layout = ControlLayout(1)
        control_region = create_control_region(layout)
        arena_region = Region.create("arena", ARENA_BYTES)
        theirs, dialog = ControlSocket.pair()
        self._control, control = ControlSocket.pair()
        self._closables: list[Any] = [control_region, arena_region, theirs, dialog, self._control, control]
        self.storage = FakeStorage(directory, layout, control_region, arena_region, dialog, seed)
        doorbells = self.storage.begin(nursery)
        self._closables.append(doorbells)
        self._requests, to_controller = socket.socketpair()
        self._controller, from_controller = socket.socketpair()
        self._closables += [self._requests, to_controller, self._controller, from_controller]
        self._taken_over = trio.Event()
        self.front_end = FrontEnd(FrontEndContext(
            config=_config(directory), control=control,
            storages=[StorageLink(0, str(directory), theirs, doorbells, self.storage.generation)],
            layout=layout, control_region=control_region, arena_region=arena_region, listeners=[],
            to_controller=to_controller, from_controller=from_controller, broker_id=BROKER_ID,
            cluster_id="fuzz-cluster", request_size_bytes_max=REQUEST_BYTES_MAX,
            arena_budget_bytes=budget_bytes, arena_reserve_bytes=budget_bytes // 8,
        ))  # fmt: skip

    def let_go(self) -> None:
        """Every descriptor, so that thousands of sites fit one run."""
        for partition in self.front_end._registry:
            self.front_end._log_dirs.segments.forget(partition)
        for closable in self._closables:
            closable.close()

    @property
    def connections(self) -> set[Connection]:
        return self.front_end._server.connections

    def connect(self) -> Peer:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.front_end._server.accepted(ours, "PLAINTEXT")
        return Peer(theirs)

    # The rest of the node

    async def start(self) -> None:
        """As the supervisor and the controller do it, until the topic can be used."""
        for task in (
            self.front_end._main, self.storage.answer_questions, self._supervise, self._serve_requests,
        ):  # fmt: skip
            self.nursery.start_soon(task)
        await trio.testing.wait_all_tasks_blocked()
        self._control.send({"kind": "accept", "broker_epoch": 1})
        peer = Peer(self._controller)
        await call(peer, ApiKey.LEADER_AND_ISR, 7, _leader_and_isr())
        await call(peer, ApiKey.UPDATE_METADATA, 8, _update_metadata())

    async def _supervise(self) -> None:
        """Answers what the front end asks of the supervisor."""
        while True:
            await trio.lowlevel.wait_readable(self._control.fileno())
            while (received := self._control.receive_nowait()) is not None:
                kind = received[0]["kind"]
                if kind == "taken_over":
                    self._taken_over.set()
                elif kind == "helper_wanted":
                    self._fork_helper()

    def _fork_helper(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.nursery.start_soon(_help, ControlSocket(ours))
        self._control.send({"kind": "helper", "purpose": "", "pid": os.getpid()}, [theirs.fileno()])
        theirs.close()

    async def _serve_requests(self) -> None:
        """The controller process, with answers that say nothing."""
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(self._requests))
        await serve(stream, _answer)
        raise AssertionError("a client has brought the controller to close its stream")

    async def kill_storage(self) -> None:
        """It dies and is back; the controller says nothing, the front end opens the partitions again."""
        self.storage.die()
        self._taken_over = trio.Event()
        self._control.send({"kind": "storage_died", "index": 0})
        await self._taken_over.wait()
        doorbells = self.storage.begin(self.nursery)
        self._control.send(
            {"kind": "storage_started", "index": 0, "generation": self.storage.generation}, doorbells.fds()
        )
        doorbells.close()

    async def close(self) -> None:
        """All clients go; then no byte of the arena may be in use."""
        self.front_end._server.close_all()
        await trio.sleep(10)
        arena = self.front_end._arena
        assert (arena.used_bytes, arena.reserve_used_bytes) == (0, 0), "a slab leaks"
        assert not self.connections
        assert self.front_end._log_dirs.links[0].in_flight_count == 0
        assert len(self.front_end._purgatory) == 0
        assert self.lines.complaints == []


@asynccontextmanager
async def running_site(directory: Path, budget_bytes: int = 64 * MIB, seed: int = 0) -> AsyncIterator[Site]:
    """Needs a clock that jumps. No timer of the front end runs for ever on it."""
    front_end_module.SLOW_TIMER_S = NEVER_S
    root = logging.getLogger()
    async with trio.open_nursery() as nursery:
        site = Site(nursery, directory, budget_bytes, seed)
        root.addHandler(site.lines)
        trio.lowlevel.add_instrument(site.front_end._flusher)
        try:
            await site.start()
            yield site
            await site.close()
        finally:
            trio.lowlevel.remove_instrument(site.front_end._flusher)
            root.removeHandler(site.lines)
        nursery.cancel_scope.cancel()
    site.let_go()


def _config(directory: Path) -> Any:
    path = directory / "server.properties"
    path.write_text(
        f"broker.id={BROKER_ID}\nlog.dirs={directory}\nlisteners=PLAINTEXT://127.0.0.1:0\n"
        f"socket.request.max.bytes={REQUEST_BYTES_MAX}\nconnections.max.idle.ms=-1\n"
    )
    return load_config(str(path))


async def _help(control: ControlSocket) -> None:
    """A helper process, without the process."""
    while True:
        await trio.lowlevel.wait_readable(control.fileno())
        received = control.receive_nowait()
        if received is not None:
            message, fds = received
            result = answer_request(message, fds)
            for fd in fds:
                os.close(fd)
            control.send({"kind": "answer", "request_id": message.get("request_id"), "result": result})


def _answer(request: ApiCall) -> None:
    response = response_class(request.api_key)()
    if request.api_key == ApiKey.ALLOCATE_PRODUCER_IDS:
        response.producer_id_len = 1000
    request.answer(response)


def _leader_and_isr() -> Any:
    request = request_class(ApiKey.LEADER_AND_ISR)
    states = [
        request.LeaderAndIsrPartitionState(
            partition_index=number, controller_epoch=1, leader=BROKER_ID, leader_epoch=1, isr=[BROKER_ID],
            partition_epoch=0, replicas=[BROKER_ID], is_new=True,
        )
        for number in range(PARTITION_COUNT)
    ]  # fmt: skip
    topic = request.LeaderAndIsrTopicState(topic_name=TOPIC, topic_id=TOPIC_ID, partition_states=states)
    return request(controller_id=BROKER_ID, controller_epoch=1, broker_epoch=1, topic_states=[topic])


def _update_metadata() -> Any:
    request = request_class(ApiKey.UPDATE_METADATA)
    states = [
        request.UpdateMetadataPartitionState(
            partition_index=number, controller_epoch=1, leader=BROKER_ID, leader_epoch=1, isr=[BROKER_ID],
            zk_version=0, replicas=[BROKER_ID], offline_replicas=[],
        )
        for number in range(PARTITION_COUNT)
    ]  # fmt: skip
    topic = request.UpdateMetadataTopicState(topic_name=TOPIC, topic_id=TOPIC_ID, partition_states=states)
    endpoint = request.UpdateMetadataEndpoint(
        host="127.0.0.1", port=9092, listener="PLAINTEXT", security_protocol=0
    )
    broker = request.UpdateMetadataBroker(id=BROKER_ID, rack=None, endpoints=[endpoint])
    return request(
        controller_id=BROKER_ID, controller_epoch=1, broker_epoch=1, topic_states=[topic], live_brokers=[broker]
    )
