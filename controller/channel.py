"""Channels to brokers: one queue each, one request in flight, in order, tried for ever.

A request that got no answer is sent again over a new connection, every 100 ms, until the channel is closed
because the broker is gone. What the broker answers goes to the event loop. A transport makes connections:
this node's own front end is reached over the stream socketpair, which exists once and cannot be made anew:
when it breaks, the front end has died and its successor gets a new channel.

Runs in: controller (trio). Owner: `Channels`, run by the event loop's nursery.
"""
from __future__ import annotations

import logging
import math
import socket
from collections.abc import Callable
from typing import Any, Protocol

import trio

from broker.protocol.errors import ProtocolError
from broker.protocol.frames import decode_response, encode_request
from controller.frame_stream import FrameStream
from controller.request_batch import BrokerRequest

_log = logging.getLogger(__name__)

RETRY_BACKOFF_SECONDS = 0.1
CORRELATION_ID_MAX = 2**31 - 1


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


class BrokerChannel:
    """`enqueue` never waits; `run` sends until cancelled or the broker is gone."""

    def __init__(self, broker_id: int, controller_id: int, transport: Transport,
                 on_answer: Callable[[int, BrokerRequest, Any], None]) -> None:
        self._broker_id = broker_id
        self._client_id = str(controller_id)
        self._transport = transport
        self._on_answer = on_answer
        self._stream: FrameStream | None = None
        self._correlation_id = 0
        # Unbounded: what is queued is bounded by the changes of the cluster, and dropping any would lose one.
        self._send, self._receive = trio.open_memory_channel[BrokerRequest](math.inf)

    def enqueue(self, request: BrokerRequest) -> None:
        self._send.send_nowait(request)

    async def run(self) -> None:
        try:
            async for request in self._receive:
                self._on_answer(self._broker_id, request, await self._deliver(request))
        except BrokerGoneError as error:
            _log.info("channel to broker %d ends: %s", self._broker_id, error)
        finally:
            self._transport.close()
            if self._stream is not None:
                await trio.aclose_forcefully(self._stream)

    async def _deliver(self, request: BrokerRequest) -> Any:
        while True:
            try:
                return await self._exchange(request)
            except (OSError, trio.BrokenResourceError, ProtocolError) as error:
                _log.warning("%s to broker %d failed and is tried again: %s", request.api_key.name,
                             self._broker_id, error)
                if self._stream is not None:
                    stream, self._stream = self._stream, None
                    await stream.aclose()
                await trio.sleep(RETRY_BACKOFF_SECONDS)

    async def _exchange(self, request: BrokerRequest) -> Any:
        if self._stream is None:
            self._stream = FrameStream(await self._transport.connect())
        correlation_id = self._correlation_id
        self._correlation_id = 0 if correlation_id == CORRELATION_ID_MAX else correlation_id + 1
        await self._stream.send(encode_request(request.api_key, request.version, correlation_id,
                                               self._client_id, request.message))
        frame = await self._stream.receive()
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

    def __init__(self, own_broker_id: int, nursery: trio.Nursery,
                 on_answer: Callable[[int, BrokerRequest, Any], None]) -> None:
        self._own_broker_id = own_broker_id
        self._nursery = nursery
        self._on_answer = on_answer
        self._channels: dict[int, tuple[BrokerChannel, trio.CancelScope]] = {}

    def open(self, broker_id: int, transport: Transport) -> None:
        """Replaces an existing channel; what it had queued is dropped."""
        self.close(broker_id)
        channel = BrokerChannel(broker_id, self._own_broker_id, transport, self._on_answer)
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
        """All but the own front end's."""
        for broker_id in [broker_id for broker_id in self._channels if broker_id != self._own_broker_id]:
            self.close(broker_id)
