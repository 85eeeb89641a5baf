"""Where bytes from clients land: shared-memory slabs, so that a produced batch is never copied on its way.

What: one *shared chunk* for all connections takes whatever small reads bring; a frame that did not arrive
whole moves, once, to a slab of its connection's own that is large enough for it.
Why so: small requests of many connections share warm pages and cost no allocation each; storage reads the
batches right where the kernel put them; an idle connection holds no buffer at all.
Why a frame that has begun is not refused its own slab: it would keep the shared chunk in use while it waits
for room that only the chunk's release may give. What holds it back is `Slab.may_grow`, before each read.
Runs in: front end. Owner: the one `ReceiveBuffers`; slabs are counted by the arena.
"""

from __future__ import annotations

import socket
from typing import Protocol

import trio

from storage.ipc.arena import Arena, Slab

CHUNK_BYTES = 1 << 20
"""One shared chunk: some tens of small reads, still cheap to pin while a slow disk holds one batch of it."""

SMALL_READ_BYTES = 1 << 16
"""One read into the shared chunk: several 16 KB batches, yet at most this much is copied for a large frame."""

PEEK_READ_BYTES = 1 << 9
"""First read of a frame on a connection whose last frame was large: little more than its header is copied."""


class Refused(Protocol):
    """A connection that was refused room and has stopped reading."""

    def wake(self) -> None: ...


class ReceiveBuffers:
    """Hands out room to receive into, and remembers who was refused. Nobody is refused for ever: the arena
    tells (`room_freed`) when its next slab is released."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._chunk: Slab | None = None
        self._chunk_end = 0
        self._refused: dict[Refused, None] = {}
        self._pressure = trio.Event()

    def has_shared_room(self, size_bytes: int) -> bool:
        """Make sure that the shared chunk can take one read; False: stop reading, the arena is full.

        A chunk that is refused more is given up: its last user's release is then what makes room.
        """
        chunk = self._chunk
        if chunk is not None:
            if chunk.reference_count == 1:
                self._chunk_end = 0  # nobody's request is in it any more: use its warm pages again
            end = self._chunk_end + size_bytes
            if end <= chunk.size_bytes and self._arena.has_room(max(end - chunk.resident_bytes, 0)):
                return True
            self.close()
        if not self._arena.has_room(size_bytes):
            return False
        self._chunk = self._arena.allocate(CHUNK_BYTES)
        return self._chunk is not None

    def receive_shared(self, sock: socket.socket, limit_bytes: int) -> tuple[Slab, int, int]:
        """Receive into the shared chunk; (chunk, start, end), start == end when the peer has closed.

        Only right after `has_shared_room`. Raises what the socket raises, BlockingIOError among it. The
        caller retains the chunk before it awaits anything.
        """
        chunk = self._chunk
        assert chunk is not None
        start = self._chunk_end
        received = sock.recv_into(chunk.view[start : start + limit_bytes])
        self._chunk_end = end = start + received
        chunk.note_touched(end)
        return chunk, start, end

    def private_slab(self, size_bytes: int, reserve: bool) -> Slab | None:
        """A slab of at least `size_bytes` for a frame that has begun; None when the address space is used up."""
        return self._arena.allocate(size_bytes, reserve, continuing=True)

    def close(self) -> None:
        """Give back the shared chunk; the next read makes a new one."""
        if self._chunk is not None:
            self._chunk.release()
            self._chunk = None
        self._chunk_end = 0

    # Who waits

    def refused(self, connection: Refused) -> None:
        """`connection` stops reading until `wake`."""
        self._refused[connection] = None
        self._pressure.set()

    def withdraw(self, connection: Refused) -> None:
        """It waits no longer."""
        self._refused.pop(connection, None)

    def room_freed(self) -> None:
        """The arena's callback: whoever was refused tries again, in the order of the refusals."""
        refused, self._refused = self._refused, {}
        for connection in refused:
            connection.wake()

    async def wait_for_pressure(self) -> None:
        """Until somebody is refused; returns at once while somebody is waiting."""
        if not self._refused:
            self._pressure = trio.Event()
            await self._pressure.wait()
