"""SaslHandshake where nobody is authenticated: behaviour 15."""

from __future__ import annotations

import pytest

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import request_class
from tests.integration.apis.wire import Client, versions

SaslHandshakeRequest = request_class(ApiKey.SASL_HANDSHAKE)


@pytest.mark.parametrize("version", versions(ApiKey.SASL_HANDSHAKE))
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "", "nonsense"])
def test_15_a_handshake_on_a_plain_listener_is_an_illegal_state(
    client: Client, version: int, mechanism: str
) -> None:
    for _ in range(2):
        answer = client.call(ApiKey.SASL_HANDSHAKE, version, SaslHandshakeRequest(mechanism=mechanism))
        assert (answer.error_code, list(answer.mechanisms)) == (ErrorCode.ILLEGAL_SASL_STATE, [])
