"""Requests from this node's front end: read from the stream, answered as soon as each has an answer.

Reading goes on while earlier requests wait (a topic's leaders, a deletion, another node's controller), so that
many creations become one round of writes, and nothing waits behind a controller that does not answer. The
front end knows its answers by their correlation ids.

Requests of three kinds come: clients' and other brokers' (passed on by the front end as they came), and the
front end's own, which carry the client id `OWN_REQUESTS`.

Runs in: controller (trio). One `serve` per front end; it ends with the front end.
"""
from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import trio

from broker.client.controller_link import OWN_REQUESTS
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ProtocolError, UnsupportedVersionError
from broker.protocol.frames import decode_request, encode_response, parse_request_header
from controller.frame_stream import FrameStream

_log = logging.getLogger(__name__)

SERVED_KEYS = frozenset({
    ApiKey.CREATE_TOPICS, ApiKey.DELETE_TOPICS, ApiKey.CREATE_PARTITIONS, ApiKey.ALLOCATE_PRODUCER_IDS,
    ApiKey.ALTER_PARTITION, ApiKey.CONTROLLED_SHUTDOWN, ApiKey.DESCRIBE_CONFIGS})

PIPELINED_REQUESTS_MAX = 10_000
"""More unanswered requests than this are left in the socket: the front end waits."""


class ApiCall:
    """One request; `answer` once, with the response message.

    is_own: the front end's own wish, which goes to whichever node leads. is_local: this node's controller
    process answers it whoever leads.
    """

    __slots__ = ("_on_answer", "api_key", "api_version", "correlation_id", "is_own", "request", "response")

    def __init__(self, api_key: int, api_version: int, correlation_id: int, request: Any, *,
                 is_own: bool = False, on_answer: Callable[[ApiCall], None] = lambda call: None) -> None:
        self.api_key = api_key
        self.api_version = api_version
        self.correlation_id = correlation_id
        self.request = request
        self.is_own = is_own
        self.response: Any = None
        self._on_answer = on_answer

    @property
    def is_local(self) -> bool:
        return self.api_key == ApiKey.DESCRIBE_CONFIGS

    def answer(self, response: Any) -> None:
        assert self.response is None
        self.response = response
        self._on_answer(self)

    def frame(self) -> bytes:
        """The answer's."""
        return encode_response(self.api_key, self.api_version, self.correlation_id, self.response)


async def serve(stream: trio.abc.Stream, on_call: Callable[[ApiCall], None]) -> None:
    """Until the front end closes the stream or sends what is no request."""
    frames = FrameStream(stream)
    room = trio.Semaphore(PIPELINED_REQUESTS_MAX)
    # Unbounded: `room` bounds it.
    send, receive = trio.open_memory_channel[ApiCall](math.inf)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send_answers, frames, receive, room)
            while (frame := await frames.receive()) is not None:
                on_call(_parse(frame, send.send_nowait))
                await room.acquire()
            nursery.cancel_scope.cancel()
    except* ProtocolError as errors:
        _log.error("the front end's stream is closed: %s", errors.exceptions[0])
    except* trio.BrokenResourceError:
        _log.info("the front end's stream has ended")
    finally:
        await trio.aclose_forcefully(frames)


async def _send_answers(frames: FrameStream, answered: trio.MemoryReceiveChannel[ApiCall],
                        room: trio.Semaphore) -> None:
    async for call in answered:
        await frames.send(call.frame())
        room.release()


def _parse(frame: memoryview, on_answer: Callable[[ApiCall], None]) -> ApiCall:
    header = parse_request_header(frame, 0, len(frame))
    if header.api_key not in SERVED_KEYS:
        raise UnsupportedVersionError(f"the controller does not serve API key {header.api_key}")
    request = decode_request(header.api_key, header.api_version, frame, header.body_position, len(frame))
    return ApiCall(header.api_key, header.api_version, header.correlation_id, request,
                   is_own=header.client_id == OWN_REQUESTS, on_answer=on_answer)
