"""DescribeConfigs (key 32): effective configuration of topics and of this broker, with where it comes from.

Versions: 0 isDefault, which Kafka leaves false whatever the source; 1 source and synonyms; 3 type and
documentation (we have none); 4 flexible.
A broker resource must name this broker, or be empty for the cluster-wide defaults. Loggers are a JVM matter:
INVALID_REQUEST. Behaviour 76.
Runs in: front end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from broker.apis.services import Services
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class
from broker.protocol.topic_names import is_valid_topic_name

DescribeConfigsResponse = response_class(ApiKey.DESCRIBE_CONFIGS)
Result = DescribeConfigsResponse.DescribeConfigsResult
Entry = DescribeConfigsResponse.DescribeConfigsResourceResult
Synonym = DescribeConfigsResponse.DescribeConfigsSynonym

TOPIC_RESOURCE, BROKER_RESOURCE, BROKER_LOGGER_RESOURCE, CLIENT_METRICS_RESOURCE = 2, 4, 8, 16
RESOURCE_TYPES = frozenset(
    (TOPIC_RESOURCE, BROKER_RESOURCE, BROKER_LOGGER_RESOURCE, CLIENT_METRICS_RESOURCE)
)
"""Any other one refuses the whole request."""


def handle(services: Services, header: RequestHeader, request: Request) -> Answer:
    version = header.api_version
    asked = decode_request(
        ApiKey.DESCRIBE_CONFIGS, version, request.view, header.body_position, request.end
    )
    strange = next((each for each in asked.resources if each.resource_type not in RESOURCE_TYPES), None)
    if strange is None:
        results = [_describe(services, resource, asked.include_synonyms) for resource in asked.resources]
    else:
        sentence = f"there are no resources of type {strange.resource_type}"
        results = [_refused(resource, sentence) for resource in asked.resources]
    answer = DescribeConfigsResponse(results=results)
    return encode_response(ApiKey.DESCRIBE_CONFIGS, version, header.correlation_id, answer)


def _refused(resource: Any, message: str) -> Any:
    return Result(
        error_code=int(ErrorCode.INVALID_REQUEST), error_message=message, configs=[],
        resource_type=resource.resource_type, resource_name=resource.resource_name,
    )  # fmt: skip


def _describe(services: Services, resource: Any, include_synonyms: bool) -> Any:
    error, message, entries = ErrorCode.NONE, "", []
    name = resource.resource_name
    if resource.resource_type == TOPIC_RESOURCE:
        if not is_valid_topic_name(name):
            error, message = ErrorCode.INVALID_TOPIC_EXCEPTION, f"{name!r} is not a legal topic name"
        elif name not in services.metadata.topics:
            error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        else:
            overrides = services.metadata.topic_overrides.get(name, {})
            entries = services.config.describe_topic(overrides)
    elif resource.resource_type == BROKER_RESOURCE:
        if name == "":
            entries = []
        elif name == str(services.broker_id):
            entries = services.config.describe_broker()
        else:
            error = ErrorCode.INVALID_REQUEST
            message = f"this is broker {services.broker_id}: ask for it, or for all brokers by an empty name"
    else:
        error = ErrorCode.INVALID_REQUEST
        message = f"resources of type {resource.resource_type} are not described here"
    return Result(
        error_code=int(error), error_message=message, resource_type=resource.resource_type,
        resource_name=name, configs=list(_chosen(entries, resource.configuration_keys, include_synonyms)),
    )  # fmt: skip


def _chosen(entries: Iterable[Any], keys: list[str] | None, include_synonyms: bool) -> Iterable[Any]:
    wanted = set(keys or ())
    for entry in entries:
        if wanted and entry.name not in wanted:
            continue
        synonyms = entry.synonyms if include_synonyms else ()
        yield Entry(
            name=entry.name, value=entry.value_text, read_only=entry.read_only,
            config_source=int(entry.source),
            is_sensitive=entry.sensitive, config_type=int(entry.type_code), documentation=None,
            synonyms=[
                Synonym(name=synonym.name, value=synonym.value_text, source=int(synonym.source))
                for synonym in synonyms
            ],
        )  # fmt: skip
