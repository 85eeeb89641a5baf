"""What must hold between keys: Kafka's checks at start in ZooKeeper mode, and a few of our own.

Each rule names the keys it reads; it is skipped when one of them is wrong by itself, so that one typing
error is reported once. Rules about listeners are in `listener_rules`.

PURE. Runs in: supervisor, at start.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from broker.config.errors import ConfigError
from broker.config.listeners import parse_csv_map
from broker.config.settings import Settings
from broker.config.topic_config import OLD_FORMAT, default_faults, formats_are_ignored, topic_defaults
from broker.config.values import ConfigType, parse_value
from broker.config.versions import record_format, version_index

_CLEANER_BUFFER_MIN_BYTES = 1024 * 1024  # per thread; a smaller map could not hold a segment's keys
_ZSTD_CODEC = 4
_HOST = re.compile(r"[0-9a-zA-Z\-%._:]*")

# (what must not be greater, than what)
_ORDERED = (
    ("replica.fetch.wait.max.ms", "replica.socket.timeout.ms"),
    ("replica.fetch.wait.max.ms", "replica.lag.time.max.ms"),
    ("log.cleaner.min.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms"),
    ("group.consumer.min.heartbeat.interval.ms", "group.consumer.heartbeat.interval.ms"),
    ("group.consumer.heartbeat.interval.ms", "group.consumer.max.heartbeat.interval.ms"),
    ("group.consumer.min.session.timeout.ms", "group.consumer.session.timeout.ms"),
    ("group.consumer.session.timeout.ms", "group.consumer.max.session.timeout.ms"),
    ("group.share.min.heartbeat.interval.ms", "group.share.heartbeat.interval.ms"),
    ("group.share.heartbeat.interval.ms", "group.share.max.heartbeat.interval.ms"),
    ("group.share.min.session.timeout.ms", "group.share.session.timeout.ms"),
    ("group.share.session.timeout.ms", "group.share.max.session.timeout.ms"),
    ("group.share.min.record.lock.duration.ms", "group.share.record.lock.duration.ms"),
    ("group.share.record.lock.duration.ms", "group.share.max.record.lock.duration.ms"),
)


class Rule(NamedTuple):
    keys: tuple[str, ...]
    faults: Callable[[Settings], Iterator[ConfigError]]


def check_rules(settings: Settings) -> None:
    """Reports every broken rule whose keys are sound by themselves."""
    for rule in RULES:
        if settings.are_sound(rule.keys):
            for error in list(rule.faults(settings)):
                settings.report(error)


def _order_faults(settings: Settings) -> Iterator[ConfigError]:
    for smaller, larger in _ORDERED:
        if settings.are_sound((smaller, larger)) and settings[smaller] > settings[larger]:
            yield settings.fault(
                smaller, f"at most {larger}, which is {settings[larger]}", f"lower it, or raise {larger}"
            )


def _id_faults(settings: Settings) -> Iterator[ConfigError]:
    broker_id = settings["broker.id"]
    if settings["node.id"] != broker_id:
        yield settings.fault("node.id", f"the same as broker.id, {broker_id}", "set one of the two only")
    highest = settings["reserved.broker.max.id"]
    if not settings["broker.id.generation.enable"]:
        if broker_id < 0:
            yield settings.fault(
                "broker.id", "at least 0 while broker.id.generation.enable is false",
                "set an id, or let one be generated",
            )
    elif not -1 <= broker_id <= highest:
        yield settings.fault(
            "broker.id", f"from -1 (generated) to reserved.broker.max.id, {highest}",
            "choose an id in this range, raise reserved.broker.max.id,"
            " or set broker.id.generation.enable=false",
        )


def _time_faults(settings: Settings) -> Iterator[ConfigError]:
    for name, low, allowed in (
        ("log.roll.ms", 1, "at least 1"),
        ("log.roll.jitter.ms", 0, "at least 0"),
    ):
        if settings[name] is not None and settings[name] < low:
            yield settings.fault(name, allowed, "correct it, or leave the key out")
    for name in ("log.retention.ms", "log.retention.minutes", "log.retention.hours"):
        if settings[name] is not None:
            if settings[name] == 0:
                yield settings.fault(name, "at least 1, or -1 to keep records for ever", "correct it")
            return


def _cleaner_faults(settings: Settings) -> Iterator[ConfigError]:
    threads = settings["log.cleaner.threads"]
    buffer_size = settings["log.cleaner.dedupe.buffer.size"]
    if threads == 0:
        yield settings.fault("log.cleaner.threads", "at least 1", "correct it, or leave the key out")
    elif buffer_size // threads <= _CLEANER_BUFFER_MIN_BYTES:
        yield settings.fault(
            "log.cleaner.dedupe.buffer.size",
            f"over {_CLEANER_BUFFER_MIN_BYTES} for each of {threads} threads",
            "raise it, or lower log.cleaner.threads",
        )


def _format_faults(settings: Settings) -> Iterator[ConfigError]:
    """Below inter-broker version 3.0 the record format counts, and must be one that the version knows."""
    if formats_are_ignored(settings.values):
        return
    protocol = version_index(settings["inter.broker.protocol.version"])
    log_format = version_index(settings["log.message.format.version"])
    assert protocol is not None and log_format is not None  # the validators have seen them
    if record_format(protocol) < record_format(log_format):
        yield settings.fault(
            "log.message.format.version",
            f"no newer than inter.broker.protocol.version, {settings['inter.broker.protocol.version']}",
            "leave inter.broker.protocol.version out",
        )
    elif record_format(log_format) < 2:
        text = settings.text("log.message.format.version")
        yield ConfigError("log.message.format.version", text, *OLD_FORMAT, refused=True)


def _offsets_topic_faults(settings: Settings) -> Iterator[ConfigError]:
    name = "offsets.topic.compression.codec"
    codec = settings[name]
    protocol = version_index(settings["inter.broker.protocol.version"])
    assert protocol is not None  # the validator has seen it
    if not 0 <= codec <= _ZSTD_CODEC:
        yield settings.fault(name, "0 (none), 1 (gzip), 2 (snappy), 3 (lz4) or 4 (zstd)", "correct it")
    elif codec == _ZSTD_CODEC and record_format(protocol) < 2:
        yield settings.fault(name, "no zstd with this inter.broker.protocol.version", "use another")
    replicas = settings["offsets.topic.replication.factor"]
    if not -1 <= settings["offsets.commit.required.acks"] <= replicas:
        yield settings.fault(
            "offsets.commit.required.acks",
            f"from -1 to offsets.topic.replication.factor, {replicas}", "leave the key out",
        )


def _rebalance_faults(settings: Settings) -> Iterator[ConfigError]:
    name = "group.coordinator.rebalance.protocols"
    if "classic" not in settings[name]:
        yield settings.fault(name, "a list with classic in it", "add classic")


def _request_size_faults(settings: Settings) -> Iterator[ConfigError]:
    largest = settings["socket.request.max.bytes"]
    if 0 < settings["queued.max.request.bytes"] < largest:
        yield settings.fault(
            "queued.max.request.bytes", f"-1, or at least socket.request.max.bytes, {largest}", "raise it"
        )
    if "ottla.arena.max.bytes" in settings.explicit and settings["ottla.arena.max.bytes"] < largest:
        yield settings.fault(
            "ottla.arena.max.bytes", f"at least socket.request.max.bytes, {largest}",
            "raise it, or lower socket.request.max.bytes",
        )


def _connection_faults(settings: Settings) -> Iterator[ConfigError]:
    delay = settings["connection.failed.authentication.delay.ms"]
    if 0 <= settings["connections.max.idle.ms"] <= delay:
        yield settings.fault(
            "connections.max.idle.ms", f"over connection.failed.authentication.delay.ms, {delay}", "raise it"
        )
    name = "max.connections.per.ip.overrides"
    if settings["max.connections.per.ip"] == 0 and not settings[name]:
        yield settings.fault("max.connections.per.ip", f"at least 1 unless {name} is set", "raise it")
    try:
        overrides = parse_csv_map(settings[name])
        for limit in overrides.values():
            parse_value(ConfigType.INT, limit)
        sound = all(_HOST.fullmatch(host) for host in overrides)
    except ValueError:
        sound = False
    if not sound:
        yield settings.fault(name, "a list with commas of host:number", "correct it, or leave the key out")


def _topic_default_faults(settings: Settings) -> Iterator[ConfigError]:
    """Broker keys may have wider ranges than the topic keys whose defaults they are."""
    for key, value in default_faults(topic_defaults(settings.values)):
        names = [name for name, _ in key.synonyms if settings[name] is not None]
        if names and settings.are_sound(names[:1]):
            assert key.validator is not None
            yield settings.fault(
                names[0], f"{key.validator.allowed}, as it gives {key.name} of topics, now {value}",
                "correct it",
            )


RULES = (
    Rule((), _order_faults),
    Rule(("node.id", "broker.id", "reserved.broker.max.id", "broker.id.generation.enable"), _id_faults),
    Rule(("log.roll.ms", "log.roll.jitter.ms", "log.retention.ms", "log.retention.minutes",
          "log.retention.hours"), _time_faults),
    Rule(("log.cleaner.threads", "log.cleaner.dedupe.buffer.size"), _cleaner_faults),
    Rule(("inter.broker.protocol.version", "log.message.format.version"), _format_faults),
    Rule(("offsets.topic.compression.codec", "inter.broker.protocol.version",
          "offsets.topic.replication.factor", "offsets.commit.required.acks"), _offsets_topic_faults),
    Rule(("group.coordinator.rebalance.protocols",), _rebalance_faults),
    Rule(("queued.max.request.bytes", "socket.request.max.bytes", "ottla.arena.max.bytes"),
         _request_size_faults),
    Rule(("connection.failed.authentication.delay.ms", "connections.max.idle.ms", "max.connections.per.ip",
          "max.connections.per.ip.overrides"), _connection_faults),
    Rule(("inter.broker.protocol.version", "log.message.format.version"), _topic_default_faults),
)
