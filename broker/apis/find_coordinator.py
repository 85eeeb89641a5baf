"""FindCoordinator (key 10): which broker coordinates a group.

| version | what it adds |
|---|---|
| 1 | key types (0 group, 1 transactional id), an error message |
| 3 | flexible |
| 4 | several keys, an error each |
| 6 | key type 2 (share groups), which nobody coordinates: COORDINATOR_NOT_AVAILABLE |

Transactional ids are not served yet: UNSUPPORTED_VERSION, so that nobody waits for a coordinator that will never
come.
The first request for a group makes the topic of the groups; until its leaders are known the answer is
COORDINATOR_NOT_AVAILABLE (behaviour 78). Runs in: front end.
"""

from __future__ import annotations

from typing import Any

from broker.apis.services import Services
from broker.coordinators.internal_topics import GROUP_METADATA_TOPIC
from broker.metadata.cache import BrokerEndpoint
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

FindCoordinatorResponse = response_class(ApiKey.FIND_COORDINATOR)
FIRST_VERSION_WITH_MESSAGE = 1
FIRST_VERSION_WITH_KEYS = 4
FIRST_VERSION_WITH_SHARE_GROUPS = 6
GROUP, TRANSACTION, SHARE = 0, 1, 2
NO_NODE = BrokerEndpoint(-1, "", -1, None)

_MESSAGES = {
    ErrorCode.NONE: "NONE",
    ErrorCode.COORDINATOR_NOT_AVAILABLE: "The coordinator is not known yet; ask again.",
    ErrorCode.INVALID_REQUEST: "There is no coordinator of this type.",
    ErrorCode.UNSUPPORTED_VERSION: "Transactions are not served in this version.",
}


def handle(services: Services, header: RequestHeader, request: Request) -> Answer:
    version = header.api_version
    asked = decode_request(ApiKey.FIND_COORDINATOR, version, request.view, header.body_position, request.end)
    listener = request.connection.listener_name
    if version >= FIRST_VERSION_WITH_KEYS:
        answer = FindCoordinatorResponse(
            coordinators=[
                _coordinator(key, *_find(services, version, asked.key_type, key, listener))
                for key in asked.coordinator_keys
            ]
        )
    else:
        error, node = _find(services, version, asked.key_type, asked.key, listener)
        answer = FindCoordinatorResponse(
            error_code=int(error), node_id=node.broker_id, host=node.host, port=node.port
        )
        if version >= FIRST_VERSION_WITH_MESSAGE:
            answer.error_message = _MESSAGES[error]
    return encode_response(ApiKey.FIND_COORDINATOR, version, header.correlation_id, answer)


def _coordinator(key: str, error: ErrorCode, node: BrokerEndpoint) -> Any:
    return FindCoordinatorResponse.Coordinator(
        key=key, error_code=int(error), node_id=node.broker_id, host=node.host, port=node.port
    )


def _find(
    services: Services, version: int, key_type: int, key: str, listener: str
) -> tuple[ErrorCode, BrokerEndpoint]:
    if key_type == TRANSACTION:
        return ErrorCode.UNSUPPORTED_VERSION, NO_NODE
    if key_type == SHARE and version >= FIRST_VERSION_WITH_SHARE_GROUPS:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE, NO_NODE
    if key_type != GROUP:
        return ErrorCode.INVALID_REQUEST, NO_NODE
    return _group_coordinator(services, key, listener)


def _group_coordinator(services: Services, group_id: str, listener: str) -> tuple[ErrorCode, BrokerEndpoint]:
    metadata, groups = services.metadata, services.groups
    if GROUP_METADATA_TOPIC not in metadata.topics:
        services.start_soon(groups.topics.create_group_metadata)
        return ErrorCode.COORDINATOR_NOT_AVAILABLE, NO_NODE
    partition = metadata.partition(GROUP_METADATA_TOPIC, groups.partition_of(group_id))
    node = None if partition is None else metadata.endpoint(partition.leader, listener)
    if node is None:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE, NO_NODE
    return ErrorCode.NONE, node
