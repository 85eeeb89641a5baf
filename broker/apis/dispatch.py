"""The one place that maps an API key to its handler.

Accepted versions are Kafka's whole range of each key (`API_SPECS`); what is advertised, and so what a listener
serves, is in `ledger`.
Why some requests wait at first: a node in ZooKeeper must listen before it knows anything, for it is on its
listeners that another node's controller tells it; clients are answered when it has (behaviour 20).
Runs in: front end. Stateless.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from broker.apis import (
    allocate_producer_ids,
    alter_configs,
    alter_partition,
    api_versions,
    controlled_shutdown,
    create_partitions,
    create_topics,
    delete_groups,
    delete_topics,
    describe_cluster,
    describe_configs,
    describe_groups,
    describe_log_dirs,
    fetch,
    find_coordinator,
    heartbeat,
    init_producer_id,
    join_group,
    leader_and_isr,
    leave_group,
    list_groups,
    list_offsets,
    metadata,
    offset_commit,
    offset_delete,
    offset_fetch,
    offset_for_leader_epoch,
    produce,
    sasl_handshake,
    stop_replica,
    sync_group,
    update_metadata,
)
from broker.apis.ledger import ADVERTISED_IN_CLUSTER, BETWEEN_BROKERS, PRIVATE_APIS, advertised
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
    ApiKey.CONTROLLED_SHUTDOWN: controlled_shutdown.handle,
    ApiKey.OFFSET_COMMIT: offset_commit.handle,
    ApiKey.OFFSET_FETCH: offset_fetch.handle,
    ApiKey.FIND_COORDINATOR: find_coordinator.handle,
    ApiKey.JOIN_GROUP: join_group.handle,
    ApiKey.HEARTBEAT: heartbeat.handle,
    ApiKey.LEAVE_GROUP: leave_group.handle,
    ApiKey.SYNC_GROUP: sync_group.handle,
    ApiKey.DESCRIBE_GROUPS: describe_groups.handle,
    ApiKey.LIST_GROUPS: list_groups.handle,
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
    ApiKey.DELETE_GROUPS: delete_groups.handle,
    ApiKey.OFFSET_DELETE: offset_delete.handle,
    ApiKey.ALTER_PARTITION: alter_partition.handle,
    ApiKey.DESCRIBE_CLUSTER: describe_cluster.handle,
    ApiKey.ALLOCATE_PRODUCER_IDS: allocate_producer_ids.handle,
}

NEVER_WAITING = frozenset((*BETWEEN_BROKERS, ApiKey.API_VERSIONS, ApiKey.SASL_HANDSHAKE))
"""They say nothing about the cluster, or are how this node learns of it."""

assert set(HANDLERS) == set(ADVERTISED_IN_CLUSTER) | PRIVATE_APIS


def dispatcher(services: Services) -> Callable[[Request], Answer | Awaitable[Answer]]:
    """The function that connections call with each whole frame."""
    served = advertised(embedded=services.config.embedded)
    informed = services.informed

    def dispatch(request: Request) -> Answer | Awaitable[Answer]:
        # Refuses versions that do not exist, those of ApiVersions excepted.
        header = parse_request_header(request.view, request.start, request.end)
        key = header.api_key
        handler = HANDLERS.get(key)
        if handler is None or (key not in served and not request.connection.privileged):
            raise ProtocolError(f"API key {key} is not served on listener {request.connection.listener_name}")
        if not informed.is_set() and key not in NEVER_WAITING and not request.connection.privileged:
            return _when_informed(services, handler, header, request)
        return handler(services, header, request)

    return dispatch


async def _when_informed(
    services: Services, handler: Handler, header: RequestHeader, request: Request
) -> Answer:
    await services.informed.wait()
    answer = handler(services, header, request)
    if answer is None or isinstance(answer, bytes | list):
        return answer
    return await answer
