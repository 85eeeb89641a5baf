"""Fetch (key 1): read record batches, waiting for them if need be.

Versions: 0-3 carry formats v0/v1 and are answered UNSUPPORTED_VERSION per partition (not advertised);
4 isolation level; 5 log start; 7 sessions; 9 leader epoch fencing; 10 zstd; 11 rack id (no follower reads
yet: preferred replica is always -1); 12 flexible, diverging epoch; 13 topic ids; 15 replica state; 16 leader
endpoints; 17 replica directory id. Behaviours 38-49.

Journey: parse, session, one read per target (positions only), then either the parts of an answer (bytes by
send, ranges by sendfile) or a place in the purgatory; a partition's change or the timer answers it there.
Runs in: front end.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from broker.apis.ledger import FIRST_FETCH_WITH_FORMAT_V2
from broker.apis.services import Services
from broker.network.connection import Answer, Connection, Request
from broker.network.send_file import FileRange, Part
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader
from broker.protocol.hot_common import NodeEndpoint
from broker.protocol.hot_fetch import FetchRequest, parse_fetch_request
from broker.protocol.hot_fetch_response import fetch_response_encoder
from broker.replica.fetch_session import FetchContext, FetchSession, Target, TopicKey
from broker.replica.log_read import Obstacle, ReadResult, failed, not_found, read
from broker.replica.partition import Partition, Role
from storage.reader.errors import ColdReadError

log = logging.getLogger(__name__)

FIRST_VERSION_WITH_TOPIC_IDS = 13
PATIENCE_ATTEMPTS_MAX = 200
"""Cold reads or name changes that one fetch sits out before it answers without that partition's data."""
FIRST_VERSION_WITH_ZSTD = 10
LAST_VERSION_WITHOUT_STORAGE_ERROR = 5
NO_PREFERRED_REPLICA = -1
FIRST_VERSION_WITH_LEADER_HINTS = 16

NOT_FOUND_ERRORS = frozenset((ErrorCode.UNKNOWN_TOPIC_ID, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
"""Such partitions are not read: they are answered behind the others and do not end the others' wait."""

ERRORS_WITH_LEADER_HINT = frozenset((ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH))


NOT_COUNTED = -1


class FetchOperation:
    """One fetch between receipt and answer; parked while there is too little to say."""

    __slots__ = (
        "answered", "connection", "context", "correlation_id", "isolation_level", "is_follower",
        "max_bytes", "min_bytes", "missing_count", "obstacles_met", "overcoming", "overdue", "services",
        "tick", "version", "watched",
    )  # fmt: skip

    def __init__(
        self, services: Services, connection: Connection, header: RequestHeader, parsed: FetchRequest,
        context: FetchContext,
    ) -> None:  # fmt: skip
        self.services = services
        self.connection = connection
        self.context = context
        self.correlation_id = header.correlation_id
        self.version = header.api_version
        self.isolation_level = parsed.isolation_level
        self.is_follower = parsed.replica_id >= 0
        self.max_bytes = min(parsed.max_bytes, services.config["fetch.max.bytes"])
        self.min_bytes = min(parsed.min_bytes, self.max_bytes)
        self.missing_count = NOT_COUNTED
        self.tick = -1
        self.watched: list[Partition] = []
        self.answered = False
        self.overdue = False
        self.overcoming = False
        self.obstacles_met = 0

    # Reading

    def attempt(self, final: bool) -> list[Part] | None:
        """Read every target; the answer, or None when it is worth waiting (behaviour 40)."""
        results: list[ReadResult] = []
        total = missing = 0
        immediate = final
        min_one = self.version >= FIRST_FETCH_WITH_FORMAT_V2 - 1
        for target in self.context.targets:
            result = self._read(target, self.max_bytes - total, min_one)
            results.append(result)
            if result.data.size_bytes:
                total += result.data.size_bytes
                min_one = False
            if result.error in NOT_FOUND_ERRORS:
                missing += 1
            elif result.error or result.diverging is not None:
                immediate = True
        immediate |= self._misses(missing)
        waits = self._overcome(results) if total == 0 else _let_go(results)
        if not waits and (immediate or total >= self.min_bytes):
            return self._answer(results)
        for result in results:
            if result.data.file_range is not None:
                result.data.file_range.release()
        return None

    def _misses(self, missing: int) -> bool:
        """Whether there is nothing to wait for: no partition at all, or one that has just gone."""
        known, self.missing_count = self.missing_count, missing
        if known != NOT_COUNTED:
            return missing > known
        session = self.context.session
        return missing == len(self.context.targets if session is None else session.targets)

    def _overcome(self, results: list[ReadResult]) -> bool:
        """Start a task for the first obstacle; True when the answer has to wait for it."""
        first = None
        for target, result in zip(self.context.targets, results, strict=True):
            obstacle = result.obstacle
            if obstacle is None:
                continue
            if first is None and not self.overcoming and self.obstacles_met < PATIENCE_ATTEMPTS_MAX:
                first = (target, obstacle)
            elif isinstance(obstacle, ColdReadError):
                obstacle.release()
        if first is not None:
            self.overcoming = True
            self.obstacles_met += 1
            self.services.start_soon(self._wait_for, *first)
        return self.overcoming

    async def _wait_for(self, target: Target, obstacle: Obstacle) -> None:
        assert target.partition is not None
        try:
            await self.services.log_dirs.segments.overcome(target.partition.directory_index, obstacle)
        except OSError as error:
            log.error("Reading for a fetch: %s", error)
        self.overcoming = False
        if not self.answered:
            self._retarget()
            self._deliver(final=self.overdue)

    def _read(self, target: Target, left_bytes: int, min_one: bool) -> ReadResult:
        services = self.services
        topic = target.topic
        if topic is None:
            topic = target.topic = services.metadata.name_of(target.key)  # type: ignore[arg-type]
            if topic is None:
                return not_found(ErrorCode.UNKNOWN_TOPIC_ID)
        partition = services.registry.get(topic, target.number)
        self._bind(target, partition)
        error = self._refusal(target, topic, partition)
        if error or partition is None:
            return not_found(error) if error in NOT_FOUND_ERRORS else failed(error)
        result = read(
            services.log_dirs.segments, partition, target.fetch_offset, target.current_leader_epoch,
            target.last_fetched_epoch, min(target.max_bytes, left_bytes), min_one, self.isolation_level,
        )  # fmt: skip
        if result.error == ErrorCode.KAFKA_STORAGE_ERROR and self.version <= LAST_VERSION_WITHOUT_STORAGE_ERROR:
            return failed(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        return result

    def _bind(self, target: Target, partition: Partition | None) -> None:
        if self.context.session is not None:
            self.context.session.bind(target, partition)
        else:
            target.partition = partition

    def _refusal(self, target: Target, topic: str, partition: Partition | None) -> ErrorCode:
        if partition is None or partition.role is not Role.LEADER:
            if self.services.metadata.partition(topic, target.number) is None:
                return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            if partition is None:
                return ErrorCode.NOT_LEADER_OR_FOLLOWER
        if isinstance(target.key, bytes) and target.key != partition.topic_id:
            return ErrorCode.INCONSISTENT_TOPIC_ID
        if self.is_follower:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER if target.current_leader_epoch < 0 else (
                ErrorCode.UNKNOWN_LEADER_EPOCH
            )
        if self.version < FIRST_FETCH_WITH_FORMAT_V2:
            return ErrorCode.UNSUPPORTED_VERSION
        if self.version < FIRST_VERSION_WITH_ZSTD and partition.config.get("compression.type") == "zstd":
            return ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
        return ErrorCode.NONE

    # Waiting

    def park(self, wait_s: float) -> None:
        """Wait on the partitions (or the session that watches them) and on the clock."""
        self.connection.parked = self
        self.tick = self.services.purgatory.park(self, wait_s)
        session = self.context.session
        if session is not None:
            session.waiting = self
            return
        for target in self.context.targets:
            if target.partition is not None:
                target.partition.watchers.add(self)
                self.watched.append(target.partition)

    def partition_changed(self, partition: Partition) -> None:
        self.services.log_dirs.woken[self] = None

    def wake(self) -> None:
        """Something changed: answer if it is enough."""
        if not self.answered and not self.overcoming:
            self._retarget()
            self._deliver(final=False)

    def expire(self) -> None:
        """Time is up: answer with what there is, after the disk read that is under way."""
        self.overdue = True
        if not self.answered and not self.overcoming:
            self._retarget()
            self._deliver(final=True)

    def _retarget(self) -> None:
        """An incremental fetch looks at what has changed since it was parked, too."""
        if self.context.incremental and self.context.session is not None:
            self.context.targets = self.context.session.to_serve()

    def _deliver(self, final: bool) -> None:
        parts = self.attempt(final)
        if parts is not None:
            self._leave()
            self.connection.answer(parts)

    def abandon(self) -> None:
        """The connection is gone."""
        self._leave()

    def _leave(self) -> None:
        self.answered = True
        self.services.purgatory.unpark(self, self.tick)
        if self.context.session is not None and self.context.session.waiting is self:
            self.context.session.waiting = None
        for partition in self.watched:
            partition.watchers.discard(self)
        self.watched.clear()

    # Answering

    def _answer(self, results: list[ReadResult]) -> list[Part]:
        context = self.context
        by_id = self.version >= FIRST_VERSION_WITH_TOPIC_IDS
        topics: list[Any] = []
        ranges: list[FileRange | None] = []
        nodes: dict[int, NodeEndpoint] = {}
        last_key: TopicKey | None = None
        for target, result in self._in_answer_order(results):
            if not self._belongs(target, result):
                continue
            if not topics or last_key != target.key:
                last_key = target.key
                topics.append((None, last_key, []) if by_id else (last_key, None, []))
            leader = None
            if result.error in ERRORS_WITH_LEADER_HINT and self.version >= FIRST_VERSION_WITH_LEADER_HINTS:
                leader = self._leader_hint(target, nodes)
            topics[-1][2].append(_row(target, result, leader))
            ranges.append(result.data.file_range)
        encoded = fetch_response_encoder(self.version).encode(
            self.correlation_id, 0, context.error, context.session_id, topics, list(nodes.values())
        )
        return [ranges[part] if isinstance(part, int) else part for part in encoded]  # type: ignore[misc]

    def _in_answer_order(self, results: list[ReadResult]) -> list[tuple[Target, ReadResult]]:
        pairs = list(zip(self.context.targets, results, strict=True))
        if 0 < self.missing_count < len(pairs):
            pairs.sort(key=lambda pair: pair[1].error in NOT_FOUND_ERRORS)
        return pairs

    def _leader_hint(self, target: Target, nodes: dict[int, NodeEndpoint]) -> tuple[int, int] | None:
        """(leader, epoch) as metadata has them (KIP-951); `nodes` gets where it is reached."""
        metadata = self.services.metadata
        known = metadata.partition(target.topic or "", target.number)
        if known is None or known.leader < 0:
            return None
        node = metadata.endpoint(known.leader, self.connection.listener_name)
        if node is not None:
            nodes[node.broker_id] = (node.broker_id, node.host, node.port, node.rack)
        return (known.leader, known.leader_epoch)

    def _belongs(self, target: Target, result: ReadResult) -> bool:
        """Without a session every partition is answered; with one, those that bring news (KIP-227)."""
        if self.context.session is None:
            return True
        return self._note_told(self.context.session, target, result) or not self.context.incremental

    def _note_told(self, session: FetchSession, target: Target, result: ReadResult) -> bool:
        """Remember what the client now knows; True when there is news for it."""
        news = result.data.size_bytes > 0 or result.error != 0 or result.diverging is not None
        if not news:
            if not result.withheld and result.obstacle is None:
                session.pending.pop((target.key, target.number), None)
        elif result.data.size_bytes and self.context.incremental:
            session.put_last(target)
        changed = (
            target.told_high_watermark != result.high_watermark
            or target.told_log_start != result.log_start_offset
        )
        target.told_high_watermark = result.high_watermark
        target.told_log_start = result.log_start_offset
        return news or changed


def _let_go(results: list[ReadResult]) -> bool:
    """Other partitions have data: what is cold can wait for the next fetch."""
    for result in results:
        if isinstance(result.obstacle, ColdReadError):
            result.obstacle.release()
    return False


def _row(target: Target, result: ReadResult, leader: tuple[int, int] | None) -> tuple[Any, ...]:
    """One partition in the field order of `hot_fetch_response.PartitionResult`."""
    return (
        target.number, result.error, result.high_watermark, result.last_stable_offset,
        result.log_start_offset, result.data.size_bytes, result.aborted, NO_PREFERRED_REPLICA,
        result.diverging, leader,
    )  # fmt: skip


def _wanted(
    services: Services, parsed: FetchRequest
) -> Iterator[tuple[TopicKey, str | None, tuple[int, int, int, int, int, int]]]:
    for name, topic_id, partitions in parsed.topics:
        key: TopicKey = topic_id if topic_id is not None else name or ""
        topic = name if topic_id is None else services.metadata.name_of(topic_id)
        for wanted in partitions:
            yield key, topic, wanted


def _forgotten(parsed: FetchRequest) -> Iterator[tuple[TopicKey, int]]:
    for name, topic_id, partitions in parsed.forgotten:
        for number in partitions:
            yield (topic_id if topic_id is not None else name or ""), number


def handle(services: Services, header: RequestHeader, request: Request) -> Answer:
    """Answer at once, or park."""
    version = header.api_version
    parsed = parse_fetch_request(request.view, header.body_position, request.end, version)
    context = services.sessions.begin(
        parsed.session_id, parsed.session_epoch, version >= FIRST_VERSION_WITH_TOPIC_IDS,
        parsed.replica_id >= 0, _wanted(services, parsed), _forgotten(parsed),
    )  # fmt: skip
    operation = FetchOperation(services, request.connection, header, parsed, context)
    wait_ms = max(parsed.max_wait_ms, 0)
    operation.overdue = bool(context.error) or wait_ms == 0
    parts = operation.attempt(final=operation.overdue)
    if parts is None:
        operation.park(wait_ms / 1000)
    return parts
