"""Which APIs are served to clients and which versions of them are advertised.

Why ranges may be narrower than Kafka's: message formats v0 and v1 come with the storage issue; until then
the versions that carry them are answered with Kafka's error but not advertised. An API that is not here is
not served: its requests close the connection, as Kafka does for keys it does not know (behaviour 4).
Pure.
"""

from __future__ import annotations

from broker.protocol.api_keys import API_SPECS, ApiKey

FIRST_PRODUCE_WITH_FORMAT_V2 = 3
FIRST_FETCH_WITH_FORMAT_V2 = 4

_CLIENT_APIS = (
    ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.LIST_OFFSETS, ApiKey.METADATA, ApiKey.SASL_HANDSHAKE,
    ApiKey.API_VERSIONS, ApiKey.CREATE_TOPICS, ApiKey.DELETE_TOPICS, ApiKey.INIT_PRODUCER_ID,
    ApiKey.OFFSET_FOR_LEADER_EPOCH, ApiKey.DESCRIBE_CONFIGS, ApiKey.DESCRIBE_LOG_DIRS,
    ApiKey.CREATE_PARTITIONS, ApiKey.DESCRIBE_CLUSTER,
)  # fmt: skip

CONTROLLER_APIS = frozenset(
    (ApiKey.LEADER_AND_ISR, ApiKey.STOP_REPLICA, ApiKey.UPDATE_METADATA, ApiKey.ALTER_CONFIGS)
)
"""Served on the controller process's stream only, until brokers of other nodes may ask."""

_FIRST_ADVERTISED = {
    ApiKey.PRODUCE: FIRST_PRODUCE_WITH_FORMAT_V2,
    ApiKey.FETCH: FIRST_FETCH_WITH_FORMAT_V2,
}

ADVERTISED: dict[ApiKey, tuple[int, int]] = {
    key: (_FIRST_ADVERTISED.get(key, API_SPECS[key].min_version), API_SPECS[key].max_version)
    for key in sorted(_CLIENT_APIS)
}
"""API key -> (lowest, highest) version that ApiVersions names."""
