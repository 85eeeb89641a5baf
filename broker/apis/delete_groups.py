"""DeleteGroups (key 42): remove groups without members, and their offsets.

Versions: 1 throttle behaviour; 2 flexible. NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND (behaviour 64). As Kafka, the answer
does not wait for the tombstones. Runs in: front end.
"""

from __future__ import annotations

from broker.apis.services import Services
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

DeleteGroupsResponse = response_class(ApiKey.DELETE_GROUPS)


def handle(services: Services, header: RequestHeader, request: Request) -> Answer:
    version = header.api_version
    asked = decode_request(ApiKey.DELETE_GROUPS, version, request.view, header.body_position, request.end)
    groups = services.groups
    now = groups.now()
    answer = DeleteGroupsResponse(results=[
        DeleteGroupsResponse.DeletableGroupResult(
            group_id=group_id, error_code=int(groups.coordinator.delete_group(group_id, now))
        )
        for group_id in dict.fromkeys(asked.groups_names)
    ])  # fmt: skip
    groups.settle()
    return encode_response(ApiKey.DELETE_GROUPS, version, header.correlation_id, answer)
