"""Record data go from the page cache to the socket by sendfile; the front end reads headers and indexes only.

strace is attached to the front end, so this is what the kernel saw, whatever the code says. Allowed are:

| on | by | why |
|---|---|---|
| `.log` | sendfile, any size | this is how records leave |
| `.log` | reads of up to 61 bytes | a batch header: where a batch begins and how long it is (KIP-74) |
| `.index`, `.timeindex`, `.txnindex` | reads | look-ups; there are no record data in them |
| `.log` | reads by a *worker thread* | ranges that are not cached: sendfile on the loop would wait for the disk |
| `.log` | preadv2 with RWF_NOWAIT | the probe for such ranges, where the kernel lacks cachestat (before 6.5) |

TLS copies by its nature and is not looked at here.
"""
from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka import Producer

from broker.protocol.api_keys import ApiKey
from storage.reader.page_cache import PageCacheProbe
from storage.record.batch import BATCH_OVERHEAD, iterate_headers, read_extent
from tests.conftest import unavailable
from tests.integration.apis.brokers import Topic
from tests.integration.apis.records import batch
from tests.integration.apis.requests import (
    LATEST,
    LATEST_FETCH,
    READ_COMMITTED,
    append,
    fetch,
    fetch_partition,
    fetch_request,
    list_offsets,
    only_partition,
)
from tests.integration.apis.wire import Client
from tests.integration.kafka_directories.views import topics_of
from tests.peers.ottla_broker import OttlaBroker
from tests.peers.processes import PeerUnavailableError, wait_until
from tests.peers.wire import WireConnection, wait_for_leaders

TOPIC = "sent"
RECORD_COUNT = 12_000
SEGMENT_BYTES = 4 << 20
FETCH_BYTES = 1 << 20
TRACED = "read,readv,pread64,preadv,preadv2,mmap,sendfile,splice,copy_file_range"
_CALL = re.compile(r"^(\w+)\((.*)\)\s+= (-?\d+)")
_DESCRIPTOR = re.compile(r"\d+<([^>]*)>")


class FileCall(NamedTuple):
    """A system call on a file of the log directory. path: of the file that was read."""

    thread_id: int
    name: str
    path: str
    size_bytes: int
    nowait: bool


class Trace:
    """What the threads of the front end did while it was traced."""

    def __init__(self, output: Path, log_dir: Path, loop_thread_id: int) -> None:
        self.loop_thread_id = loop_thread_id
        self.calls = [call for path in sorted(output.glob("calls.*")) for call in _calls(path, str(log_dir))]

    def sent_bytes(self) -> int:
        return sum(call.size_bytes for call in self.calls if call.name == "sendfile")

    def reads(self, suffix: str) -> list[FileCall]:
        return [call for call in self.calls if call.name != "sendfile" and call.path.endswith(suffix)]


def _calls(path: Path, log_dir: str) -> Iterator[FileCall]:
    for line in path.read_text(errors="replace").splitlines():
        found = _CALL.match(line)
        if found is None:
            continue
        name, arguments, result = found.groups()
        read_from = [file for file in _DESCRIPTOR.findall(arguments) if file.startswith(log_dir)]
        if not read_from:
            continue
        size = int(re.findall(r", (\d+)", arguments)[0]) if name == "mmap" else max(int(result), 0)
        yield FileCall(int(path.suffix[1:]), name, read_from[0], size, "RWF_NOWAIT" in arguments)


@contextmanager
def traced(broker: OttlaBroker, output: Path) -> Iterator[list[Trace]]:
    """strace on all threads of the front end; the one item of the list is there when the block has ended."""
    if shutil.which("strace") is None:
        unavailable(PeerUnavailableError("no strace found (Debian: strace)"))
    output.mkdir()
    pid = broker.pid_of("front end")
    told = output / "strace.log"
    with told.open("wb") as log:
        strace = subprocess.Popen(["strace", "-f", "-ff", "-y", "-s", "0", "-e", f"trace={TRACED}", "-p", str(pid),
                                   "-o", str(output / "calls")], stderr=log)
    traces: list[Trace] = []
    try:
        wait_until(lambda: strace.poll() is not None or b"attached" in told.read_bytes(), "strace is attached", 20)
        assert strace.poll() is None, told.read_text()
        yield traces
    finally:
        strace.send_signal(signal.SIGINT)
        strace.wait(20)
    traces.append(Trace(output, broker.log_dirs[0], pid))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OttlaBroker]:
    """Several segments of records of about 1 KB, in batches of some 100 KB."""
    node = OttlaBroker(tmp_path_factory.mktemp("sendfile"), {"log.segment.bytes": str(SEGMENT_BYTES)})
    node.start()
    with WireConnection(node.address) as connection:
        connection.create_topic(TOPIC, 1)
    wait_for_leaders(node.address, {TOPIC: 1})
    producer = Producer({"bootstrap.servers": node.bootstrap, "batch.size": 100_000, "linger.ms": 20,
                         "queue.buffering.max.messages": RECORD_COUNT})
    for index in range(RECORD_COUNT):
        producer.produce(TOPIC, b"%d " % index + os.urandom(1000))
    assert producer.flush(60) == 0
    yield node
    node.close()


@pytest.fixture
def topic(broker: OttlaBroker) -> Topic:
    return topics_of(broker.address)[TOPIC][0]


def read_all(client: Client, topic: Topic, version: int) -> int:
    """Bytes of records, from the beginning to the end."""
    offset, total = 0, 0
    while True:
        answer = fetch(client, topic, offset, version=version, partition_max_bytes=FETCH_BYTES)
        data = bytes(answer.records or b"")
        if not data:
            return total
        total += len(data)
        *_, (_, last) = iterate_headers(data, allow_partial=True)
        offset = last.next_offset


def read_little(client: Client, topic: Topic) -> int:
    """One byte asked for, a whole batch given, wherever it is and whatever its middle is called."""
    total = 0
    for offset in range(0, RECORD_COUNT, 501):
        answer = fetch(client, topic, offset, partition_max_bytes=1, isolation_level=READ_COMMITTED)
        data = bytes(answer.records)
        assert read_extent(data, 0, len(data)) is not None
        total += len(data)
    return total


def read_tail(client: Client, writer: Client, topic: Topic) -> int:
    """Fetches that are parked at the end and woken by the next record."""
    total = 0
    for _ in range(20):
        offset = list_offsets(client, topic, LATEST).offset
        wanted = fetch_request(LATEST_FETCH, [(topic, [fetch_partition(0, offset)])], max_wait_ms=10_000)
        client.send(ApiKey.FETCH, LATEST_FETCH, wanted)
        append(writer, topic, batch(b"the newest"))
        _, answer = client.receive(ApiKey.FETCH, LATEST_FETCH)
        total += len(only_partition(answer).records)
    return total


def drop_from_page_cache(paths: Iterator[Path]) -> None:
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def is_probe(call: FileCall, cachestat_works: bool) -> bool:
    return call.nowait and not cachestat_works


def kernel_knows_the_cache(log_dir: Path) -> bool:
    """Whether the front end can ask without copying (cachestat, or a file system that is all memory)."""
    probe = PageCacheProbe(str(log_dir))
    segment = next(log_dir.glob(f"{TOPIC}-0/*.log"))
    fd = os.open(segment, os.O_RDONLY)
    probe.probe_cold(fd, 0, 1)
    os.close(fd)
    return probe.always_warm or probe.cachestat_works


def consume_in_every_way(broker: OttlaBroker, topic: Topic) -> int:
    """Bytes of records received."""
    with Client(broker.address) as client, Client(broker.address) as writer:
        total = sum(read_all(client, topic, version) for version in (4, 11, LATEST_FETCH))
        total += read_little(client, topic)
        total += read_tail(client, writer, topic)
        assert list_offsets(client, topic, 1).offset >= 0  # by time: a helper process decodes
    return total


def test_every_record_byte_leaves_by_sendfile(broker: OttlaBroker, topic: Topic, tmp_path: Path) -> None:
    with traced(broker, tmp_path / "trace") as traces:
        received = consume_in_every_way(broker, topic)
    (trace,) = traces
    assert received > 3 * RECORD_COUNT * 1000
    assert trace.sent_bytes() == received


def test_front_end_reads_of_segments_only_batch_headers(broker: OttlaBroker, topic: Topic, tmp_path: Path) -> None:
    """All of it was just written, so no worker has to fetch anything either."""
    with traced(broker, tmp_path / "trace") as traces:
        consume_in_every_way(broker, topic)
    (trace,) = traces
    cachestat_works = kernel_knows_the_cache(broker.log_dirs[0])
    of_log = [call for call in trace.reads(".log") if not is_probe(call, cachestat_works)]
    assert of_log, "nothing traced: small fetches must look at headers"
    assert {call.name for call in of_log} <= {"pread64", "preadv2"}
    assert max(call.size_bytes for call in of_log) <= BATCH_OVERHEAD
    others = {Path(call.path).suffix for call in trace.calls} - {".log"}
    assert others <= {".index", ".timeindex", ".txnindex"}


def test_cold_segments_are_fetched_by_workers_and_still_sent_by_sendfile(
        broker: OttlaBroker, topic: Topic, tmp_path: Path) -> None:
    log_files: Callable[[], Iterator[Path]] = lambda: broker.log_dirs[0].glob(f"{TOPIC}-0/*.log")  # noqa: E731
    with Client(broker.address) as client, traced(broker, tmp_path / "trace") as traces:
        drop_from_page_cache(log_files())
        received = read_all(client, topic, LATEST_FETCH)
    (trace,) = traces
    assert trace.sent_bytes() == received
    cachestat_works = kernel_knows_the_cache(broker.log_dirs[0])
    on_the_loop = [call for call in trace.reads(".log")
                   if call.thread_id == trace.loop_thread_id and not is_probe(call, cachestat_works)]
    assert max((call.size_bytes for call in on_the_loop), default=0) <= BATCH_OVERHEAD
    if not PageCacheProbe(str(broker.log_dirs[0])).always_warm:
        assert any(call.size_bytes > BATCH_OVERHEAD for call in trace.reads(".log")), "nothing was cold"
