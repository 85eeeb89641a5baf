"""AlterConfigs (key 33) on the controller's stream: these are now all overrides of a topic or a broker.

From clients it is not served yet (dynamic configuration has an issue of its own). On the private stream it
is how the node's controller process hands over what the metadata store holds, in order with its LeaderAndIsr;
that of another node's controller asks for it (`broker.client.topic_overrides`).
Runs in: front end.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from broker.apis.services import Services
from broker.network.connection import Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

AlterConfigsResponse = response_class(ApiKey.ALTER_CONFIGS)
TOPIC_RESOURCE = 2
BROKER_RESOURCE = 4


def handle(services: Services, header: RequestHeader, request: Request) -> Awaitable[bytes]:
    asked = decode_request(
        ApiKey.ALTER_CONFIGS, header.api_version, request.view, header.body_position, request.end
    )
    return _apply(services, header, asked)


async def _apply(services: Services, header: RequestHeader, asked: Any) -> bytes:
    answer = AlterConfigsResponse()
    for resource in asked.resources:
        overrides = {entry.name: entry.value for entry in resource.configs if entry.value is not None}
        error = ErrorCode.NONE
        if resource.resource_type == TOPIC_RESOURCE:
            await services.roles.configure_topic(resource.resource_name, overrides)
            services.overrides.arrived(resource.resource_name)
        elif resource.resource_type == BROKER_RESOURCE:
            services.metadata.broker_overrides[resource.resource_name] = overrides
        else:
            error = ErrorCode.INVALID_REQUEST
        answer.responses.append(
            AlterConfigsResponse.AlterConfigsResourceResponse(
                error_code=int(error), resource_type=resource.resource_type,
                resource_name=resource.resource_name,
            )  # fmt: skip
        )
    return encode_response(ApiKey.ALTER_CONFIGS, header.api_version, header.correlation_id, answer)
