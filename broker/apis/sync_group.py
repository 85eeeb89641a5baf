"""SyncGroup (key 14): the leader brings the assignment, everybody gets their part when it is stored.

Versions: 1 throttle time; 3 group.instance.id; 4 flexible; 5 protocol type and name, which have to match.
Behaviour 59. Runs in: front end.
"""

from __future__ import annotations

from broker.apis.parked_request import ParkedRequest
from broker.apis.services import Services
from broker.coordinators.group.requests import SyncRequest, SyncResult
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

SyncGroupResponse = response_class(ApiKey.SYNC_GROUP)
FIRST_VERSION_WITH_PROTOCOL = 5


def handle(services: Services, header: RequestHeader, request: Request) -> Answer:
    version = header.api_version
    asked = decode_request(ApiKey.SYNC_GROUP, version, request.view, header.body_position, request.end)
    if version >= FIRST_VERSION_WITH_PROTOCOL and None in (asked.protocol_type, asked.protocol_name):
        return _encode(header, SyncResult(ErrorCode.INCONSISTENT_GROUP_PROTOCOL))
    groups = services.groups
    if asked.group_instance_id is not None and not groups.serves_static_members:
        return _encode(header, SyncResult(ErrorCode.UNSUPPORTED_VERSION))
    sync = SyncRequest(
        asked.group_id, asked.generation_id, asked.member_id, asked.group_instance_id, asked.protocol_type,
        asked.protocol_name, {each.member_id: bytes(each.assignment) for each in asked.assignments},
    )  # fmt: skip
    ticket = ParkedRequest(request.connection, lambda result: _encode(header, result))
    groups.coordinator.sync(sync, ticket, groups.now())
    groups.settle()
    return ticket.frame_or_park()


def _encode(header: RequestHeader, result: SyncResult) -> bytes:
    answer = SyncGroupResponse(
        error_code=int(result.error), protocol_type=result.protocol_type, protocol_name=result.protocol_name,
        assignment=result.assignment,
    )  # fmt: skip
    return encode_response(ApiKey.SYNC_GROUP, header.api_version, header.correlation_id, answer)
