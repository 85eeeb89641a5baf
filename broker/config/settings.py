"""The values of all broker keys while they are being checked, and the faults found so far.

Runs in: supervisor, at start. Owned by `load.build_config` for the length of one check.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from broker.config.check import shown_text
from broker.config.errors import ConfigError
from broker.config.key_table import BROKER_KEYS
from broker.config.values import format_value


class Settings:
    """explicit: the texts that are set. values: typed values of all keys, defaults included; a key whose
    text is wrong is in `faulty` and has its default here."""

    __slots__ = ("explicit", "values", "faulty", "errors")

    def __init__(self, explicit: dict[str, str]) -> None:
        self.explicit = explicit
        self.values: dict[str, Any] = {name: key.default for name, key in BROKER_KEYS.items()}
        self.faulty: set[str] = set()
        self.errors: list[ConfigError] = []

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def report(self, error: ConfigError) -> None:
        self.errors.append(error)
        if not error.refused:
            self.faulty.add(error.key)

    def are_sound(self, names: Iterable[str]) -> bool:
        return self.faulty.isdisjoint(names)

    def text(self, name: str) -> str | None:
        """What to show an operator as the key's value."""
        key = BROKER_KEYS[name]
        text = self.explicit.get(name, format_value(key.type, self.values[name]))
        return None if text is None else shown_text(key, text)

    def fault(self, name: str, allowed: str, advice: str) -> ConfigError:
        return ConfigError(name, self.text(name), allowed, advice)
