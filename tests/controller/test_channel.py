"""Channels: one request in flight, in order, tried again until the broker is gone; held back without a lease."""
from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from broker.protocol.api_keys import ApiKey
from broker.protocol.frames import encode_response, parse_request_header
from broker.protocol.messages import message_class
from controller.channel import (
    RETRY_BACKOFF_SECONDS,
    BrokerChannel,
    BrokerGoneError,
    Channels,
    OwnFrontEnd,
    TcpBroker,
)
from controller.frame_stream import FrameStream
from controller.request_batch import BrokerRequest, alter_configs_request

pytestmark = pytest.mark.trio

REQUEST_TIMEOUT_S = 30


def request(epoch: int) -> BrokerRequest:
    return BrokerRequest(ApiKey.UPDATE_METADATA, 8, message_class("UpdateMetadataRequest")(controller_epoch=epoch))


class Broker:
    """Accepts connections of a channel. connections: each connection's end on the broker's side."""

    def __init__(self) -> None:
        self.connections: list[FrameStream] = []
        self.refusals = 0
        self.is_gone = False

    async def connect(self) -> trio.abc.Stream:
        if self.is_gone:
            raise BrokerGoneError("stopped")
        if self.refusals:
            self.refusals -= 1
            raise ConnectionRefusedError("not yet")
        ours, theirs = trio.testing.memory_stream_pair()
        self.connections.append(FrameStream(theirs))
        await trio.lowlevel.checkpoint()
        return ours

    def close(self) -> None:
        pass

    async def receive(self) -> tuple[int, str | None, bytes]:
        """(correlation id, client id, body) of the next request on the newest connection."""
        while not self.connections:
            await trio.testing.wait_all_tasks_blocked()
        frame = await self.connections[-1].receive()
        assert frame is not None
        header = parse_request_header(frame, 0, len(frame))
        return header.correlation_id, header.client_id, bytes(frame[header.body_position:])

    async def answer(self, correlation_id: int) -> None:
        response = message_class("UpdateMetadataResponse")()
        await self.connections[-1].send(encode_response(ApiKey.UPDATE_METADATA, 8, correlation_id, response))


class Harness:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.broker = Broker()
        self.answered: list[int] = []
        self.may_send = True
        self.asked = 0
        self.channel = BrokerChannel(7, 1, self.broker, self._on_answer, self._may_send, REQUEST_TIMEOUT_S)
        nursery.start_soon(self.channel.run)

    def _may_send(self, wanted: BrokerRequest) -> bool:
        self.asked += 1
        return self.may_send

    def _on_answer(self, broker_id: int, answered: BrokerRequest, response: Any) -> None:
        assert broker_id == 7
        assert response.error_code == 0
        self.answered.append(answered.message.controller_epoch)


@pytest.fixture
def harness(nursery: trio.Nursery) -> Harness:
    return Harness(nursery)


async def test_next_request_waits_for_the_answer(harness: Harness) -> None:
    for epoch in (1, 2):
        harness.channel.enqueue(request(epoch))
    correlation_id, client_id, _ = await harness.broker.receive()
    assert client_id == "1"
    await trio.testing.wait_all_tasks_blocked()
    assert harness.answered == []
    await harness.broker.answer(correlation_id)
    second, _, _ = await harness.broker.receive()
    assert (harness.answered, second) == ([1], correlation_id + 1)


async def test_request_without_answer_is_sent_again_over_a_new_connection(
        harness: Harness, autojump_clock: trio.testing.MockClock) -> None:
    harness.channel.enqueue(request(1))
    _, _, first = await harness.broker.receive()
    await harness.broker.connections[-1].aclose()
    await trio.sleep(RETRY_BACKOFF_SECONDS * 2)
    assert len(harness.broker.connections) == 2
    correlation_id, _, again = await harness.broker.receive()
    assert again == first
    await harness.broker.answer(correlation_id)
    await trio.testing.wait_all_tasks_blocked()
    assert harness.answered == [1]


async def test_connection_is_tried_for_ever(harness: Harness, autojump_clock: trio.testing.MockClock) -> None:
    harness.broker.refusals = 50
    harness.channel.enqueue(request(1))
    await trio.sleep(RETRY_BACKOFF_SECONDS * 51)
    correlation_id, _, _ = await harness.broker.receive()
    await harness.broker.answer(correlation_id)
    await trio.testing.wait_all_tasks_blocked()
    assert harness.answered == [1]


async def test_answer_to_another_request_breaks_the_connection(
        harness: Harness, autojump_clock: trio.testing.MockClock) -> None:
    harness.channel.enqueue(request(1))
    correlation_id, _, _ = await harness.broker.receive()
    await harness.broker.answer(correlation_id + 5)
    await trio.sleep(RETRY_BACKOFF_SECONDS * 2)
    assert harness.answered == []
    assert len(harness.broker.connections) == 2


async def test_channel_ends_when_the_broker_is_gone(
        harness: Harness, autojump_clock: trio.testing.MockClock) -> None:
    harness.channel.enqueue(request(1))
    await harness.broker.receive()
    harness.broker.is_gone = True
    await harness.broker.connections[-1].aclose()
    await trio.sleep(1)
    assert harness.answered == []


async def test_request_that_is_not_answered_in_time_is_sent_again_over_a_new_connection(
        harness: Harness, autojump_clock: trio.testing.MockClock) -> None:
    harness.channel.enqueue(request(1))
    await harness.broker.receive()
    await trio.sleep(REQUEST_TIMEOUT_S - 1)
    assert len(harness.broker.connections) == 1
    await trio.sleep(2)
    assert len(harness.broker.connections) == 2
    correlation_id, _, _ = await harness.broker.receive()
    await harness.broker.answer(correlation_id)
    await trio.testing.wait_all_tasks_blocked()
    assert harness.answered == [1]


# Without a lease


async def test_request_is_held_while_it_may_not_be_sent(
        harness: Harness, autojump_clock: trio.testing.MockClock) -> None:
    harness.may_send = False
    for epoch in (1, 2):
        harness.channel.enqueue(request(epoch))
    await trio.sleep(60)
    assert harness.answered == []
    harness.may_send = True
    for _ in range(2):
        correlation_id, _, _ = await harness.broker.receive()
        await harness.broker.answer(correlation_id)
    await trio.testing.wait_all_tasks_blocked()
    assert harness.answered == [1, 2]


async def test_it_is_asked_after_the_connection_was_made(
        harness: Harness, autojump_clock: trio.testing.MockClock) -> None:
    """The lease ran out while the connection was being made."""
    harness.broker.refusals = 3
    harness.channel.enqueue(request(1))
    await trio.sleep(RETRY_BACKOFF_SECONDS * 2)
    assert harness.asked == 0
    harness.may_send = False
    await trio.sleep(5)
    assert harness.asked > 0
    with trio.move_on_after(5) as waiting:
        await harness.broker.connections[-1].receive()
    assert waiting.cancelled_caught


async def test_it_is_asked_again_before_a_request_is_repeated(
        harness: Harness, autojump_clock: trio.testing.MockClock) -> None:
    harness.channel.enqueue(request(1))
    await harness.broker.receive()
    harness.may_send = False
    await harness.broker.connections[-1].aclose()
    await trio.sleep(1)
    with trio.move_on_after(5) as waiting:
        await harness.broker.connections[-1].receive()
    assert waiting.cancelled_caught
    assert harness.answered == []


async def test_resignation_drops_what_was_held_for_the_own_front_end_but_not_the_configuration(
        nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    own = Broker()
    channels = Channels(1, nursery, _ignore, lambda wanted: wanted.api_key is ApiKey.ALTER_CONFIGS)
    channels.open(1, own)
    channels.enqueue(1, request(1))
    channels.enqueue(1, alter_configs_request([(2, "t", {})]))
    channels.enqueue(1, request(2))
    await trio.sleep(1)
    channels.close_others()
    with trio.fail_after(1):
        while not own.connections:
            await trio.sleep(0.01)
        frame = await own.connections[-1].receive()
    assert frame is not None
    assert parse_request_header(frame, 0, len(frame)).api_key == ApiKey.ALTER_CONFIGS


async def test_request_in_flight_at_the_resignation_is_still_answered(harness: Harness) -> None:
    harness.channel.enqueue(request(1))
    correlation_id, _, _ = await harness.broker.receive()
    harness.channel.drop_controller_requests()
    harness.channel.enqueue(alter_configs_request([(2, "t", {})]))
    await harness.broker.answer(correlation_id)
    await harness.broker.receive()
    assert harness.answered == [1]


async def test_an_outage_is_one_line(harness: Harness, autojump_clock: trio.testing.MockClock,
                                     caplog: pytest.LogCaptureFixture) -> None:
    harness.broker.refusals = 50
    harness.channel.enqueue(request(1))
    await trio.sleep(RETRY_BACKOFF_SECONDS * 51)
    assert caplog.text.count("not yet") == 1


# Transports


async def test_another_broker_is_reached_by_tcp_as_often_as_needed(nursery: trio.Nursery) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    greeted = []

    async def greet(stream: trio.SocketStream) -> None:
        greeted.append(stream)
        await stream.send_all(b"x")

    nursery.start_soon(trio.serve_listeners, greet, listeners)
    transport = TcpBroker("127.0.0.1", listeners[0].socket.getsockname()[1])
    for _ in range(2):
        async with await transport.connect() as stream:
            assert await stream.receive_some(1) == b"x"
    assert len(greeted) == 2


async def test_a_broker_that_does_not_listen_is_an_os_error(autojump_clock: trio.testing.MockClock) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(OSError, match=str(port)):
        await TcpBroker("127.0.0.1", port).connect()


async def test_a_connection_that_is_not_made_in_time_is_an_os_error(
        monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock) -> None:
    async def hang(host: str, port: int) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(trio, "open_tcp_stream", hang)
    with pytest.raises(TimeoutError, match=r"elsewhere:9092 within 30 s"):
        await TcpBroker("elsewhere", 9092, 30).connect()


async def test_own_front_end_is_one_connection() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        transport = OwnFrontEnd(ours)
        stream = await transport.connect()
        with pytest.raises(BrokerGoneError):
            await transport.connect()
        await stream.aclose()
        assert theirs.recv(1) == b""


async def test_replaced_channel_drops_its_queue_and_closes_its_stream(nursery: trio.Nursery) -> None:
    channels = Channels(1, nursery, _ignore)
    first_end, first = socket.socketpair()
    second_end, second = socket.socketpair()
    channels.open(1, OwnFrontEnd(first))
    channels.open(1, OwnFrontEnd(second))
    channels.enqueue(1, request(5))
    for sock in (first_end, second_end):
        sock.setblocking(False)
    replaced = trio.SocketStream(trio.socket.from_stdlib_socket(first_end))
    assert await replaced.receive_some() == b""
    frame = await FrameStream(trio.SocketStream(trio.socket.from_stdlib_socket(second_end))).receive()
    assert frame is not None
    await replaced.aclose()


async def test_request_without_a_channel_is_dropped_with_a_line(
        nursery: trio.Nursery, caplog: pytest.LogCaptureFixture) -> None:
    Channels(1, nursery, _ignore).enqueue(9, request(1))
    assert "not sent to broker 9" in caplog.text


async def test_resignation_closes_all_but_the_own_front_end(nursery: trio.Nursery) -> None:
    channels = Channels(1, nursery, _ignore)
    brokers = {1: Broker(), 2: Broker()}
    for broker_id, broker in brokers.items():
        channels.open(broker_id, broker)
    channels.close_others()
    channels.enqueue(1, request(1))
    await brokers[1].receive()
    assert brokers[2].connections == []


_ignore: Callable[[int, BrokerRequest, Any], None] = lambda broker_id, answered, response: None  # noqa: E731
