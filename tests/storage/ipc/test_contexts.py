"""Contexts open the two ends of a link, at the start and after a restart of the other side."""
from __future__ import annotations

import socket

from storage.ipc.arena import create_arena_region
from storage.ipc.contexts import Doorbells, FrontEndContext, StorageContext, StorageLink
from storage.ipc.control import ControlSocket
from storage.ipc.partition_table import ROLE_LEADER
from tests.storage.ipc.links import Link, submission

REQUEST_SIZE_BYTES_MAX = 100 * 1024 * 1024


def contexts(link: Link) -> tuple[FrontEndContext, StorageContext]:
    arena = create_arena_region(REQUEST_SIZE_BYTES_MAX)
    control, other = ControlSocket.pair()
    stream, _ = socket.socketpair()
    front_end = FrontEndContext(
        None, control, [StorageLink(0, "/data/a", control, link.doorbells, link.generation)], link.layout,
        link.region, arena, [], stream, stream, 1, "cluster", REQUEST_SIZE_BYTES_MAX, 1 << 28, 1 << 24)
    storage = StorageContext(None, 0, "/data/a", other, other, link.layout, link.region, arena, link.doorbells,
                             link.generation, "cluster", 1)
    return front_end, storage


def test_both_sides_meet() -> None:
    link = Link()
    front_end, storage = contexts(link)
    producer, _ = front_end.open_rings(0, link.doorbells, link.generation)
    consumer, _ = storage.open_rings()
    producer.put(*submission(5))
    producer.flush()
    assert consumer.take() == [submission(5)]
    slab = front_end.arena().allocate(10)
    assert slab is not None
    slab.view[:3] = b"abc"
    assert bytes(storage.arena_view().view(slab.offset, 3)) == b"abc"
    front_end.partition_table().publish_front_end_half(0, 1, ROLE_LEADER, 2, 3)
    half = storage.partition_table().read_front_end_half(0)
    assert half is not None
    assert half.high_watermark == 3


def test_doorbells_travel_as_descriptors() -> None:
    link = Link()
    one, other = ControlSocket.pair()
    _, storage = contexts(link)
    link.renew()
    one.send({"kind": "front_end_started", "generation": link.generation}, link.doorbells.fds())
    received = other.receive_nowait()
    assert received is not None
    producer, _ = link.front_end()
    consumer, _ = storage.open_rings_of(Doorbells.from_fds(received[1]), received[0]["generation"])
    producer.put(*submission(6))
    producer.flush()
    assert consumer.take() == [submission(6)]
