"""From a server.properties and command-line overrides to a checked KafkaConfig, or to all of its faults.

The order matters for what is reported: each key by itself, then what this version refuses, then relations
between sound keys, then listeners and ZooKeeper; everything is collected before anything is raised.

Runs in: supervisor (`ottla start`), before any fork. Reads the file, and a JAAS file if KAFKA_OPTS names one.
"""
from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from broker.config.check import check_treatment, parse_text
from broker.config.describe import base_key
from broker.config.errors import ConfigError, ConfigErrors
from broker.config.host_name import canonical_host_name
from broker.config.java_properties import PropertiesSyntaxError, parse_properties
from broker.config.kafka_config import KafkaConfig, log_dirs
from broker.config.key_table import BROKER_KEYS, Key
from broker.config.listener_rules import resolve_listeners
from broker.config.rules import check_rules
from broker.config.settings import Settings
from broker.config.start_warnings import list_warnings
from broker.config.zookeeper_rules import resolve_zookeeper

_PROVIDERS = "config.providers"
_ARENA = "ottla.arena.max.bytes"
_QUEUED = "queued.max.request.bytes"
# A request of the largest size lies in a slab of the next size class up: room for one must be sure.
_ARENA_REQUESTS_MIN = 2


def load_config(path: str, overrides: Iterable[str] = ()) -> KafkaConfig:
    """overrides: `key=value`, each stronger than the file. Raises ConfigErrors."""
    properties = _read(path)
    errors: list[ConfigError] = []
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            errors.append(ConfigError(f"--override {key}", None, "key=value", "write --override key=value"))
        properties[key] = value
    if errors:
        raise ConfigErrors(errors)
    return build_config(properties)


def _read(path: str) -> dict[str, str]:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigErrors([ConfigError(
            path, None, f"a readable file, but: {error.strerror}", "name a server.properties that can be read"
        )]) from None
    try:
        return parse_properties(data)
    except PropertiesSyntaxError as error:
        raise ConfigErrors([ConfigError(
            f"{path}, line {error.line_number}", None, "\\u followed by four hexadecimal digits",
            "correct it, or double the backslash",
        )]) from None


def build_config(
    properties: Mapping[str, str], host_name: Callable[[], str] = canonical_host_name,
    environment: Mapping[str, str] = os.environ,
) -> KafkaConfig:
    """Raises ConfigErrors with everything that is wrong."""
    settings = Settings(dict(properties))
    if _PROVIDERS in settings.explicit:
        _report_providers(settings)
    _parse_all(settings)
    _pair_ids(settings)
    _check_log_dirs(settings)
    check_rules(settings)
    listeners = resolve_listeners(settings, host_name)
    zookeeper = resolve_zookeeper(settings, environment)
    if settings.errors or listeners is None:
        raise ConfigErrors(settings.errors)
    if _ARENA not in settings.explicit:
        settings.values[_ARENA] = _arena_size_bytes(settings)
    warnings = list_warnings(settings, listeners.listeners)
    return KafkaConfig(settings.values, settings.explicit, listeners, zookeeper, warnings)


def _arena_size_bytes(settings: Settings) -> int:
    """Without a size of its own, the arena has that of Kafka's pool for requests, or room for two of them."""
    if settings[_QUEUED] > 0:
        return int(settings[_QUEUED])
    return int(max(settings[_ARENA], _ARENA_REQUESTS_MIN * settings["socket.request.max.bytes"]))


def _pair_ids(settings: Settings) -> None:
    """broker.id and node.id stand for each other when only one is set."""
    for name, other in (("broker.id", "node.id"), ("node.id", "broker.id")):
        if name not in settings.explicit and other in settings.explicit:
            settings.explicit[name] = settings.explicit[other]
            settings.values[name] = settings.values[other]
            return


def _report_providers(settings: Settings) -> None:
    settings.report(ConfigError(
        _PROVIDERS, settings.explicit[_PROVIDERS],
        "Ottla runs no Java and cannot ask a provider for values",
        "remove the line, and put the values themselves in a file that only the broker can read",
        refused=True,
    ))


def _parse_all(settings: Settings) -> None:
    for name, text in settings.explicit.items():
        base = base_key(name)
        key = BROKER_KEYS.get(base if base is not None else name)
        if key is not None:
            _parse_one(settings, name, key, text, is_own_value=base is None)


def _parse_one(settings: Settings, name: str, key: Key, text: str, is_own_value: bool) -> None:
    try:
        value: Any = parse_text(key, text, name)
    except ConfigError as error:
        settings.report(error)
        return
    if is_own_value:
        settings.values[name] = value
    try:
        check_treatment(key, value, text, name)
    except ConfigError as error:
        settings.report(error)


def _check_log_dirs(settings: Settings) -> None:
    name = "log.dirs" if settings["log.dirs"] is not None else "log.dir"
    directories = log_dirs(settings.values)
    if not directories:
        settings.report(settings.fault(name, "at least one directory", "name one, such as /var/lib/ottla"))
    real = [os.path.realpath(directory) for directory in directories]
    if len(set(real)) < len(real):
        settings.report(settings.fault(name, "directories that differ, links followed", "name each one once"))
