"""What a value may be beyond its type: the validators of Kafka's ConfigDef, made from a short notation.

    >=0   0..0.5   one-of:a|b   any-case:a|b   list-of:a|b   non-null   non-empty   gzip-level
    unset-or-positive   metadata-version   throttled-replicas   host-ports   voters

A validator also sees null, because a key's default may be null; Kafka compares numbers as doubles, so NaN
passes every range here too.

PURE. Runs in: every process that reads a configuration.
"""
from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

from broker.config.values import ConfigType, parse_value
from broker.config.versions import version_index

_THROTTLED = re.compile(r"(?:[0-9]+:[0-9]+)?")
_HOST_PORT = re.compile(r".*?\[?([0-9a-zA-Z\-%._:]*)\]?:([0-9]+)")
_PORT_MAX = 65535


class Validator(NamedTuple):
    """allowed completes the sentence "the value must be ..."."""

    allowed: str
    accepts: Callable[[Any], bool]


@cache
def make_validator(notation: str) -> Validator | None:
    """None for `-`, no restriction beyond the type."""
    if notation == "-":
        return None
    if notation in _NAMED:
        return _NAMED[notation]
    kind, colon, words = notation.partition(":")
    if colon:
        return _WORD_LISTS[kind](words.split("|"))
    if notation.startswith(">="):
        return _range(float(notation[2:]), None, f"at least {notation[2:]}")
    low, high = notation.split("..")
    return _range(float(low), float(high), f"from {low} to {high}")


def _range(low: float, high: float | None, allowed: str) -> Validator:
    def accepts(value: Any) -> bool:
        if value is None:
            return False
        number = float(value)
        return not number < low and not (high is not None and number > high)

    return Validator(allowed, accepts)


def _one_of(words: list[str]) -> Validator:
    return Validator("one of " + ", ".join(words), lambda value: value in words)


def _any_case(words: list[str]) -> Validator:
    upper = [word.upper() for word in words]
    return Validator(
        "one of " + ", ".join(words) + ", in any case",
        lambda value: value is not None and value.upper() in upper,
    )


def _list_of(words: list[str]) -> Validator:
    return Validator(
        "a list with commas of any of " + ", ".join(words),
        lambda value: all(item in words for item in value),
    )


def _is_version(value: Any) -> bool:
    return value is not None and version_index(value) is not None


def _are_throttled_replicas(value: list[str]) -> bool:
    items = [item.strip() for item in value]
    return "".join(items) == "*" or all(_THROTTLED.fullmatch(item) for item in items)


def _is_host_port(text: str) -> bool:
    match = _HOST_PORT.fullmatch(text)
    return match is not None and int(match[2]) <= _PORT_MAX


def _is_voter(text: str) -> bool:
    parts = text.split("@")
    while parts and not parts[-1]:
        parts.pop()
    if len(parts) != 2 or not _is_host_port(parts[1]):
        return False
    try:
        parse_value(ConfigType.INT, parts[0])
    except ValueError:
        return False
    return parts[0] == parts[0].strip()


def _all_items(accepts: Callable[[str], bool], value: Any) -> bool:
    return value is not None and all(accepts(item) for item in value)


_WORD_LISTS = {"one-of": _one_of, "any-case": _any_case, "list-of": _list_of}

_NAMED = {
    "non-null": Validator("any text", lambda value: value is not None),
    "non-empty": Validator("any text but an empty one", lambda value: value != ""),
    "gzip-level": Validator("from 1 to 9, or -1 for the default level",
                            lambda value: value is not None and (1 <= value <= 9 or value == -1)),
    "unset-or-positive": Validator("-1, or at least 1",
                                   lambda value: value is not None and (value == -1 or value >= 1)),
    "metadata-version": Validator("a Kafka release such as 3.9, or a version such as 3.9-IV0", _is_version),
    "throttled-replicas": Validator("* or a list of partition:broker", _are_throttled_replicas),
    "host-ports": Validator("a list of host:port", partial(_all_items, _is_host_port)),
    "voters": Validator("a list of id@host:port", partial(_all_items, _is_voter)),
}
