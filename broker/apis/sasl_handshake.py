"""SaslHandshake (key 17): refused, this listener authenticates nobody.

Versions 0-1. On a listener without SASL Kafka answers ILLEGAL_SASL_STATE with no mechanisms (behaviour 15).
Runs in: front end.
"""

from __future__ import annotations

from broker.apis.services import Services
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

SaslHandshakeResponse = response_class(ApiKey.SASL_HANDSHAKE)


def handle(services: Services, header: RequestHeader, request: Request) -> Answer:
    version = header.api_version
    decode_request(ApiKey.SASL_HANDSHAKE, version, request.view, header.body_position, request.end)
    refusal = SaslHandshakeResponse(error_code=int(ErrorCode.ILLEGAL_SASL_STATE))
    return encode_response(ApiKey.SASL_HANDSHAKE, version, header.correlation_id, refusal)
