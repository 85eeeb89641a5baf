"""The nine types of Kafka's configuration values: text to value and back, as Kafka's ConfigDef does it.

Numbers are Java's: `1_000`, `inf` or a blank inside are no numbers here although Python takes them, while
`+5`, `1.`, `2f` and `0x1p3` are. Text is trimmed as `String.trim` does (control characters and blanks).

PURE. Runs in: every process that reads a configuration.
"""
from __future__ import annotations

import re
from enum import IntEnum
from typing import Any

from broker.config.errors import HIDDEN

_TRIMMED = "".join(map(chr, range(0x21)))
_LIST_SEPARATOR = re.compile(r"\s*,\s*", re.ASCII)
# A digit is any decimal digit of the basic plane: Integer.parseInt looks at UTF-16 units one by one.
_INTEGER = re.compile(r"[+-]?[^\D\U00010000-\U0010ffff]+")
_DECIMAL = re.compile(r"([+-]?(?:NaN|Infinity|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?))[fFdD]?")
_HEXADECIMAL = re.compile(
    r"([+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+)[fFdD]?"
)
# No integer type has more than 19 digits; leading zeros count as digits for nobody.
_DIGITS_MAX = 19
_PLAIN_DECIMAL_EXPONENTS = range(-3, 7)  # Double.toString writes 10^-3 to below 10^7 without an exponent


class ConfigType(IntEnum):
    """The numbers are the type codes of DescribeConfigs."""

    UNKNOWN = 0
    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


INTEGER_RANGES = {
    ConfigType.INT: (-(2**31), 2**31 - 1),
    ConfigType.SHORT: (-(2**15), 2**15 - 1),
    ConfigType.LONG: (-(2**63), 2**63 - 1),
}

ALLOWED_BY_TYPE = {
    ConfigType.BOOLEAN: "true or false",
    ConfigType.INT: "a whole number from -2147483648 to 2147483647",
    ConfigType.SHORT: "a whole number from -32768 to 32767",
    ConfigType.LONG: "a whole number from -9223372036854775808 to 9223372036854775807",
    ConfigType.DOUBLE: "a decimal number",
    ConfigType.STRING: "text",
    ConfigType.LIST: "a list with commas",
    ConfigType.CLASS: "a class name",
    ConfigType.PASSWORD: "a password",
}


class Password:
    """A secret that does not show itself in messages, logs and tracebacks."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Password) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)


def trim(text: str) -> str:
    return text.strip(_TRIMMED)


def parse_value(config_type: ConfigType, text: str) -> Any:
    """The typed value: bool, int, float, str, list[str] or Password. Raises ValueError."""
    trimmed = trim(text)
    if config_type in INTEGER_RANGES:
        return _parse_integer(config_type, trimmed)
    if config_type is ConfigType.BOOLEAN:
        return _parse_boolean(trimmed)
    if config_type is ConfigType.DOUBLE:
        return _parse_double(trimmed)
    if config_type is ConfigType.LIST:
        return _LIST_SEPARATOR.split(trimmed) if trimmed else []
    if config_type is ConfigType.PASSWORD:
        return Password(trimmed)
    if config_type is ConfigType.CLASS and not trimmed:
        raise ValueError(text)
    return trimmed


def format_value(config_type: ConfigType, value: Any) -> str | None:
    """Kafka's text of a typed value. A password comes out in clear: callers hide it."""
    if value is None:
        return None
    if config_type is ConfigType.BOOLEAN:
        return "true" if value else "false"
    if config_type is ConfigType.LIST:
        return ",".join(value)
    if config_type is ConfigType.DOUBLE:
        return format_double(value)
    if config_type is ConfigType.PASSWORD:
        return str(value.value)
    return str(value)


def format_double(value: float) -> str:
    """As Java's Double.toString: `0.5`, `1.0E7`. Digits are the fewest that read back, as in JDK 19."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    mantissa, _, exponent_text = repr(value).lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    sign = "-" if repr(value).startswith("-") else ""
    if not digits:
        return f"{sign}0.0"
    leading_zeros = len(whole + fraction) - len(digits)
    exponent = int(exponent_text or 0) + len(whole) - leading_zeros - 1
    return sign + _place_point(digits.rstrip("0"), exponent)


def _place_point(digits: str, exponent: int) -> str:
    """digits with the point after the first one, times 10^exponent."""
    if exponent not in _PLAIN_DECIMAL_EXPONENTS:
        return f"{digits[0]}.{digits[1:] or '0'}E{exponent}"
    if exponent < 0:
        return "0." + "0" * (-exponent - 1) + digits
    whole = digits[: exponent + 1].ljust(exponent + 1, "0")
    return f"{whole}.{digits[exponent + 1 :] or '0'}"


def _parse_integer(config_type: ConfigType, text: str) -> int:
    low, high = INTEGER_RANGES[config_type]
    if not _INTEGER.fullmatch(text):
        raise ValueError(text)
    if len(text.lstrip("+-0")) > _DIGITS_MAX:
        raise ValueError(text)
    number = int(text)
    if not low <= number <= high:
        raise ValueError(text)
    return number


def _parse_boolean(text: str) -> bool:
    upper = text.upper()
    if upper not in ("TRUE", "FALSE"):
        raise ValueError(text)
    return upper == "TRUE"


def _parse_double(text: str) -> float:
    if match := _DECIMAL.fullmatch(text):
        return float(match[1])
    if match := _HEXADECIMAL.fullmatch(text):
        try:
            return float.fromhex(match[1])
        except OverflowError:
            return float("-inf") if text.startswith("-") else float("inf")
    raise ValueError(text)
