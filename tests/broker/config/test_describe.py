"""DescribeConfigs; whole answers are compared with a real Kafka's in tests/integration/config_java."""
from __future__ import annotations

from broker.config import ConfigEntry, ConfigSource, ConfigSynonym, ConfigType, build_config
from broker.config.key_table import OTTLA_KEYS, TOPIC_KEYS

STATIC = ConfigSource.STATIC_BROKER_CONFIG
DEFAULT = ConfigSource.DEFAULT_CONFIG
TOPIC = ConfigSource.TOPIC_CONFIG


def broker_entries(settings: dict[str, str]) -> dict[str, ConfigEntry]:
    return {entry.name: entry for entry in build_config(settings, lambda: "h").describe_broker()}


def topic_entries(settings: dict[str, str], overrides: dict[str, str]) -> dict[str, ConfigEntry]:
    return {entry.name: entry for entry in build_config(settings, lambda: "h").describe_topic(overrides)}


def test_a_default() -> None:
    assert broker_entries({})["log.segment.bytes"] == ConfigEntry(
        "log.segment.bytes", "1073741824", DEFAULT, read_only=False, sensitive=False,
        type_code=ConfigType.INT,
        synonyms=(ConfigSynonym("log.segment.bytes", "1073741824", DEFAULT),),
    )


def test_a_key_without_any_value_has_no_synonyms() -> None:
    entry = broker_entries({})["broker.rack"]
    assert (entry.value_text, entry.source, entry.synonyms) == (None, DEFAULT, ())


def test_a_set_key_shows_the_typed_value_and_as_synonyms_the_texts() -> None:
    entry = broker_entries({"log.segment.bytes": " +2000"})["log.segment.bytes"]
    assert entry.value_text == "2000"
    assert entry.source == STATIC
    assert entry.synonyms == (
        ConfigSynonym("log.segment.bytes", " +2000", STATIC),
        ConfigSynonym("log.segment.bytes", "1073741824", DEFAULT),
    )


def test_synonyms_come_by_precedence_and_start_with_the_key_itself() -> None:
    entries = broker_entries({"log.retention.ms": "5", "log.retention.hours": "2"})
    assert entries["log.retention.ms"].synonyms == (
        ConfigSynonym("log.retention.ms", "5", STATIC),
        ConfigSynonym("log.retention.hours", "2", STATIC),
        ConfigSynonym("log.retention.hours", "168", DEFAULT),
    )
    assert [each.value_text for each in entries["log.retention.hours"].synonyms] == ["2", "168"]


def test_secrets_and_unknown_keys_show_no_value() -> None:
    entries = broker_entries({"ssl.key.password": "hush", "a.plugin.key": "hush"})
    for name, code in (("ssl.key.password", ConfigType.PASSWORD), ("a.plugin.key", ConfigType.UNKNOWN)):
        assert entries[name].sensitive
        assert entries[name].type_code == code
    assert "hush" not in repr(entries)


def test_internal_keys_show_only_when_set() -> None:
    assert "log.initial.task.delay.ms" not in broker_entries({})
    assert broker_entries({"log.initial.task.delay.ms": "5"})["log.initial.task.delay.ms"].value_text == "5"


def test_read_only_means_that_kafka_takes_no_change_while_running() -> None:
    entries = broker_entries({})
    names = ("log.dirs", "log.segment.bytes", "listeners")
    assert [entries[name].read_only for name in names] == [True, False, False]


def test_our_own_keys_are_shown() -> None:
    assert OTTLA_KEYS.keys() <= broker_entries({}).keys()


def test_a_topic_shows_every_topic_key() -> None:
    assert topic_entries({}, {}).keys() == TOPIC_KEYS.keys()


def test_a_topics_override_comes_before_the_broker() -> None:
    entry = topic_entries({"message.max.bytes": "9"}, {"max.message.bytes": "7"})["max.message.bytes"]
    assert (entry.value_text, entry.source) == ("7", TOPIC)
    assert entry.synonyms == (
        ConfigSynonym("max.message.bytes", "7", TOPIC),
        ConfigSynonym("message.max.bytes", "9", STATIC),
        ConfigSynonym("message.max.bytes", "1048588", DEFAULT),
    )


def test_a_broker_key_in_another_unit_is_in_force_though_not_named_as_the_source() -> None:
    entry = topic_entries({"log.retention.hours": "2"}, {})["retention.ms"]
    assert (entry.value_text, entry.source, entry.synonyms) == ("7200000", DEFAULT, ())


def test_lists_and_truth_values_are_shown_in_one_form() -> None:
    entries = topic_entries({}, {"cleanup.policy": "compact , delete", "preallocate": " TRUE"})
    assert entries["cleanup.policy"].value_text == "compact,delete"
    assert entries["preallocate"].value_text == "true"
