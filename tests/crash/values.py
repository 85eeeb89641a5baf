"""Record values that prove themselves: who wrote them, where to, which one in order, and a checksum.

A value is a function of (producer, topic, partition, sequence) alone, so a reader can make the expected bytes
again; the checksum inside tells damage from a foreign record, the names tell a record in the wrong place.
Sequences count per producer and partition, from 0.
Runs in: the test process. Pure.
"""
from __future__ import annotations

import zlib
from typing import NamedTuple

from tests.clients.dataset import splitmix64

SMALL_FILLER_BYTES_MAX = 700
LARGE_FILLER_BYTES = 24_000
LARGE_ONE_IN = 64


class Stamp(NamedTuple):
    """What a value says about itself."""

    producer: int
    topic: str
    partition: int
    sequence: int


def make_value(stamp: Stamp) -> bytes:
    mixed = splitmix64(stamp.producer << 40 ^ stamp.partition << 32 ^ stamp.sequence)
    size = LARGE_FILLER_BYTES if mixed % LARGE_ONE_IN == 0 else mixed % SMALL_FILLER_BYTES_MAX
    filler = (f"{mixed:016x}" * (size // 16 + 1))[:size]
    body = f"{stamp.producer}|{stamp.topic}|{stamp.partition}|{stamp.sequence}|{filler}".encode()
    return b"%b|%08x" % (body, zlib.crc32(body))


def parse_value(value: bytes) -> Stamp:
    """Raises ValueError for anything that `make_value` did not make."""
    body, _, checksum = value.rpartition(b"|")
    if f"{zlib.crc32(body):08x}".encode() != checksum:
        raise ValueError(f"value of {len(value)} bytes with a wrong checksum: {value[:80]!r}")
    producer, topic, partition, sequence, _ = body.decode().split("|")
    stamp = Stamp(int(producer), topic, int(partition), int(sequence))
    if make_value(stamp) != value:
        raise ValueError(f"value that was never produced: {value[:80]!r}")
    return stamp
