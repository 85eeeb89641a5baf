"""Size-prefixed Kafka frames over a trio stream.

Runs in: controller. One object per stream, used by one reading and one writing task.
"""
from __future__ import annotations

import trio

from broker.protocol.frames import SIZE_PREFIX_BYTES, check_frame_size

RECEIVE_BYTES = 1 << 16
FRAME_SIZE_BYTES_MAX = 100 << 20
"""As Kafka's default socket.request.max.bytes: the other end is this node's own front end or a broker."""


class FrameStream(trio.abc.AsyncResource):
    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._received = bytearray()

    async def send(self, frame: bytes) -> None:
        """A whole frame, size included. trio.BrokenResourceError when the peer is gone."""
        await self._stream.send_all(frame)

    async def receive(self) -> memoryview | None:
        """The next frame without its size; None when the peer has closed between two frames.

        ProtocolError for a size that no frame has, trio.BrokenResourceError for an end in the middle.
        """
        if not await self._fill(SIZE_PREFIX_BYTES):
            return None
        size = int.from_bytes(self._received[:SIZE_PREFIX_BYTES], "big", signed=True)
        check_frame_size(size, FRAME_SIZE_BYTES_MAX)
        end = SIZE_PREFIX_BYTES + size
        if not await self._fill(end):
            raise trio.BrokenResourceError("the stream ended in the middle of a frame")
        frame = memoryview(bytes(self._received[SIZE_PREFIX_BYTES:end]))
        del self._received[:end]
        return frame

    async def _fill(self, size: int) -> bool:
        """Receive until `size` bytes are there; False at an end with nothing received."""
        while len(self._received) < size:
            data = await self._stream.receive_some(RECEIVE_BYTES)
            if not data:
                if self._received:
                    raise trio.BrokenResourceError("the stream ended in the middle of a frame")
                return False
            self._received += data
        return True

    async def aclose(self) -> None:
        await self._stream.aclose()
