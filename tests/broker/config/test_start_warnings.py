"""What an operator is told about a configuration that starts."""
from __future__ import annotations

from broker.config import build_config


def warnings_of(**settings: str) -> list[str]:
    properties = {name.replace("_", "."): value for name, value in settings.items()}
    return build_config(properties, lambda: "h").warnings


def test_nothing_set_nothing_to_say() -> None:
    assert warnings_of() == []


def test_an_unknown_key_is_named_with_the_likely_one_and_without_its_value() -> None:
    [warning] = warnings_of(log_retention_hour="value")
    assert warning == "log.retention.hour: unknown key, ignored; did you mean log.retention.hours?"
    [warning] = warnings_of(metrics_context_token="value")
    assert warning == "metrics.context.token: unknown key, ignored"


def test_keys_without_effect_are_gathered_by_reason() -> None:
    [warning] = warnings_of(num_io_threads="2", background_threads="3")
    assert warning.startswith("background.threads, num.io.threads: no effect, ")


def test_keys_of_a_cluster_have_no_effect_on_a_node_that_is_alone() -> None:
    keys = {"zookeeper_session_timeout_ms": "6000", "controlled_shutdown_enable": "false"}
    [warning] = warnings_of(**keys)
    assert warning.startswith("controlled.shutdown.enable, zookeeper.session.timeout.ms: no effect, ")
    assert warnings_of(zookeeper_connect="zk", **keys) == []


def test_a_key_at_its_default_is_not_worth_a_warning() -> None:
    assert warnings_of(num_io_threads="8") == []


def test_keys_with_effect_are_not_worth_a_warning() -> None:
    assert warnings_of(log_retention_ms="5", broker_rack="r1", connections_max_idle_ms="1000") == []


def test_settings_of_an_authorizer_that_is_not_there() -> None:
    [warning] = warnings_of(super_users="User:admin", allow_everyone_if_no_acl_found="true")
    assert warning.startswith("allow.everyone.if.no.acl.found, super.users: no effect, ")


def test_a_prefix_that_fits_no_listener() -> None:
    [warning] = warnings_of(listener_name_ext_ssl_client_auth="none")
    assert warning == "listener.name.ext.ssl.client.auth: no listener has this name, the key has no effect"


def test_prefixed_keys_are_known_with_and_without_a_mechanism() -> None:
    warnings = warnings_of(
        listener_name_plaintext_plain_sasl_jaas_config="x",
        listener_name_plaintext_ssl_client_auth="required",
        plain_connections_max_reauth_ms="5",
    )
    assert len(warnings) == 1
    assert "no SSL or SASL listener" in warnings[0]


def test_an_unknown_key_behind_a_prefix() -> None:
    [warning] = warnings_of(listener_name_plaintext_no_such_key="x")
    assert warning.startswith("listener.name.plaintext.no.such.key: unknown key")
