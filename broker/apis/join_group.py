"""JoinGroup (key 11): become or stay a member; answered when the rebalance has gathered its members.

| version | what it adds |
|---|---|
| 0 | the session time-out is the rebalance time-out too |
| 1 | a rebalance time-out of its own |
| 2 | throttle time |
| 4 | a member without an id gets MEMBER_ID_REQUIRED and the id to join with |
| 5 | static members: group.instance.id |
| 6 | flexible |
| 7 | protocol type in the answer; no protocol is null, before it is an empty name |
| 8 | the client's reason |
| 9 | the leader may be told to skip the assignment |

Behaviours 54-58. Runs in: front end.
"""

from __future__ import annotations

from broker.apis.parked_request import ParkedRequest
from broker.apis.services import Services
from broker.coordinators.group.requests import JoinRequest, JoinResult
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

JoinGroupResponse = response_class(ApiKey.JOIN_GROUP)
Member = JoinGroupResponse.JoinGroupResponseMember
FIRST_VERSION_WITH_REBALANCE_TIMEOUT = 1
FIRST_VERSION_WITH_KNOWN_IDS = 4
FIRST_VERSION_WITH_NULL_PROTOCOL = 7
FIRST_VERSION_WITH_SKIPPED_ASSIGNMENT = 9


def handle(services: Services, header: RequestHeader, request: Request) -> Answer:
    version = header.api_version
    asked = decode_request(ApiKey.JOIN_GROUP, version, request.view, header.body_position, request.end)
    rebalance_timeout_ms = asked.rebalance_timeout_ms
    if version < FIRST_VERSION_WITH_REBALANCE_TIMEOUT:
        rebalance_timeout_ms = asked.session_timeout_ms
    instance_id = asked.group_instance_id
    groups = services.groups
    if instance_id is not None and not groups.serves_static_members:
        return _encode(header, JoinResult("", ErrorCode.UNSUPPORTED_VERSION))
    join = JoinRequest(
        asked.group_id, asked.member_id, instance_id,
        version >= FIRST_VERSION_WITH_KNOWN_IDS and instance_id is None,
        version >= FIRST_VERSION_WITH_SKIPPED_ASSIGNMENT,
        header.client_id or "", f"/{request.connection.peer_host}",
        rebalance_timeout_ms, asked.session_timeout_ms, asked.protocol_type,
        tuple((protocol.name, bytes(protocol.metadata)) for protocol in asked.protocols), asked.reason or "",
    )  # fmt: skip
    ticket = ParkedRequest(request.connection, lambda result: _encode(header, result))
    groups.coordinator.join(join, ticket, groups.now())
    groups.settle()
    return ticket.frame_or_park()


def _encode(header: RequestHeader, result: JoinResult) -> bytes:
    version = header.api_version
    protocol_name = result.protocol_name
    if version < FIRST_VERSION_WITH_NULL_PROTOCOL:
        protocol_name = protocol_name or ""
    answer = JoinGroupResponse(
        error_code=int(result.error), generation_id=result.generation_id, protocol_type=result.protocol_type,
        protocol_name=protocol_name, leader=result.leader_id or "", member_id=result.member_id,
        members=[
            Member(member_id=member_id, group_instance_id=instance_id, metadata=metadata)
            for member_id, instance_id, metadata in result.members
        ],
    )  # fmt: skip
    if version >= FIRST_VERSION_WITH_SKIPPED_ASSIGNMENT:
        answer.skip_assignment = result.skip_assignment
    return encode_response(ApiKey.JOIN_GROUP, version, header.correlation_id, answer)
