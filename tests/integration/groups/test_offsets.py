"""Committing, fetching, expiring and deleting offsets: behaviours 62 to 64."""

from __future__ import annotations

import time

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from tests.integration.apis.brokers import ApiBroker
from tests.integration.apis.wire import versions
from tests.integration.groups.members import (
    ListGroups,
    Member,
    OffsetDelete,
    OffsetFetch,
    commit,
    committed,
    delete_group,
    describe,
    fetch_offsets,
    new_group,
    subscription,
    wait_for_coordinator,
)
from tests.peers.processes import wait_until

NONE, UNKNOWN_MEMBER = ErrorCode.NONE, ErrorCode.UNKNOWN_MEMBER_ID


@pytest.mark.parametrize("version", versions(ApiKey.OFFSET_COMMIT, 1))
def test_62_nobody_in_particular_commits_to_an_empty_group(broker: ApiBroker, version: int) -> None:
    group, topic = new_group(), broker.topic().name
    wait_for_coordinator(broker, group)
    with broker.connect() as client:
        assert commit(client, group, {(topic, 0): 42}, version, "note", leader_epoch=3) == {(topic, 0): NONE}
        (found,) = fetch_offsets(client, group, {topic: [0]}).topics
        partition = found.partitions[0]
        assert (partition.committed_offset, partition.metadata) == (42, "note")
        assert partition.committed_leader_epoch == (3 if version >= 6 else -1)


def test_62_only_members_commit_while_there_are_any(broker: ApiBroker) -> None:
    group, topic = new_group(), broker.topic().name
    with Member(broker, group) as member, broker.connect() as client:
        member.settle()
        assert commit(client, group, {(topic, 0): 1}) == {(topic, 0): UNKNOWN_MEMBER}
        assert member.commit(topic, 2) == NONE
        assert committed(client, group, topic) == 2
        generation, member.generation = member.generation, 9
        assert member.commit(topic, 3) == ErrorCode.ILLEGAL_GENERATION
        member.generation = generation
        member.leave()
        assert commit(client, group, {(topic, 0): 4}) == {(topic, 0): NONE}


def test_62_a_generation_without_a_group_is_illegal(broker: ApiBroker) -> None:
    group, topic = new_group(), broker.topic().name
    wait_for_coordinator(broker, group)
    with broker.connect() as client:
        errors = commit(client, group, {(topic, 0): 1}, generation_id_or_member_epoch=0, member_id="x")
        assert errors == {(topic, 0): ErrorCode.ILLEGAL_GENERATION}


def test_62_during_a_rebalance_commits_are_taken_until_it_completes(broker: ApiBroker) -> None:
    group, topic = new_group(), broker.topic().name
    with Member(broker, group) as first, Member(broker, group) as second:
        first.settle()
        second.send_enter()
        time.sleep(0.2)
        assert first.commit(topic, 5) == NONE
        first.send_join()
        first.joined(), second.joined()
        assert first.commit(topic, 6) == ErrorCode.REBALANCE_IN_PROGRESS
        assert committed(first.client, group, topic) == 5


def test_62_metadata_that_is_too_long_fails_alone(strict: ApiBroker) -> None:
    group, topic = new_group(), strict.topic().name
    wait_for_coordinator(strict, group)
    with strict.connect() as client:
        assert commit(client, group, {(topic, 0): 1}, metadata="x" * 20) == {(topic, 0): NONE}
        too_long = ErrorCode.OFFSET_METADATA_TOO_LARGE
        assert commit(client, group, {(topic, 0): 2}, metadata="x" * 21) == {(topic, 0): too_long}
        # Java counts UTF-16 units.
        assert commit(client, group, {(topic, 0): 3}, metadata="\U0001f600" * 10) == {(topic, 0): NONE}
        assert commit(client, group, {(topic, 0): 4}, metadata="\U0001f600" * 11) == {(topic, 0): too_long}
        assert committed(client, group, topic) == 3


def test_62_a_commit_keeps_the_member_alive(broker: ApiBroker) -> None:
    group, topic = new_group(), broker.topic().name
    with Member(broker, group, session_timeout_ms=1200) as member:
        member.settle()
        for offset in range(4):
            time.sleep(0.5)
            assert member.commit(topic, offset) == NONE
        assert member.heartbeat() == NONE


def test_62_unknown_topics_and_partitions(broker: ApiBroker) -> None:
    group, topic = new_group(), broker.topic().name
    wait_for_coordinator(broker, group)
    with broker.connect() as client:
        errors = commit(client, group, {(topic, 0): 1, (topic, 7): 1, ("no-such-topic", 0): 1})
        unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert errors == {(topic, 0): NONE, (topic, 7): unknown, ("no-such-topic", 0): unknown}


@pytest.mark.parametrize("version", versions(ApiKey.OFFSET_FETCH, 1))
def test_63_what_is_not_there_is_minus_one_without_an_error(broker: ApiBroker, version: int) -> None:
    group = new_group()
    wait_for_coordinator(broker, group)
    with broker.connect() as client:
        if version >= 8:
            wanted = OffsetFetch.OffsetFetchRequestTopics(name="nowhere", partition_indexes=[3])
            request = OffsetFetch(groups=[OffsetFetch.OffsetFetchRequestGroup(group_id=group, topics=[wanted])])
            (answer,) = client.call(ApiKey.OFFSET_FETCH, version, request).groups
        else:
            wanted = OffsetFetch.OffsetFetchRequestTopic(name="nowhere", partition_indexes=[3])
            request = OffsetFetch(group_id=group, topics=[wanted])
            answer = client.call(ApiKey.OFFSET_FETCH, version, request)
        (partition,) = answer.topics[0].partitions
        assert (partition.partition_index, partition.committed_offset) == (3, -1)
        assert (partition.metadata, partition.error_code, answer.error_code) == ("", 0, 0)


def test_63_null_asks_for_all_that_there_is(broker: ApiBroker) -> None:
    group, first, second = new_group(), broker.topic().name, broker.topic().name
    wait_for_coordinator(broker, group)
    with broker.connect() as client:
        assert fetch_offsets(client, group).topics == []
        commit(client, group, {(first, 0): 1, (second, 0): 2})
        found = fetch_offsets(client, group, require_stable=True)
        assert {topic.name: topic.partitions[0].committed_offset for topic in found.topics} == {first: 1, second: 2}


def test_63_several_groups_in_one_request(broker: ApiBroker) -> None:
    groups, topic = [new_group(), new_group()], broker.topic().name
    with broker.connect() as client:
        for number, group in enumerate(groups):
            wait_for_coordinator(broker, group)
            commit(client, group, {(topic, 0): number})
        request = OffsetFetch(groups=[
            OffsetFetch.OffsetFetchRequestGroup(group_id=group, topics=None) for group in groups])  # fmt: skip
        answers = client.call(ApiKey.OFFSET_FETCH, 8, request).groups
        assert [(each.group_id, each.topics[0].partitions[0].committed_offset) for each in answers] == [
            (groups[0], 0), (groups[1], 1)]  # fmt: skip


def test_64_an_offset_with_a_retention_of_its_own_expires(strict: ApiBroker) -> None:
    group, topic = new_group(), strict.topic().name
    wait_for_coordinator(strict, group)
    with strict.connect() as client:
        assert commit(client, group, {(topic, 0): 7}, version=3, retention_time_ms=1000) == {(topic, 0): NONE}
        assert committed(client, group, topic) == 7
        wait_until(lambda: committed(client, group, topic) == -1, "the offset has expired", 10)
        assert describe(client, group).group_state == "Dead"
        assert delete_group(client, group) == ErrorCode.GROUP_ID_NOT_FOUND


def test_64_offsets_of_subscribed_topics_stay(strict: ApiBroker) -> None:
    group, ours, theirs = new_group(), strict.topic().name, strict.topic().name
    with Member(strict, group, protocols={"range": subscription(ours)}) as member:
        member.settle()
        for topic in (ours, theirs):
            assert member.commit(topic, 7, version=3, retention_time_ms=500) == NONE
        wait_until(lambda: committed(member.client, group, theirs) == -1, "the other's has expired", 10)
        assert committed(member.client, group, ours) == 7


def test_64_an_unknown_group_is_dead(broker: ApiBroker) -> None:
    group = new_group()
    wait_for_coordinator(broker, group)
    with broker.connect() as client:
        for version in versions(ApiKey.DESCRIBE_GROUPS):
            described = describe(client, group, version)
            assert (described.error_code, described.group_state, described.members) == (0, "Dead", [])


def test_64_members_are_described_and_only_of_a_stable_group_with_what_they_said(broker: ApiBroker) -> None:
    group = new_group()
    with Member(broker, group, "i1", protocols={"range": b"said"}) as member, broker.connect() as client:
        member.enter()
        described = describe(client, group)
        assert (described.group_state, described.protocol_type) == ("CompletingRebalance", "consumer")
        assert (described.protocol_data, described.members[0].member_metadata) == ("", b"")
        member.sync({member.id: b"given"})
        described = describe(client, group)
        (shown,) = described.members
        assert (described.group_state, described.protocol_data) == ("Stable", "range")
        assert (shown.member_id, shown.group_instance_id) == (member.id, "i1")
        assert (shown.member_metadata, shown.member_assignment) == (b"said", b"given")


def test_64_only_empty_groups_are_deleted(broker: ApiBroker) -> None:
    group, topic = new_group(), broker.topic().name
    with Member(broker, group) as member, broker.connect() as client:
        member.settle()
        member.commit(topic, 1)
        assert delete_group(client, group) == ErrorCode.NON_EMPTY_GROUP
        member.leave()
        assert delete_group(client, group) == NONE
        assert delete_group(client, group) == ErrorCode.GROUP_ID_NOT_FOUND
        assert committed(client, group, topic) == -1


def test_64_offsets_of_subscribed_topics_are_not_deleted(broker: ApiBroker) -> None:
    group, ours, theirs = new_group(), broker.topic().name, broker.topic().name
    with Member(broker, group, topics=(ours,)) as member:
        assert _delete_offsets(member, ours) == (ErrorCode.GROUP_ID_NOT_FOUND, [])
        member.settle()
        member.commit(ours, 1), member.commit(theirs, 1)
        assert _delete_offsets(member, ours) == (NONE, [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC])
        assert _delete_offsets(member, theirs) == (NONE, [NONE])
        assert _delete_offsets(member, "no-such-topic") == (NONE, [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION])
        assert (committed(member.client, group, ours), committed(member.client, group, theirs)) == (1, -1)
        member.leave()
        assert _delete_offsets(member, ours) == (NONE, [NONE])


def test_64_offsets_of_groups_that_are_no_consumers_are_not_deleted_under_them(broker: ApiBroker) -> None:
    topic = broker.topic().name
    with Member(broker, new_group(), protocol_type="connect") as member:
        member.settle()
        assert _delete_offsets(member, topic) == (ErrorCode.NON_EMPTY_GROUP, [])


def test_64_offsets_go_with_their_topic(broker: ApiBroker) -> None:
    from broker.protocol.messages import request_class

    group, topic = new_group(), broker.topic().name
    wait_for_coordinator(broker, group)
    with broker.connect() as client:
        commit(client, group, {(topic, 0): 1})
        delete = request_class(ApiKey.DELETE_TOPICS)
        client.call(ApiKey.DELETE_TOPICS, 5, delete(topic_names=[topic], timeout_ms=30_000))
        wait_until(lambda: committed(client, group, topic) == -1, "the offset is gone", 10)
        assert describe(client, group).group_state == "Dead"


def test_64_groups_are_listed_by_state_and_type(broker: ApiBroker) -> None:
    group, idle, topic = new_group("listed"), new_group("listed"), broker.topic().name
    with Member(broker, group) as member:
        member.settle()
        wait_for_coordinator(broker, idle)
        commit(member.client, idle, {(topic, 0): 1})
        everything = _listed(member)
        assert everything[group] == ("consumer", "Stable", "classic")
        assert everything[idle] == ("", "Empty", "classic")
        assert group in _listed(member, states=["sTaBle"]) and idle not in _listed(member, states=["Stable"])
        assert idle in _listed(member, types=["Classic"]) and not _listed(member, types=["consumer"])
        assert not _listed(member, states=["nonsense"]) and not _listed(member, types=["nonsense"])


def _listed(
    member: Member, states: list[str] | None = None, types: list[str] | None = None
) -> dict[str, tuple[str, str, str]]:
    request = ListGroups(states_filter=states or [], types_filter=types or [])
    answer = member.client.call(ApiKey.LIST_GROUPS, 5, request)
    assert answer.error_code == 0
    return {each.group_id: (each.protocol_type, each.group_state, each.group_type) for each in answer.groups}


def _delete_offsets(member: Member, topic: str) -> tuple[ErrorCode, list[ErrorCode]]:
    partition = OffsetDelete.OffsetDeleteRequestPartition(partition_index=0)
    wanted = OffsetDelete.OffsetDeleteRequestTopic(name=topic, partitions=[partition])
    answer = member.client.call(
        ApiKey.OFFSET_DELETE, 0, OffsetDelete(group_id=member.group, topics=[wanted])
    )
    return ErrorCode(answer.error_code), [
        ErrorCode(partition.error_code) for topic in answer.topics for partition in topic.partitions
    ]
