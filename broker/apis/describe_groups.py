"""DescribeGroups (key 15): state, protocol and members of groups.

Versions: 1 throttle time; 3 authorized operations; 4 group.instance.id; 5 flexible. Protocol, metadata and
assignments are shown of stable groups only. A group that is not there is Dead, without an error (behaviour 64).
Runs in: front end.
"""

from __future__ import annotations

from typing import Any

from broker.apis.authorized_operations import GROUP_OPERATIONS
from broker.apis.services import Services
from broker.coordinators.group.group import Group
from broker.coordinators.group.member import Member
from broker.coordinators.group.states import DEAD, STABLE
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

DescribeGroupsResponse = response_class(ApiKey.DESCRIBE_GROUPS)
FIRST_VERSION_WITH_OPERATIONS = 3


def handle(services: Services, header: RequestHeader, request: Request) -> Answer:
    version = header.api_version
    asked = decode_request(ApiKey.DESCRIBE_GROUPS, version, request.view, header.body_position, request.end)
    answer = DescribeGroupsResponse(groups=[_describe(services, group_id) for group_id in asked.groups])
    if version >= FIRST_VERSION_WITH_OPERATIONS and asked.include_authorized_operations:
        for group in answer.groups:
            if not group.error_code:
                group.authorized_operations = GROUP_OPERATIONS
    return encode_response(ApiKey.DESCRIBE_GROUPS, version, header.correlation_id, answer)


def _describe(services: Services, group_id: str) -> Any:
    described = DescribeGroupsResponse.DescribedGroup
    error, group = services.groups.coordinator.describe(group_id)
    if error:
        return described(group_id=group_id, error_code=int(error))
    if group is None:
        return described(group_id=group_id, group_state=DEAD.value)
    return described(
        group_id=group_id, group_state=group.state.value, protocol_type=group.protocol_type or "",
        protocol_data=(group.protocol_name or "") if group.state is STABLE else "",
        members=[_member(group, member) for member in group.members.values()],
    )  # fmt: skip


def _member(group: Group, member: Member) -> Any:
    described = DescribeGroupsResponse.DescribedGroupMember(
        member_id=member.member_id, group_instance_id=member.instance_id, client_id=member.client_id,
        client_host=member.client_host,
    )  # fmt: skip
    if group.state is STABLE:
        described.member_metadata = member.metadata(group.protocol_name)
        described.member_assignment = member.assignment
    return described
