"""LeaveGroup (key 13): members go, or are removed by an administrator.

Versions: 0-2 one member, its error is the request's; 1 throttle time; 3 several members with an error each,
static ones by group.instance.id; 4 flexible; 5 the client's reason. Behaviour 61. Runs in: front end.
"""

from __future__ import annotations

from broker.apis.services import Services
from broker.coordinators.group.requests import LeavingMember
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

LeaveGroupResponse = response_class(ApiKey.LEAVE_GROUP)
FIRST_VERSION_WITH_MEMBERS = 3


def handle(services: Services, header: RequestHeader, request: Request) -> Answer:
    version = header.api_version
    asked = decode_request(ApiKey.LEAVE_GROUP, version, request.view, header.body_position, request.end)
    if version < FIRST_VERSION_WITH_MEMBERS:
        leaving = [LeavingMember(asked.member_id, None)]
    else:
        leaving = [
            LeavingMember(each.member_id, each.group_instance_id, each.reason or "") for each in asked.members
        ]
    groups = services.groups
    error, errors = groups.coordinator.leave(asked.group_id, leaving, groups.now())
    groups.settle()
    if version < FIRST_VERSION_WITH_MEMBERS:
        answer = LeaveGroupResponse(error_code=int(error or errors[0]))
    else:
        answer = LeaveGroupResponse(error_code=int(error), members=[
            LeaveGroupResponse.MemberResponse(
                member_id=each.member_id, group_instance_id=each.instance_id, error_code=int(member_error)
            )
            for each, member_error in zip(leaving, errors, strict=False)
        ])  # fmt: skip
    return encode_response(ApiKey.LEAVE_GROUP, version, header.correlation_id, answer)
