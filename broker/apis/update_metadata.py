"""UpdateMetadata (key 6): the controller replaces the list of brokers and merges partitions.

Versions: 1 endpoints; 2 rack; 3 listener names; 4 offline replicas; 5 grouped, broker epoch; 6 flexible;
7 topic ids; 8 KRaft flag.
Runs in: front end.
"""

from __future__ import annotations

from broker.apis.controller_fencing import fence
from broker.apis.services import Services
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

UpdateMetadataResponse = response_class(ApiKey.UPDATE_METADATA)


def handle(services: Services, header: RequestHeader, request: Request) -> Answer:
    version = header.api_version
    asked = decode_request(
        ApiKey.UPDATE_METADATA, version, request.view, header.body_position, request.end
    )
    error = fence(services, asked)
    if not error:
        services.groups.topics_deleted(services.metadata.update(asked))
    answer = UpdateMetadataResponse(error_code=int(error))
    return encode_response(ApiKey.UPDATE_METADATA, version, header.correlation_id, answer)
