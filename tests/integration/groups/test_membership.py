"""Joining, rebalancing, syncing, leaving: behaviours 54 to 61."""

from __future__ import annotations

import time

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from tests.integration.apis.brokers import ApiBroker
from tests.integration.apis.wire import CLIENT_ID, versions
from tests.integration.groups.members import (
    Member,
    describe,
    new_group,
    remove_members,
    subscription,
)

JOIN_VERSIONS = versions(ApiKey.JOIN_GROUP)


@pytest.mark.parametrize("version", [version for version in JOIN_VERSIONS if version < 4])
def test_54_old_clients_are_members_at_once(broker: ApiBroker, version: int) -> None:
    with Member(broker, new_group()) as member:
        answer = member.join(version)
        assert answer.error_code == ErrorCode.NONE
        assert (answer.leader, answer.generation_id, answer.protocol_name) == (answer.member_id, 1, "range")
        assert [each.member_id for each in answer.members] == [answer.member_id]


@pytest.mark.parametrize("version", [version for version in JOIN_VERSIONS if version >= 4])
def test_54_newer_clients_are_given_an_id_to_join_with(broker: ApiBroker, version: int) -> None:
    with Member(broker, new_group()) as member:
        first = member.join(version)
        assert first.error_code == ErrorCode.MEMBER_ID_REQUIRED
        assert first.member_id.startswith(f"{CLIENT_ID}-") and len(first.member_id) == len(CLIENT_ID) + 37
        assert (first.generation_id, first.leader, first.members) == (-1, "", [])
        second = member.join(version)
        assert (second.error_code, second.member_id, second.leader) == (0, first.member_id, first.member_id)


def test_54_an_id_that_was_never_given_is_unknown(broker: ApiBroker) -> None:
    group = new_group()
    with Member(broker, group) as member:
        member.id = "made-up"
        answer = member.join()
        assert (answer.error_code, answer.member_id) == (ErrorCode.UNKNOWN_MEMBER_ID, "made-up")
        member.id = ""
        member.settle()
        member.id = "made-up"
        assert member.join().error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_54_an_id_that_is_not_used_is_forgotten_after_the_session_time_out(broker: ApiBroker) -> None:
    with Member(broker, new_group(), session_timeout_ms=1000) as member:
        assert member.join().error_code == ErrorCode.MEMBER_ID_REQUIRED
        time.sleep(1.6)
        assert member.join().error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_55_a_static_member_comes_back_without_a_rebalance(broker: ApiBroker) -> None:
    group = new_group()
    with Member(broker, group, "i1") as first, Member(broker, group, "i1") as second:
        first.settle()
        assert first.id.startswith("i1-")
        answer = second.join()
        assert (answer.error_code, answer.generation_id) == (0, first.generation)
        assert second.id != first.id and second.id.startswith("i1-")
        assert (answer.skip_assignment, answer.leader) == (True, second.id)
        assert [each.member_id for each in answer.members] == [second.id]
        assert second.sync().assignment == b"all"
        assert first.heartbeat() == ErrorCode.FENCED_INSTANCE_ID
        assert first.join().error_code == ErrorCode.FENCED_INSTANCE_ID
        assert first.sync().error_code == ErrorCode.FENCED_INSTANCE_ID
        assert second.heartbeat() == ErrorCode.NONE


def test_55_before_version_9_the_returning_leader_is_told_another_leader(broker: ApiBroker) -> None:
    group = new_group()
    with Member(broker, group, "i1") as first, Member(broker, group, "i1") as second:
        first.settle()
        answer = second.join(8)
        assert (answer.error_code, answer.leader, answer.members) == (0, first.id, [])
        assert second.sync().assignment == b"all"


def test_55_another_protocol_of_a_returning_static_member_makes_a_rebalance(broker: ApiBroker) -> None:
    group = new_group()
    with (
        Member(broker, group, "i1", protocols={"a": b"1", "b": b"2"}) as first,
        Member(broker, group, "i1", protocols={"b": b"2"}) as second,
    ):
        first.settle()
        answer = second.join()
        assert (answer.error_code, answer.generation_id, answer.protocol_name) == (0, 2, "b")
        assert answer.skip_assignment is False


def test_55_a_static_member_is_removed_by_its_session_not_by_its_connection(broker: ApiBroker) -> None:
    group = new_group()
    with Member(broker, group, "i1", session_timeout_ms=1500) as member, broker.connect() as client:
        member.settle()
        member.client.close()
        assert describe(client, group).group_state == "Stable"
        time.sleep(2.5)
        assert describe(client, group).group_state == "Empty"


def test_55_unknown_instances_are_unknown_members(broker: ApiBroker) -> None:
    with Member(broker, new_group(), "i1") as member:
        member.settle()
        assert member.heartbeat(group_instance_id="i2") == ErrorCode.UNKNOWN_MEMBER_ID
        assert member.heartbeat(member_id="other") == ErrorCode.FENCED_INSTANCE_ID


def test_56_the_first_join_waits_for_company(strict: ApiBroker) -> None:
    group = new_group()
    with Member(strict, group) as first, Member(strict, group) as second:
        began_s = time.monotonic()
        first.send_enter()
        time.sleep(0.5)
        second.send_enter()
        answers = [first.joined(), second.joined()]
        waited_s = time.monotonic() - began_s
        assert [answer.generation_id for answer in answers] == [1, 1]
        assert sorted(len(answer.members) for answer in answers) == [0, 2]
        # One delay, and another for the member that came meanwhile.
        assert 1.7 < waited_s < 3.5


def test_56_a_rebalance_waits_for_all_and_drops_who_does_not_come(broker: ApiBroker) -> None:
    group = new_group()
    with (
        Member(broker, group, rebalance_timeout_ms=1500) as first,
        Member(broker, group, rebalance_timeout_ms=1500) as second,
    ):
        first.settle()
        second.send_enter()
        time.sleep(0.2)
        assert first.heartbeat() == ErrorCode.REBALANCE_IN_PROGRESS
        answer = second.joined()
        assert (answer.generation_id, [each.member_id for each in answer.members]) == (2, [second.id])
        assert first.heartbeat() == ErrorCode.UNKNOWN_MEMBER_ID


def test_56_a_rebalance_ends_as_soon_as_everybody_has_come(broker: ApiBroker) -> None:
    group = new_group()
    with Member(broker, group) as first, Member(broker, group) as second:
        first.settle()
        second.send_enter()
        began_s = time.monotonic()
        first.send_join()
        answers = [first.joined(), second.joined()]
        assert time.monotonic() - began_s < 3
        assert {answer.leader for answer in answers} == {first.id}
        assert len(answers[0].members) == 2 and not answers[1].members


def test_57_generations_count_on_through_an_empty_group(broker: ApiBroker) -> None:
    group = new_group()
    with Member(broker, group) as first, Member(broker, group) as second:
        first.settle()
        assert first.generation == 1
        assert first.leave().members[0].error_code == ErrorCode.NONE
        assert second.enter().generation_id == 3


def test_57_a_leader_that_joins_again_always_makes_a_rebalance(broker: ApiBroker) -> None:
    with Member(broker, new_group()) as member:
        member.settle()
        assert member.join().generation_id == 2
        assert member.sync({member.id: b"again"}).assignment == b"again"


def test_57_a_follower_that_joins_again_unchanged_is_told_what_is(broker: ApiBroker) -> None:
    group = new_group()
    with Member(broker, group) as leader, Member(broker, group) as follower:
        _settle_both(leader, follower)
        answer = follower.join()
        assert (answer.generation_id, answer.leader, answer.members) == (2, leader.id, [])
        assert leader.heartbeat() == ErrorCode.NONE
        follower.protocols = {"range": subscription("t", "u")}
        follower.send_join()
        leader.send_join()
        assert [leader.joined().generation_id, follower.joined().generation_id] == [3, 3]


def test_57_the_leadership_of_one_who_is_gone_passes_on(broker: ApiBroker) -> None:
    group = new_group()
    with Member(broker, group) as leader, Member(broker, group) as follower:
        _settle_both(leader, follower)
        leader.leave()
        answer = follower.join()
        assert (answer.generation_id, answer.leader, len(answer.members)) == (3, follower.id, 1)


def test_58_the_protocol_is_one_that_all_speak(broker: ApiBroker) -> None:
    group = new_group()
    with (
        Member(broker, group, protocols={"a": b"", "b": b""}) as first,
        Member(broker, group, protocols={"c": b"", "b": b""}) as second,
        Member(broker, group, protocols={"c": b""}) as third,
    ):
        first.settle()
        second.send_enter()
        first.send_join()
        assert {first.joined().protocol_name, second.joined().protocol_name} == {"b"}
        assert third.join().error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL


def test_58_another_protocol_type_does_not_fit(broker: ApiBroker) -> None:
    group = new_group()
    with Member(broker, group) as first, Member(broker, group, protocol_type="connect") as second:
        first.settle()
        answer = second.join()
        assert (answer.error_code, answer.member_id) == (ErrorCode.INCONSISTENT_GROUP_PROTOCOL, "")


@pytest.mark.parametrize(("protocol_type", "protocols"), [("", {"a": b""}), ("consumer", {})])
def test_58_a_member_must_speak_something(
    broker: ApiBroker, protocol_type: str, protocols: dict[str, bytes]
) -> None:
    with Member(broker, new_group(), protocol_type=protocol_type, protocols=protocols) as member:
        assert member.join().error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL


@pytest.mark.parametrize("timeout_ms", [999, 1_800_001, 0, -1])
def test_58_session_time_outs_have_bounds(broker: ApiBroker, timeout_ms: int) -> None:
    with Member(broker, new_group(), session_timeout_ms=timeout_ms) as member:
        assert member.join().error_code == ErrorCode.INVALID_SESSION_TIMEOUT


def test_59_followers_wait_for_the_leader_and_the_forgotten_get_nothing(broker: ApiBroker) -> None:
    group = new_group()
    with Member(broker, group) as leader, Member(broker, group) as follower:
        leader.settle()
        follower.send_enter()
        leader.send_join()
        leader.joined(), follower.joined()
        follower.send_sync()
        assert follower.client.is_silent(0.3)
        assert leader.sync({leader.id: b"mine"}).assignment == b"mine"
        answer = follower.synced()
        assert (answer.error_code, bytes(answer.assignment)) == (0, b"")
        assert (answer.protocol_type, answer.protocol_name) == ("consumer", "range")


def test_59_a_rebalance_ends_the_wait_for_an_assignment(broker: ApiBroker) -> None:
    group = new_group()
    with (
        Member(broker, group) as leader, Member(broker, group) as follower, Member(broker, group) as third,
    ):  # fmt: skip
        leader.settle()
        follower.send_enter()
        leader.send_join()
        leader.joined(), follower.joined()
        follower.send_sync()
        third.send_enter()
        answer = follower.synced()
        assert (answer.error_code, answer.protocol_name) == (ErrorCode.REBALANCE_IN_PROGRESS, None)
        assert leader.sync({}).error_code == ErrorCode.REBALANCE_IN_PROGRESS


def test_59_protocol_and_generation_must_be_the_group_s(broker: ApiBroker) -> None:
    with Member(broker, new_group()) as member:
        member.enter()
        for fields in ({"protocol_type": "connect"}, {"protocol_name": "other"}, {"protocol_type": None},
                       {"protocol_name": None}):  # fmt: skip
            assert member.sync(**fields).error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        assert member.sync(generation_id=7).error_code == ErrorCode.ILLEGAL_GENERATION
        assert member.sync(member_id="x").error_code == ErrorCode.UNKNOWN_MEMBER_ID
        assert member.sync(version=4).error_code == ErrorCode.NONE


def test_59_who_never_syncs_is_evicted_after_the_rebalance_time_out(broker: ApiBroker) -> None:
    group = new_group()
    with (
        Member(broker, group, rebalance_timeout_ms=1500) as leader,
        Member(broker, group, rebalance_timeout_ms=1500) as silent,
    ):
        leader.settle()
        silent.send_enter()
        leader.send_join()
        leader.joined(), silent.joined()
        assert leader.sync({leader.id: b"x"}).error_code == 0
        time.sleep(2.2)
        assert silent.heartbeat() == ErrorCode.UNKNOWN_MEMBER_ID
        assert leader.heartbeat() == ErrorCode.REBALANCE_IN_PROGRESS


@pytest.mark.parametrize("version", versions(ApiKey.HEARTBEAT))
def test_60_heartbeats_tell_what_is_going_on(broker: ApiBroker, version: int) -> None:
    group = new_group()
    with Member(broker, group) as first, Member(broker, group) as second:
        assert first.heartbeat(version) == ErrorCode.UNKNOWN_MEMBER_ID
        first.enter()
        assert first.heartbeat(version) == ErrorCode.NONE  # CompletingRebalance
        assert first.heartbeat(version, generation_id=5) == ErrorCode.ILLEGAL_GENERATION
        assert first.heartbeat(version, member_id="x") == ErrorCode.UNKNOWN_MEMBER_ID
        first.sync({first.id: b""})
        assert first.heartbeat(version) == ErrorCode.NONE
        second.send_enter()
        time.sleep(0.2)
        assert first.heartbeat(version) == ErrorCode.REBALANCE_IN_PROGRESS


def test_60_a_member_that_is_not_heard_of_is_out_and_heartbeats_keep_it(broker: ApiBroker) -> None:
    with Member(broker, new_group(), session_timeout_ms=1200) as member:
        member.settle()
        for _ in range(4):
            time.sleep(0.5)
            assert member.heartbeat() == ErrorCode.NONE
        time.sleep(2.2)
        assert member.heartbeat() == ErrorCode.UNKNOWN_MEMBER_ID


def test_61_members_leave_with_an_error_each(broker: ApiBroker) -> None:
    group = new_group()
    with Member(broker, group, "i1") as static, broker.connect() as client:
        static.settle()
        answer = remove_members(
            client, group, ("nobody", None), ("", "nobody"), ("other", "i1"), ("", None), ("", "i1")
        )
        assert answer.error_code == ErrorCode.NONE
        assert [ErrorCode(each.error_code) for each in answer.members] == [
            ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID,
            ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.NONE,
        ]  # fmt: skip
        assert [(each.member_id, each.group_instance_id) for each in answer.members] == [
            ("nobody", None), ("", "nobody"), ("other", "i1"), ("", None), ("", "i1"),
        ]  # fmt: skip
        assert describe(client, group).group_state == "Empty"


@pytest.mark.parametrize("version", [0, 1, 2])
def test_61_one_member_leaves_with_the_request_s_error(broker: ApiBroker, version: int) -> None:
    from tests.integration.groups.members import LeaveGroup

    with Member(broker, new_group()) as member:
        member.settle()
        for member_id, error in ((member.id, ErrorCode.NONE), (member.id, ErrorCode.UNKNOWN_MEMBER_ID)):
            request = LeaveGroup(group_id=member.group, member_id=member_id)
            assert member.client.call(ApiKey.LEAVE_GROUP, version, request).error_code == error


def test_61_who_leaves_a_group_that_is_not_there_is_unknown(broker: ApiBroker) -> None:
    with Member(broker, new_group()) as member:
        member.id = "x"
        answer = member.leave()
        assert (answer.error_code, answer.members[0].error_code) == (0, ErrorCode.UNKNOWN_MEMBER_ID)


def test_61_an_id_that_was_given_out_can_be_given_back(broker: ApiBroker) -> None:
    with Member(broker, new_group()) as member:
        assert member.join().error_code == ErrorCode.MEMBER_ID_REQUIRED
        assert member.leave().members[0].error_code == ErrorCode.NONE
        assert member.join().error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_56_a_full_group_takes_nobody(strict: ApiBroker) -> None:
    group = new_group()
    with Member(strict, group) as first, Member(strict, group) as second, Member(strict, group) as third:
        first.send_enter()
        second.send_enter()
        first.joined(), second.joined()
        leader, follower = (first, second)
        follower.send_sync()
        leader.send_sync({first.id: b"1"})
        leader.synced()
        answer = third.enter()
        assert (answer.error_code, answer.member_id) == (ErrorCode.GROUP_MAX_SIZE_REACHED, "")


def _settle_both(leader: Member, follower: Member) -> None:
    leader.settle()
    follower.send_enter()
    leader.send_join()
    leader.joined(), follower.joined()
    follower.send_sync()
    assert leader.sync({leader.id: b"l", follower.id: b"f"}).assignment == b"l"
    assert follower.synced().assignment == b"f"
