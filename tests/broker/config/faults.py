"""Helper: what is wrong with some settings, as the tests of this package compare it."""
from __future__ import annotations

from broker.config import ConfigError, ConfigErrors, build_config

HOST = "node.example"


def errors_of(**settings: str) -> list[ConfigError]:
    """Underscores stand for dots: errors_of(broker_id="x")."""
    try:
        build_config({name.replace("_", "."): value for name, value in settings.items()}, lambda: HOST)
    except ConfigErrors as raised:
        return raised.errors
    return []


def faulty_keys(**settings: str) -> list[str]:
    return [error.key for error in errors_of(**settings)]
