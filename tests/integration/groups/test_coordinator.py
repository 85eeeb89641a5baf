"""Which group ids there are, where their coordinator is, what it knows of its clients: behaviours 65, 66, 78."""

from __future__ import annotations

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from tests.integration.apis.brokers import BROKER_ID, ApiBroker
from tests.integration.apis.wire import versions
from tests.integration.groups.members import (
    FindCoordinator,
    Heartbeat,
    LeaveGroup,
    Member,
    OffsetDelete,
    SyncGroup,
    commit,
    committed,
    delete_group,
    describe,
    fetch_offsets,
    find_coordinator,
    new_group,
    wait_for_coordinator,
)

INVALID = ErrorCode.INVALID_GROUP_ID


def test_65_the_empty_id_commits_and_nothing_else(broker: ApiBroker) -> None:
    topic = broker.topic().name
    wait_for_coordinator(broker, "")
    with Member(broker, "") as member, broker.connect() as client:
        assert commit(client, "", {(topic, 0): 3}) == {(topic, 0): ErrorCode.NONE}
        assert committed(client, "", topic) == 3
        assert describe(client, "").group_state == "Empty"
        assert member.join().error_code == INVALID
        assert client.call(ApiKey.SYNC_GROUP, 4, SyncGroup()).error_code == INVALID
        assert client.call(ApiKey.HEARTBEAT, 4, Heartbeat()).error_code == INVALID
        assert client.call(ApiKey.LEAVE_GROUP, 4, LeaveGroup()).error_code == INVALID
        assert client.call(ApiKey.OFFSET_DELETE, 0, OffsetDelete()).error_code == INVALID
        assert delete_group(client, "") == ErrorCode.NONE


def test_65_ids_of_any_characters_have_a_place(broker: ApiBroker) -> None:
    """That place is where Java's hash says, or the broker would not have loaded what it is asked for here."""
    topic = broker.topic().name
    with broker.connect() as client:
        for number, group in enumerate(("grüße", "\U0001f600", "a b/c:", "polygenelubricants", "x" * 249)):
            wait_for_coordinator(broker, group)
            assert commit(client, group, {(topic, 0): number}) == {(topic, 0): ErrorCode.NONE}
            assert committed(client, group, topic) == number
            assert delete_group(client, group) == ErrorCode.NONE


def test_66_the_client_s_host_has_a_leading_slash(broker: ApiBroker) -> None:
    with Member(broker, new_group()) as member, broker.connect() as client:
        member.settle()
        (shown,) = describe(client, member.group).members
        assert (shown.client_host, shown.client_id) == ("/127.0.0.1", "ottla-tests")


@pytest.mark.parametrize("version", versions(ApiKey.FIND_COORDINATOR))
def test_78_the_coordinator_is_named_by_its_listener(broker: ApiBroker, version: int) -> None:
    group = new_group()
    wait_for_coordinator(broker, group)
    for address in (broker.address, broker.external_address):
        with broker.connect(address=address) as client:
            found = find_coordinator(client, group, version)
            assert (found.error_code, found.node_id, (found.host, found.port)) == (0, BROKER_ID, address)


def test_78_key_types_that_nobody_coordinates(broker: ApiBroker) -> None:
    with broker.connect() as client:
        for version, key_type, error in (
            (6, 2, ErrorCode.COORDINATOR_NOT_AVAILABLE), (5, 2, ErrorCode.INVALID_REQUEST),
        ):  # fmt: skip
            request = FindCoordinator(key_type=key_type, coordinator_keys=["k"])
            (found,) = client.call(ApiKey.FIND_COORDINATOR, version, request).coordinators
            assert (found.error_code, found.node_id, found.host, found.port) == (error, -1, "", -1)


def test_78_the_topic_of_the_groups_is_made_with_the_first_request(broker: ApiBroker) -> None:
    wait_for_coordinator(broker, "any")
    (topic,) = broker.metadata("__consumer_offsets").topics
    assert (topic.error_code, topic.is_internal, len(topic.partitions)) == (0, True, 5)
    with broker.connect() as client:
        assert fetch_offsets(client, "any").error_code == 0
