"""From a file and overrides to a configuration, or to all of its faults."""
from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from broker.config import ConfigErrors, KafkaConfig, build_config, load_config
from tests.broker.config.faults import HOST, errors_of, faulty_keys


@pytest.fixture
def properties(tmp_path: Path) -> Path:
    path = tmp_path / "server.properties"
    path.write_bytes(
        b"# a node\nbroker.id=3\nlisteners=PLAINTEXT://127.0.0.1:9092\nlog.dirs=/data/a, /data/b\n"
    )
    return path


def build(**settings: str) -> KafkaConfig:
    return build_config({name.replace("_", "."): value for name, value in settings.items()}, lambda: HOST)


def test_a_file(properties: Path) -> None:
    config = load_config(str(properties))
    assert config["broker.id"] == config["node.id"] == 3
    assert config.log_dirs == ["/data/a", "/data/b"]
    assert config.metadata_path == "/data/a/ottla-metadata.sqlite"
    assert config.embedded
    assert config.warnings == []
    assert config["num.partitions"] == 1


def test_overrides_win_and_the_last_of_them_most(properties: Path) -> None:
    config = load_config(str(properties), ["broker.id=4", "log.dirs=/x=y", "broker.id=5"])
    assert config["broker.id"] == 5
    assert config.log_dirs == ["/x=y"]
    assert config.explicit["log.dirs"] == "/x=y"


def test_an_override_without_a_value_is_refused(properties: Path) -> None:
    with pytest.raises(ConfigErrors) as raised:
        load_config(str(properties), ["broker.id", "=5"])
    assert len(raised.value.errors) == 2


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(ConfigErrors) as raised:
            load_config(str(path))
        assert raised.value.errors[0].key == str(path)


def test_a_file_that_is_no_properties_file_is_named_with_its_line(properties: Path) -> None:
    properties.write_bytes(b"a=1\nb=\\u12\n")
    with pytest.raises(ConfigErrors) as raised:
        load_config(str(properties))
    assert raised.value.errors[0].key == f"{properties}, line 2"


def test_all_faults_are_reported_at_once() -> None:
    keys = faulty_keys(num_partitions="0", process_roles="broker", log_roll_ms="0", listeners="nonsense")
    assert keys == ["num.partitions", "process.roles", "log.roll.ms", "listeners"]


def test_a_fault_names_key_value_what_is_allowed_and_what_to_do() -> None:
    [error] = errors_of(num_partitions="none")
    assert (error.key, error.value) == ("num.partitions", "none")
    assert error.allowed == "a whole number, at least 1"
    assert error.advice == "correct it, or leave the key out for the default, 1"


def test_a_template_that_left_zookeeper_empty_starts_no_cluster_of_its_own() -> None:
    [error] = errors_of(zookeeper_connect="")
    assert "ottla.metadata.path" in error.advice


def test_config_providers_are_refused() -> None:
    assert faulty_keys(config_providers="file", config_providers_file_class="x") == ["config.providers"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("remote_log_storage_system_enable", "true"), ("compression_type", "zstd"),
     ("authorizer_class_name", "kafka.security.authorizer.AclAuthorizer"),
     ("metric_reporters", "com.example.Reporter"),
     ("max_connection_creation_rate", "100"), ("controller_quorum_voters", "1@h:9"),
     ("ottla_validate_records", "full"),
     ("ottla_disk_reserve_bytes", "1"), ("group_coordinator_rebalance_protocols", "classic,consumer"),
     ("principal_builder_class", "com.example.Builder")],
)
def test_what_is_not_served_is_refused_with_a_reason(key: str, value: str) -> None:
    [error] = errors_of(**{key: value})
    assert error.refused
    assert error.advice


@pytest.mark.parametrize(
    ("key", "value"),
    [("remote_log_storage_system_enable", "false"), ("authorizer_class_name", ""), ("process_roles", ""),
     ("compression_type", "producer"), ("log_cleanup_policy", "delete"),
     ("group_coordinator_rebalance_protocols", "classic"),
     ("metric_reporters", "org.apache.kafka.common.metrics.JmxReporter"),
     ("max_connection_creation_rate", "2147483647"),
     ("principal_builder_class",
      "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder"),
     ("replica_selector_class", "org.apache.kafka.common.replica.RackAwareReplicaSelector")],
)
def test_a_refused_key_may_be_set_to_what_is_served(key: str, value: str) -> None:
    assert errors_of(**{key: value}) == []


def test_passwords_are_in_no_message() -> None:
    errors = errors_of(
        delegation_token_secret_key="hush", listener_name_x_sasl_jaas_config="hush", broker_id="x"
    )
    assert len(errors) == 2
    assert "hush" not in "".join(map(repr, errors)) + "".join(map(str, errors))
    config = build(ssl_keystore_password="hush", an_unknown_secret="hush")
    assert "hush" not in repr(config) + repr(config.warnings) + repr(config["ssl.keystore.password"])


def test_values_behind_a_listener_prefix_are_checked_too() -> None:
    keys = faulty_keys(
        listener_name_plaintext_ssl_client_auth="maybe", listener_name_plaintext_max_connections="5"
    )
    assert keys == ["listener.name.plaintext.ssl.client.auth", "listener.name.plaintext.max.connections"]


def test_limits_on_connections_are_for_all_listeners_together() -> None:
    assert build(max_connections="5")["max.connections"] == 5
    [error] = errors_of(listener_name_plaintext_max_connections="5")
    assert error.refused


def test_the_arena_can_hold_the_largest_request() -> None:
    assert build()["ottla.arena.max.bytes"] == 268435456
    assert build(socket_request_max_bytes="1000000000")["ottla.arena.max.bytes"] == 2_000_000_000
    assert build(queued_max_request_bytes="500000000")["ottla.arena.max.bytes"] == 500_000_000
    small = build(socket_request_max_bytes="1000", ottla_arena_max_bytes="16777216")
    assert small["ottla.arena.max.bytes"] == 16777216


def test_the_metadata_may_live_elsewhere() -> None:
    assert build(ottla_metadata_path="/meta/x").metadata_path == "/meta/x"


def test_a_configuration_is_plain_data() -> None:
    config = build(broker_id="3", ssl_keystore_password="hush")
    copy = pickle.loads(pickle.dumps(config))
    assert vars(copy) == vars(config)


def test_kafkas_own_sample_file_starts_without_zookeeper() -> None:
    """The lines that Kafka's distribution ships, the ZooKeeper address left out."""
    settings = {
        "broker.id": "0", "num.network.threads": "3", "num.io.threads": "8",
        "socket.send.buffer.bytes": "102400",
        "socket.receive.buffer.bytes": "102400", "socket.request.max.bytes": "104857600",
        "log.dirs": "/tmp/kafka-logs",
        "num.partitions": "1", "num.recovery.threads.per.data.dir": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1", "transaction.state.log.min.isr": "1",
        "log.retention.hours": "168", "log.retention.check.interval.ms": "300000",
        "zookeeper.connection.timeout.ms": "18000", "group.initial.rebalance.delay.ms": "0",
    }
    assert len(build_config(settings, lambda: HOST).warnings) == 2  # transactions, ZooKeeper
