"""The one place that maps an API key to its handler.

Runs in: front end. Stateless. Accepted versions are Kafka's whole range of each key (`API_SPECS`); what is
advertised is in `ledger`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from broker.apis import (
    alter_configs,
    api_versions,
    create_partitions,
    create_topics,
    delete_topics,
    describe_cluster,
    describe_configs,
    describe_log_dirs,
    fetch,
    init_producer_id,
    leader_and_isr,
    list_offsets,
    metadata,
    offset_for_leader_epoch,
    produce,
    sasl_handshake,
    stop_replica,
    update_metadata,
)
from broker.apis.ledger import ADVERTISED, CONTROLLER_APIS
from broker.apis.services import Services
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ProtocolError
from broker.protocol.frames import RequestHeader, parse_request_header

Handler = Callable[[Services, RequestHeader, Request], Answer | Awaitable[Answer]]

HANDLERS: dict[int, Handler] = {
    ApiKey.PRODUCE: produce.handle,
    ApiKey.FETCH: fetch.handle,
    ApiKey.LIST_OFFSETS: list_offsets.handle,
    ApiKey.METADATA: metadata.handle,
    ApiKey.LEADER_AND_ISR: leader_and_isr.handle,
    ApiKey.STOP_REPLICA: stop_replica.handle,
    ApiKey.UPDATE_METADATA: update_metadata.handle,
    ApiKey.SASL_HANDSHAKE: sasl_handshake.handle,
    ApiKey.API_VERSIONS: api_versions.handle,
    ApiKey.CREATE_TOPICS: create_topics.handle,
    ApiKey.DELETE_TOPICS: delete_topics.handle,
    ApiKey.INIT_PRODUCER_ID: init_producer_id.handle,
    ApiKey.OFFSET_FOR_LEADER_EPOCH: offset_for_leader_epoch.handle,
    ApiKey.DESCRIBE_CONFIGS: describe_configs.handle,
    ApiKey.ALTER_CONFIGS: alter_configs.handle,
    ApiKey.DESCRIBE_LOG_DIRS: describe_log_dirs.handle,
    ApiKey.CREATE_PARTITIONS: create_partitions.handle,
    ApiKey.DESCRIBE_CLUSTER: describe_cluster.handle,
}

assert set(HANDLERS) == set(ADVERTISED) | CONTROLLER_APIS


def dispatcher(services: Services) -> Callable[[Request], Answer | Awaitable[Answer]]:
    """The function that connections call with each whole frame."""

    def dispatch(request: Request) -> Answer | Awaitable[Answer]:
        # Refuses versions that do not exist, those of ApiVersions excepted.
        header = parse_request_header(request.view, request.start, request.end)
        key = header.api_key
        handler = HANDLERS.get(key)
        if handler is None or (key in CONTROLLER_APIS and not request.connection.privileged):
            raise ProtocolError(f"API key {key} is not served on listener {request.connection.listener_name}")
        return handler(services, header, request)

    return dispatch
