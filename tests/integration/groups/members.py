"""Members of groups as tests speak for them: one connection each, requests short to write.

Runs in: the test process.
"""

from __future__ import annotations

import itertools
import struct
import time
from types import TracebackType
from typing import Any, Self

from broker.protocol.api_keys import ApiKey
from broker.protocol.codec import encode
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import message_class, request_class
from tests.integration.apis.brokers import ApiBroker
from tests.integration.apis.wire import Client

FindCoordinator = request_class(ApiKey.FIND_COORDINATOR)
JoinGroup = request_class(ApiKey.JOIN_GROUP)
SyncGroup = request_class(ApiKey.SYNC_GROUP)
Heartbeat = request_class(ApiKey.HEARTBEAT)
LeaveGroup = request_class(ApiKey.LEAVE_GROUP)
OffsetCommit = request_class(ApiKey.OFFSET_COMMIT)
OffsetFetch = request_class(ApiKey.OFFSET_FETCH)
DescribeGroups = request_class(ApiKey.DESCRIBE_GROUPS)
ListGroups = request_class(ApiKey.LIST_GROUPS)
DeleteGroups = request_class(ApiKey.DELETE_GROUPS)
OffsetDelete = request_class(ApiKey.OFFSET_DELETE)

LATEST_JOIN, LATEST_SYNC, LATEST_HEARTBEAT, LATEST_LEAVE = 9, 5, 4, 5
LATEST_COMMIT, LATEST_FETCH = 9, 9
CONSUMER = "consumer"
COORDINATOR_WAIT_S = 30.0
_names = itertools.count(1)


def new_group(label: str = "group") -> str:
    return f"{label}-{next(_names)}"


def subscription(*topics: str) -> bytes:
    """Metadata of a consumer that subscribes to these."""
    message = message_class("ConsumerProtocolSubscription")(topics=list(topics))
    return struct.pack(">h", 0) + encode(message, 0)


def find_coordinator(client: Client, group: str, version: int = 4) -> Any:
    if version < 4:
        return client.call(ApiKey.FIND_COORDINATOR, version, FindCoordinator(key=group))
    (found,) = client.call(
        ApiKey.FIND_COORDINATOR, version, FindCoordinator(coordinator_keys=[group])
    ).coordinators
    return found


def wait_for_coordinator(broker: ApiBroker, group: str) -> None:
    """Until the group's coordinator is known and has loaded."""
    deadline_s = time.monotonic() + COORDINATOR_WAIT_S
    with broker.connect() as client:
        while time.monotonic() < deadline_s:
            if not find_coordinator(client, group).error_code and not fetch_offsets(client, group).error_code:
                return
            time.sleep(0.1)
    raise AssertionError("no coordinator")


class Member:
    """One member, or would-be member, of a group. `id` and `generation` are what it was told last."""

    def __init__(
        self, broker: ApiBroker, group: str, instance: str | None = None, topics: tuple[str, ...] = ("t",),
        session_timeout_ms: int = 10_000, rebalance_timeout_ms: int = 10_000, protocol_type: str = CONSUMER,
        protocols: dict[str, bytes] | None = None,
    ) -> None:  # fmt: skip
        wait_for_coordinator(broker, group)
        self.client = broker.connect()
        self.group = group
        self.instance = instance
        self.session_timeout_ms = session_timeout_ms
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.protocol_type = protocol_type
        self.protocols = protocols if protocols is not None else {"range": subscription(*topics)}
        self.id = ""
        self.generation = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    # JoinGroup

    def send_join(self, version: int = LATEST_JOIN) -> None:
        request = JoinGroup(
            group_id=self.group, session_timeout_ms=self.session_timeout_ms, member_id=self.id,
            protocol_type=self.protocol_type, protocols=[
                JoinGroup.JoinGroupRequestProtocol(name=name, metadata=metadata)
                for name, metadata in self.protocols.items()
            ],
        )  # fmt: skip
        if version >= 1:
            request.rebalance_timeout_ms = self.rebalance_timeout_ms
        if version >= 5:
            request.group_instance_id = self.instance
        self.client.send(ApiKey.JOIN_GROUP, version, request)

    def joined(self, version: int = LATEST_JOIN, timeout_seconds: float = 30) -> Any:
        answer = self.client.receive(ApiKey.JOIN_GROUP, version, timeout_seconds)[1]
        if answer.error_code in (ErrorCode.NONE, ErrorCode.MEMBER_ID_REQUIRED):
            self.id = answer.member_id
        if not answer.error_code:
            self.generation = answer.generation_id
        return answer

    def join(self, version: int = LATEST_JOIN) -> Any:
        self.send_join(version)
        return self.joined(version)

    def enter(self, version: int = LATEST_JOIN) -> Any:
        """Join, with the id that the first answer gives."""
        answer = self.join(version)
        return self.join(version) if answer.error_code == ErrorCode.MEMBER_ID_REQUIRED else answer

    def send_enter(self) -> None:
        """As `enter`, up to the request that is parked."""
        if not self.id and self.instance is None:
            assert self.join().error_code == ErrorCode.MEMBER_ID_REQUIRED
        self.send_join()

    # SyncGroup

    def send_sync(
        self, assignments: dict[str, bytes] | None = None, version: int = LATEST_SYNC, **fields: Any
    ) -> None:
        request = SyncGroup(
            group_id=self.group, generation_id=self.generation, member_id=self.id, assignments=[
                SyncGroup.SyncGroupRequestAssignment(member_id=member, assignment=assignment)
                for member, assignment in (assignments or {}).items()
            ],
        )  # fmt: skip
        if version >= 3:
            request.group_instance_id = self.instance
        if version >= 5:
            request.protocol_type, request.protocol_name = self.protocol_type, next(iter(self.protocols), "")
        for name, value in fields.items():
            setattr(request, name, value)
        self.client.send(ApiKey.SYNC_GROUP, version, request)

    def synced(self, version: int = LATEST_SYNC, timeout_seconds: float = 30) -> Any:
        return self.client.receive(ApiKey.SYNC_GROUP, version, timeout_seconds)[1]

    def sync(
        self, assignments: dict[str, bytes] | None = None, version: int = LATEST_SYNC, **fields: Any
    ) -> Any:
        self.send_sync(assignments, version, **fields)
        return self.synced(version)

    def settle(self) -> Any:
        """Alone in the group: join, and take the whole assignment."""
        answer = self.enter()
        assert answer.error_code == 0, answer
        assert self.sync({self.id: b"all"}).error_code == 0
        return answer

    # The rest

    def heartbeat(self, version: int = LATEST_HEARTBEAT, **fields: Any) -> ErrorCode:
        request = Heartbeat(group_id=self.group, generation_id=self.generation, member_id=self.id)
        if version >= 3:
            request.group_instance_id = self.instance
        for name, value in fields.items():
            setattr(request, name, value)
        return ErrorCode(self.client.call(ApiKey.HEARTBEAT, version, request).error_code)

    def leave(self) -> Any:
        identity = LeaveGroup.MemberIdentity(member_id=self.id, group_instance_id=self.instance)
        return self.client.call(
            ApiKey.LEAVE_GROUP, LATEST_LEAVE, LeaveGroup(group_id=self.group, members=[identity])
        )

    def commit(self, topic: str, offset: int, version: int = LATEST_COMMIT, **fields: Any) -> ErrorCode:
        if version >= 7:
            fields = {"group_instance_id": self.instance, **fields}
        return commit(
            self.client, self.group, {(topic, 0): offset}, version, member_id=self.id,
            generation_id_or_member_epoch=self.generation, **fields,
        )[topic, 0]  # fmt: skip


def commit(
    client: Client, group: str, offsets: dict[tuple[str, int], int], version: int = LATEST_COMMIT,
    metadata: str | None = "", leader_epoch: int = -1, timestamp: int = -1, **fields: Any,
) -> dict[tuple[str, int], ErrorCode]:  # fmt: skip
    """Error per partition; without `fields` nobody in particular commits."""
    request = OffsetCommit(group_id=group, **fields)
    for (topic, number), offset in offsets.items():
        partition = OffsetCommit.OffsetCommitRequestPartition(
            partition_index=number, committed_offset=offset, committed_metadata=metadata
        )
        if version >= 6:
            partition.committed_leader_epoch = leader_epoch
        if version == 1:
            partition.commit_timestamp = timestamp
        request.topics.append(OffsetCommit.OffsetCommitRequestTopic(name=topic, partitions=[partition]))
    answer = client.call(ApiKey.OFFSET_COMMIT, version, request)
    return {
        (topic.name, partition.partition_index): ErrorCode(partition.error_code)
        for topic in answer.topics for partition in topic.partitions
    }  # fmt: skip


def fetch_offsets(
    client: Client, group: str, partitions: dict[str, list[int]] | None = None, require_stable: bool = False
) -> Any:
    """The group's answer in version 9; partitions None: all."""
    topics = None if partitions is None else [
        OffsetFetch.OffsetFetchRequestTopics(name=name, partition_indexes=numbers)
        for name, numbers in partitions.items()
    ]  # fmt: skip
    wanted = OffsetFetch.OffsetFetchRequestGroup(group_id=group, topics=topics)
    (answer,) = client.call(
        ApiKey.OFFSET_FETCH, LATEST_FETCH, OffsetFetch(groups=[wanted], require_stable=require_stable)
    ).groups
    return answer


def committed(client: Client, group: str, topic: str, partition: int = 0) -> int:
    """-1: none."""
    (found,) = fetch_offsets(client, group, {topic: [partition]}).topics
    offset: int = found.partitions[0].committed_offset
    return offset


def describe(client: Client, group: str, version: int = 5) -> Any:
    (described,) = client.call(ApiKey.DESCRIBE_GROUPS, version, DescribeGroups(groups=[group])).groups
    return described


def delete_group(client: Client, group: str) -> ErrorCode:
    (result,) = client.call(ApiKey.DELETE_GROUPS, 2, DeleteGroups(groups_names=[group])).results
    return ErrorCode(result.error_code)


def remove_members(client: Client, group: str, *identities: tuple[str, str | None]) -> Any:
    """LeaveGroup of (member id, instance id) each."""
    members = [LeaveGroup.MemberIdentity(member_id=member, group_instance_id=instance)
               for member, instance in identities]  # fmt: skip
    return client.call(ApiKey.LEAVE_GROUP, LATEST_LEAVE, LeaveGroup(group_id=group, members=members))
