"""The table is whole and consistent; that it is Kafka's is tested in tests/integration/config_java."""
from __future__ import annotations

import subprocess
import sys

import pytest

from broker.config.key_table import BROKER_KEYS, KAFKA_BROKER_KEYS, OTTLA_KEYS, TOPIC_KEYS, Key
from broker.config.treatment import REFUSALS, UNUSED_REASONS, Kind
from broker.config.values import ConfigType

IMPORT_CPU_MS_MAX = 30
ALL_KEYS = [*BROKER_KEYS.values(), *TOPIC_KEYS.values()]


def test_counts() -> None:
    assert (len(KAFKA_BROKER_KEYS), len(TOPIC_KEYS)) == (328, 36)


def test_keys_of_our_own_are_recognisable() -> None:
    assert all(name.startswith("ottla.") for name in OTTLA_KEYS)
    assert not any(name.startswith("ottla.") for name in KAFKA_BROKER_KEYS)


@pytest.mark.parametrize("keys", [KAFKA_BROKER_KEYS, TOPIC_KEYS, OTTLA_KEYS])
def test_the_table_is_sorted(keys: dict[str, Key]) -> None:
    assert list(keys) == sorted(keys)


def test_every_default_passes_its_own_validator() -> None:
    assert [key.name for key in ALL_KEYS if key.validator and not key.validator.accepts(key.default)] == []


def test_every_default_may_be_set_explicitly() -> None:
    refused = [key for key in ALL_KEYS if key.treatment.kind is Kind.REFUSED]
    assert [key.name for key in refused if not key.treatment.permits(key.default, key.default)] == []


def test_every_treatment_has_its_sentence_and_every_sentence_a_key() -> None:
    unused = {key.treatment.reason for key in ALL_KEYS if key.treatment.kind is Kind.UNUSED}
    refused = {key.treatment.reason for key in ALL_KEYS if key.treatment.kind is Kind.REFUSED}
    assert unused == set(UNUSED_REASONS)
    assert refused == set(REFUSALS)


def test_synonyms_are_broker_keys_of_the_same_kind() -> None:
    numbers = {ConfigType.INT, ConfigType.LONG}
    for key in TOPIC_KEYS.values():
        for name, factor in key.synonyms:
            source = BROKER_KEYS[name]
            assert source.type is key.type or {source.type, key.type} <= numbers, name
            assert factor >= 1


@pytest.mark.parametrize(
    "name",
    ["process.roles", "authorizer.class.name", "remote.log.storage.system.enable",
     "client.quota.callback.class", "create.topic.policy.class.name", "principal.builder.class",
     "delegation.token.secret.key", "max.connection.creation.rate", "ottla.validate.records"],
)
def test_what_would_change_meaning_or_security_is_refused(name: str) -> None:
    assert BROKER_KEYS[name].treatment.kind is Kind.REFUSED


@pytest.mark.parametrize(
    "name", ["num.io.threads", "zookeeper.ssl.truststore.password", "transaction.state.log.replication.factor"]
)
def test_tuning_of_what_is_not_here_is_taken_without_effect(name: str) -> None:
    assert BROKER_KEYS[name].treatment.kind is Kind.UNUSED


def test_importing_the_package_is_cheap() -> None:
    """CPU time of our own modules in a fresh interpreter; repeated, as the machine may be busy."""
    program = (
        "import enum, pathlib, pkgutil, re, socket, time, typing; start = time.process_time();"
        "import broker.config; print((time.process_time() - start) * 1000)"
    )
    best_ms = float("inf")
    for _ in range(20):
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        best_ms = min(best_ms, float(result.stdout))
        if best_ms < IMPORT_CPU_MS_MAX:
            return
    pytest.fail(f"{best_ms:.1f} ms")
