"""What the processes of a node share: regions, links with their doorbells, streams.

Runs in: supervisor, which keeps everything here open so that any process can be forked again; the streams
excepted, whose ends it passes on and closes, so that "the peer closed" reaches controller and front end.
"""
from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from storage.ipc.arena import create_arena_region, largest_slab_size_bytes
from storage.ipc.contexts import Doorbells
from storage.ipc.control import ControlClosedError, ControlFormatError, ControlSocket, close_descriptors
from storage.ipc.layout import ControlLayout
from storage.ipc.region import create_control_region
from storage.ipc.ring import RingLink

ARENA_RESERVE_SHARE = 8
"""One part in so many is kept for replication, coordinators and markers."""


class SharedLink:
    """Front end <-> one storage process: ring memory, doorbells of the generation, a datagram pair."""

    def __init__(self, index: int, ring: RingLink) -> None:
        self.index = index
        self.ring = ring
        self.generation = 0
        self.doorbells = Doorbells.create()
        self.front_end_end, self.storage_end = ControlSocket.pair()

    def reset(self, generation: int) -> None:
        """Nobody uses the old generation: empty rings, fresh doorbells, no datagrams of the dead."""
        self.doorbells.close()
        self.doorbells = Doorbells.create()
        self.generation = generation
        self.ring.reset(generation)
        for end in (self.front_end_end, self.storage_end):
            _discard_datagrams(end)


class SharedObjects:
    """All of them. Sizes are fixed at the start of the node."""

    def __init__(self, storage_count: int, request_size_bytes_max: int) -> None:
        self.layout = ControlLayout(storage_count)
        self.control_region = create_control_region(self.layout)
        self.arena_region = create_arena_region(request_size_bytes_max)
        self.links = [SharedLink(index, RingLink(self.control_region, self.layout, index))
                      for index in range(storage_count)]
        for link in self.links:
            link.reset(1)
        self._controller_ends: StreamEnds | None = None
        self._front_end_ends: StreamEnds | None = None

    def renew_streams(self) -> None:
        """A fresh pair of streams; ends that nobody took are closed."""
        for ends in (self._controller_ends, self._front_end_ends):
            if ends is not None:
                ends.close()
        to_broker, from_controller = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        to_controller, from_broker = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._controller_ends = StreamEnds(to_broker, from_broker)
        self._front_end_ends = StreamEnds(to_controller, from_controller)

    def take_controller_ends(self) -> StreamEnds:
        """The controller's ends, to be passed on and closed."""
        if self._controller_ends is None:
            self.renew_streams()
        ends, self._controller_ends = self._controller_ends, None
        assert ends is not None
        return ends

    def take_front_end_ends(self) -> StreamEnds:
        """The front end's ends, to be passed on and closed."""
        if self._front_end_ends is None:
            self.renew_streams()
        ends, self._front_end_ends = self._front_end_ends, None
        assert ends is not None
        return ends


class StreamEnds:
    """One side's ends: `requests` carries its own requests, `answers` those of the other side."""

    def __init__(self, requests: socket.socket, answers: socket.socket) -> None:
        self.requests = requests
        self.answers = answers

    def fds(self) -> list[int]:
        return [self.requests.fileno(), self.answers.fileno()]

    def close(self) -> None:
        self.requests.close()
        self.answers.close()


def arena_budget_bytes(arena_bytes_max: int, request_size_bytes_max: int) -> int:
    """Touched bytes of payloads at once: `ottla.arena.max.bytes`, but always room for one request."""
    return max(arena_bytes_max, largest_slab_size_bytes(request_size_bytes_max))


def fds_of(objects: Sequence[Any]) -> list[int]:
    """Descriptors of sockets, regions and doorbells, for the list of what a child keeps."""
    fds: list[int] = []
    for thing in objects:
        if isinstance(thing, Doorbells | StreamEnds):
            fds += thing.fds()
        else:
            fds.append(thing.fd if hasattr(thing, "fd") else thing.fileno())
    return fds


def _discard_datagrams(end: ControlSocket) -> None:
    while True:
        try:
            received = end.receive_nowait()
        except ControlFormatError:
            continue
        except ControlClosedError as error:
            raise AssertionError("the supervisor holds both ends") from error
        if received is None:
            return
        close_descriptors(received[1])
