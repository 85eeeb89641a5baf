"""What the zookeeper.* keys come to together."""
from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from broker.config import KafkaConfig, build_config
from broker.config.values import Password
from broker.config.zookeeper_address import ZooKeeperAddress
from broker.config.zookeeper_rules import TlsSettings
from tests.broker.config.faults import errors_of

TLS = {"zookeeper.ssl.client.enable": "true",
       "zookeeper.clientCnxnSocket": "org.apache.zookeeper.ClientCnxnSocketNetty"}


def build(environment: dict[str, str] | None = None, **settings: str) -> KafkaConfig:
    properties = {name.replace("_", "."): value for name, value in settings.items()}
    return build_config({"zookeeper.connect": "zk1:1,zk2:2/kafka", **properties}, lambda: "h",
                        environment or {})


def tls_of(**settings: str) -> TlsSettings:
    config = build(**{name.replace(".", "_"): value for name, value in TLS.items() if "Cnxn" not in name},
                   **settings)
    assert config.zookeeper is not None
    assert config.zookeeper.tls is not None
    return config.zookeeper.tls


def test_with_an_address_the_node_is_not_embedded() -> None:
    config = build()
    assert not config.embedded
    assert config.zookeeper == (ZooKeeperAddress(("zk1:1", "zk2:2"), "/kafka"), None, None)
    assert config.warnings == []
    assert pickle.loads(pickle.dumps(config)).zookeeper == config.zookeeper


def test_without_one_it_is() -> None:
    config = build_config({"log.dirs": "/x", "zookeeper.session.timeout.ms": "1"}, lambda: "h", {})
    assert config.embedded
    assert config.zookeeper is None


def test_faults_are_reported_with_all_others() -> None:
    keys = [error.key for error in errors_of(
        zookeeper_connect="zk", zookeeper_session_timeout_ms="0", zookeeper_connection_timeout_ms="-1",
        zookeeper_max_in_flight_requests="0", broker_id="x")]
    assert sorted(keys) == ["broker.id", "zookeeper.connection.timeout.ms",
                            "zookeeper.max.in.flight.requests", "zookeeper.session.timeout.ms"]


def test_kafkas_settings_for_tls() -> None:
    config = build_config({"zookeeper.connect": "zk", **TLS}, lambda: "h", {})
    assert config.zookeeper is not None
    assert config.zookeeper.tls == TlsSettings(None, None, None, True, "TLSv1_2", "TLSv1_2")


def test_tls_by_pem_files() -> None:
    tls = tls_of(zookeeper_ssl_keystore_location="/k.pem", zookeeper_ssl_keystore_password="hush",
                 zookeeper_ssl_truststore_location="/t", zookeeper_ssl_truststore_type="pem",
                 zookeeper_ssl_endpoint_identification_algorithm="",
                 zookeeper_ssl_enabled_protocols="TLSv1.3,TLSv1.2")
    assert tls == TlsSettings("/k.pem", Password("hush"), "/t", False, "TLSv1_2", "TLSv1_3")
    assert "hush" not in repr(tls)


@pytest.mark.parametrize(("ending", "store_type"), [
    (".jks", ""), (".p12", ""), ("", ""), (".pem", "JKS"), ("", "PKCS12")])
@pytest.mark.parametrize("store", ["keystore", "truststore"])
def test_stores_of_java_are_refused_with_the_way_out(store: str, ending: str, store_type: str) -> None:
    settings = {f"zookeeper_ssl_{store}_location": f"/s{ending}", f"zookeeper_ssl_{store}_type": store_type}
    [error] = errors_of(zookeeper_connect="zk", zookeeper_ssl_client_enable="true", **settings)
    assert (error.key, error.refused) == (f"zookeeper.ssl.{store}.location", True)
    assert "PEM" in error.allowed
    assert "openssl pkcs12" in error.advice
    assert errors_of(zookeeper_connect="zk", **settings) == []  # TLS is off


@pytest.mark.parametrize("settings", [
    {"zookeeper_ssl_protocol": "TLSv1.1"}, {"zookeeper_ssl_enabled_protocols": "TLSv1.2,SSLv3"},
    {"zookeeper_ssl_cipher_suites": "TLS_AES_128_GCM_SHA256"}, {"zookeeper_ssl_crl_enable": "true"},
    {"zookeeper_ssl_ocsp_enable": "true"}, {"control_plane_listener_name": "CONTROL",
     "listeners": "PLAINTEXT://:1,CONTROL://:2", "advertised_listeners": "PLAINTEXT://h:1,CONTROL://h:2",
     "listener_security_protocol_map": "PLAINTEXT:PLAINTEXT,CONTROL:PLAINTEXT"},
])
def test_what_cannot_be_served_is_refused(settings: dict[str, str]) -> None:
    [error] = errors_of(zookeeper_connect="zk", zookeeper_ssl_client_enable="true", **settings)
    assert error.refused
    assert error.advice


def test_another_socket_class_is_refused() -> None:
    assert [error.key for error in errors_of(zookeeper_connect="zk", zookeeper_clientCnxnSocket="a.B")] == [
        "zookeeper.clientCnxnSocket"]


def test_nodes_that_belong_to_their_creator_need_a_login(tmp_path: Path) -> None:
    [error] = errors_of(zookeeper_connect="zk", zookeeper_set_acl="true")
    assert error.key == "zookeeper.set.acl"
    jaas = tmp_path / "jaas"
    jaas.write_text('Client { org.apache.zookeeper.server.auth.DigestLoginModule required '
                    'username="u" password="hush"; };')
    config = build({"KAFKA_OPTS": f"-Djava.security.auth.login.config={jaas}"}, zookeeper_set_acl="true")
    assert config.zookeeper is not None
    assert config.zookeeper.login == ("u", Password("hush"))
    assert "hush" not in repr(config.zookeeper)
    assert tls_of(zookeeper_set_acl="true", zookeeper_ssl_keystore_location="/k.pem").key_path == "/k.pem"
