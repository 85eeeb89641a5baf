"""The grammar of listeners."""
from __future__ import annotations

import pytest

from broker.config.listeners import (
    Listener,
    ListenerSyntaxError,
    duplicate_faults,
    parse_listeners,
    parse_protocol_map,
)

MAP = {"PLAINTEXT": "PLAINTEXT", "EXT": "PLAINTEXT", "SECURE": "SSL"}


@pytest.mark.parametrize(
    ("text", "listener"),
    [
        ("PLAINTEXT://:9092", Listener("PLAINTEXT", "PLAINTEXT", "", 9092)),
        ("ext://broker-1.example:0", Listener("EXT", "PLAINTEXT", "broker-1.example", 0)),
        ("SECURE://[::1]:9093", Listener("SECURE", "SSL", "::1", 9093)),
        ("PLAINTEXT://::1:9093", Listener("PLAINTEXT", "PLAINTEXT", "::1", 9093)),
        ("PLAINTEXT://fe80::1%eth0:9093", Listener("PLAINTEXT", "PLAINTEXT", "fe80::1%eth0", 9093)),
    ],
)
def test_an_entry(text: str, listener: Listener) -> None:
    assert parse_listeners(text, MAP) == [listener]


def test_entries_with_commas_blanks_and_empty_items() -> None:
    assert [each.port for each in parse_listeners(" PLAINTEXT://h:1 , ,EXT://h:2, ", MAP)] == [1, 2]


@pytest.mark.parametrize(
    "text",
    [
        "PLAINTEXT:9092", "PLAINTEXT://h", "://h:1", " ://h:1", "PLAINTEXT://h:65536", "PLAINTEXT://h:-1",
        "OTHER://h:1", "PLAINTEXT://h/x:1", "PLAINTEXT://é:1", "PLAINTEXT://h:99999999999",
    ],
)
def test_what_is_no_entry(text: str) -> None:
    with pytest.raises(ListenerSyntaxError):
        parse_listeners(text, MAP)


def test_a_listener_is_shown_as_it_is_written() -> None:
    assert str(Listener("EXT", "PLAINTEXT", "::1", 9)) == "EXT://[::1]:9"


def test_names_and_protocols_of_the_map_in_any_case() -> None:
    assert parse_protocol_map("int:plaintext, Ext : SASL_ssl") == {"INT": "PLAINTEXT", "EXT": "SASL_SSL"}


@pytest.mark.parametrize("text", ["PLAINTEXT", "EXT:TLS", ":SSL", "A:SSL,,B:SSL"])
def test_what_is_no_map(text: str) -> None:
    with pytest.raises(ListenerSyntaxError):
        parse_protocol_map(text)


def _faults(text: str, distinct_ports: bool = True) -> int:
    return len(list(duplicate_faults(parse_listeners(text, MAP), distinct_ports)))


@pytest.mark.parametrize(
    ("text", "fault_count"),
    [
        ("PLAINTEXT://h:1,EXT://h:2", 0),
        ("PLAINTEXT://h:0,EXT://h:0", 0),
        ("PLAINTEXT://127.0.0.1:1,EXT://[::1]:1", 0),
        ("PLAINTEXT://h:1,EXT://h:1", 1),
        ("PLAINTEXT://127.0.0.1:1,EXT://127.0.0.2:1", 1),
        ("PLAINTEXT://127.0.0.1:1,EXT://h:1", 1),
        ("PLAINTEXT://127.0.0.1:1,EXT://[::1]:1,SECURE://:1", 1),
        ("PLAINTEXT://h:1,PLAINTEXT://h:2", 1),
    ],
)
def test_names_and_ports_are_used_once(text: str, fault_count: int) -> None:
    assert _faults(text) == fault_count


def test_advertised_ports_may_be_equal() -> None:
    assert _faults("PLAINTEXT://h:1,EXT://h:1", distinct_ports=False) == 0
