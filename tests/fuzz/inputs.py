"""What is sent: whole requests of every API and version, bent ones, and noise.

Everything follows from a `random.Random`, so that a case is repeated from its seed alone.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import Any

from broker.apis.ledger import ADVERTISED
from broker.protocol.api_keys import API_SPECS, ApiKey
from broker.protocol.frames import encode_request
from broker.protocol.messages import request_class
from storage.record.records import Record, build_batch
from tests.broker.protocol.values import MessageMaker

TOPIC, TOPIC_ID, PARTITION_COUNT = "t", b"\1" * 16, 3
KNOWN_KEYS: list[int] = sorted(ADVERTISED)
FETCH_WAIT_MS_MAX = 50
"""Of whole requests; on the virtual clock even a bent one's days pass at once."""


def batch(rng: random.Random) -> bytes:
    value = rng.randbytes(rng.choice((0, 10, 1000, 70_000)))
    return bytes(build_batch([Record(index, 1_000 + index, None, value) for index in range(rng.randint(1, 3))]))


def produce(rng: random.Random, acks: int = 1) -> Any:
    """To partitions that are there, and some that are not."""
    request = request_class(ApiKey.PRODUCE)
    numbers = rng.sample(range(PARTITION_COUNT + 1), rng.randint(1, 3))
    partitions = [
        request.PartitionProduceData(index=number, records=batch(rng) if rng.random() < 0.9 else rng.randbytes(90))
        for number in numbers
    ]
    topic = request.TopicProduceData(name=TOPIC, partition_data=partitions)
    return request(acks=acks, timeout_ms=1000, topic_data=[topic])


def fetch(rng: random.Random, version: int) -> Any:
    """From partitions that are there, at offsets that may be."""
    request = request_class(ApiKey.FETCH)
    partitions = [
        request.FetchPartition(
            partition=number, fetch_offset=rng.choice((0, 0, 1, 5, 10**6)),
            partition_max_bytes=rng.choice((0, 100, 10**6)),
        )
        for number in range(PARTITION_COUNT)
    ]  # fmt: skip
    topic = request.FetchTopic(partitions=partitions)
    if version >= 13:
        topic.topic_id = TOPIC_ID
    else:
        topic.topic = TOPIC
    return request(
        max_wait_ms=rng.choice((0, FETCH_WAIT_MS_MAX)), min_bytes=rng.choice((0, 1, 10**6)), max_bytes=10**6,
        topics=[topic],
    )  # fmt: skip


def whole_frame(rng: random.Random, correlation_id: int, keys: Sequence[int] = KNOWN_KEYS) -> bytes:
    """A request that is well-formed, whether or not it makes sense."""
    key = rng.choice((ApiKey.PRODUCE, ApiKey.FETCH, *keys))
    low, high = ADVERTISED[ApiKey(key)]
    version = rng.randint(low, high)
    if key == ApiKey.PRODUCE and rng.random() < 0.8:
        message = produce(rng, rng.choice((-1, 1, 1, 0)))
    elif key == ApiKey.FETCH and rng.random() < 0.8:
        message = fetch(rng, version)
    else:
        message = MessageMaker(rng).make(request_class(key), version)
        if key == ApiKey.FETCH:
            message.max_wait_ms = min(message.max_wait_ms, FETCH_WAIT_MS_MAX)
    return encode_request(key, version, correlation_id, rng.choice((None, "", "fuzz")), message)


def bent_frame(rng: random.Random, correlation_id: int, keys: Sequence[int] = KNOWN_KEYS) -> bytes:
    """A frame of the right size whose content was changed, cut or lengthened."""
    content = bytearray(whole_frame(rng, correlation_id, keys)[4:])
    kind = rng.randrange(4)
    if kind == 0:
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(len(content))] = rng.randrange(256)
    elif kind == 1:
        del content[rng.randrange(len(content)) :]
    elif kind == 2:
        position = rng.randrange(8, len(content))
        content[position:position] = rng.randbytes(rng.choice((1, 2, 4, 100)))
    else:
        struct.pack_into(">hh", content, 0, rng.randrange(-1, 90), rng.randrange(-1, 20))
    return struct.pack(">i", len(content)) + bytes(content)


def noise(rng: random.Random) -> bytes:
    """No frame, or the announcement of one that is too large or never comes."""
    kind = rng.randrange(5)
    if kind == 0:
        return rng.randbytes(rng.randint(1, 50))
    if kind == 1:
        return struct.pack(">i", rng.choice((-1, -(2**31), 0, 1, 9, 2**31 - 1)))
    if kind == 2:
        return struct.pack(">ih", rng.choice((10, 70_000, 1 << 20, 1 << 21)), rng.choice((0, 1, 3))) + b"\0" * 100
    if kind == 3:
        return b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n"
    return b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(60)


def stream(rng: random.Random, keys: Sequence[int] = KNOWN_KEYS) -> bytes:
    """What one client sends in its life."""
    parts = [whole_frame(rng, number, keys) for number in range(rng.choice((0, 1, 2, 5, 20)))]
    if rng.random() < 0.5:
        parts.append(bent_frame(rng, 1000, keys))
        parts += [whole_frame(rng, 2000 + number, keys) for number in range(rng.randint(0, 3))]
    if rng.random() < 0.5:
        parts.append(noise(rng))
    data = b"".join(parts)
    if data and rng.random() < 0.3:
        data = data[: rng.randrange(len(data))]
    return data


def fragments(rng: random.Random, data: bytes) -> list[bytes]:
    """The same bytes in pieces of any size."""
    sizes = rng.choice(((1, 2, 3, 4), (1, 7, 100, 5000), (1000, 65_536, 200_000), (10**9,)))
    pieces = []
    position = 0
    budget = 400  # single bytes of a large stream would take all day
    while position < len(data):
        size = rng.choice(sizes) if budget > 0 else 100_000
        pieces.append(data[position : position + size])
        position += size
        budget -= 1
    return pieces


assert all(ADVERTISED[ApiKey(key)][1] == API_SPECS[key].max_version for key in KNOWN_KEYS)
