"""Texts to try as configuration values: the edges of each type and validator, and seeded random ones."""
from __future__ import annotations

import random

from broker.config.key_table import Key
from broker.config.values import INTEGER_RANGES, ConfigType, format_value

_NASTY = [
    "", " ", "\t", "null", "true", "TRUE", " False ", "fal\u017fe", "yes", "1", "0", "-1", "+1", "-0", "+",
    "-", "007", "1_000", "1 000", "1,000", "1.0", "1.", ".5", "1e3", "1E-2", "0.1f", "5d", "0x10", "0x1p3",
    "0x.8P-1", "NaN", "-Infinity", "infinity", "inf", "nan", "1e400", "-1e400", "\u0663", "\uff15",
    "\U0001d7d7", "\u00a05", "99999999999999999999", "0" * 30 + "7", "2147483647", "2147483648",
    "-2147483649", "32767", "32768", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
    "-9223372036854775809", "a,b", ",", " , ", "a ,\tb,", "*", "* ", "0:1", "0:1,1:2", "0:1,*", "x:y", ":",
    "h:9", "1@h:9", "1@h:9@", "a@b@c", "1@:9", "1@h", "1@h:99999", "h:65536", "[::1]:9", "PLAINTEXT",
    "plaintext", "SSL", "3.9", "3.9.1", "3.9-IV0", "4.0", "4.0-IV1", "0.8", "0.8.2", "0.8.2.2", "0.10.0",
    "0.10.0-IV0", "0.11.0", "2.1", "3.", "3.9.", "producer", "gzip", "uncompressed", "none", "delete",
    "compact", "compact,delete", "delete,", "Delete", "CreateTime", "createtime", "classic", "consumer",
    "classic,consumer", "broker,controller", "bidirectional", "DOWNGRADE", "required", "java.lang.String",
    "no.such.Class", "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder",
    "\u00e9t\u00e9", "a\u0000b", "PLAINTEXT://:9092", "/tmp/a,/tmp/b", "${file:/etc/x:y}", "https",
    "-131072", "-131073",
]
_ALPHABET = "0123456789+-._,:@*eExXpPfdNaIiyT \t=/[]%"

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
    "inter.broker.protocol.version": [
        "0.9.0", "0.10.0", "0.10.2", "0.11.0", "2.0", "2.8", "3.0-IV0", "3.0", "3.9",
    ],
    "log.message.format.version": ["0.8.2", "0.10.0", "0.11.0", "2.8", "3.9"],
    "offsets.topic.compression.codec": ["-1", "0", "3", "4", "5"],
    "offsets.commit.required.acks": ["-2", "-1", "0", "3", "4"],
    "offsets.topic.replication.factor": ["1", "3", "5"],
    "group.coordinator.rebalance.protocols": [
        "", "classic", "consumer", "classic,consumer", "classic,share", "unknown",
    ],
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
    "max.connections.per.ip.overrides": [
        "", "h:1", "h:x", "h", "a_b:1", "::1:5", "h:1,", ",h:1", "h:", "é:1",
    ],
    "connections.max.idle.ms": ["-1", "0", "100", "101"],
    "connection.failed.authentication.delay.ms": ["0", "99", "600000"],
    "log.message.timestamp.difference.max.ms": ["0", "5"],
    "log.message.timestamp.before.max.ms": ["7", "9223372036854775807"],
    "log.message.timestamp.after.max.ms": ["8"],
    "listeners": [
        "", "PLAINTEXT://:9092", "plaintext://h:1", "PLAINTEXT://h:0,EXT://h:0",
        "PLAINTEXT://h:1,EXT://h:1", "PLAINTEXT://127.0.0.1:1,EXT://[::1]:1",
        "PLAINTEXT://127.0.0.1:1,EXT://127.0.0.2:1", "PLAINTEXT://::1:1",
        "PLAINTEXT://127.0.0.1:1,EXT://[fe80::1%eth0]:1", "PLAINTEXT://127.0.0.1:1,EXT://[::1]:1,SSL://h:1",
        "PLAINTEXT://0.0.0.0:9092", "PLAINTEXT://h:1,PLAINTEXT://h:2", "PLAINTEXT://h", "PLAINTEXT:/h:1",
        "://h:1", " ://h:1", "PLAINTEXT://h:1 ,, EXT://h:2", "SSL://h:1",
        "SASL_PLAINTEXT://h:1,PLAINTEXT://h:2", "NOBODY://h:1", "PLAINTEXT://a_b:1",
        "PLAINTEXT://h:99999999999", "PLAINTEXT://[h:1", "PLAINTEXT://h h:1", "INT://h:1,EXT://h:2",
        "PLAINTEXT://0127.0.0.1:1,EXT://[::1]:1", "PLAINTEXT://h:1,EXT://127.0.0.1:1", "EXT://é:1",
    ],
    "advertised.listeners": [
        "", "PLAINTEXT://h:1", "EXT://h:1", "PLAINTEXT://h:1,EXT://h:1", "PLAINTEXT://0.0.0.0:1",
        "PLAINTEXT://:1", "PLAINTEXT://h:1,PLAINTEXT://g:2", "NOBODY://h:1", "INT://h:1,EXT://h:2",
    ],
    "listener.security.protocol.map": [
        "PLAINTEXT:PLAINTEXT,EXT:PLAINTEXT", "EXT:PLAINTEXT", "INT:plaintext,ext:SSL",
        "PLAINTEXT:PLAINTEXT,EXT:SASL_SSL", "", "PLAINTEXT", "PLAINTEXT:NONE", ":PLAINTEXT",
        "PLAINTEXT:PLAINTEXT,", ",PLAINTEXT:PLAINTEXT", "INT:PLAINTEXT,EXT:PLAINTEXT",
        "PLAINTEXT : PLAINTEXT , EXT : PLAINTEXT",
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


def sample_texts(key: Key, rng: random.Random, random_count: int) -> list[str]:
    """Without repetitions, in a fixed order for a fixed seed."""
    texts = [*_NASTY, format_value(key.type, key.default) or "", *_edges(key)]
    for _ in range(random_count):
        texts.append(_random_text(key, rng))
    return list(dict.fromkeys(texts))


def _edges(key: Key) -> list[str]:
    """Around every number that the key's own sentence mentions, and every word of it."""
    if key.validator is None:
        return []
    words = key.validator.allowed.replace(",", " ").split()
    edges = []
    for word in words:
        try:
            number = float(word)
        except ValueError:
            edges += [word, word.upper(), f" {word} ", f"{word},{word}"]
            continue
        edges += [word, str(int(number) - 1), str(int(number)), str(int(number) + 1), repr(number + 1e-9)]
        edges += [repr(number - 1e-9), repr(number)]
    return edges


def _random_text(key: Key, rng: random.Random) -> str:
    if key.type in INTEGER_RANGES and rng.random() < 0.6:
        low, high = INTEGER_RANGES[key.type]
        span = rng.choice([10, 100, 5000, 200_000, high])
        return str(rng.randint(max(low, -span), span) + rng.choice([0, 0, 0, 1]))
    if key.type is ConfigType.DOUBLE and rng.random() < 0.6:
        return repr(rng.choice([rng.uniform(-2, 2), rng.uniform(-1e12, 1e12), rng.gauss(0, 1e-6)]))
    return "".join(rng.choices(_ALPHABET, k=rng.randint(1, 12)))
