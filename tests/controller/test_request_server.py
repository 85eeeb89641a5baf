"""Requests of the front end: parsed, pipelined, answered as soon as there is an answer."""
from __future__ import annotations

import pytest
import trio
import trio.testing

from broker.client.controller_link import OWN_REQUESTS
from broker.protocol.api_keys import ApiKey
from broker.protocol.frames import decode_response, encode_request
from broker.protocol.messages import message_class
from controller import request_server
from controller.frame_stream import FRAME_SIZE_BYTES_MAX, FrameStream
from controller.request_server import ApiCall, serve

pytestmark = pytest.mark.trio


class FrontEnd:
    def __init__(self, nursery: trio.Nursery) -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        self.stream = ours
        self.frames = FrameStream(ours)
        self.calls: list[ApiCall] = []
        self.is_over = False
        nursery.start_soon(self._serve, theirs)

    async def _serve(self, stream: trio.abc.Stream) -> None:
        await serve(stream, self.calls.append)
        self.is_over = True

    async def ask(self, correlation_id: int, client_id: str | None = "x") -> None:
        request = message_class("AllocateProducerIdsRequest")(broker_id=correlation_id)
        await self.frames.send(encode_request(ApiKey.ALLOCATE_PRODUCER_IDS, 0, correlation_id, client_id, request))
        await trio.testing.wait_all_tasks_blocked()

    async def answered(self) -> tuple[int, int]:
        """(correlation id, first producer id)."""
        frame = await self.frames.receive()
        assert frame is not None
        correlation_id, response = decode_response(ApiKey.ALLOCATE_PRODUCER_IDS, 0, frame, 0, len(frame))
        return correlation_id, response.producer_id_start


@pytest.fixture
def front_end(nursery: trio.Nursery) -> FrontEnd:
    return FrontEnd(nursery)


def answer(call: ApiCall, start: int) -> None:
    call.answer(message_class("AllocateProducerIdsResponse")(producer_id_start=start))


async def test_requests_are_read_ahead_and_none_waits_behind_another(front_end: FrontEnd) -> None:
    for correlation_id in (5, 6, 7):
        await front_end.ask(correlation_id)
    assert [call.request.broker_id for call in front_end.calls] == [5, 6, 7]
    for position in (2, 0, 1):
        answer(front_end.calls[position], position)
    assert [await front_end.answered() for _ in range(3)] == [(7, 2), (5, 0), (6, 1)]


async def test_own_requests_are_told_from_those_passed_on(front_end: FrontEnd) -> None:
    await front_end.ask(1)
    await front_end.ask(2, client_id=OWN_REQUESTS)
    await front_end.ask(3, client_id=None)
    assert [call.is_own for call in front_end.calls] == [False, True, False]


async def test_reading_stops_while_too_many_wait(
        nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_server, "PIPELINED_REQUESTS_MAX", 2)
    front_end = FrontEnd(nursery)
    for correlation_id in range(5):
        await front_end.ask(correlation_id)
    assert len(front_end.calls) == 3
    answer(front_end.calls[1], 0)
    await trio.testing.wait_all_tasks_blocked()
    assert len(front_end.calls) == 4


async def test_server_ends_with_the_front_end(front_end: FrontEnd) -> None:
    await front_end.ask(1)
    await front_end.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert front_end.is_over
    answer(front_end.calls[0], 0)


@pytest.mark.parametrize("frame", [
    b"\xff\xff\xff\xff", (FRAME_SIZE_BYTES_MAX + 1).to_bytes(4, "big"), b"\0\0\0\x02\0\0",
    b"\0\0\0\x0a\0\x43\0\0\0\0\0\1\xff\xff",
])
async def test_garbage_closes_the_stream(front_end: FrontEnd, frame: bytes) -> None:
    await front_end.stream.send_all(frame)
    await trio.testing.wait_all_tasks_blocked()
    assert front_end.is_over
    assert front_end.calls == []
    assert await front_end.frames.receive() is None


async def test_key_that_the_controller_does_not_serve_closes_the_stream(
        front_end: FrontEnd, caplog: pytest.LogCaptureFixture) -> None:
    await front_end.frames.send(encode_request(ApiKey.METADATA, 1, 1, "x", message_class("MetadataRequest")()))
    await trio.testing.wait_all_tasks_blocked()
    assert front_end.is_over
    assert "does not serve API key 3" in caplog.text


async def test_end_in_the_middle_of_a_frame(front_end: FrontEnd) -> None:
    await front_end.stream.send_all(b"\0\0\0\x20abc")
    await front_end.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert front_end.is_over
