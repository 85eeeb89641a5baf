"""The same bytes against a whole broker over TCP: its processes, its log, its shared memory.

Requests that reach the controller process are left out: a random one may ask for two thousand million
partitions. They are fuzzed in this process, where the controller is a stand-in.
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ProtocolError
from broker.protocol.frames import parse_request_header
from broker.protocol.hot_fetch import parse_fetch_request
from storage.ipc.arena import IDLE_KEPT_BYTES_DEFAULT
from tests.broker.network.harness import Peer
from tests.fuzz import inputs
from tests.fuzz.conversation import Conversation
from tests.fuzz.oracle import Fate, judge
from tests.peers.ottla_broker import OttlaBroker
from tests.peers.wire import WireConnection, wait_for_leaders

REQUEST_BYTES_MAX = 2 << 20
CLIENTS_AT_ONCE = 6
LONGEST_FETCH_WAIT_MS = 1000
CONTROLLER_KEYS = {ApiKey.CREATE_TOPICS, ApiKey.DELETE_TOPICS, ApiKey.CREATE_PARTITIONS}
KEYS = [key for key in inputs.KNOWN_KEYS if key not in CONTROLLER_KEYS]
OVERRIDES = {"socket.request.max.bytes": str(REQUEST_BYTES_MAX), "auto.create.topics.enable": "false"}
PROCESSES = ("front end", "storage", "controller")
ARENA_RESIDENT_BYTES_MAX = IDLE_KEPT_BYTES_DEFAULT + (10 << 20)


class Fuzzer:
    """A broker and what has been done to it."""

    def __init__(self, broker: OttlaBroker, seed: int) -> None:
        self._broker = broker
        self._random = random.Random(seed)
        self.closed_count = 0

    async def run(self, conversation_count: int) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(CLIENTS_AT_ONCE):
                nursery.start_soon(self._client, conversation_count // CLIENTS_AT_ONCE)

    async def _client(self, count: int) -> None:
        for _ in range(count):
            await self._converse(self._random.randrange(2**32))

    async def _converse(self, seed: int) -> None:
        rng = random.Random(seed)
        data = inputs.stream(rng, KEYS)
        verdicts = judge(data, REQUEST_BYTES_MAX)
        if not _is_patient(data) or _asks_controller(data):
            return
        peer = Peer(socket.create_connection(self._broker.address))
        conversation = Conversation(
            peer, inputs.fragments(rng, data), verdicts, rng, patience_s=20, aftermath_s=0.05, pauses=False
        )
        try:
            await conversation.hold()
            conversation.check()
        except (AssertionError, trio.TooSlowError) as error:
            raise AssertionError(f"conversation of seed {seed}") from error
        finally:
            peer.close()
        must_close = any(verdict.fate is Fate.CLOSE for verdict in verdicts)
        assert conversation.was_closed or not must_close
        self.closed_count += conversation.was_closed


def _frames(data: bytes) -> list[memoryview]:
    found = []
    position = 0
    while len(data) - position >= 4:
        size = int.from_bytes(data[position : position + 4], "big", signed=True)
        if size < 10 or position + 4 + size > len(data):
            break
        found.append(memoryview(data)[position + 4 : position + 4 + size])
        position += 4 + size
    return found


def _is_patient(data: bytes) -> bool:
    """No fetch that was bent waits for days."""
    for frame in _frames(data):
        try:
            header = parse_request_header(frame, 0, len(frame))
            if header.api_key == ApiKey.FETCH:
                parsed = parse_fetch_request(frame, header.body_position, len(frame), header.api_version)
                if parsed.max_wait_ms > LONGEST_FETCH_WAIT_MS:
                    return False
        except ProtocolError:
            return True
    return True


def _asks_controller(data: bytes) -> bool:
    return any(int.from_bytes(frame[:2], "big") in CONTROLLER_KEYS for frame in _frames(data))


def arena_resident_bytes(front_end_pid: int) -> int:
    """What the front end's arena holds of memory now."""
    directory = Path(f"/proc/{front_end_pid}/fd")
    for entry in directory.iterdir():
        if os.readlink(entry).startswith("/memfd:ottla-arena"):
            return os.stat(entry).st_blocks * 512
    raise AssertionError("the front end has no arena")


def closing_lines(broker: OttlaBroker) -> int:
    return broker.log_text().count("Closing connection from")


def hold(make_ottla: Callable[..., OttlaBroker], seed: int, conversation_count: int) -> None:
    broker = make_ottla(overrides=OVERRIDES)
    broker.start()
    pids = [broker.pid_of(part) for part in PROCESSES]
    with WireConnection(broker.address) as other:
        other.create_topic(inputs.TOPIC, inputs.PARTITION_COUNT)
        wait_for_leaders(broker.address, {inputs.TOPIC: inputs.PARTITION_COUNT})
        fuzzer = Fuzzer(broker, seed)
        trio.run(fuzzer.run, conversation_count)
        assert other.list_offset(inputs.TOPIC, 0) > 0, "a connection that behaved is still served"
    deadline_s = time.monotonic() + 5
    while closing_lines(broker) < fuzzer.closed_count and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert closing_lines(broker) == fuzzer.closed_count > 0
    assert "Traceback" not in broker.log_text()
    assert [broker.pid_of(part) for part in PROCESSES] == pids
    assert arena_resident_bytes(pids[0]) < ARENA_RESIDENT_BYTES_MAX


def test_a_broker_outlives_its_clients(make_ottla: Callable[..., OttlaBroker]) -> None:
    hold(make_ottla, 20261122, 150)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_broker_outlives_many_clients(make_ottla: Callable[..., OttlaBroker], seed: int) -> None:
    hold(make_ottla, seed, 3000)
