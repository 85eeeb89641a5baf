"""The table of every configuration key, read once from `keys.txt`.

A text file rather than code because it is data that a person compares with Kafka's documentation, and a test
with a real Kafka; the head of the file explains its columns. Reading it takes about 3 ms, at import.

PURE (the package's own data apart). Runs in: every process that reads a configuration. Immutable.
"""
from __future__ import annotations

from pkgutil import get_data
from typing import Any, NamedTuple

from broker.config.treatment import Treatment, parse_treatment
from broker.config.validators import Validator, make_validator
from broker.config.values import ConfigType, parse_value


class Synonym(NamedTuple):
    """A broker key that gives a topic key its default; factor turns its unit into the topic key's."""

    name: str
    factor: int


class Key(NamedTuple):
    """One line of the table. update_mode: read-only, per-broker or cluster-wide; "topic" for topic keys."""

    name: str
    type: ConfigType
    default: Any
    validator: Validator | None
    importance: str
    internal: bool
    update_mode: str
    treatment: Treatment
    synonyms: tuple[Synonym, ...]


def _parse_line(line: str, topic: bool) -> Key:
    name, type_name, default_text, values, importance, update, treatment = line.split()
    config_type = ConfigType[type_name.upper()]
    return Key(
        name=name,
        type=config_type,
        default=_parse_default(config_type, default_text),
        validator=make_validator(values),
        importance=importance.partition("/")[0],
        internal=importance.endswith("/internal"),
        update_mode="topic" if topic else update,
        treatment=parse_treatment(treatment),
        synonyms=_parse_synonyms(update) if topic else (),
    )


def _parse_default(config_type: ConfigType, text: str) -> Any:
    if text == "null":
        return None
    return parse_value(config_type, "" if text == '""' else text)


def _parse_synonyms(text: str) -> tuple[Synonym, ...]:
    if text == "-":
        return ()
    pairs = (item.partition("*") for item in text.split(","))
    return tuple(Synonym(name, int(factor or 1)) for name, _, factor in pairs)


def _read_table() -> dict[str, dict[str, Key]]:
    data = get_data("broker.config", "keys.txt")
    if data is None:
        raise RuntimeError("broker/config/keys.txt is missing from the installation")
    sections: dict[str, dict[str, Key]] = {}
    section = ""
    for line in data.decode("ascii").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
            sections[section] = {}
        elif line and not line.startswith("#"):
            key = _parse_line(line, topic=section == "topic")
            sections[section][key.name] = key
    return sections


_SECTIONS = _read_table()
KAFKA_BROKER_KEYS = _SECTIONS["broker"]
TOPIC_KEYS = _SECTIONS["topic"]
OTTLA_KEYS = _SECTIONS["ottla"]
BROKER_KEYS = KAFKA_BROKER_KEYS | OTTLA_KEYS
