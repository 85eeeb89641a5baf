"""This broker's own requests to the node that leads the cluster, an Ottla or a Kafka of any version.

`forward` takes a call of the front end's own (`request_server.ApiCall.is_own`) and answers it with what the
controller answers. There is one connection, made anew when the controller changes; versions are negotiated once
per connection, as Kafka's NodeToControllerChannelManager does: with ApiVersions in version 0, which every broker
since 0.10 answers. ControlledShutdown goes in the version of the inter-broker protocol, as from Kafka.

Every call is answered. One that got no answer is sent once more over a new connection (each may be done twice:
a block of producer ids is lost, a topic exists already); then it is NOT_CONTROLLER, and the front end asks again
when it has to.

Runs in: controller (trio). Owner: the event loop; `run` is its own task.
"""
from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import trio

from broker.protocol.api_keys import API_SPECS, ApiKey
from broker.protocol.errors import ErrorCode, ProtocolError
from broker.protocol.frames import decode_response, encode_request
from broker.protocol.messages import message_class
from controller.api_calls import refuse
from controller.channel import BrokerGoneError, Transport
from controller.cluster import Endpoint
from controller.frame_stream import FrameStream
from controller.request_server import ApiCall

_log = logging.getLogger(__name__)

ATTEMPTS_MAX = 2
FIRST_CREATE_TOPICS_WITH_BROKER_DEFAULTS = 4


class ControllerTooOldError(Exception):
    """The node that leads does not serve what is asked."""


class _Forwarded(NamedTuple):
    call: ApiCall
    controller_id: int
    endpoint: Endpoint


class RemoteController:
    """transport_to: a connection to a broker's endpoint, by its id. request_timeout_s: for each answer.

    controlled_shutdown_version: see `request_versions`.
    """

    def __init__(self, nursery: trio.Nursery, broker_id: int, transport_to: Callable[[int, Endpoint], Transport],
                 request_timeout_s: float, controlled_shutdown_version: int) -> None:
        self._client_id = str(broker_id)
        self._transport_to = transport_to
        self._request_timeout_s = request_timeout_s
        self._controlled_shutdown_version = controlled_shutdown_version
        self._connection: _Connection | None = None
        self._connected_to: tuple[int, Endpoint] | None = None
        # Unbounded: the front end asks for one block, one shutdown, and each missing topic once at a time.
        self._send, self._calls = trio.open_memory_channel[_Forwarded](math.inf)
        nursery.start_soon(self._run)

    def forward(self, call: ApiCall, controller_id: int, endpoint: Endpoint) -> None:
        """Never waits."""
        self._send.send_nowait(_Forwarded(call, controller_id, endpoint))

    async def _run(self) -> None:
        async for forwarded in self._calls:
            response = await self._ask(forwarded)
            if response is None:
                refuse(forwarded.call, ErrorCode.NOT_CONTROLLER)
            else:
                forwarded.call.answer(response)

    async def _ask(self, forwarded: _Forwarded) -> Any:
        """None when there is no answer."""
        name = ApiKey(forwarded.call.api_key).name
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                with trio.fail_after(self._request_timeout_s):
                    connection = await self._connect(forwarded.controller_id, forwarded.endpoint)
                    return await connection.ask(forwarded.call, self._fixed_version(forwarded.call.api_key))
            except ControllerTooOldError as error:
                _log.error("%s cannot be asked of controller %d: %s", name, forwarded.controller_id, error)
                return None
            except (OSError, trio.BrokenResourceError, trio.TooSlowError, BrokerGoneError, ProtocolError) as error:
                # A connection that was idle for long has been closed by the other side.
                _log.log(logging.INFO if attempt < ATTEMPTS_MAX else logging.WARNING,
                         "%s to controller %d failed: %s", name, forwarded.controller_id,
                         str(error) or type(error).__name__)
                await self._disconnect()
        return None

    async def _connect(self, controller_id: int, endpoint: Endpoint) -> _Connection:
        if self._connection is None or self._connected_to != (controller_id, endpoint):
            await self._disconnect()
            stream = FrameStream(await self._transport_to(controller_id, endpoint).connect())
            self._connection = _Connection(stream, self._client_id)
            self._connected_to = controller_id, endpoint
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await trio.aclose_forcefully(connection.stream)

    def _fixed_version(self, api_key: int) -> int | None:
        """None: to be negotiated."""
        return self._controlled_shutdown_version if api_key == ApiKey.CONTROLLED_SHUTDOWN else None


class _Connection:
    def __init__(self, stream: FrameStream, client_id: str) -> None:
        self.stream = stream
        self._client_id = client_id
        self._correlation_id = 0
        self._ranges: dict[int, tuple[int, int]] | None = None

    async def ask(self, call: ApiCall, version: int | None) -> Any:
        if version is None:
            version = await self._negotiated(call.api_key)
        return await self._exchange(call.api_key, version, call.request)

    async def _negotiated(self, api_key: int) -> int:
        if self._ranges is None:
            answer = await self._exchange(ApiKey.API_VERSIONS, 0, message_class("ApiVersionsRequest")())
            self._ranges = {entry.api_key: (entry.min_version, entry.max_version) for entry in answer.api_keys}
        low, high = self._ranges.get(api_key, (1, 0))
        wanted_low, wanted_high = _spoken(api_key)
        version = min(high, wanted_high)
        if version < max(low, wanted_low):
            raise ControllerTooOldError(f"it serves versions {low} to {high}, not {wanted_low} to {wanted_high}"
                                        if low <= high else "it does not serve it")
        return version

    async def _exchange(self, api_key: int, version: int, request: Any) -> Any:
        self._correlation_id += 1
        await self.stream.send(encode_request(api_key, version, self._correlation_id, self._client_id, request))
        frame = await self.stream.receive()
        if frame is None:
            raise trio.BrokenResourceError("the connection was closed")
        answered_id, response = decode_response(api_key, version, frame, 0, len(frame))
        if answered_id != self._correlation_id:
            raise ProtocolError(f"answer {answered_id} to request {self._correlation_id}")
        return response


def _spoken(api_key: int) -> tuple[int, int]:
    spec = API_SPECS[ApiKey(api_key)]
    if api_key == ApiKey.CREATE_TOPICS:  # auto-creation leaves partitions and replication to the controller
        return FIRST_CREATE_TOPICS_WITH_BROKER_DEFAULTS, spec.max_version
    return spec.min_version, spec.max_version
