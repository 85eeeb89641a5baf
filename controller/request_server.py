"""Requests from this node's front end: read from the stream, answered in their order.

Reading goes on while earlier requests wait (a topic's leaders, a deletion), so that many creations become
one round of writes; the answers leave in the order of the requests.

Runs in: controller (trio). One `serve` per front end; it ends with the front end.
"""
from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import trio

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ProtocolError, UnsupportedVersionError
from broker.protocol.frames import decode_request, encode_response, parse_request_header
from controller.frame_stream import FrameStream

_log = logging.getLogger(__name__)

SERVED_KEYS = frozenset({
    ApiKey.CREATE_TOPICS, ApiKey.DELETE_TOPICS, ApiKey.CREATE_PARTITIONS, ApiKey.ALLOCATE_PRODUCER_IDS})

PIPELINED_REQUESTS_MAX = 10_000
"""More unanswered requests than this are left in the socket: the front end waits."""


class ApiCall:
    """One request; `answer` once, with the response message."""

    __slots__ = ("_answered", "api_key", "api_version", "correlation_id", "request", "response")

    def __init__(self, api_key: int, api_version: int, correlation_id: int, request: Any) -> None:
        self.api_key = api_key
        self.api_version = api_version
        self.correlation_id = correlation_id
        self.request = request
        self.response: Any = None
        self._answered = trio.Event()

    def answer(self, response: Any) -> None:
        assert not self._answered.is_set()
        self.response = response
        self._answered.set()

    async def wait_frame(self) -> bytes:
        """The response's frame, once there is one."""
        await self._answered.wait()
        return encode_response(self.api_key, self.api_version, self.correlation_id, self.response)


async def serve(stream: trio.abc.Stream, on_call: Callable[[ApiCall], None]) -> None:
    """Until the front end closes the stream or sends what is no request."""
    frames = FrameStream(stream)
    send, receive = trio.open_memory_channel[ApiCall](PIPELINED_REQUESTS_MAX)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_answer_in_order, frames, receive)
            async with send:
                while (frame := await frames.receive()) is not None:
                    call = _parse(frame)
                    on_call(call)
                    await send.send(call)
            nursery.cancel_scope.cancel()
    except* ProtocolError as errors:
        _log.error("the front end's stream is closed: %s", errors.exceptions[0])
    except* trio.BrokenResourceError:
        _log.info("the front end's stream has ended")
    finally:
        await trio.aclose_forcefully(frames)


async def _answer_in_order(frames: FrameStream, calls: trio.MemoryReceiveChannel[ApiCall]) -> None:
    async for call in calls:
        await frames.send(await call.wait_frame())


def _parse(frame: memoryview) -> ApiCall:
    header = parse_request_header(frame, 0, len(frame))
    if header.api_key not in SERVED_KEYS:
        raise UnsupportedVersionError(f"the controller does not serve API key {header.api_key}")
    request = decode_request(header.api_key, header.api_version, frame, header.body_position, len(frame))
    return ApiCall(header.api_key, header.api_version, header.correlation_id, request)
