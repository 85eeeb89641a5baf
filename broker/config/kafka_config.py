"""A checked configuration, as every process of the node reads it.

Made once by the supervisor before any fork (see load.py) and only read afterwards; plain data, so it may be
pickled. Values are those at start: nothing changes while running in this version.

Runs in: every process.
"""
from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from broker.config import describe, topic_config
from broker.config.describe import ConfigEntry
from broker.config.errors import ConfigError, ConfigErrors
from broker.config.key_table import TOPIC_KEYS
from broker.config.listener_rules import ListenerSetup
from broker.config.listeners import Listener, split_csv
from broker.config.zookeeper_rules import ZooKeeperSetup

METADATA_FILE = "ottla-metadata.sqlite"


class KafkaConfig:
    """config["log.segment.bytes"] is the typed value, set or default; KeyError for a key of nobody.

    explicit: the texts that were set, passwords included: never log them. warnings: sentences for the
    operator. listeners: what to bind, host "" for every address. advertised_listeners: what clients are
    told, hosts filled in; port 0 there stands for the port that the kernel gave. embedded: metadata is kept
    in the file metadata_path and not in ZooKeeper. zookeeper: address, TLS and login, None if embedded.
    """

    def __init__(
        self, values: dict[str, Any], explicit: dict[str, str], listeners: ListenerSetup,
        zookeeper: ZooKeeperSetup | None, warnings: list[str],
    ) -> None:
        self._values = values
        self.explicit = explicit
        self.warnings = warnings
        self.listeners: list[Listener] = listeners.listeners
        self.advertised_listeners: list[Listener] = listeners.advertised
        self.inter_broker_listener_name: str = listeners.inter_broker_name
        self.log_dirs: list[str] = log_dirs(values)
        self.embedded: bool = values["zookeeper.connect"] is None
        self.zookeeper = zookeeper
        path = values["ottla.metadata.path"]
        self.metadata_path: str = path or os.path.join(self.log_dirs[0], METADATA_FILE)
        self._topic_defaults = topic_config.topic_defaults(values)
        self._formats_ignored = topic_config.formats_are_ignored(values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __repr__(self) -> str:
        return f"KafkaConfig(broker.id={self['broker.id']}, log_dirs={self.log_dirs})"

    def topic_defaults(self) -> dict[str, Any]:
        """The 36 topic keys of a topic without overrides."""
        return self.resolve_topic({})

    def resolve_topic(self, overrides: Mapping[str, str]) -> dict[str, Any]:
        """The 36 topic keys that are in force with these overrides. Takes whatever Kafka may have stored,
        unknown names and policies not served here included; ConfigError only for a value that is none."""
        return topic_config.effective_values(self._topic_defaults, overrides)

    def validate_topic_config(self, name: str, value: str | None) -> None:
        """ConfigError unless a client may set this override by itself."""
        topic_config.check_override(name, value, self._formats_ignored)

    def validate_topic_configs(self, overrides: Mapping[str, str | None]) -> None:
        """ConfigErrors unless a client may create a topic with these overrides."""
        errors: list[ConfigError] = []
        sound: dict[str, str] = {}
        for name, text in overrides.items():
            try:
                self.validate_topic_config(name, text)
            except ConfigError as error:
                errors.append(error)
            else:
                sound[name] = text or ""
        errors += topic_config.relation_faults(topic_config.merged_values(self._topic_defaults, sound))
        if errors:
            raise ConfigErrors(errors)

    def describe_broker(self) -> list[ConfigEntry]:
        """For DescribeConfigs of this broker."""
        return describe.describe_broker(self._values, self.explicit)

    def describe_topic(self, overrides: Mapping[str, str]) -> list[ConfigEntry]:
        """For DescribeConfigs of a topic with these overrides."""
        known = {name: text for name, text in overrides.items() if name in TOPIC_KEYS}
        values = topic_config.merged_values(self._topic_defaults, known)
        return describe.describe_topic(values, known, self.explicit)


def log_dirs(values: Mapping[str, Any]) -> list[str]:
    """log.dirs, else log.dir; empty items are dropped."""
    text = values["log.dirs"] if values["log.dirs"] is not None else values["log.dir"]
    return split_csv(text)
