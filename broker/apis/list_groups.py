"""ListGroups (key 16): the groups that this broker coordinates.

Versions: 1 throttle time; 3 flexible; 4 states, and a filter by them; 5 types, and a filter by them (all groups
here are classic ones). While a partition is being loaded there is an error beside the groups that are known.
Runs in: front end.
"""

from __future__ import annotations

from broker.apis.services import Services
from broker.coordinators.group.coordinator import CLASSIC
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

ListGroupsResponse = response_class(ApiKey.LIST_GROUPS)


def handle(services: Services, header: RequestHeader, request: Request) -> Answer:
    version = header.api_version
    asked = decode_request(ApiKey.LIST_GROUPS, version, request.view, header.body_position, request.end)
    error, groups = services.groups.coordinator.list_groups(asked.states_filter, asked.types_filter)
    answer = ListGroupsResponse(error_code=int(error), groups=[
        ListGroupsResponse.ListedGroup(
            group_id=group.group_id, protocol_type=group.protocol_type or "", group_state=group.state.value,
            group_type=CLASSIC,
        )
        for group in groups
    ])  # fmt: skip
    return encode_response(ApiKey.LIST_GROUPS, version, header.correlation_id, answer)
