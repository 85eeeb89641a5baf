"""Channels to brokers: one queue each, one request in flight, in order, tried for ever.

A request that got no answer is sent again over a new connection, every 100 ms, until the channel is closed
because the broker is gone. What the broker answers goes to the event loop. A transport makes connections:
this node's own front end is reached over the stream socketpair, which exists once and cannot be made anew:
when it breaks, the front end has died and its successor gets a new channel.

Before a request leaves, and before it leaves again, `may_send` is asked: a node whose lease has run out must
not send what it queued while it led. Such a request is held, not dropped: if the lease turns out to live
(a late answer of the store), losing one would leave that broker wrong for ever; if this node resigns,
`Channels.close_others` takes it away.

Runs in: controller (trio). Owner: `Channels`, run by the event loop's nursery.
"""
from __future__ import annotations

import logging
import math
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import trio

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ProtocolError
from broker.protocol.frames import decode_response, encode_request
from controller.frame_stream import FrameStream
from controller.request_batch import BrokerRequest

_log = logging.getLogger(__name__)

RETRY_BACKOFF_SECONDS = 0.1
CORRELATION_ID_MAX = 2**31 - 1
CONNECT_TIMEOUT_S = 30.0
"""As Kafka's default controller.socket.timeout.ms."""

MaySend = Callable[[BrokerRequest], bool]
OnAnswer = Callable[[int, BrokerRequest, Any], None]


class BrokerGoneError(Exception):
    """No further connection to that broker can be made."""


class Transport(Protocol):
    async def connect(self) -> trio.abc.Stream:
        """A new connection. OSError: try again; BrokerGoneError: give up."""

    def close(self) -> None:
        """Give back what no connection was made of."""


class OwnFrontEnd:
    """The controller's end of the stream socketpair."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket: socket.socket | None = sock

    async def connect(self) -> trio.abc.Stream:
        sock, self._socket = self._socket, None
        if sock is None:
            raise BrokerGoneError("the front end has closed its stream")
        await trio.lowlevel.checkpoint()
        sock.setblocking(False)
        return trio.SocketStream(trio.socket.from_stdlib_socket(sock))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


class TcpBroker:
    """Another broker, at an endpoint of its registration without encryption or authentication."""

    def __init__(self, host: str, port: int, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self._host = host
        self._port = port
        self._connect_timeout_s = connect_timeout_s

    async def connect(self) -> trio.abc.Stream:
        try:
            with trio.fail_after(self._connect_timeout_s):
                return await trio.open_tcp_stream(self._host, self._port)
        except trio.TooSlowError as error:
            raise TimeoutError(f"no connection to {self._host}:{self._port} within "
                               f"{self._connect_timeout_s:g} s") from error

    def close(self) -> None:
        """Nothing is held between connections."""


class BrokerChannel:
    """`enqueue` never waits; `run` sends until cancelled or the broker is gone.

    request_timeout_s: for the answer to one request; infinite for a stream that cannot be made anew.
    """

    def __init__(self, broker_id: int, controller_id: int, transport: Transport, on_answer: OnAnswer,
                 may_send: MaySend = lambda request: True, request_timeout_s: float = math.inf) -> None:
        self._broker_id = broker_id
        self._client_id = str(controller_id)
        self._transport = transport
        self._on_answer = on_answer
        self._may_send = may_send
        self._request_timeout_s = request_timeout_s
        self._stream: FrameStream | None = None
        self._correlation_id = 0
        self._is_failing = False
        # Unbounded: what is queued is bounded by the changes of the cluster, and dropping any would lose one.
        # The first one stays until it is answered.
        self._queue: deque[BrokerRequest] = deque()
        self._filled = trio.Event()

    def enqueue(self, request: BrokerRequest) -> None:
        self._queue.append(request)
        self._filled.set()

    def drop_controller_requests(self) -> None:
        """This node is not the controller any more. One that has left is still answered."""
        self._queue = deque(request for request in self._queue if request.api_key is ApiKey.ALTER_CONFIGS)

    async def run(self) -> None:
        try:
            while True:
                while not self._queue:
                    self._filled = trio.Event()
                    await self._filled.wait()
                await self._deliver(self._queue[0])
        except BrokerGoneError as error:
            _log.info("channel to broker %d ends: %s", self._broker_id, error)
        finally:
            self._transport.close()
            if self._stream is not None:
                await trio.aclose_forcefully(self._stream)

    def _is_wanted(self, request: BrokerRequest) -> bool:
        return bool(self._queue) and self._queue[0] is request

    async def _deliver(self, request: BrokerRequest) -> None:
        """Until it is answered, or dropped."""
        while self._is_wanted(request):
            try:
                response = await self._exchange(request)
            except (OSError, trio.BrokenResourceError, ProtocolError) as error:
                await self._failed(request, error)
            else:
                if response is not None:
                    self._answered(request, response)
                    return
            await trio.sleep(RETRY_BACKOFF_SECONDS)

    def _answered(self, request: BrokerRequest, response: Any) -> None:
        if self._is_failing:
            _log.info("broker %d answers again", self._broker_id)
            self._is_failing = False
        if self._is_wanted(request):
            self._queue.popleft()
        self._on_answer(self._broker_id, request, response)

    async def _failed(self, request: BrokerRequest, error: Exception) -> None:
        if not self._is_failing:  # one line for an outage, however long it is
            self._is_failing = True
            _log.warning("%s to broker %d failed and is tried again until it is answered: %s",
                         request.api_key.name, self._broker_id, str(error) or type(error).__name__)
        if self._stream is not None:
            stream, self._stream = self._stream, None
            await trio.aclose_forcefully(stream)

    async def _exchange(self, request: BrokerRequest) -> Any:
        """The answer; None when the request is held back."""
        if self._stream is None:
            self._stream = FrameStream(await self._transport.connect())
        correlation_id = self._correlation_id
        self._correlation_id = 0 if correlation_id == CORRELATION_ID_MAX else correlation_id + 1
        frame = encode_request(request.api_key, request.version, correlation_id, self._client_id, request.on_wire)
        # Nothing may come between the question and the sending: after any wait the lease may have run out.
        if not (self._is_wanted(request) and self._may_send(request)):
            return None
        with trio.move_on_after(self._request_timeout_s) as scope:
            await self._stream.send(frame)
            return await self._receive(self._stream, request, correlation_id)
        assert scope.cancelled_caught
        raise TimeoutError(f"no answer within {self._request_timeout_s:g} s")

    async def _receive(self, stream: FrameStream, request: BrokerRequest, correlation_id: int) -> Any:
        frame = await stream.receive()
        if frame is None:
            raise trio.BrokenResourceError("the connection was closed")
        answered_id, response = decode_response(request.api_key, request.version, frame, 0, len(frame))
        if answered_id != correlation_id:
            raise ProtocolError(f"answer {answered_id} to request {correlation_id}")
        return response


class Channels:
    """The channels of the live brokers, by id.

    The own front end's channel outlives resignations and elections: configuration goes through it whoever
    is the controller.
    """

    def __init__(self, own_broker_id: int, nursery: trio.Nursery, on_answer: OnAnswer,
                 may_send: MaySend = lambda request: True, request_timeout_s: float = math.inf) -> None:
        """request_timeout_s: Kafka's request.timeout.ms, for other brokers."""
        self._own_broker_id = own_broker_id
        self._nursery = nursery
        self._on_answer = on_answer
        self._may_send = may_send
        self._request_timeout_s = request_timeout_s
        self._channels: dict[int, tuple[BrokerChannel, trio.CancelScope]] = {}

    def open(self, broker_id: int, transport: Transport) -> None:
        """Replaces an existing channel; what it had queued is dropped."""
        self.close(broker_id)
        timeout_s = math.inf if broker_id == self._own_broker_id else self._request_timeout_s
        channel = BrokerChannel(broker_id, self._own_broker_id, transport, self._on_answer, self._may_send,
                                timeout_s)
        scope = trio.CancelScope()
        self._channels[broker_id] = channel, scope
        self._nursery.start_soon(self._run, channel, scope)

    async def _run(self, channel: BrokerChannel, scope: trio.CancelScope) -> None:
        with scope:
            await channel.run()

    def enqueue(self, broker_id: int, request: BrokerRequest) -> None:
        """Requests to brokers without a channel are dropped: they are gone, and are told all when back."""
        entry = self._channels.get(broker_id)
        if entry is not None:
            entry[0].enqueue(request)
        else:
            _log.warning("%s is not sent to broker %d: there is no channel to it", request.api_key.name,
                         broker_id)

    def close(self, broker_id: int) -> None:
        entry = self._channels.pop(broker_id, None)
        if entry is not None:
            entry[1].cancel()

    def close_others(self) -> None:
        """This node resigns: all but the own front end's channel, and what a controller queued there."""
        for broker_id in [broker_id for broker_id in self._channels if broker_id != self._own_broker_id]:
            self.close(broker_id)
        own = self._channels.get(self._own_broker_id)
        if own is not None:
            own[0].drop_controller_requests()
