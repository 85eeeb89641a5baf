"""Topic configuration: the broker's defaults, a topic's overrides, and what follows from both.

A topic key takes its default from the first broker key of its synonyms that is set (`log.roll.ms` before
`log.roll.hours`); a few of them are bent on the way, as Kafka bends them: see `topic_defaults`.

PURE. Runs in: supervisor (at start), front end and controller (for each topic).
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from broker.config.check import allowed_text, check_treatment, parse_text, usual_advice
from broker.config.errors import ConfigError
from broker.config.key_table import TOPIC_KEYS, Key
from broker.config.versions import FORMAT_IGNORED_FROM, canonical_version, record_format, version_index

_LONG_MAX = 2**63 - 1
_UNBOUNDED_FALLBACK = "message.timestamp.difference.max.ms"
_TIMESTAMP_BOUNDS = ("message.timestamp.before.max.ms", "message.timestamp.after.max.ms")
_FORMAT_KEY = "message.format.version"
OLD_FORMAT = (
    "records in the formats before 0.11 are not written in this version",
    "use 0.11.0 or newer, or leave the key out",
)


def topic_defaults(broker_values: Mapping[str, Any]) -> dict[str, Any]:
    """The 36 topic keys as a topic without overrides has them, before `effective_values`.

    Bent: any negative retention time is -1; the record format is Kafka's newest when the inter-broker
    version is at least 3.0; an unlimited timestamp bound takes the older key for both bounds.
    """
    defaults = {name: _default_of(key, broker_values) for name, key in TOPIC_KEYS.items()}
    defaults["retention.ms"] = max(defaults["retention.ms"], -1)
    defaults[_FORMAT_KEY] = _message_format(broker_values)
    _fall_back_to_difference(defaults)
    return defaults


def _default_of(key: Key, broker_values: Mapping[str, Any]) -> Any:
    for name, factor in key.synonyms:
        value = broker_values[name]
        if value is not None:
            return value * factor if factor != 1 else value
    return key.default


def _message_format(broker_values: Mapping[str, Any]) -> str:
    if formats_are_ignored(broker_values):
        return str(TOPIC_KEYS[_FORMAT_KEY].default)
    index = version_index(broker_values["log.message.format.version"])
    assert index is not None  # the validator has seen it
    return canonical_version(index)


def formats_are_ignored(broker_values: Mapping[str, Any]) -> bool:
    """Whether every record format setting counts as format 2, as from inter-broker version 3.0."""
    index = version_index(broker_values["inter.broker.protocol.version"])
    assert index is not None  # the validator has seen it
    return index >= FORMAT_IGNORED_FROM


def _fall_back_to_difference(values: dict[str, Any]) -> None:
    for name in _TIMESTAMP_BOUNDS:
        if values[name] == _LONG_MAX:
            values[name] = values[_UNBOUNDED_FALLBACK]


def merged_values(defaults: Mapping[str, Any], overrides: Mapping[str, str]) -> dict[str, Any]:
    """Defaults and overrides as DescribeConfigs shows them. Raises ConfigError for a bad override; names
    that are no topic keys are left out, as a later version may have stored them."""
    values = dict(defaults)
    for name, text in overrides.items():
        if name in TOPIC_KEYS:
            values[name] = parse_text(TOPIC_KEYS[name], text)
    return values


def effective_values(defaults: Mapping[str, Any], overrides: Mapping[str, str]) -> dict[str, Any]:
    """What the storage engine and the front end go by."""
    values = merged_values(defaults, overrides)
    _fall_back_to_difference(values)
    return values


def check_override(name: str, text: str | None, formats_ignored: bool) -> Any:
    """The typed value of one override that a client asks for, or ConfigError."""
    key = TOPIC_KEYS.get(name)
    if key is None:
        raise ConfigError(name, None, "not a topic configuration", "correct the name, or leave it out")
    if text is None:
        raise ConfigError(name, None, f"must be {allowed_text(key)}, not null", usual_advice(key))
    value = parse_text(key, text)
    check_treatment(key, value, text)
    if name == _FORMAT_KEY and not formats_ignored:
        _check_format(name, text)
    return value


def _check_format(name: str, text: str) -> None:
    index = version_index(text.strip())
    assert index is not None  # the validator has seen it
    if record_format(index) < 2:
        raise ConfigError(name, text, *OLD_FORMAT, refused=True)


def relation_faults(values: Mapping[str, Any]) -> Iterator[ConfigError]:
    """What is wrong between values that are right one by one."""
    low, high = values["min.compaction.lag.ms"], values["max.compaction.lag.ms"]
    if low > high:
        yield ConfigError(
            "min.compaction.lag.ms", str(low), f"at most max.compaction.lag.ms, {high}",
            "lower it, or raise max.compaction.lag.ms",
        )


def default_faults(defaults: Mapping[str, Any]) -> Iterator[tuple[Key, Any]]:
    """Topic keys whose default, made from broker keys, is not allowed for a topic."""
    for name, key in TOPIC_KEYS.items():
        if key.validator is not None and not key.validator.accepts(defaults[name]):
            yield key, defaults[name]
