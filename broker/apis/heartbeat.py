"""Heartbeat (key 12): a member is alive; the answer tells it when to join again.

Versions: 1 throttle time; 3 group.instance.id; 4 flexible. Behaviour 60. Runs in: front end.
"""

from __future__ import annotations

from broker.apis.services import Services
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

HeartbeatResponse = response_class(ApiKey.HEARTBEAT)


def handle(services: Services, header: RequestHeader, request: Request) -> Answer:
    version = header.api_version
    asked = decode_request(ApiKey.HEARTBEAT, version, request.view, header.body_position, request.end)
    groups = services.groups
    if asked.group_instance_id is not None and not groups.serves_static_members:
        error = ErrorCode.UNSUPPORTED_VERSION
    else:
        error = groups.coordinator.heartbeat(
            asked.group_id, asked.member_id, asked.group_instance_id, asked.generation_id, groups.now()
        )
    groups.settle()
    return encode_response(
        ApiKey.HEARTBEAT, version, header.correlation_id, HeartbeatResponse(error_code=int(error))
    )
