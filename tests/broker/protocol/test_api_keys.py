"""Keys, versions and header versions. The whole table is compared with Kafka's in integration/protocol_java."""
from __future__ import annotations

import pytest

from broker.protocol.api_keys import API_SPECS, ApiKey, request_header_version, response_header_version
from broker.protocol.messages import request_class, response_class


def test_every_key_has_a_row() -> None:
    assert list(API_SPECS) == [int(key) for key in ApiKey]
    assert all(spec.key == key for key, spec in API_SPECS.items())


def test_a_zookeeper_mode_broker_has_62_apis() -> None:
    assert sum(spec.zk_broker for spec in API_SPECS.values()) == 62


@pytest.mark.parametrize("spec", [spec for spec in API_SPECS.values() if spec.zk_broker], ids=lambda s: s.name)
def test_versions_are_those_of_the_message_table(spec) -> None:  # type: ignore[no-untyped-def]
    for cls in (request_class(spec.key), response_class(spec.key)):
        assert cls.MESSAGE.name.startswith(spec.name)
        assert (cls.MESSAGE.versions.lowest, cls.MESSAGE.versions.highest) == (
            spec.min_version, spec.max_version)
    flexible = request_class(spec.key).MESSAGE.flexible
    assert spec.flexible_from == (None if flexible.highest < 0 else flexible.lowest)


def test_request_headers_are_v2_in_flexible_versions_else_v1() -> None:
    assert request_header_version(ApiKey.METADATA, 8) == 1
    assert request_header_version(ApiKey.METADATA, 9) == 2
    assert request_header_version(ApiKey.SASL_HANDSHAKE, 1) == 1


def test_controlled_shutdown_v0_has_header_v0() -> None:
    assert [request_header_version(ApiKey.CONTROLLED_SHUTDOWN, version) for version in range(4)] == [0, 1, 1, 2]


def test_response_headers_are_v1_in_flexible_versions_else_v0() -> None:
    assert response_header_version(ApiKey.METADATA, 8) == 0
    assert response_header_version(ApiKey.METADATA, 9) == 1


def test_item_1_api_versions_answers_with_header_v0_always() -> None:
    assert {response_header_version(ApiKey.API_VERSIONS, version) for version in range(5)} == {0}
