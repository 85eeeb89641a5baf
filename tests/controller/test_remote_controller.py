"""Own requests to the node that leads: versions negotiated, one connection, every call answered."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import decode_request, encode_response, parse_request_header
from broker.protocol.messages import message_class, request_class, response_class
from controller.cluster import Endpoint
from controller.frame_stream import FrameStream
from controller.remote_controller import RemoteController
from controller.request_server import ApiCall

pytestmark = pytest.mark.trio

E = ErrorCode
REQUEST_TIMEOUT_S = 30
NEW = {ApiKey.API_VERSIONS: (0, 4), ApiKey.CREATE_TOPICS: (0, 7), ApiKey.ALLOCATE_PRODUCER_IDS: (0, 0)}


class Controller:
    """A broker that leads. asked: (key, version, client id, message). ranges: what ApiVersions answers."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.asked: list[tuple[ApiKey, int, str | None, Any]] = []
        self.ranges: dict[ApiKey, tuple[int, int]] = dict(NEW)
        self.connections: list[FrameStream] = []
        self.refusals = 0
        self.answer: Callable[[ApiKey], Any] = lambda key: response_class(key)()

    async def connect(self) -> trio.abc.Stream:
        if self.refusals:
            self.refusals -= 1
            raise ConnectionRefusedError("not yet")
        ours, theirs = trio.testing.memory_stream_pair()
        stream = FrameStream(theirs)
        self.connections.append(stream)
        self._nursery.start_soon(self._serve, stream)
        await trio.lowlevel.checkpoint()
        return ours

    def close(self) -> None:
        pass

    async def _serve(self, stream: FrameStream) -> None:
        while (frame := await _next(stream)) is not None:
            header = parse_request_header(frame, 0, len(frame))
            key = ApiKey(header.api_key)
            message = decode_request(key, header.api_version, frame, header.body_position, len(frame))
            self.asked.append((key, header.api_version, header.client_id, message))
            response = self._versions() if key is ApiKey.API_VERSIONS else self.answer(key)
            if response is not None:
                await stream.send(encode_response(key, header.api_version, header.correlation_id, response))

    def _versions(self) -> Any:
        response = message_class("ApiVersionsResponse")
        return response(api_keys=[response.ApiVersion(api_key=key, min_version=low, max_version=high)
                                  for key, (low, high) in self.ranges.items()])


async def _next(stream: FrameStream) -> memoryview | None:
    try:
        return await stream.receive()
    except (trio.ClosedResourceError, trio.BrokenResourceError):
        return None


class Node:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.controllers: dict[tuple[int, str], Controller] = {}
        self._nursery = nursery
        self.remote = RemoteController(nursery, 5, self._transport_to, REQUEST_TIMEOUT_S, 3)

    def _transport_to(self, broker_id: int, endpoint: Endpoint) -> Controller:
        return self.controller(broker_id, endpoint.host)

    def controller(self, broker_id: int = 2, host: str = "host2") -> Controller:
        return self.controllers.setdefault((broker_id, host), Controller(self._nursery))

    def forward(self, key: ApiKey, version: int, broker_id: int = 2, host: str = "host2",
                message: Any = None) -> ApiCall:
        call = ApiCall(key, version, 1, message or request_class(key)(), is_own=True)
        self.remote.forward(call, broker_id, Endpoint("PLAINTEXT", "PLAINTEXT", host, 9092))
        return call


@pytest.fixture
def node(nursery: trio.Nursery) -> Node:
    return Node(nursery)


def creation() -> Any:
    create = request_class(ApiKey.CREATE_TOPICS)
    return create(topics=[create.CreatableTopic(name="t", num_partitions=-1, replication_factor=-1)])


async def test_a_call_is_answered_with_what_the_controller_answers(
        node: Node, autojump_clock: trio.testing.MockClock) -> None:
    node.controller().answer = lambda key: response_class(key)(producer_id_start=7000, producer_id_len=1000)
    call = node.forward(ApiKey.ALLOCATE_PRODUCER_IDS, 0)
    await trio.sleep(1)
    assert call.response.producer_id_start == 7000
    assert [(key, version, client) for key, version, client, _ in node.controller().asked] == [
        (ApiKey.API_VERSIONS, 0, "5"), (ApiKey.ALLOCATE_PRODUCER_IDS, 0, "5")]


@pytest.mark.parametrize(("newest", "spoken"), [(7, 7), (5, 5), (4, 4)])
async def test_an_older_controller_is_asked_in_its_version(
        node: Node, newest: int, spoken: int, autojump_clock: trio.testing.MockClock) -> None:
    node.controller().ranges[ApiKey.CREATE_TOPICS] = (0, newest)
    call = node.forward(ApiKey.CREATE_TOPICS, 7, message=creation())
    await trio.sleep(1)
    key, version, _, message = node.controller().asked[-1]
    assert (key, version, message.topics[0].name) == (ApiKey.CREATE_TOPICS, spoken, "t")
    call.frame()


async def test_a_controller_that_cannot_be_asked_is_asked_nothing(
        node: Node, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock) -> None:
    """Before version 4 CreateTopics knows no defaults of the broker."""
    node.controller().ranges = {ApiKey.CREATE_TOPICS: (0, 3)}
    calls = [node.forward(ApiKey.CREATE_TOPICS, 7, message=creation()),
             node.forward(ApiKey.ALLOCATE_PRODUCER_IDS, 0)]
    await trio.sleep(1)
    assert calls[0].response.topics[0].error_code == E.NOT_CONTROLLER
    assert calls[1].response.error_code == E.NOT_CONTROLLER
    assert [key for key, *_ in node.controller().asked] == [ApiKey.API_VERSIONS]
    assert "it serves versions 0 to 3, not 4 to 7" in caplog.text


async def test_controlled_shutdown_goes_in_the_version_of_the_inter_broker_protocol(
        node: Node, autojump_clock: trio.testing.MockClock) -> None:
    node.forward(ApiKey.CONTROLLED_SHUTDOWN, 3)
    await trio.sleep(1)
    assert [(key, version) for key, version, _, _ in node.controller().asked] == [(ApiKey.CONTROLLED_SHUTDOWN, 3)]


async def test_one_connection_serves_until_the_controller_changes(
        node: Node, autojump_clock: trio.testing.MockClock) -> None:
    for broker_id, host in ((2, "host2"), (2, "host2"), (3, "host3"), (3, "moved")):
        node.forward(ApiKey.ALLOCATE_PRODUCER_IDS, 0, broker_id, host)
        await trio.sleep(1)
    assert [len(node.controller(*where).connections) for where in ((2, "host2"), (3, "host3"), (3, "moved"))] == [
        1, 1, 1]


async def test_a_connection_that_was_closed_meanwhile_is_made_again(
        node: Node, autojump_clock: trio.testing.MockClock) -> None:
    node.forward(ApiKey.ALLOCATE_PRODUCER_IDS, 0)
    await trio.sleep(1)
    await node.controller().connections[0].aclose()
    call = node.forward(ApiKey.ALLOCATE_PRODUCER_IDS, 0)
    await trio.sleep(1)
    assert call.response.error_code == E.NONE
    assert len(node.controller().connections) == 2


async def test_a_controller_that_cannot_be_reached(
        node: Node, autojump_clock: trio.testing.MockClock) -> None:
    node.controller().refusals = 2
    calls = [node.forward(ApiKey.ALLOCATE_PRODUCER_IDS, 0) for _ in range(2)]
    await trio.sleep(1)
    assert [call.response.error_code for call in calls] == [E.NOT_CONTROLLER, E.NONE]


async def test_a_controller_that_does_not_answer(
        node: Node, autojump_clock: trio.testing.MockClock) -> None:
    node.controller().answer = lambda key: None
    call = node.forward(ApiKey.ALLOCATE_PRODUCER_IDS, 0)
    await trio.sleep(2 * REQUEST_TIMEOUT_S + 1)
    assert call.response.error_code == E.NOT_CONTROLLER
    assert len(node.controller().connections) == 2
