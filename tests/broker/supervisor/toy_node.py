"""A node of toy processes under the real supervisor: they keep the message contract and do nothing else.

Run as `python -m tests.broker.supervisor.toy_node OPTIONS_JSON`. Every process appends what it sees to the
trace file, one JSON object a line. The front end obeys commands on its TCP port, one JSON object a line.
"""
from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NamedTuple

from broker.supervisor.children import open_descriptors
from broker.supervisor.composition import Composition
from broker.supervisor.node import run_node
from storage.ipc.contexts import ControllerContext, Doorbells, FrontEndContext, StorageContext
from storage.ipc.control import ControlClosedError, ControlSocket

POISON = 666
"""arg0 of an append that kills the toy storage process."""


class ToyListener(NamedTuple):
    name: str
    security_protocol: str
    host: str
    port: int


class ToyConfig:
    """The few keys that the supervisor reads, and the options of the test."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.log_dirs: list[str] = options["log_dirs"]
        self.listeners = [ToyListener("PLAINTEXT", "PLAINTEXT", "127.0.0.1", options.get("port", 0))]
        self.explicit: dict[str, str] = {}
        self._values = {
            "socket.listen.backlog.size": 50, "socket.request.max.bytes": 104857600,
            "ottla.arena.max.bytes": 256 << 20, "num.recovery.threads.per.data.dir": 1,
            "log.cleaner.enable": True, "log.cleaner.threads": 1,
        }

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def trace(self, process: str, event: str, **more: Any) -> None:
        line = json.dumps({"process": process, "pid": os.getpid(), "event": event} | more) + "\n"
        fd = os.open(self.options["trace"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, line.encode())
        os.close(fd)


def fd_names() -> list[str]:
    """What the descriptors of this process are, those of stdio excepted."""
    return sorted(_fd_name(fd) for fd in open_descriptors() if fd > 2)


def _fd_name(fd: int) -> str:
    try:
        name = os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return "gone"
    if name.startswith("socket:"):
        sock = socket.socket(fileno=os.dup(fd))
        with sock:
            return f"{sock.family.name} {sock.type.name}"
    return name.split(" (deleted)")[0]


def controller_main(context: ControllerContext) -> int:
    config: ToyConfig = context.config
    trace = config.trace
    trace("controller", "started", session=context.session, fds=fd_names())
    if "controller_fails" in config.options:
        context.control.send({"kind": "failed", "why": config.options["controller_fails"]})
        return 1
    context.control.send({"kind": "identity", "cluster_id": "toy-cluster", "broker_id": 7})
    epoch = context.session.get("epoch", 100)
    context.control.send({"kind": "session", "epoch": epoch})
    answers = context.from_broker
    poller = select.poll()
    poller.register(context.control, select.POLLIN)
    poller.register(answers, select.POLLIN)
    while True:
        for fd, _ in poller.poll():
            if fd == answers.fileno():
                data = answers.recv(1000)
                if not data:
                    trace("controller", "stream closed")
                    poller.unregister(answers)
                    continue
                answers.send(b"controller saw " + data)
        received = context.control.receive_nowait()
        if received is None:
            continue
        message, fds = received
        trace("controller", message["kind"], message=message)
        match message["kind"]:
            case "register":
                context.control.send({"kind": "registered", "broker_epoch": epoch})
            case "front_end_restarted":
                answers = socket.socket(fileno=fds[1])
                poller.register(answers, select.POLLIN)
                epoch += 1
                context.control.send({"kind": "session", "epoch": epoch})
                context.control.send({"kind": "registered", "broker_epoch": epoch})
            case "stop":
                return 0


def storage_main(context: StorageContext) -> int:
    config: ToyConfig = context.config
    name = f"storage {context.index}"
    config.trace(name, "started", generation=context.generation, restarted=context.restarted,
                 quarantined=context.quarantined, cluster=context.cluster_id, broker=context.broker_id,
                 fds=fd_names())
    behaviour = config.options.get("storage", {}).get(str(context.index), {})
    if "offline_at_start" in behaviour:
        context.control.send({"kind": "offline", "why": behaviour["offline_at_start"]})
        return 0
    if "failed" in behaviour:
        context.control.send({"kind": "failed", "why": behaviour["failed"]})
        return 1
    if behaviour.get("crash_at_start"):
        os.abort()
    if behaviour.get("want_helper"):
        context.control.send({"kind": "helper_wanted", "purpose": "toy"})
    context.control.send({"kind": "progress", "done": 1, "total": 2})
    context.control.send({"kind": "loaded"})
    return ToyStorage(context, name, behaviour).run()


class ToyStorage:
    def __init__(self, context: StorageContext, name: str, behaviour: dict[str, Any]) -> None:
        self.context, self.name, self.behaviour = context, name, behaviour
        self.trace = context.config.trace
        self.link = context.link()
        self.consumer: Any = None
        self.helper: ControlSocket | None = None
        self.consumer, self.producer = context.open_rings()

    def run(self) -> int:
        while True:
            poller = select.poll()
            poller.register(self.context.control, select.POLLIN)
            if self.consumer is not None:
                poller.register(self.consumer.fileno(), select.POLLIN)
            poller.poll()
            if self.consumer is not None:
                self.serve()
            received = self.context.control.receive_nowait()
            if received is not None and self.obey(*received):
                return 0

    def serve(self) -> None:
        for entry in self.consumer.take():
            self.link.publish_working_slot(entry[3], entry[4])
            if entry[10] == POISON:
                os.abort()
            self.producer.put(entry[0], 0, 0, entry[3], entry[4], 0, entry[6], 0, 0, 0, 0, -1, -1, 0, 0, 0)
        self.link.clear_working_slot()
        self.producer.flush()

    def obey(self, message: dict[str, Any], fds: list[int]) -> bool:
        self.trace(self.name, message["kind"], message=message)
        match message["kind"]:
            case "front_end_died":
                self.consumer = None
                if not self.behaviour.get("never_drains"):
                    self.context.control.send({"kind": "drained", "generation": message["generation"]})
            case "front_end_started":
                doorbells = Doorbells.from_fds(fds)
                self.consumer, self.producer = self.context.open_rings_of(doorbells, message["generation"])
            case "helper":
                self.helper = ControlSocket(socket.socket(fileno=fds[0]))
            case "stop":
                if self.behaviour.get("never_stops"):
                    return False
                for done in range(3):
                    self.context.control.send({"kind": "progress", "done": done, "total": 3})
                return True
        return False


def front_end_main(context: FrontEndContext) -> int:
    context.config.trace("front end", "started", restarted=context.restarted, fds=fd_names(),
                         port=context.listeners[0][1].getsockname()[1])
    front_end = ToyFrontEnd(context)
    context.control.send({"kind": "ready"})
    return front_end.run()


class ToyFrontEnd:
    def __init__(self, context: FrontEndContext) -> None:
        self.context = context
        self.trace = context.config.trace
        self.rings = {link.index: context.open_rings(link.index, link.doorbells, link.generation)
                      for link in context.storages if link.online}
        self.to_controller = context.to_controller
        self.clients: list[socket.socket] = []
        self.next_request_id = 1
        self.waiting: dict[int, int] = {}
        self.answers: list[str] = []

    def run(self) -> int:
        listening = self.context.listeners[0][1]
        while True:
            poller = select.poll()
            for thing in (self.context.control, listening, *self.clients):
                poller.register(thing, select.POLLIN)
            for _, consumer in self.rings.values():
                poller.register(consumer.fileno(), select.POLLIN)
            ready = {fd for fd, _ in poller.poll()}
            if listening.fileno() in ready:
                self.clients.append(listening.accept()[0])
                self.clients[-1].setblocking(True)
            for index in list(self.rings):
                self.complete(index, self.rings[index][1].take())
            received = self.context.control.receive_nowait()
            if received is not None and self.obey(*received):
                return 0
            for client in [client for client in self.clients if client.fileno() in ready]:
                self.serve(client)

    def complete(self, index: int, completions: list[Any]) -> None:
        for completion in completions:
            if self.waiting.pop(completion[6]) == index:
                self.answers.append("done")

    def serve(self, client: socket.socket) -> None:
        line = client.recv(10000)
        if not line:
            self.clients.remove(client)
            client.close()
            return
        command = json.loads(line)
        match command["do"]:
            case "append":
                self.append(command)
                client.send(b"submitted\n")
            case "answers":
                client.send((json.dumps(self.answers) + "\n").encode())
            case "ask controller":
                self.to_controller.send(b"hello")
                self.to_controller.settimeout(5)
                client.send(self.to_controller.recv(1000) + b"\n")

    def append(self, command: dict[str, Any]) -> None:
        producer, _ = self.rings[command["storage"]]
        request_id = self.next_request_id
        self.next_request_id += 1
        self.waiting[request_id] = command["storage"]
        producer.put(1, 0, 0, command["slot"], 1, 0, request_id, 0, 0, 0, command.get("arg0", 0))
        producer.flush()

    def obey(self, message: dict[str, Any], fds: list[int]) -> bool:
        self.trace("front end", message["kind"], message=message)
        match message["kind"]:
            case "storage_died":
                self.take_over(message["index"])
            case "storage_started":
                rings = self.context.open_rings(message["index"], Doorbells.from_fds(fds), message["generation"])
                self.rings[message["index"]] = rings
            case "controller_restarted":
                self.to_controller = socket.socket(fileno=fds[0])
            case "stop":
                if self.context.config.options.get("front_end_never_stops"):
                    return False
                self.context.control.send({"kind": "stopped"})
                return True
        return False

    def take_over(self, index: int) -> None:
        if self.context.config.options.get("front_end_never_takes_over"):
            return
        _, consumer = self.rings.pop(index)
        self.complete(index, consumer.take_over())
        lost = [request_id for request_id, storage in self.waiting.items() if storage == index]
        for request_id in lost:
            del self.waiting[request_id]
            self.answers.append("failed")
        self.context.control.send({"kind": "taken_over", "index": index})


def helper_main(sock: socket.socket) -> int:
    control = ControlSocket(sock)
    poller = select.poll()
    poller.register(control, select.POLLIN)
    trace_path = os.environ["TOY_TRACE"]
    Path(trace_path + ".helper").write_text(str(os.getpid()))
    while True:
        poller.poll()
        try:
            control.receive_nowait()
        except ControlClosedError:
            return 0


def main() -> int:
    options = json.loads(sys.argv[1])
    os.environ["TOY_TRACE"] = options["trace"]
    if options.get("ignore_sigint"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    composition = Composition(front_end_main, storage_main, controller_main, helper_main, lambda: None)
    return run_node(ToyConfig(options), composition)


if __name__ == "__main__":
    sys.exit(main())
