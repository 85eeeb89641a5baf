"""DescribeCluster (key 60): cluster id, controller, brokers of the listener.

Versions: 0; 1 endpoint type (1 brokers; 2 controllers is a KRaft matter: MISMATCHED_ENDPOINT_TYPE).
Runs in: front end.
"""

from __future__ import annotations

from typing import Any

from broker.apis.authorized_operations import CLUSTER_OPERATIONS
from broker.apis.services import Services
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

DescribeClusterResponse = response_class(ApiKey.DESCRIBE_CLUSTER)
BROKER_ENDPOINTS, CONTROLLER_ENDPOINTS = 1, 2


def handle(services: Services, header: RequestHeader, request: Request) -> Answer:
    version = header.api_version
    asked = decode_request(
        ApiKey.DESCRIBE_CLUSTER, version, request.view, header.body_position, request.end
    )
    answer = _refusal(asked.endpoint_type) or _describe(services, request, asked)
    return encode_response(ApiKey.DESCRIBE_CLUSTER, version, header.correlation_id, answer)


def _refusal(endpoint_type: int) -> Any:
    if endpoint_type == BROKER_ENDPOINTS:
        return None
    error, message = ErrorCode.UNSUPPORTED_ENDPOINT_TYPE, f"there are no endpoints of type {endpoint_type}"
    if endpoint_type == CONTROLLER_ENDPOINTS:
        error = ErrorCode.MISMATCHED_ENDPOINT_TYPE
        message = "this is a broker's endpoint, the request asks for a controller's"
    return DescribeClusterResponse(error_code=int(error), error_message=message)


def _describe(services: Services, request: Request, asked: Any) -> Any:
    metadata = services.metadata
    answer = DescribeClusterResponse(
        cluster_id=services.cluster_id,
        controller_id=metadata.controller_id,
        brokers=[
            DescribeClusterResponse.DescribeClusterBroker(
                broker_id=node.broker_id, host=node.host, port=node.port, rack=node.rack
            )
            for node in metadata.endpoints(request.connection.listener_name)
        ],
    )
    if asked.include_cluster_authorized_operations:
        answer.cluster_authorized_operations = CLUSTER_OPERATIONS
    return answer
