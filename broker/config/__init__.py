"""Kafka's configuration: the table of keys, server.properties, checks, and topic configuration.

See ARCHITECTURE.md for a reading order.
"""
from broker.config.describe import ConfigEntry, ConfigSource, ConfigSynonym
from broker.config.errors import ConfigError, ConfigErrors
from broker.config.kafka_config import KafkaConfig
from broker.config.listeners import Listener
from broker.config.load import build_config, load_config
from broker.config.values import ConfigType, Password

__all__ = [
    "ConfigEntry",
    "ConfigError",
    "ConfigErrors",
    "ConfigSource",
    "ConfigSynonym",
    "ConfigType",
    "KafkaConfig",
    "Listener",
    "Password",
    "build_config",
    "load_config",
]
