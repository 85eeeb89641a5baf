"""Our table and our checks against those of a real Apache Kafka 3.9.1.

Where the two may differ, the difference has a name and a reason here; anything else is a fault of ours.
"""
from __future__ import annotations

import base64
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.config import ConfigEntry, ConfigErrors, ConfigType, KafkaConfig, build_config
from broker.config.check import parse_text
from broker.config.errors import ConfigError
from broker.config.host_name import canonical_host_name
from broker.config.java_properties import PropertiesSyntaxError, parse_properties
from broker.config.key_table import KAFKA_BROKER_KEYS, OTTLA_KEYS, TOPIC_KEYS, Key
from broker.config.values import format_value
from tests.integration.config_java.oracle import (
    Answer,
    ConfigOracle,
    pack,
    pack_map,
    unpack,
    unpack_list,
    unpack_map,
)
from tests.integration.config_java.sample_values import RELATED_TEXTS, sample_texts

pytestmark = pytest.mark.kafka

SEED = 3_9_1
HOST = "node.example"
ZOOKEEPER = {"zookeeper.connect": "127.0.0.1:2181"}

# Kafka loads the named class; we cannot, and take only names that mean something here (treatment.py).
CLASS_NAMES_ARE_NOT_LOADED = {
    name for name, key in KAFKA_BROKER_KEYS.items() if key.type is ConfigType.CLASS
}


@pytest.fixture(scope="module")
def oracle(kafka_libs: Path, tmp_path_factory: pytest.TempPathFactory) -> ConfigOracle:
    return ConfigOracle(kafka_libs, tmp_path_factory.mktemp("config-oracle"))


@pytest.fixture
def rng() -> random.Random:
    print(f"seed {SEED}")
    return random.Random(SEED)


@pytest.mark.parametrize(("scope", "keys"), [("broker", KAFKA_BROKER_KEYS), ("topic", TOPIC_KEYS)])
def test_the_table_has_every_key_of_kafka(oracle: ConfigOracle, scope: str, keys: dict[str, Key]) -> None:
    [answer] = oracle.ask([("keys", scope)])
    theirs = {line.split(" ")[0]: line.split(" ")[1:] for line in answer.fields}
    ours = {
        name: [
            key.type.name, pack(format_value(key.type, key.default)), key.importance.upper(),
            str(key.internal).lower(), key.update_mode,
        ]
        for name, key in keys.items()
    }
    assert ours == theirs


@pytest.mark.parametrize(("scope", "keys"), [("broker", KAFKA_BROKER_KEYS), ("topic", TOPIC_KEYS)])
def test_every_value_of_every_key_gets_kafkas_verdict_and_meaning(
    oracle: ConfigOracle, rng: random.Random, scope: str, keys: dict[str, Key]
) -> None:
    cases = [
        (key, text)
        for name, key in keys.items()
        if name not in CLASS_NAMES_ARE_NOT_LOADED
        for text in sample_texts(key, rng, random_count=120)
    ]
    answers = oracle.ask(("value", scope, key.name, pack(text)) for key, text in cases)
    assert "\n".join(_value_differences(cases, answers)) == ""
    assert len(cases) > 200 * len(keys.keys() - CLASS_NAMES_ARE_NOT_LOADED)


def _value_differences(cases: list[tuple[Key, str]], answers: list[Answer]) -> Iterator[str]:
    for (key, text), answer in zip(cases, answers, strict=True):
        try:
            value = parse_text(key, text)
        except ConfigError as error:
            if answer.accepted:
                yield f"we refuse {key.name}={text!r}: {error.allowed}"
            continue
        if not answer.accepted:
            yield f"we take {key.name}={text!r}: {answer.fields}"
        elif not _same_meaning(key, value, unpack(answer.fields[0])):
            yield f"{key.name}={text!r} means {answer.fields} there and {value!r} here"


def _same_meaning(key: Key, value: object, theirs: str | None) -> bool:
    if key.type is ConfigType.DOUBLE:  # before JDK 19, Double.toString may write more digits than needed
        return theirs is not None and struct.pack("d", value) == struct.pack("d", parse_text(key, theirs))
    return format_value(key.type, value) == theirs


def test_whole_configurations_get_kafkas_verdict(oracle: ConfigOracle, rng: random.Random) -> None:
    cases = [*_single_key_cases(rng), *_related_cases(rng, count=5000)]
    answers = oracle.ask(("config", pack_map(ZOOKEEPER | case)) for case in cases)
    differences = [
        difference
        for case, answer in zip(cases, answers, strict=True)
        if (difference := _config_difference(case, answer)) is not None
    ]
    assert differences == []
    assert sum(answer.accepted for answer in answers) > len(answers) // 5


def _single_key_cases(rng: random.Random) -> Iterator[dict[str, str]]:
    for name, key in KAFKA_BROKER_KEYS.items():
        texts = [text for text in sample_texts(key, rng, random_count=10) if "\0" not in text]
        yield from ({name: text} for text in rng.sample(texts, 15))


def _related_cases(rng: random.Random, count: int) -> Iterator[dict[str, str]]:
    for name, texts in RELATED_TEXTS.items():
        yield from ({name: text} for text in texts)
    groups = [
        [name for name in RELATED_TEXTS if name.startswith(prefixes)]
        for prefixes in (
            ("listener", "advertised", "inter", "security", "control", "early", "sasl"),
            ("log.",), ("group.", "offsets."), ("replica.", "broker", "node", "reserved"),
            ("queued", "socket", "max.", "connect"),
        )
    ]
    for _ in range(count):
        names = rng.choice([*groups, groups[0], list(RELATED_TEXTS)])
        chosen = rng.sample(names, min(len(names), rng.randint(2, 5)))
        yield {name: rng.choice(RELATED_TEXTS[name]) for name in chosen}


def _config_difference(case: dict[str, str], answer: Answer) -> str | None:
    """Kafka's faults must be ours. Beyond them only a refusal, never "invalid", may be ours alone."""
    try:
        config = build_config(case, lambda: HOST)
    except ConfigErrors as errors:
        invalid = [error for error in errors.errors if not (error.refused or _has_explanation(error))]
        if answer.accepted and invalid:
            return f"we call {case} invalid: {invalid[0]}"
        return None
    if not answer.accepted:
        return f"we take {case}: {answer.fields}"
    return _outcome_difference(case, config, answer)


def _has_explanation(error: ConfigError) -> bool:
    """What Kafka finds out only later, when it binds a port, opens a directory or connects to ZooKeeper."""
    no_address = error.key == "zookeeper.connect"
    in_listeners = error.key in ("listeners", "advertised.listeners")
    port_out_of_range = in_listeners and "needs a port from" in error.allowed
    same_directory_twice = error.key in ("log.dirs", "log.dir") and "directories that differ" in error.allowed
    return no_address or port_out_of_range or same_directory_twice


def _outcome_difference(case: dict[str, str], config: KafkaConfig, answer: Answer) -> str | None:
    dirs, listeners, advertised, inter_broker, topic = answer.fields
    effective = config.resolve_topic({})
    described = unpack_map(topic)
    pairs = [
        (config.log_dirs, unpack_list(dirs)),
        ([" ".join(map(str, listener)) for listener in config.listeners], unpack_list(listeners)),
        ([" ".join(map(str, each)).replace(HOST, "") for each in config.advertised_listeners],
         unpack_list(advertised)),
        (config.inter_broker_listener_name, unpack(inter_broker)),
        (str(effective["message.timestamp.before.max.ms"]), described.pop("effective before")),
        (str(effective["message.timestamp.after.max.ms"]), described.pop("effective after")),
        ({name: format_value(TOPIC_KEYS[name].type, value) for name, value in effective.items()}, described),
    ]
    for ours, theirs in pairs:
        if ours != theirs:
            return f"{case} gives {theirs} there and {ours} here"
    return None


TOPIC_BROKERS: list[dict[str, str]] = [
    {},
    {"log.cleaner.min.compaction.lag.ms": "500", "log.retention.hours": "-1", "log.roll.hours": "3"},
    {"log.message.timestamp.difference.max.ms": "5000", "compression.gzip.level": "3"},
    {"log.message.timestamp.before.max.ms": "77", "log.flush.scheduler.interval.ms": "12"},
    {"inter.broker.protocol.version": "2.8", "log.message.format.version": "1.0"},
]


def test_topic_overrides_get_kafkas_verdict_and_values(oracle: ConfigOracle, rng: random.Random) -> None:
    cases = []
    for _ in range(4000):
        keys = rng.sample(list(TOPIC_KEYS.values()), rng.randint(1, 4))
        overrides = {key.name: _likely_text(key, rng) for key in keys}
        cases.append((rng.choice(TOPIC_BROKERS), overrides))
    answers = oracle.ask(
        ("topic", pack_map(ZOOKEEPER | broker), pack_map(overrides)) for broker, overrides in cases
    )
    configs = {id(broker): build_config(broker, lambda: HOST) for broker in TOPIC_BROKERS}
    differences = [
        difference
        for (broker, overrides), answer in zip(cases, answers, strict=True)
        if (difference := _topic_difference(configs[id(broker)], overrides, answer)) is not None
    ]
    assert differences == []
    assert sum(answer.accepted for answer in answers) > len(answers) // 5


def _likely_text(key: Key, rng: random.Random) -> str:
    texts = [text for text in sample_texts(key, rng, random_count=5) if "\0" not in text]
    sound = [text for text in texts if _parses(key, text)]
    return rng.choice(sound if rng.random() < 0.9 else texts)


def _parses(key: Key, text: str) -> bool:
    try:
        parse_text(key, text)
    except ConfigError:
        return False
    return True


def _topic_difference(config: KafkaConfig, overrides: dict[str, str], answer: Answer) -> str | None:
    errors: list[ConfigError] = []
    try:
        config.validate_topic_configs(dict(overrides))
    except ConfigErrors as raised:
        errors = raised.errors
    if not answer.accepted:
        return None if errors else f"we take {overrides}: {answer.fields}"
    if any(not error.refused for error in errors):
        return f"we call {overrides} invalid: {errors}"
    described = unpack_map(answer.fields[0])
    effective = config.resolve_topic(overrides)
    for bound in ("before", "after"):
        if str(effective[f"message.timestamp.{bound}.max.ms"]) != described.pop(f"effective {bound}"):
            return f"{overrides}: {bound} is {effective[f'message.timestamp.{bound}.max.ms']} here"
    ours = {entry.name: entry.value_text for entry in config.describe_topic(overrides)}
    unequal = {name for name in ours if not _same_text(TOPIC_KEYS[name], ours[name], described[name])}
    return f"{overrides} differ in {unequal}" if unequal else None


def _same_text(key: Key, ours: str | None, theirs: str | None) -> bool:
    if key.type is ConfigType.DOUBLE and ours is not None:
        return _same_meaning(key, parse_text(key, ours), theirs)
    return ours == theirs


DESCRIBED: list[tuple[dict[str, str], dict[str, str]]] = [
    ({}, {}),
    (
        {"broker.id": "7", "log.retention.hours": "5", "log.flush.scheduler.interval.ms": "12"},
        {"retention.ms": "1"},
    ),
    (
        {"node.id": "7", "log.retention.ms": "900", "log.retention.minutes": " 7 "},
        {"cleanup.policy": "compact, delete"},
    ),
    ({"log.roll.hours": "5", "log.roll.jitter.hours": "2", "log.roll.jitter.ms": "1"}, {}),
    (
        {"ssl.keystore.password": "secret", "some.plugin.key": "secret", "log.initial.task.delay.ms": "5"},
        {"min.cleanable.dirty.ratio": "0.25", "follower.replication.throttled.replicas": "0:1"},
    ),
    (
        {
            "listener.name.plaintext.max.connections": "2147483647",
            "listener.name.plaintext.ssl.key.password": "secret",
            "listener.name.plaintext.plain.sasl.jaas.config": "secret",
            "super.users": "User:a",
        },
        {"segment.ms": "60000"},
    ),
    (
        {
            "log.cleaner.io.max.bytes.per.second": "12500000",
            "log.cleaner.io.buffer.load.factor": "0.00025",
            "log.segment.bytes": " 1000000 ",
        },
        {"unclean.leader.election.enable": "TRUE"},
    ),
]


def test_configurations_are_described_as_kafka_does(oracle: ConfigOracle) -> None:
    answers = oracle.ask(
        ("describe", pack_map(ZOOKEEPER | broker), pack_map(topic)) for broker, topic in DESCRIBED
    )
    for (broker, topic), answer in zip(DESCRIBED, answers, strict=True):
        assert answer.accepted, answer.fields
        config = build_config(broker, lambda: HOST)
        ours = [_shown(config.describe_broker()), _shown(config.describe_topic(topic))]
        theirs = [unpack_map(field) for field in answer.fields]
        assert theirs[0].pop("zookeeper.connect").startswith(pack(ZOOKEEPER["zookeeper.connect"]))
        assert ours[0].pop("zookeeper.connect").startswith("~")
        assert ours == theirs


def _shown(entries: list[ConfigEntry]) -> dict[str, str]:
    """As the oracle prints them; keys of Ottla's own are not Kafka's."""
    return {
        entry.name: " ".join([
            pack(entry.value_text), str(int(entry.source)), str(entry.read_only).lower(),
            str(entry.sensitive).lower(), str(int(entry.type_code)),
            *(f"{each.name}={pack(each.value_text)}={int(each.source)}" for each in entry.synonyms),
        ])
        for entry in entries
        if entry.name not in OTTLA_KEYS
    }


_PROPERTIES_PIECES = [
    b"a", b"key", b"=", b":", b" ", b"\t", b"\f", b"\n", b"\r", b"\r\n", b"\\", b"\\\\", b"\\\n", b"\\\r\n",
    b"\\\r",
    b"#", b"!", b"\\n", b"\\t", b"\\u0041", b"\\u00e9", b"\\ud83d\\ude00", b"\\ud800", b"\\u12", b"\\z",
    b"\xe9", b"\x00",
    b"value", b" = ", b"\\ ", b"\\=", b"\\:", b"\\#", b"\x0b",
]


def test_properties_files_mean_what_they_mean_to_java(oracle: ConfigOracle, rng: random.Random) -> None:
    texts = [b"".join(rng.choices(_PROPERTIES_PIECES, k=rng.randint(1, 14))) for _ in range(20000)]
    answers = oracle.ask(("properties", _base64(text)) for text in texts)
    differences = [
        (text, ours, answer.fields)
        for text, answer in zip(texts, answers, strict=True)
        if (ours := _parsed(text)) != (sorted(answer.fields) if answer.accepted else None)
    ]
    assert differences == []


def _parsed(text: bytes) -> list[str] | None:
    try:
        entries = parse_properties(text)
    except PropertiesSyntaxError:
        return None
    return sorted(f"{_units(key)} {_units(value)}" for key, value in entries.items())


def _units(text: str) -> str:
    return "x" + text.encode("utf-16-be", "surrogatepass").hex()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_the_machines_name_is_the_one_that_java_finds(oracle: ConfigOracle) -> None:
    [answer] = oracle.ask([("hostname",)])
    assert canonical_host_name() == unpack(answer.fields[0])
