"""Incremental fetch sessions (KIP-227), driven by change.

What: what each session's client wants to read and what it was last told; a fetch looks only at partitions
that changed, that the client touched, or that had more to give than fitted.
Why driven by change: walking a session of 10,000 partitions on every fetch costs milliseconds of the loop
(REVIEW item 32); a partition's change marks the sessions that hold it instead.
Runs in: front end. Owner: the front end's one `FetchSessions`. The clock is an argument.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol

from broker.protocol.errors import ErrorCode
from broker.replica.partition import Partition

INITIAL_EPOCH = 0
FINAL_EPOCH = -1
EPOCH_MAX = 2**31 - 1
NO_SESSION = 0

TopicKey = str | bytes
"""Topic name up to Fetch v12, topic id (16 bytes) from v13; one session never mixes them."""


class Target:
    """One partition of a fetch: what the client asked for and, in a session, what it was told last."""

    __slots__ = (
        "current_leader_epoch", "fetch_offset", "key", "last_fetched_epoch", "max_bytes", "number",
        "partition", "rank", "told_high_watermark", "told_log_start", "topic",
    )  # fmt: skip

    def __init__(self, key: TopicKey, topic: str | None, wanted: tuple[int, int, int, int, int, int]) -> None:
        self.key = key
        self.topic = topic
        self.partition: Partition | None = None
        self.rank = 0
        self.told_high_watermark = -1
        self.told_log_start = -1
        self.ask(wanted)

    def ask(self, wanted: tuple[int, int, int, int, int, int]) -> None:
        """The client's newest wish: (partition, leader epoch, offset, last fetched epoch, log start, max)."""
        (self.number, self.current_leader_epoch, self.fetch_offset, self.last_fetched_epoch, _,
         self.max_bytes) = wanted  # fmt: skip


_RANK = attrgetter("rank")


class Waiting(Protocol):
    """The fetch that waits on a session, if any."""

    def partition_changed(self, partition: Partition) -> None: ...


class FetchSession:
    """`targets` by place; `pending` holds those that the next fetch must look at.

    They are served by rank: who gave data goes behind all others, so that with tight limits everybody gets
    a turn.
    """

    def __init__(self, session_id: int, by_id: bool, privileged: bool, now_s: float) -> None:
        self.session_id = session_id
        self.by_id = by_id
        self.privileged = privileged
        self.created_s = self.last_used_s = now_s
        self.epoch = INITIAL_EPOCH + 1
        self.targets: dict[tuple[TopicKey, int], Target] = {}
        self.pending: dict[tuple[TopicKey, int], Target] = {}
        self.waiting: Waiting | None = None
        self._by_partition: dict[Partition, Target] = {}
        self._last_rank = 0

    def want(self, key: TopicKey, topic: str | None, wanted: tuple[int, int, int, int, int, int]) -> None:
        """Add a partition or take the client's new offset for it."""
        place = (key, wanted[0])
        target = self.targets.get(place)
        if target is None:
            target = self.targets[place] = Target(key, topic, wanted)
            self.put_last(target)
        else:
            target.ask(wanted)
            target.topic = topic if topic is not None else target.topic
        self.pending[place] = target

    def put_last(self, target: Target) -> None:
        """It has just joined, or has just given data."""
        self._last_rank += 1
        target.rank = self._last_rank

    def to_serve(self) -> list[Target]:
        """What the next fetch looks at, in its order."""
        if len(self.pending) < 2:
            return list(self.pending.values())
        return sorted(self.pending.values(), key=_RANK)

    def forget(self, key: TopicKey, number: int) -> None:
        target = self.targets.pop((key, number), None)
        self.pending.pop((key, number), None)
        if target is not None:
            self.bind(target, None)

    def bind(self, target: Target, partition: Partition | None) -> None:
        """Watch the hosted partition behind a target; None stops watching."""
        if target.partition is partition:
            return
        if target.partition is not None:
            target.partition.watchers.discard(self)
            self._by_partition.pop(target.partition, None)
        target.partition = partition
        if partition is not None:
            partition.watchers.add(self)
            self._by_partition[partition] = target

    def partition_changed(self, partition: Partition) -> None:
        """Called by a partition that gained data, moved its watermark or changed its role."""
        target = self._by_partition.get(partition)
        if target is not None:
            self.pending[(target.key, target.number)] = target
            if self.waiting is not None:
                self.waiting.partition_changed(partition)

    def close(self) -> None:
        for target in self.targets.values():
            self.bind(target, None)
        self.targets.clear()
        self.pending.clear()


@dataclass(slots=True)
class FetchContext:
    """What one fetch reads. session None: all targets are answered; incremental: only those with news."""

    error: int
    session: FetchSession | None
    targets: list[Target]
    incremental: bool

    @property
    def session_id(self) -> int:
        return NO_SESSION if self.session is None else self.session.session_id


def _distinct(
    wanted: Iterable[tuple[TopicKey, str | None, tuple[int, int, int, int, int, int]]],
) -> list[Target]:
    """Of a partition that is named twice the last wish counts, in the place of the first."""
    targets = {(key, entry[0]): Target(key, topic, entry) for key, topic, entry in wanted}
    return list(targets.values())


def refused(error: ErrorCode) -> FetchContext:
    return FetchContext(int(error), None, [], False)


class FetchSessions:
    """The cache: at most `slots_max`, evicting as Kafka's FetchSessionCache (behaviour 47)."""

    def __init__(self, slots_max: int, eviction_s: float, clock: Callable[[], float]) -> None:
        self._slots_max = slots_max
        self._eviction_s = eviction_s
        self._clock = clock
        self._random = random.SystemRandom()
        self._sessions: OrderedDict[int, FetchSession] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(
        self, session_id: int, epoch: int, by_id: bool, privileged: bool,
        wanted: Iterable[tuple[TopicKey, str | None, tuple[int, int, int, int, int, int]]],
        forgotten: Iterable[tuple[TopicKey, int]],
    ) -> FetchContext:  # fmt: skip
        """The context of one fetch, by KIP-227's table of (session id, epoch)."""
        if epoch in (INITIAL_EPOCH, FINAL_EPOCH):
            if session_id != NO_SESSION:
                self._remove(session_id)
            if epoch == FINAL_EPOCH:
                return FetchContext(0, None, _distinct(wanted), False)
            return self._full(by_id, privileged, list(wanted))
        session = self._sessions.get(session_id)
        if session is None:
            return refused(ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        if session.epoch != epoch:
            return refused(ErrorCode.INVALID_FETCH_SESSION_EPOCH)
        if session.by_id != by_id:
            return refused(ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR)
        return self._incremental(session, wanted, forgotten)

    def _full(
        self, by_id: bool, privileged: bool,
        wanted: list[tuple[TopicKey, str | None, tuple[int, int, int, int, int, int]]],
    ) -> FetchContext:  # fmt: skip
        """A full fetch, which makes a session when there is room, even one of nothing, as Kafka does."""
        now = self._clock()
        if not self._make_room(privileged, len(wanted), now):
            return FetchContext(0, None, _distinct(wanted), False)
        session_id = NO_SESSION
        while session_id == NO_SESSION or session_id in self._sessions:
            session_id = self._random.randrange(1, EPOCH_MAX)
        session = FetchSession(session_id, by_id, privileged, now)
        for key, topic, entry in wanted:
            session.want(key, topic, entry)
        self._sessions[session_id] = session
        return FetchContext(0, session, list(session.targets.values()), False)

    def _incremental(
        self, session: FetchSession,
        wanted: Iterable[tuple[TopicKey, str | None, tuple[int, int, int, int, int, int]]],
        forgotten: Iterable[tuple[TopicKey, int]],
    ) -> FetchContext:  # fmt: skip
        for key, topic, entry in wanted:
            session.want(key, topic, entry)
        for key, number in forgotten:
            session.forget(key, number)
        session.last_used_s = self._clock()
        self._sessions.move_to_end(session.session_id)
        if not session.targets:
            self._remove(session.session_id)
            return FetchContext(0, None, [], True)
        session.epoch = 1 if session.epoch == EPOCH_MAX else session.epoch + 1
        return FetchContext(0, session, session.to_serve(), True)

    def _make_room(self, privileged: bool, size: int, now_s: float) -> bool:
        """Room for one more: evict the longest unused if stale, else a lesser one that had its time."""
        if len(self._sessions) < self._slots_max:
            return True
        if not self._sessions:
            return False
        oldest = next(iter(self._sessions.values()))
        if now_s - oldest.last_used_s > self._eviction_s:
            self._remove(oldest.session_id)
            return True
        lesser = min(self._sessions.values(), key=lambda session: (session.privileged, len(session.targets)))
        had_its_time = now_s - lesser.created_s > self._eviction_s
        if had_its_time and (lesser.privileged, len(lesser.targets)) < (privileged, size):
            self._remove(lesser.session_id)
            return True
        return False

    def _remove(self, session_id: int) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            session.close()
