"""Runs a text of requests against the group coordinator and writes down what it answers.

A transcript is a text file. Lines that begin with `>` are what happens; the lines below each are what follows from
it and are compared with what the coordinator does. `#` begins a remark.

    > join g c1                      JoinGroup without an id; `c1` is the client, the ticket and the first part of
                                     its ids, which end in a number instead of a UUID
    > join g c1 id=c1-1 protocols=range:x,roundrobin:y session=10000 rebalance=30000 instance=i1 old v9
    > sync g c1 id=c1-1 gen=1 assign=c1-1:A,c2-2:B
    > heartbeat g id=c1-1 gen=1
    > leave g id=c1-1
    > commit g c1 t-0=5 id=c1-1 gen=1
    > fetch g t-0
    > describe g
    > delete g
    > pass 10000                     milliseconds
    > stored / failed NOT_ENOUGH_REPLICAS    the oldest append is in the log, or is not
    > unload / load                  the leadership goes, and comes back with what is in the log

Runs in: the test process. PURE but for the file that it reads.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from broker.coordinators.effects import Append, Now, Record, Reply
from broker.coordinators.group.commits import OffsetLimits
from broker.coordinators.group.coordinator import GroupCoordinator
from broker.coordinators.group.loading import LogContent
from broker.coordinators.group.offsets import CommittedOffset, TopicPartition
from broker.coordinators.group.rebalance import GroupLimits
from broker.coordinators.group.records import (
    GroupKey,
    OffsetKey,
    RecordVersions,
    read_group_value,
    read_key,
    read_offset_value,
)
from broker.coordinators.group.requests import (
    Committer,
    JoinRequest,
    JoinResult,
    LeavingMember,
    SyncRequest,
    SyncResult,
)
from broker.protocol.errors import ErrorCode

LIMITS = GroupLimits(
    session_timeout_ms_min=1000, session_timeout_ms_max=60_000, member_count_max=3,
    initial_rebalance_delay_ms=3000,
)  # fmt: skip
OFFSET_LIMITS = OffsetLimits(metadata_length_max=10, retention_ms=100_000)
START_WALL_MS = 1_700_000_000_000
PARTITION = 0


class Script:
    """One coordinator with one partition. log: what was appended and stored."""

    def __init__(self) -> None:
        self.log: list[Record] = []
        self._now_ms = 0
        numbers = itertools.count(1)
        self.coordinator = GroupCoordinator(
            LIMITS, OFFSET_LIMITS, RecordVersions(), lambda group: PARTITION, lambda: str(next(numbers))
        )
        self._appends: list[Append] = []
        self._epoch = 0
        self._load()

    @property
    def now(self) -> Now:
        return Now(self._now_ms, START_WALL_MS + self._now_ms)

    def run(self, line: str) -> list[str]:
        """What follows from one line."""
        verb, *rest = line.split()
        words = [word for word in rest if "=" not in word]
        values = dict(word.split("=", 1) for word in rest if "=" in word)
        direct = getattr(self, f"_{verb}")(words, values)
        return [*(direct or ()), *self._consequences()]

    def _consequences(self) -> Iterator[str]:
        for effect in self.coordinator.take_effects():
            if isinstance(effect, Reply):
                yield f"{effect.ticket}: {_result(effect.result)}"
            elif isinstance(effect, Append):
                self._appends.append(effect)
                for key, value in effect.records:
                    yield f"append {_record(key, value)}"

    # Requests

    def _join(self, words: list[str], values: dict[str, str]) -> None:
        group, client, *flags = words
        member_id, instance = values.get("id", ""), values.get("instance")
        protocols = tuple(
            (name, metadata.encode())
            for name, _, metadata in (each.partition(":") for each in _list(values.get("protocols", "range:")))
        )
        request = JoinRequest(
            group, member_id, instance, instance is None and "old" not in flags, "v9" in flags, client,
            "/1.2.3.4", int(values.get("rebalance", 30_000)), int(values.get("session", 10_000)),
            values.get("type", "consumer"), protocols,
        )  # fmt: skip
        self.coordinator.join(request, client, self.now)

    def _sync(self, words: list[str], values: dict[str, str]) -> None:
        group, client = words
        assignments = dict(each.split(":") for each in _list(values.get("assign", "")))
        request = SyncRequest(
            group, int(values["gen"]), values["id"], values.get("instance"), values.get("type"),
            values.get("protocol"), {member: part.encode() for member, part in assignments.items()},
        )  # fmt: skip
        self.coordinator.sync(request, client, self.now)

    def _heartbeat(self, words: list[str], values: dict[str, str]) -> list[str]:
        error = self.coordinator.heartbeat(
            words[0], values["id"], values.get("instance"), int(values["gen"]), self.now
        )
        return [error.name]

    def _leave(self, words: list[str], values: dict[str, str]) -> list[str]:
        leaving = [LeavingMember(values.get("id", ""), values.get("instance"))]
        error, errors = self.coordinator.leave(words[0], leaving, self.now)
        return [(error or errors[0]).name]

    def _commit(self, words: list[str], values: dict[str, str]) -> None:
        group, client = words
        offsets: dict[TopicPartition, CommittedOffset] = {}
        for name, offset in values.items():
            topic, dash, number = name.rpartition("-")
            if dash:
                offsets[topic, int(number)] = CommittedOffset(int(offset), -1, values.get("note", ""),
                                                              self.now.wall_ms)  # fmt: skip
        committer = Committer(values.get("id", ""), values.get("instance"), int(values.get("gen", -1)))
        self.coordinator.commit(group, committer, offsets, client, self.now)

    def _fetch(self, words: list[str], values: dict[str, str]) -> list[str]:
        group, *names = words
        partitions = [(name.rpartition("-")[0], int(name.rpartition("-")[2])) for name in names if "-" in name]
        error, found = self.coordinator.fetch_offsets(group, partitions or None, "stable" in names)
        if error:
            return [error.name]
        return [
            f"{topic}-{number} {each.error.name if each.error else each.committed.offset if each.committed else -1}"
            for (topic, number), each in found.items()
        ]

    def _describe(self, words: list[str], values: dict[str, str]) -> list[str]:
        error, group = self.coordinator.describe(words[0])
        if group is None:
            return [error.name if error else "Dead"]
        return [f"{group.state.value} gen={group.generation_id} leader={group.leader_id} "
                f"members={','.join(group.members)}"]  # fmt: skip

    def _delete(self, words: list[str], values: dict[str, str]) -> list[str]:
        return [self.coordinator.delete_group(words[0], self.now).name]

    # The world

    def _pass(self, words: list[str], values: dict[str, str]) -> None:
        """Deadlines are met when they come, as on a loop."""
        end_ms = self._now_ms + int(words[0])
        while (wake_ms := self.coordinator.timers.next_wake_ms()) is not None and wake_ms <= end_ms:
            self._now_ms = max(self._now_ms, wake_ms)
            self.coordinator.expire_due(self.now)
        self._now_ms = end_ms

    def _expire(self, words: list[str], values: dict[str, str]) -> list[str]:
        groups = list(self.coordinator.groups())
        return [f"{sum(self.coordinator.expire_offsets(group, self.now) for group in groups)} expired"]

    def _stored(self, words: list[str], values: dict[str, str]) -> None:
        append = self._appends.pop(0)
        base_offset = len(self.log)
        self.log += append.records
        self.coordinator.appended(append.continuation, ErrorCode.NONE, base_offset, self.now)

    def _failed(self, words: list[str], values: dict[str, str]) -> None:
        append = self._appends.pop(0)
        self.coordinator.appended(append.continuation, ErrorCode[words[0]], -1, self.now)

    def _unload(self, words: list[str], values: dict[str, str]) -> None:
        self._epoch += 1
        self.coordinator.unload(PARTITION, self._epoch, self.now)

    def _begin_load(self, words: list[str], values: dict[str, str]) -> None:
        self._epoch += 1
        assert self.coordinator.begin_loading(PARTITION, self._epoch)

    def _load(self, words: object = None, values: object = None) -> None:
        if not self.coordinator.is_loading(PARTITION):
            self._begin_load([], {})
        content = LogContent()
        content.apply((0, offset, -1, key, value) for offset, (key, value) in enumerate(self.log))
        self.coordinator.finish_loading(PARTITION, content, self.now)


def _list(text: str) -> list[str]:
    return text.split(",") if text else []


def _result(result: object) -> str:
    if isinstance(result, JoinResult):
        return _join_result(result)
    if isinstance(result, SyncResult):
        return result.error.name if result.error else f"assignment={result.assignment.decode()}"
    assert isinstance(result, dict)
    return " ".join(f"{topic}-{number}={ErrorCode(error).name}" for (topic, number), error in result.items())


def _join_result(result: JoinResult) -> str:
    if result.error:
        return f"{result.error.name} id={result.member_id}"
    text = f"joined id={result.member_id} gen={result.generation_id} protocol={result.protocol_name} " \
           f"leader={result.leader_id}"  # fmt: skip
    if result.members:
        text += f" members={','.join(member for member, _, _ in result.members)}"
    return f"{text} skip" if result.skip_assignment else text


def _record(key: bytes, value: bytes | None) -> str:
    what = read_key(key)
    if isinstance(what, OffsetKey):
        shown = "-" if value is None else str(read_offset_value(value).offset)
        return f"offset {what.group_id} {what.topic}-{what.partition} {shown}"
    assert isinstance(what, GroupKey)
    if value is None:
        return f"group {what.group_id} -"
    group = read_group_value(what.group_id, value)
    members = ",".join(f"{each.member_id}:{each.assignment.decode()}" for each in group.members.values())
    return f"group {what.group_id} gen={group.generation_id} protocol={group.protocol_name} " \
           f"leader={group.leader_id} members={members}"  # fmt: skip
