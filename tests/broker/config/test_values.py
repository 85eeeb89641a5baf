"""Types of values; more texts are compared with a real Kafka in tests/integration/config_java."""
from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.config.values import ConfigType, Password, format_double, format_value, parse_value


@pytest.mark.parametrize(
    ("config_type", "low", "high"),
    [
        (ConfigType.SHORT, -(2**15), 2**15 - 1),
        (ConfigType.INT, -(2**31), 2**31 - 1),
        (ConfigType.LONG, -(2**63), 2**63 - 1),
    ],
)
def test_whole_numbers_have_javas_ranges(config_type: ConfigType, low: int, high: int) -> None:
    assert parse_value(config_type, str(low)) == low
    assert parse_value(config_type, f" +{high}\t") == high
    for number in (low - 1, high + 1):
        with pytest.raises(ValueError):
            parse_value(config_type, str(number))


@pytest.mark.parametrize("text", ["", "1_000", "1.0", "0x10", "1e3", "--1", "+", "1 0", "five", "9" * 5000])
def test_texts_that_are_no_whole_numbers(text: str) -> None:
    with pytest.raises(ValueError):
        parse_value(ConfigType.INT, text)


def test_booleans_in_any_case_and_nothing_else() -> None:
    assert parse_value(ConfigType.BOOLEAN, " TRUE ") is True
    assert parse_value(ConfigType.BOOLEAN, "fAlSe") is False
    for text in ("yes", "1", "", "t"):
        with pytest.raises(ValueError):
            parse_value(ConfigType.BOOLEAN, text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1.0), ("1.", 1.0), (".5", 0.5), ("1e3", 1000.0), ("2f", 2.0), ("2D", 2.0), ("0x1p3", 8.0),
     ("-Infinity", float("-inf")), ("1e999", float("inf")), ("-0x1p9999", float("-inf"))],
)
def test_decimal_numbers_as_java_writes_them(text: str, value: float) -> None:
    assert parse_value(ConfigType.DOUBLE, text) == value


@pytest.mark.parametrize("text", ["", "inf", "nan", "infinity", "1_0", "0x10", ".", "1e", "e1"])
def test_texts_that_are_no_decimal_numbers(text: str) -> None:
    with pytest.raises(ValueError):
        parse_value(ConfigType.DOUBLE, text)


def test_lists_are_trimmed_and_keep_empty_items() -> None:
    assert parse_value(ConfigType.LIST, " a , b,,c ") == ["a", "b", "", "c"]
    assert parse_value(ConfigType.LIST, "  ") == []


def test_text_is_trimmed_as_java_trims() -> None:
    assert parse_value(ConfigType.STRING, " \x00\x1fa\u00a0 ") == "a\u00a0"


def test_a_password_never_shows_itself() -> None:
    password = parse_value(ConfigType.PASSWORD, " hush ")
    assert password == Password("hush")
    assert "hush" not in f"{password} {password!r} {[password]}"
    assert pickle.loads(pickle.dumps(password)) == password
    assert format_value(ConfigType.PASSWORD, password) == "hush"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0"), (-0.0, "-0.0"), (0.5, "0.5"), (1.0, "1.0"), (0.001, "0.001"), (0.00025, "2.5E-4"),
        (9999999.0, "9999999.0"), (1e7, "1.0E7"), (12500000.0, "1.25E7"),
        (1.7976931348623157e308, "1.7976931348623157E308"), (-123.456, "-123.456"), (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
    ],
)
def test_decimal_numbers_are_shown_as_java_shows_them(value: float, text: str) -> None:
    assert format_double(value) == text


@given(st.floats(allow_nan=False))
def test_shown_decimal_numbers_read_back(value: float) -> None:
    assert parse_value(ConfigType.DOUBLE, format_double(value)) == value


@given(st.sampled_from([each for each in ConfigType if each is not ConfigType.UNKNOWN]), st.text())
def test_any_text_is_a_value_or_a_value_error(config_type: ConfigType, text: str) -> None:
    try:
        value = parse_value(config_type, text)
    except ValueError:
        return
    shown = format_value(config_type, value)
    assert shown is not None
    again = parse_value(config_type, shown)
    assert again == value or again != again
