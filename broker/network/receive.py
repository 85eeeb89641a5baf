"""Where bytes from clients land: shared-memory slabs, so that a produced batch is never copied on its way.

What: one *shared chunk* for all connections takes whatever small reads bring; a frame that did not arrive
whole moves, once, to a slab of its connection's own that is large enough for it.
Why so: small requests of many connections share warm pages and cost no allocation each; storage reads the
batches right where the kernel put them; an idle connection holds no buffer at all.
Runs in: front end. Owner: the one `ReceiveBuffers`; slabs are counted by the arena.
"""

from __future__ import annotations

import socket

import trio

from storage.ipc.arena import Arena, Slab

CHUNK_BYTES = 1 << 20
"""One shared chunk: some tens of small reads, still cheap to pin while a slow disk holds one batch of it."""

SMALL_READ_BYTES = 1 << 16
"""One read into the shared chunk: several 16 KB batches, yet at most this much is copied for a large frame."""

PEEK_READ_BYTES = 1 << 9
"""First read of a frame on a connection whose last frame was large: little more than its header is copied."""


class ReceiveBuffers:
    """Hands out room to receive into, and waits for the arena when there is none."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._chunk: Slab | None = None
        self._chunk_end = 0
        self._room = trio.Event()

    async def shared_room(self, size_bytes: int) -> tuple[Slab, int]:
        """(chunk, position) with at least `size_bytes` free; the chunk is not yet retained for the caller."""
        while self._chunk is None or self._chunk.view.nbytes - self._chunk_end < size_bytes:
            if self._chunk is not None:
                self._chunk.release()
                self._chunk = None
            self._chunk = await self.private_slab(CHUNK_BYTES)
            self._chunk_end = 0
        return self._chunk, self._chunk_end

    def receive_shared(self, sock: socket.socket, limit_bytes: int) -> tuple[Slab, int, int]:
        """Receive into the shared chunk; (chunk, start, end), start == end when the peer has closed.

        Raises BlockingIOError as the socket does. The caller retains the chunk before it awaits anything.
        """
        chunk = self._chunk
        assert chunk is not None
        start = self._chunk_end
        received = sock.recv_into(chunk.view[start : start + limit_bytes])
        self._chunk_end = end = start + received
        chunk.note_touched(end)
        return chunk, start, end

    async def private_slab(self, size_bytes: int) -> Slab:
        """A slab of at least `size_bytes`; waits (stops reading from this socket) while the arena is full."""
        while True:
            slab = self._arena.allocate(size_bytes)
            if slab is not None:
                return slab
            self._room = trio.Event() if self._room.is_set() else self._room
            with trio.move_on_after(1.0):
                await self._room.wait()

    def room_freed(self) -> None:
        """Called after completions have released slabs: whoever waits for room tries again."""
        if not self._room.is_set() and self._room.statistics().tasks_waiting:
            self._room.set()
