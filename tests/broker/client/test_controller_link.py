"""The link to the controller process: answers in any order, ids that are nobody else's, own requests marked."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
import trio
import trio.testing

from broker.client.controller_link import OWN_REQUESTS, ControllerLink, ControllerUnavailableError
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import (
    SIZE_PREFIX_BYTES,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    parse_request_header,
)
from broker.protocol.messages import request_class, response_class

pytestmark = pytest.mark.trio

E = ErrorCode


class ControllerProcess:
    """The other end. requests: (header, message) of what has come."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))

    async def next(self) -> tuple[Any, Any]:
        (size,) = struct.unpack(">i", await self._exactly(4))
        frame = await self._exactly(size)
        header = parse_request_header(frame, 0, size)
        return header, decode_request(header.api_key, header.api_version, frame, header.body_position, size)

    async def _exactly(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            more = await self._stream.receive_some(size - len(received))
            assert more
            received += more
        return received

    async def answer(self, header: Any, **fields: Any) -> None:
        response = response_class(header.api_key)(**fields)
        await self._stream.send_all(
            encode_response(header.api_key, header.api_version, header.correlation_id, response))

    async def die(self) -> None:
        await self._stream.aclose()


class Node:
    def __init__(self, nursery: trio.Nursery) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.link = ControllerLink(ours, nursery)
        self.controller = ControllerProcess(theirs)
        self.results: dict[Any, Any] = {}
        self._nursery = nursery

    def forward(self, correlation_id: int, client_id: str = "c") -> None:
        frame = encode_request(ApiKey.ALLOCATE_PRODUCER_IDS, 0, correlation_id, client_id,
                               request_class(ApiKey.ALLOCATE_PRODUCER_IDS)(broker_id=correlation_id))
        self._nursery.start_soon(self._keep, correlation_id, self._forwarded(frame))

    async def _forwarded(self, frame: bytes) -> tuple[int, Any]:
        answer = await self.link.forward(memoryview(frame)[SIZE_PREFIX_BYTES:])
        assert struct.unpack_from(">i", answer)[0] == len(answer) - SIZE_PREFIX_BYTES
        return decode_response(ApiKey.ALLOCATE_PRODUCER_IDS, 0, memoryview(answer), SIZE_PREFIX_BYTES, len(answer))

    def ask(self, name: str) -> None:
        message = request_class(ApiKey.ALLOCATE_PRODUCER_IDS)(broker_id=1)
        self._nursery.start_soon(self._keep, name, self.link.request(ApiKey.ALLOCATE_PRODUCER_IDS, 0, message))

    async def _keep(self, name: Any, asked: Any) -> None:
        try:
            self.results[name] = await asked
        except ControllerUnavailableError as error:
            self.results[name] = error


@pytest.fixture
def node(nursery: trio.Nursery) -> Node:
    return Node(nursery)


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked(0.01)


async def test_answers_find_their_way_in_any_order(node: Node) -> None:
    for correlation_id in (5, 5, 9):
        node.forward(correlation_id)
        await settled()
    headers = [(await node.controller.next())[0] for _ in range(3)]
    assert len({header.correlation_id for header in headers}) == 3
    for position in (2, 0, 1):
        await node.controller.answer(headers[position], producer_id_start=position)
    await settled()
    assert node.results[9] == (9, response_class(ApiKey.ALLOCATE_PRODUCER_IDS)(producer_id_start=2))
    assert node.results[5][0] == 5


async def test_own_requests_are_marked_and_others_keep_their_client_id(node: Node) -> None:
    node.forward(1, "theirs")
    await settled()
    node.ask("ours")
    assert [(await node.controller.next())[0].client_id for _ in range(2)] == ["theirs", OWN_REQUESTS]


async def test_whoever_waits_for_a_dead_process_is_told(node: Node) -> None:
    node.ask("a")
    await node.controller.next()
    await node.controller.die()
    await settled()
    assert isinstance(node.results["a"], ControllerUnavailableError)
    node.ask("b")
    await settled()
    assert isinstance(node.results["b"], ControllerUnavailableError)


async def test_a_successor_is_asked_over_the_fresh_stream(node: Node) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    node.link.replace(ours)
    successor = ControllerProcess(theirs)
    node.ask("a")
    header, _ = await successor.next()
    await successor.answer(header, producer_id_start=3000)
    await settled()
    assert node.results["a"].producer_id_start == 3000


async def test_an_answer_that_comes_too_late_harms_nobody(
        node: Node, autojump_clock: trio.testing.MockClock) -> None:
    node.ask("a")
    header, _ = await node.controller.next()
    await trio.sleep(121)
    assert isinstance(node.results["a"], ControllerUnavailableError)
    await node.controller.answer(header)
    node.ask("b")
    header, _ = await node.controller.next()
    await node.controller.answer(header, producer_id_start=1)
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert node.results["b"].producer_id_start == 1


@pytest.mark.parametrize(("code", "told"), [
    (E.NONE, E.LEADER_NOT_AVAILABLE), (E.TOPIC_ALREADY_EXISTS, E.LEADER_NOT_AVAILABLE),
    (E.NOT_CONTROLLER, E.UNKNOWN_TOPIC_OR_PARTITION), (E.INVALID_REPLICATION_FACTOR, E.INVALID_REPLICATION_FACTOR),
])  # fmt: skip
async def test_what_clients_hear_of_a_topic_being_created(node: Node, code: ErrorCode, told: ErrorCode) -> None:
    node._nursery.start_soon(node._keep, "t", node.link.auto_create(["t"]))
    header, asked = await node.controller.next()
    assert [(topic.name, topic.num_partitions) for topic in asked.topics] == [("t", -1)]
    result = response_class(ApiKey.CREATE_TOPICS).CreatableTopicResult
    await node.controller.answer(header, topics=[result(name="t", error_code=code)])
    await settled()
    assert node.results["t"] == {"t": told}
