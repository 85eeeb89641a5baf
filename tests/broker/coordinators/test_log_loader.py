"""A partition read from its beginning to where it ended, over segments, by a helper."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import pytest
import trio

from broker.coordinators.log_loader import LogLoader
from broker.log_dirs.helper_link import COORDINATOR_LOADING, HelperLink, HelperUnavailableError
from broker.replica.marks import LogPosition
from broker.replica.partition import Partition
from storage.helpers.main import answer_request, helper_main
from storage.ipc.control import ControlSocket
from storage.reader.partition_reader import Location
from storage.record.records import Record, build_batch

pytestmark = pytest.mark.trio
CHUNK_BYTES = 2000


class File:
    """A segment's log file, as the reader hands it out."""

    def __init__(self, data: bytes) -> None:
        self.fd = os.memfd_create("segment")
        os.pwrite(self.fd, data, 0)
        self.pins = 0

    def size_bytes(self) -> int:
        return os.fstat(self.fd).st_size

    def release(self) -> None:
        self.pins -= 1


class Segments:
    """Segments by base offset, ten records each; stands for SegmentReaders and its reader."""

    def __init__(self, count: int) -> None:
        self.files: dict[int, File] = {}
        for base in range(0, count * 10, 10):
            self.files[base] = File(b"".join(
                build_batch([Record(offset, 0, b"key-%d" % offset, b"v" * 300)])
                for offset in range(base, base + 10)
            ))  # fmt: skip

    def reader(self, partition: Partition) -> Segments:
        return self

    def locate(self, offset: int, *end: int) -> Location:
        base = offset // 10 * 10
        return Location(base, self.files[base].size_bytes() // 10 * (offset - base))

    def segments_from(self, base: int) -> list[int]:
        return [each for each in self.files if each >= base]

    def descriptor(self, base: int) -> File:
        self.files[base].pins += 1
        return self.files[base]

    async def patiently(self, directory_index: int, look_up: Callable[[], Any]) -> Any:
        return look_up()


class Helpers:
    """Answers in this process; `failing`: asks that get no answer."""

    def __init__(self) -> None:
        self.failing = 0
        self.count = 0

    async def ask(self, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        self.count += 1
        if self.failing:
            raise HelperUnavailableError("no helper process answered")
        return {"kind": "answer", "result": answer_request(message, fds)}


@pytest.fixture
def segments() -> Iterator[Segments]:
    made = Segments(3)
    yield made
    for file in made.files.values():
        assert file.pins == 0
        os.close(file.fd)


def partition(segments: Segments, start: int, end: int) -> Partition:
    made = Partition("__consumer_offsets", 0, bytes(16), 0, "/nowhere", 1, 1)
    position = segments.locate(end - 1)
    size = segments.files[position.segment_base].size_bytes() // 10
    made.log_opened(start, LogPosition(end, position.segment_base, position.position + size), -1, 2, end)
    return made


async def read(segments: Segments, helpers: Any, start: int, end: int) -> list[bytes]:
    entries: list[Any] = []
    loader = LogLoader(segments, helpers, CHUNK_BYTES)  # type: ignore[arg-type]
    assert await loader.read(partition(segments, start, end), entries.extend) == []
    return [entry[3] for entry in entries]


@pytest.mark.parametrize(("start", "end"), [(0, 30), (0, 25), (4, 30), (10, 20), (29, 30), (0, 1)])
async def test_every_record_from_the_start_to_the_end(segments: Segments, start: int, end: int) -> None:
    helpers = Helpers()
    assert await read(segments, helpers, start, end) == [b"key-%d" % offset for offset in range(start, end)]


async def test_an_empty_log_asks_nobody(segments: Segments) -> None:
    loader = LogLoader(segments, Helpers(), CHUNK_BYTES)  # type: ignore[arg-type]
    empty = Partition("__consumer_offsets", 0, bytes(16), 0, "/nowhere", 1, 1)
    assert await loader.read(empty, lambda entries: pytest.fail("there is nothing")) == []


async def test_it_comes_in_chunks(segments: Segments) -> None:
    helpers = Helpers()
    await read(segments, helpers, 0, 30)
    assert helpers.count == 6  # six batches of 380 bytes make a chunk of 2000


async def test_files_are_let_go_when_no_helper_answers(segments: Segments) -> None:
    helpers = Helpers()
    helpers.failing = 1
    with pytest.raises(HelperUnavailableError):
        await read(segments, helpers, 0, 30)


async def test_a_helper_process_answers_with_more_than_a_datagram_holds() -> None:
    """The result lies in a memfd; here the helper is a thread, its socket and its answers are real."""
    big = File(build_batch([Record(offset, 0, b"key-%d" % offset, b"v" * 1000) for offset in range(200)]))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asked: list[dict[str, Any]] = []
    link = HelperLink(asked.append, COORDINATOR_LOADING)
    helper = Thread(target=helper_main, args=(theirs,))
    helper.start()
    async with trio.open_nursery() as nursery:
        message = {"kind": "read_records", "start_position": 0, "limit": big.size_bytes(), "size_bytes_max": 1}

        async def ask() -> None:
            answer = await link.ask(message, [big.fd])
            assert len(answer["result"][0]) == 200
            assert answer["result"][0][-1][3] == b"key-199"

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        link.arrived(ControlSocket(ours))
    assert asked == [{"kind": "helper_wanted", "purpose": "coordinator loading"}]
    before = len(os.listdir("/proc/self/fd"))
    await link.ask(message, [big.fd])
    assert len(os.listdir("/proc/self/fd")) == before
    ours.close()
    helper.join(10)
    os.close(big.fd)
