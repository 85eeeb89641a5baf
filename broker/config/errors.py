"""What is wrong with a configuration, as data for whoever shows it: the command line, CreateTopics.

Two faults look alike to an operator and differ for us: a value that Kafka refuses too, and a value that
Kafka would take but this version of Ottla does not serve (`refused`). The comparison with a real Kafka
rests on telling them apart.

Runs in: supervisor (at start), front end and controller (topic configurations). Plain data.
"""
from __future__ import annotations

HIDDEN = "[hidden]"  # how Kafka shows a password


class ConfigError(Exception):
    """One key whose value cannot stand.

    key: the configuration key, or the file's name when the file itself is at fault.
    value: its text, None when there is none; passwords come here already hidden.
    allowed: what the value may be. advice: what the operator should do.
    refused: Kafka would take the value, Ottla does not serve it.
    """

    def __init__(
        self, key: str, value: str | None, allowed: str, advice: str = "", refused: bool = False
    ) -> None:
        super().__init__(key, value, allowed, advice, refused)
        self.key = key
        self.value = value
        self.allowed = allowed
        self.advice = advice
        self.refused = refused

    def __str__(self) -> str:
        shown = "" if self.value is None else f" = {self.value!r}"
        return f"{self.key}{shown}: {self.allowed}" + (f" ({self.advice})" if self.advice else "")


class ConfigErrors(Exception):
    """Everything that is wrong with a configuration, never only the first fault."""

    def __init__(self, errors: list[ConfigError]) -> None:
        super().__init__(errors)
        self.errors = errors

    def __str__(self) -> str:
        return "; ".join(str(error) for error in self.errors)
