"""A node around a real controller process: the supervisor's and the front end's side, in the test (trio).

`Node` starts `run_controller` in a process of its own, speaks its control messages, and answers what it
sends over the streams as a front end would.
"""
from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import (
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    parse_request_header,
)
from broker.protocol.messages import message_class, response_class
from controller.frame_stream import FrameStream
from storage.ipc.control import ControlClosedError, ControlSocket

WAIT_SECONDS_MAX = 20


def answer_of_a_good_broker(api_key: int, request: Any) -> Any:
    """Success for everything in the request."""
    response = response_class(api_key)()
    if api_key == ApiKey.LEADER_AND_ISR:
        response.topics = [
            response.LeaderAndIsrTopicError(topic_id=bytes(topic.topic_id), partition_errors=[
                response.LeaderAndIsrPartitionError(partition_index=state.partition_index)
                for state in topic.partition_states])
            for topic in request.topic_states]
    elif api_key == ApiKey.STOP_REPLICA:
        response.partition_errors = [
            response.StopReplicaPartitionError(topic_name=topic.topic_name, partition_index=state.partition_index)
            for topic in request.topic_states for state in topic.partition_states]
    elif api_key == ApiKey.ALTER_CONFIGS:
        response.responses = [
            response.AlterConfigsResourceResponse(resource_type=resource.resource_type, error_message=None,
                                                  resource_name=resource.resource_name)
            for resource in request.resources]
    return response


class FakeFrontEnd:
    """requests: (api key, message) in order of arrival. answer: replace to answer otherwise, None = never."""

    def __init__(self) -> None:
        self.requests: list[tuple[ApiKey, Any]] = []
        self.answer: Callable[[int, Any], Any] = answer_of_a_good_broker
        self._arrived = trio.Event()
        self._calls: FrameStream | None = None
        self._correlation_id = 0
        self._streams: tuple[FrameStream, ...] = ()

    def streams(self, requests: socket.socket, calls: socket.socket) -> None:
        """requests: from the controller; calls: to it."""
        for sock in (requests, calls):
            sock.setblocking(False)
        self.attach(*(FrameStream(trio.SocketStream(trio.socket.from_stdlib_socket(sock)))
                      for sock in (requests, calls)))

    def attach(self, requests: FrameStream, calls: FrameStream | None = None) -> None:
        self._streams = (requests,) if calls is None else (requests, calls)
        self._calls = calls

    async def run(self) -> None:
        stream = self._streams[0]
        try:
            while (frame := await stream.receive()) is not None:
                header = parse_request_header(frame, 0, len(frame))
                request = decode_request(header.api_key, header.api_version, frame, header.body_position,
                                         len(frame))
                self.requests.append((ApiKey(header.api_key), request))
                self._arrived.set()
                response = self.answer(header.api_key, request)
                if response is not None:
                    await stream.send(encode_response(header.api_key, header.api_version,
                                                      header.correlation_id, response))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def die(self) -> None:
        for stream in self._streams:
            await trio.aclose_forcefully(stream)

    async def wait_for(self, wanted: Callable[[ApiKey, Any], bool]) -> tuple[ApiKey, Any]:
        """The first request that fits, now or later."""
        with trio.fail_after(WAIT_SECONDS_MAX):
            while True:
                for key, request in self.requests:
                    if wanted(key, request):
                        return key, request
                self._arrived = trio.Event()
                await self._arrived.wait()

    async def send(self, api_key: ApiKey, version: int, request: Any, client_id: str = "a client") -> int:
        assert self._calls is not None
        self._correlation_id += 1
        await self._calls.send(encode_request(api_key, version, self._correlation_id, client_id, request))
        return self._correlation_id

    async def receive(self, api_key: ApiKey, version: int) -> tuple[int, Any]:
        assert self._calls is not None
        with trio.fail_after(WAIT_SECONDS_MAX):
            frame = await self._calls.receive()
        assert frame is not None
        return decode_response(api_key, version, frame, 0, len(frame))

    async def call(self, api_key: ApiKey, version: int, request: Any) -> Any:
        sent = await self.send(api_key, version, request)
        answered, response = await self.receive(api_key, version)
        assert answered == sent
        return response

    async def create_topic(self, name: str, partitions: int = 1, configs: dict[str, str] | None = None,
                           timeout_ms: int = 10_000) -> Any:
        """The topic's result."""
        request = message_class("CreateTopicsRequest")
        response = await self.call(ApiKey.CREATE_TOPICS, 7, request(timeout_ms=timeout_ms, topics=[
            request.CreatableTopic(name=name, num_partitions=partitions, replication_factor=1, configs=[
                request.CreatableTopicConfig(name=key, value=value)
                for key, value in (configs or {}).items()])]))
        return response.topics[0]

    async def delete_topic(self, name: str, timeout_ms: int = 10_000) -> Any:
        request = message_class("DeleteTopicsRequest")
        response = await self.call(ApiKey.DELETE_TOPICS, 6, request(timeout_ms=timeout_ms, topics=[
            request.DeleteTopicState(name=name)]))
        return response.responses[0]


class Node:
    """The controller process and its surroundings. Use `start_node`."""

    def __init__(self, properties: dict[str, str], nursery: trio.Nursery,
                 ports: dict[str, int] | None = None) -> None:
        self.properties = properties
        self.ports = ports or {}
        self.session: dict[str, Any] = {}
        self.identity: dict[str, Any] = {}
        self.front_end = FakeFrontEnd()
        self.broker_epoch = -1
        self._nursery = nursery
        self._control: ControlSocket | None = None
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self, front_end: FakeFrontEnd | None = None) -> None:
        """Fork the controller and wait for its identity."""
        self.front_end = front_end or FakeFrontEnd()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        requests, to_broker = socket.socketpair()
        calls, from_broker = socket.socketpair()
        given = {"properties": self.properties, "session": self.session, "control": theirs.fileno(),
                 "to_broker": to_broker.fileno(), "from_broker": from_broker.fileno()}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.controller.run_controller", json.dumps(given)],
            pass_fds=[theirs.fileno(), to_broker.fileno(), from_broker.fileno()])
        for sock in (theirs, to_broker, from_broker):
            sock.close()
        self._control = ControlSocket(ours)
        self.front_end.streams(requests, calls)
        self._nursery.start_soon(self.front_end.run)
        session = await self.message("session")
        self.session = {"id": session["id"], "password": session["password"].hex()}
        self.identity = await self.message("identity")

    async def register(self, resume: bool = False) -> int:
        self.control({"kind": "register", "resume": resume, "broker_epoch": self.broker_epoch,
                      "ports": self.ports})
        self.broker_epoch = (await self.message("registered"))["broker_epoch"]
        return self.broker_epoch

    async def restart_front_end(self) -> FakeFrontEnd:
        """Kill the front end and give the controller the streams of a new one."""
        await self.front_end.die()
        front_end = self.front_end = FakeFrontEnd()
        requests, to_broker = socket.socketpair()
        calls, from_broker = socket.socketpair()
        front_end.streams(requests, calls)
        self._nursery.start_soon(front_end.run)
        assert self._control is not None
        self._control.send({"kind": "front_end_restarted", "ports": self.ports},
                           [to_broker.fileno(), from_broker.fileno()])
        to_broker.close()
        from_broker.close()
        self.broker_epoch = (await self.message("registered"))["broker_epoch"]
        return front_end

    def control(self, message: dict[str, Any]) -> None:
        assert self._control is not None
        self._control.send(message)

    async def message(self, kind: str) -> dict[str, Any]:
        assert self._control is not None
        with trio.fail_after(WAIT_SECONDS_MAX):
            while (received := self._control.receive_nowait()) is None:
                await trio.lowlevel.wait_readable(self._control.fileno())
        message, _ = received
        assert message["kind"] == kind, message
        return message

    async def stop(self) -> int:
        self.control({"kind": "stop"})
        return await self.exit_code()

    async def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.exit_code()

    async def exit_code(self) -> int:
        assert self.process is not None and self._control is not None
        with trio.fail_after(WAIT_SECONDS_MAX):
            try:
                while self._control.receive_nowait() is not None:
                    pass
                await trio.lowlevel.wait_readable(self._control.fileno())
                while self._control.receive_nowait() is not None:
                    await trio.lowlevel.wait_readable(self._control.fileno())
            except ControlClosedError:
                pass
            code = await trio.to_thread.run_sync(self.process.wait)
        self._control.close()
        await self.front_end.die()
        self.process = None
        return code


@asynccontextmanager
async def start_node(properties: dict[str, str], ports: dict[str, int] | None = None) -> AsyncIterator[Node]:
    """A started and registered node, killed at the end if it still runs."""
    async with trio.open_nursery() as nursery:
        node = Node(properties, nursery, ports)
        try:
            await node.start()
            await node.register()
            yield node
        finally:
            if node.process is not None:
                node.process.kill()
                node.process.wait()
            nursery.cancel_scope.cancel()


def codes(results: list[Any]) -> list[ErrorCode]:
    return [ErrorCode(result.error_code) for result in results]
