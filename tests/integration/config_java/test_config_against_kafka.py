"""Our table and our checks against those of a real Apache Kafka 3.9.1.

Where the two may differ, the difference has a name and a reason here; anything else is a fault of ours.
"""
from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.config import ConfigErrors, ConfigType, KafkaConfig, build_config
from broker.config.check import parse_text
from broker.config.errors import ConfigError
from broker.config.host_name import canonical_host_name
from broker.config.java_properties import PropertiesSyntaxError, parse_properties
from broker.config.key_table import KAFKA_BROKER_KEYS, OTTLA_KEYS, TOPIC_KEYS, Key
from broker.config.treatment import Kind
from broker.config.values import format_value
from tests.integration.config_java.oracle import Answer, ConfigOracle, pack, pack_map, unpack, unpack_list, unpack_map
from tests.integration.config_java.sample_values import sample_texts

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
            str(key.internal).lower(), "static" if scope == "topic" or key.read_only else "dynamic",
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
    assert len(cases) > 200 * len(keys) // 2


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


# Texts for keys that are checked against each other.
RELATED_TEXTS = {
    "broker.id": ["-1", "0", "7", "1000", "1001", "-2"],
    "node.id": ["-1", "0", "7", "1001"],
    "broker.id.generation.enable": ["true", "false"],
    "reserved.broker.max.id": ["0", "5", "2000"],
    "log.roll.ms": ["0", "1", "-1", "60000"],
    "log.roll.hours": ["1", "9000000"],
    "log.roll.jitter.ms": ["0", "-1", "5"],
    "log.roll.jitter.hours": ["0", "3"],
    "log.retention.ms": ["-1", "-7", "0", "1", "9223372036854775807"],
    "log.retention.minutes": ["-1", "0", "5"],
    "log.retention.hours": ["-1", "0", "5"],
    "log.flush.interval.ms": ["-1", "0", "100"],
    "log.flush.scheduler.interval.ms": ["-1", "0", "700"],
    "log.dirs": ["", ",", "/tmp/a", "/tmp/a , /tmp/b", "/tmp/a,,/tmp/b"],
    "log.dir": ["", "/tmp/x", "/tmp/x,/tmp/y"],
    "log.cleaner.threads": ["0", "1", "127", "128", "129"],
    "log.cleaner.dedupe.buffer.size": ["1048576", "1048577", "2097152", "-5"],
    "log.cleaner.min.compaction.lag.ms": ["0", "100"],
    "log.cleaner.max.compaction.lag.ms": ["1", "99", "100"],
    "replica.fetch.wait.max.ms": ["500", "30000", "30001", "-1"],
    "replica.socket.timeout.ms": ["499", "500", "30001"],
    "replica.lag.time.max.ms": ["499", "500", "40000"],
    "inter.broker.protocol.version": ["0.9.0", "0.10.0", "0.10.2", "0.11.0", "2.0", "2.8", "3.0-IV0", "3.0", "3.9"],
    "log.message.format.version": ["0.8.2", "0.10.0", "0.11.0", "2.8", "3.9"],
    "offsets.topic.compression.codec": ["-1", "0", "3", "4", "5"],
    "offsets.commit.required.acks": ["-2", "-1", "0", "3", "4"],
    "offsets.topic.replication.factor": ["1", "3", "5"],
    "group.coordinator.rebalance.protocols": ["", "classic", "consumer", "classic,consumer", "classic,share", "unknown"],
    "group.consumer.heartbeat.interval.ms": ["4999", "5000", "15001"],
    "group.consumer.min.heartbeat.interval.ms": ["4000", "5001", "16000"],
    "group.consumer.max.heartbeat.interval.ms": ["4999", "20000"],
    "group.consumer.session.timeout.ms": ["44999", "60001"],
    "group.consumer.max.session.timeout.ms": ["44999", "90000"],
    "group.share.heartbeat.interval.ms": ["4999", "15001"],
    "group.share.min.session.timeout.ms": ["46000", "70000"],
    "group.share.session.timeout.ms": ["45000", "60001"],
    "group.share.record.lock.duration.ms": ["14999", "60000", "1000"],
    "group.share.max.record.lock.duration.ms": ["30000", "3600000"],
    "queued.max.request.bytes": ["-1", "0", "1", "104857599", "104857600"],
    "socket.request.max.bytes": ["1", "1000", "200000000"],
    "max.connections.per.ip": ["0", "1"],
    "max.connections.per.ip.overrides": ["", "h:1", "h:x", "h", "a_b:1", "::1:5", "h:1,", ",h:1", "h:", "é:1"],
    "connections.max.idle.ms": ["-1", "0", "100", "101"],
    "connection.failed.authentication.delay.ms": ["0", "99", "600000"],
    "log.message.timestamp.difference.max.ms": ["0", "5"],
    "log.message.timestamp.before.max.ms": ["7", "9223372036854775807"],
    "log.message.timestamp.after.max.ms": ["8"],
    "listeners": [
        "", "PLAINTEXT://:9092", "plaintext://h:1", "PLAINTEXT://h:0,EXT://h:0", "PLAINTEXT://h:1,EXT://h:1",
        "PLAINTEXT://127.0.0.1:1,EXT://[::1]:1", "PLAINTEXT://127.0.0.1:1,EXT://127.0.0.2:1", "PLAINTEXT://::1:1",
        "PLAINTEXT://127.0.0.1:1,EXT://[fe80::1%eth0]:1", "PLAINTEXT://127.0.0.1:1,EXT://[::1]:1,SSL://h:1",
        "PLAINTEXT://0.0.0.0:9092", "PLAINTEXT://h:1,PLAINTEXT://h:2", "PLAINTEXT://h", "PLAINTEXT:/h:1", "://h:1",
        " ://h:1", "PLAINTEXT://h:1 ,, EXT://h:2", "SSL://h:1", "SASL_PLAINTEXT://h:1,PLAINTEXT://h:2", "NOBODY://h:1",
        "PLAINTEXT://a_b:1", "PLAINTEXT://h:99999999999", "PLAINTEXT://[h:1", "PLAINTEXT://h h:1", "INT://h:1,EXT://h:2",
        "PLAINTEXT://0127.0.0.1:1,EXT://[::1]:1", "PLAINTEXT://h:1,EXT://127.0.0.1:1", "EXT://é:1",
    ],
    "advertised.listeners": [
        "", "PLAINTEXT://h:1", "EXT://h:1", "PLAINTEXT://h:1,EXT://h:1", "PLAINTEXT://0.0.0.0:1", "PLAINTEXT://:1",
        "PLAINTEXT://h:1,PLAINTEXT://g:2", "NOBODY://h:1", "INT://h:1,EXT://h:2",
    ],
    "listener.security.protocol.map": [
        "PLAINTEXT:PLAINTEXT,EXT:PLAINTEXT", "EXT:PLAINTEXT", "INT:plaintext,ext:SSL", "PLAINTEXT:PLAINTEXT,EXT:SASL_SSL",
        "", "PLAINTEXT", "PLAINTEXT:NONE", ":PLAINTEXT", "PLAINTEXT:PLAINTEXT,", ",PLAINTEXT:PLAINTEXT",
        "INT:PLAINTEXT,EXT:PLAINTEXT", "PLAINTEXT : PLAINTEXT , EXT : PLAINTEXT",
    ],
    "inter.broker.listener.name": ["", "PLAINTEXT", "ext", "EXT", "NOBODY", "INT"],
    "security.inter.broker.protocol": ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "plaintext"],
    "control.plane.listener.name": ["", "EXT", "ext", "PLAINTEXT", "NOBODY"],
    "early.start.listeners": ["", "PLAINTEXT", "plaintext", "EXT, ", "NOBODY"],
    "sasl.enabled.mechanisms": ["PLAIN", "GSSAPI", ""],
    "sasl.mechanism.inter.broker.protocol": ["PLAIN", "GSSAPI", ""],
    "listener.name.sasl_plaintext.sasl.enabled.mechanisms": ["PLAIN", "SCRAM-SHA-256"],
    "zookeeper.connect": ["", "h:1/chroot"],
    "authorizer.class.name": ["", "kafka.security.authorizer.AclAuthorizer"],
    "process.roles": ["", "broker", "other"],
    "controller.listener.names": ["", "CONTROLLER", ","],
    "cluster.of.nobody": ["1"],
}


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
        invalid = [error for error in errors.errors if not error.refused and not _has_explanation(case, error)]
        if answer.accepted and invalid:
            return f"we call {case} invalid: {invalid[0]}"
        return None
    if not answer.accepted:
        return f"we take {case}: {answer.fields}"
    return _outcome_difference(case, config, answer)


def _has_explanation(case: dict[str, str], error: ConfigError) -> bool:
    """What Kafka finds out only later, when it binds a port or opens a directory."""
    port_out_of_range = error.key in ("listeners", "advertised.listeners") and "needs a port from" in error.allowed
    same_directory_twice = error.key in ("log.dirs", "log.dir") and "directories that differ" in error.allowed
    return port_out_of_range or same_directory_twice


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
    answers = oracle.ask(("topic", pack_map(ZOOKEEPER | broker), pack_map(overrides)) for broker, overrides in cases)
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
    ({"broker.id": "7", "log.retention.hours": "5", "log.flush.scheduler.interval.ms": "12"}, {"retention.ms": "1"}),
    ({"node.id": "7", "log.retention.ms": "900", "log.retention.minutes": " 7 "}, {"cleanup.policy": "compact, delete"}),
    ({"broker.id": "0", "log.roll.hours": "5", "log.roll.jitter.hours": "2", "log.roll.jitter.ms": "1"}, {}),
    ({"broker.id": "0", "ssl.keystore.password": "secret", "some.plugin.key": "secret", "log.initial.task.delay.ms": "5"},
     {"min.cleanable.dirty.ratio": "0.25", "follower.replication.throttled.replicas": "0:1"}),
    ({"broker.id": "0", "listener.name.plaintext.max.connections": "2147483647",
      "listener.name.plaintext.ssl.key.password": "secret",
      "listener.name.plaintext.plain.sasl.jaas.config": "secret", "super.users": "User:a"}, {"segment.ms": "60000"}),
    ({"broker.id": "3", "log.cleaner.io.max.bytes.per.second": "12500000", "log.segment.bytes": " 1000000 ",
      "log.cleaner.io.buffer.load.factor": "0.00025"}, {"unclean.leader.election.enable": "TRUE"}),
]


def test_configurations_are_described_as_kafka_does(oracle: ConfigOracle) -> None:
    answers = oracle.ask(("describe", pack_map(ZOOKEEPER | broker), pack_map(topic)) for broker, topic in DESCRIBED)
    for (broker, topic), answer in zip(DESCRIBED, answers, strict=True):
        assert answer.accepted, answer.fields
        config = build_config(broker, lambda: HOST)
        ours = [_shown(config.describe_broker()), _shown(config.describe_topic(topic))]
        theirs = [unpack_map(field) for field in answer.fields]
        assert theirs[0].pop("zookeeper.connect").startswith(pack(ZOOKEEPER["zookeeper.connect"]))
        assert ours[0].pop("zookeeper.connect").startswith("~")
        assert ours == theirs


def _shown(entries: list) -> dict[str, str]:
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
    b"a", b"key", b"=", b":", b" ", b"\t", b"\f", b"\n", b"\r", b"\r\n", b"\\", b"\\\\", b"\\\n", b"\\\r\n", b"\\\r",
    b"#", b"!", b"\\n", b"\\t", b"\\u0041", b"\\u00e9", b"\\ud83d\\ude00", b"\\ud800", b"\\u12", b"\\z", b"\xe9", b"\x00",
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
    import base64

    return base64.b64encode(data).decode()


def test_the_machines_name_is_the_one_that_java_finds(oracle: ConfigOracle) -> None:
    [answer] = oracle.ask([("hostname",)])
    assert canonical_host_name() == unpack(answer.fields[0])


def test_every_refused_key_is_taken_at_its_default() -> None:
    for key in KAFKA_BROKER_KEYS.values():
        if key.treatment.kind is Kind.REFUSED:
            assert key.treatment.permits(key.default, key.default), key.name
