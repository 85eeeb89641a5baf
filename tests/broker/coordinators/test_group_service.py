"""Decisions carried out: loading with a leadership, answers, deadlines and expiry on the loop's clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from broker.config.load import build_config
from broker.coordinators.group.offsets import CommittedOffset
from broker.coordinators.group.records import RecordVersions, offset_key, offset_value
from broker.coordinators.group.requests import Committer, JoinRequest
from broker.coordinators.group_service import GroupService, record_versions
from broker.log_dirs.helper_link import HelperUnavailableError
from broker.metadata.cache import MetadataCache
from broker.protocol.errors import ErrorCode
from broker.replica.partition import Partition
from broker.replica.registry import PartitionRegistry
from storage.record.batch import read_header
from storage.record.records import iterate_records

pytestmark = pytest.mark.trio
SETTINGS = {
    "offsets.topic.num.partitions": "1", "offsets.retention.minutes": "1",
    "offsets.retention.check.interval.ms": "1000", "group.min.session.timeout.ms": "1000",
}  # fmt: skip
START_WALL_MS = 1_700_000_000_000
OLD = CommittedOffset(5, -1, "", START_WALL_MS)


class Ticket:
    """Keeps its answer."""

    def __init__(self) -> None:
        self.result: Any = None

    def answer(self, result: Any) -> None:
        self.result = result


class Log:
    """Writer and loader at once: what is appended is stored, and is what a load gives."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self.entries = [(0, 0, -1, offset_key("old", "t", 0), offset_value(OLD, RecordVersions()))]
        self.failures = 0

    def append(self, number: int, batch: bytes, done: Any) -> None:
        self.batches.append(batch)
        if done is not None:
            done(ErrorCode.NONE, len(self.batches))

    async def read(self, partition: Partition, apply: Any) -> list[str]:
        await trio.sleep(1)
        if self.failures:
            self.failures -= 1
            raise HelperUnavailableError("no helper process answered")
        apply(self.entries)
        return []


class World:
    def __init__(self, nursery: trio.Nursery) -> None:
        config = build_config({**SETTINGS, "log.dirs": "/nowhere"}, lambda: "host")
        self.log = Log()
        registry = PartitionRegistry()
        start_s = trio.current_time()
        self.service = GroupService(
            config, registry, MetadataCache(), self.log, self.log, None,  # type: ignore[arg-type]
            lambda: START_WALL_MS + round((trio.current_time() - start_s) * 1000), nursery.start_soon,
        )  # fmt: skip
        nursery.start_soon(self.service.run_deadlines)
        nursery.start_soon(self.service.run_expiry)
        self.partition = Partition("__consumer_offsets", 0, bytes(16), 0, "/nowhere", 1, 1)
        self.partition.replicas = self.partition.isr = (1,)
        registry.add(self.partition)

    def lead(self) -> None:
        self.partition.lead(1, 0, [])
        self.service.role_changed(self.partition)

    def status(self, group: str) -> ErrorCode:
        return self.service.coordinator.describe(group)[0]

    def offset(self, group: str) -> int | None:
        fetched = self.service.coordinator.fetch_offsets(group, [("t", 0)], False)[1][("t", 0)]
        return None if fetched.committed is None else fetched.committed.offset


@asynccontextmanager
async def running() -> AsyncIterator[World]:
    """Its tasks live no longer than the test, or a clock that jumps would run on with them."""
    async with trio.open_nursery() as nursery:
        yield World(nursery)
        nursery.cancel_scope.cancel()


async def test_a_leadership_begins_with_loading(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as world:
        world.lead()
        assert world.status("old") == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        await trio.sleep(1.1)
        assert (world.status("old"), world.offset("old")) == (ErrorCode.NONE, 5)


async def test_loading_is_tried_until_it_works(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as world:
        world.log.failures = 3
        world.lead()
        await trio.sleep(3)
        assert world.status("old") == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        await trio.sleep(10)
        assert world.offset("old") == 5


async def test_loading_ends_with_the_leadership(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as world:
        world.log.failures = 1000
        world.lead()
        await trio.sleep(2)
        world.partition.follow(2, 1)
        world.service.role_changed(world.partition)
        assert world.status("old") == ErrorCode.NOT_COORDINATOR
        await trio.sleep(30)
        failures = world.log.failures
        await trio.sleep(60)
        assert world.log.failures == failures


async def test_a_commit_is_one_batch_and_its_answer(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as world:
        world.lead()
        await trio.sleep(1.1)
        ticket = Ticket()
        offsets = {(topic, 0): OLD for topic in ("t", "u")}
        world.service.coordinator.commit("g", Committer(), offsets, ticket, world.service.now())
        world.service.settle()
        assert ticket.result == {("t", 0): ErrorCode.NONE, ("u", 0): ErrorCode.NONE}
        (batch,) = world.log.batches
        header = read_header(batch, 0)
        assert (header.record_count, header.producer_id, header.base_sequence) == (2, -1, 0)
        assert [record.key for record in iterate_records(batch, output_size_bytes_max=1000)] == [
            offset_key("g", "t", 0), offset_key("g", "u", 0)]  # fmt: skip


async def test_deadlines_are_kept_without_requests(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as world:
        world.lead()
        await trio.sleep(1.1)
        ticket = Ticket()
        join = JoinRequest("g", "", None, False, False, "client", "/1.2.3.4", 30_000, 5000, "consumer",
                           (("range", b""),))  # fmt: skip
        world.service.coordinator.join(join, ticket, world.service.now())
        world.service.settle()
        await trio.sleep(3.1)
        assert ticket.result.generation_id == 1
        group = world.service.coordinator.find("g")
        assert group is not None and group.members
        await trio.sleep(5.1)
        assert not group.members


async def test_offsets_expire_in_time(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as world:
        world.lead()
        await trio.sleep(55)
        assert world.offset("old") == 5
        await trio.sleep(10)
        assert world.offset("old") is None
        assert world.service.coordinator.find("old") is None
        (batch,) = world.log.batches
        assert [record.value for record in iterate_records(batch, output_size_bytes_max=1000)] == [None]


@pytest.mark.parametrize(
    ("version", "expected"),
    [("3.9", (3, 3)), ("2.2", (3, 2)), ("2.1-IV0", (2, 2)), ("2.0", (1, 1)), ("0.10.0", (1, 0))],
)
async def test_what_all_brokers_can_read_is_written(version: str, expected: tuple[int, int]) -> None:
    assert record_versions({"inter.broker.protocol.version": version}) == expected
