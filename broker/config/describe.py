"""Configuration as DescribeConfigs shows it: each key with its value, where it came from, and its synonyms.

Kafka's habits are kept, odd ones included: synonyms that stand before the key itself are left out, so a
retention set in hours alone shows `log.retention.ms` as unset; keys unknown to Kafka count as secrets.

PURE. Runs in: front end.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import IntEnum
from itertools import dropwhile
from typing import Any, NamedTuple

from broker.config.key_table import BROKER_KEYS, TOPIC_KEYS, Key
from broker.config.values import ConfigType, format_value

_LISTENER_KEY = re.compile(r"listener\.name\.[^.]*\.(.*)", re.DOTALL)
# May stand behind a mechanism: listener.name.<listener>.<mechanism>.<key>
MECHANISM_KEYS = (
    "sasl.jaas.config",
    "sasl.login.callback.handler.class",
    "sasl.login.class",
    "sasl.server.callback.handler.class",
    "connections.max.reauth.ms",
)

_ROLL = ("log.roll.ms", "log.roll.hours")
_JITTER = ("log.roll.jitter.ms", "log.roll.jitter.hours")
_RETENTION = ("log.retention.ms", "log.retention.minutes", "log.retention.hours")
_SYNONYMS = {name: group for group in (_ROLL, _JITTER, _RETENTION) for name in group}
# Not the other way round: the scheduler's interval has a meaning of its own.
_SYNONYMS["log.flush.interval.ms"] = ("log.flush.interval.ms", "log.flush.scheduler.interval.ms")


class ConfigSource(IntEnum):
    """The numbers go on the wire."""

    UNKNOWN = 0
    TOPIC_CONFIG = 1
    DYNAMIC_BROKER_CONFIG = 2
    DYNAMIC_DEFAULT_BROKER_CONFIG = 3
    STATIC_BROKER_CONFIG = 4
    DEFAULT_CONFIG = 5


class ConfigSynonym(NamedTuple):
    name: str
    value_text: str | None
    source: int


class ConfigEntry(NamedTuple):
    """value_text is None for a secret and for a key without a value. source: ConfigSource; type_code:
    ConfigType; synonyms: by precedence, the first one is the source of the value."""

    name: str
    value_text: str | None
    source: int
    read_only: bool
    sensitive: bool
    type_code: int
    synonyms: tuple[ConfigSynonym, ...]


def base_key(name: str) -> str | None:
    """The key that a `listener.name.<listener>.[<mechanism>.]<key>` stands for, None if it has no prefix."""
    match = _LISTENER_KEY.fullmatch(name)
    if match is None:
        return None
    for key in MECHANISM_KEYS:
        if match[1].endswith(key):
            return key
    return match[1]


def describe_broker(values: Mapping[str, Any], explicit: Mapping[str, str]) -> list[ConfigEntry]:
    """Every key that is not internal, and whatever else is set; by name."""
    shown = {name for name, key in BROKER_KEYS.items() if not key.internal}
    return [_broker_entry(name, values, explicit) for name in sorted(shown | explicit.keys())]


def _broker_entry(name: str, values: Mapping[str, Any], explicit: Mapping[str, str]) -> ConfigEntry:
    base = base_key(name)
    key = BROKER_KEYS.get(name) or BROKER_KEYS.get(base or "")
    sensitive = key is None or key.type is ConfigType.PASSWORD
    if key is None or key.internal or base is not None:
        text = explicit.get(name)
    else:
        text = format_value(key.type, values[name])
    names = (name, base) if base is not None else _SYNONYMS.get(name, (name,))
    synonyms = _broker_synonyms(name, names, explicit, sensitive)
    return ConfigEntry(
        name=name,
        value_text=None if sensitive else text,
        source=synonyms[0].source if synonyms else ConfigSource.DEFAULT_CONFIG,
        read_only=name not in BROKER_KEYS or BROKER_KEYS[name].update_mode == "read-only",
        sensitive=sensitive,
        type_code=key.type if key is not None else ConfigType.UNKNOWN,
        synonyms=synonyms,
    )


def _broker_synonyms(
    name: str, names: Iterable[str], explicit: Mapping[str, str], sensitive: bool
) -> tuple[ConfigSynonym, ...]:
    found = [(each, explicit[each], ConfigSource.STATIC_BROKER_CONFIG) for each in names if each in explicit]
    for each in names:
        key = BROKER_KEYS.get(each)
        default = format_value(key.type, key.default) if key is not None else None
        if default is not None:
            found.append((each, default, ConfigSource.DEFAULT_CONFIG))
    kept = dropwhile(lambda synonym: synonym[0] != name, found)
    return tuple(ConfigSynonym(each, None if sensitive else text, source) for each, text, source in kept)


def describe_topic(
    values: Mapping[str, Any], overrides: Mapping[str, str], explicit: Mapping[str, str]
) -> list[ConfigEntry]:
    """values: the topic's merged values; explicit: the broker's. By name."""
    return [_topic_entry(TOPIC_KEYS[name], values, overrides, explicit) for name in sorted(TOPIC_KEYS)]


def _topic_entry(
    key: Key, values: Mapping[str, Any], overrides: Mapping[str, str], explicit: Mapping[str, str]
) -> ConfigEntry:
    text = format_value(key.type, values[key.name])
    synonyms: tuple[ConfigSynonym, ...] = ()
    if key.synonyms:
        first = key.synonyms[0].name
        synonyms = _broker_synonyms(first, _SYNONYMS.get(first, (first,)), explicit, sensitive=False)
    if key.name in overrides:
        synonyms = (ConfigSynonym(key.name, text, ConfigSource.TOPIC_CONFIG), *synonyms)
    return ConfigEntry(
        name=key.name,
        value_text=text,
        source=synonyms[0].source if synonyms else ConfigSource.DEFAULT_CONFIG,
        read_only=False,
        sensitive=False,
        type_code=key.type,
        synonyms=synonyms,
    )
