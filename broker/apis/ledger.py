"""Which APIs are served to clients and which versions of them are advertised.

Why ranges may be narrower than Kafka's: message formats v0 and v1 come with the storage issue; until then
the versions that carry them are answered with Kafka's error but not advertised. Version 0 of OffsetCommit and
OffsetFetch is about offsets in ZooKeeper, which are not served. An API that is not here is
not served: its requests close the connection, as Kafka does for keys it does not know (behaviour 4).
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from broker.protocol.api_keys import API_SPECS, ApiKey

FIRST_PRODUCE_WITH_FORMAT_V2 = 3
FIRST_FETCH_WITH_FORMAT_V2 = 4
FIRST_VERSION_WITH_OFFSETS_IN_COORDINATOR = 1

_CLIENT_APIS = (
    ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.LIST_OFFSETS, ApiKey.METADATA, ApiKey.OFFSET_COMMIT, ApiKey.OFFSET_FETCH,
    ApiKey.FIND_COORDINATOR, ApiKey.JOIN_GROUP, ApiKey.HEARTBEAT, ApiKey.LEAVE_GROUP, ApiKey.SYNC_GROUP,
    ApiKey.DESCRIBE_GROUPS, ApiKey.LIST_GROUPS, ApiKey.DELETE_GROUPS, ApiKey.OFFSET_DELETE, ApiKey.SASL_HANDSHAKE,
    ApiKey.API_VERSIONS, ApiKey.CREATE_TOPICS, ApiKey.DELETE_TOPICS, ApiKey.INIT_PRODUCER_ID,
    ApiKey.OFFSET_FOR_LEADER_EPOCH, ApiKey.DESCRIBE_CONFIGS, ApiKey.DESCRIBE_LOG_DIRS,
    ApiKey.CREATE_PARTITIONS, ApiKey.DESCRIBE_CLUSTER,
)  # fmt: skip

BETWEEN_BROKERS = (
    ApiKey.LEADER_AND_ISR, ApiKey.STOP_REPLICA, ApiKey.UPDATE_METADATA, ApiKey.CONTROLLED_SHUTDOWN,
    ApiKey.ALTER_PARTITION, ApiKey.ALLOCATE_PRODUCER_IDS,
)  # fmt: skip
"""Served on every listener of a node in ZooKeeper, as by Kafka: any broker may be the controller or ask it."""

PRIVATE_APIS = frozenset(
    (ApiKey.LEADER_AND_ISR, ApiKey.STOP_REPLICA, ApiKey.UPDATE_METADATA, ApiKey.ALTER_CONFIGS)
)
"""Served on the controller process's stream, whatever the listeners serve."""

_FIRST_ADVERTISED = {
    ApiKey.PRODUCE: FIRST_PRODUCE_WITH_FORMAT_V2,
    ApiKey.FETCH: FIRST_FETCH_WITH_FORMAT_V2,
    ApiKey.OFFSET_COMMIT: FIRST_VERSION_WITH_OFFSETS_IN_COORDINATOR,
    ApiKey.OFFSET_FETCH: FIRST_VERSION_WITH_OFFSETS_IN_COORDINATOR,
}

def _ranges(keys: Iterable[ApiKey]) -> dict[ApiKey, tuple[int, int]]:
    return {
        key: (_FIRST_ADVERTISED.get(key, API_SPECS[key].min_version), API_SPECS[key].max_version)
        for key in sorted(keys)
    }


ADVERTISED = _ranges(_CLIENT_APIS)
"""API key -> (lowest, highest) version that ApiVersions names, which are those that a listener serves. Of a node
that keeps its own metadata: there are no other brokers."""

ADVERTISED_IN_CLUSTER = _ranges((*_CLIENT_APIS, *BETWEEN_BROKERS))
"""The same of a node in ZooKeeper."""


def advertised(*, embedded: bool) -> dict[ApiKey, tuple[int, int]]:
    return ADVERTISED if embedded else ADVERTISED_IN_CLUSTER
