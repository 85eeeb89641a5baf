"""One key, one text: the typed value, or the sentences that tell an operator what is wrong with it.

PURE. Runs in: supervisor (at start), front end and controller (topic configurations).
"""
from __future__ import annotations

from typing import Any

from broker.config.errors import HIDDEN, ConfigError
from broker.config.key_table import Key
from broker.config.treatment import PER_LISTENER_LIMITS, PER_LISTENER_REFUSAL, REFUSALS, Kind
from broker.config.values import ALLOWED_BY_TYPE, INTEGER_RANGES, ConfigType, format_value, parse_value


def parse_text(key: Key, text: str, name: str | None = None) -> Any:
    """The typed value if Kafka would take it, else ConfigError. name: the key as it was written, when that
    differs (`listener.name.` prefixes)."""
    try:
        value = parse_value(key.type, text)
    except ValueError:
        raise _invalid(key, text, name) from None
    if key.validator is not None and not key.validator.accepts(value):
        raise _invalid(key, text, name)
    return value


def check_treatment(key: Key, value: Any, text: str, name: str | None = None) -> None:
    """ConfigError if this version of Ottla does not serve the (valid) value."""
    treatment = key.treatment
    refusal = None
    if treatment.kind is Kind.REFUSED and not treatment.permits(value, key.default):
        refusal = REFUSALS[treatment.reason]
    elif key.name in PER_LISTENER_LIMITS and name not in (None, key.name) and value != key.default:
        refusal = PER_LISTENER_REFUSAL
    if refusal is not None:
        raise ConfigError(name or key.name, shown_text(key, text), *refusal, refused=True)


def shown_text(key: Key, text: str) -> str:
    return HIDDEN if key.type is ConfigType.PASSWORD else text


def allowed_text(key: Key) -> str:
    """What the key may be, completing "must be ..."."""
    if key.validator is None:
        return ALLOWED_BY_TYPE[key.type]
    if key.type in INTEGER_RANGES:
        return f"a whole number, {key.validator.allowed}"
    if key.type is ConfigType.DOUBLE:
        return f"a decimal number, {key.validator.allowed}"
    return key.validator.allowed


def usual_advice(key: Key) -> str:
    default = format_value(key.type, key.default)
    if not default:
        return "correct it, or leave the key out"
    return f"correct it, or leave the key out for the default, {default}"


def _invalid(key: Key, text: str, name: str | None) -> ConfigError:
    return ConfigError(name or key.name, shown_text(key, text), allowed_text(key), usual_advice(key))
