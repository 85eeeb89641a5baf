"""The machine's name; compared with Java's in tests/integration/config_java."""
from __future__ import annotations

import socket
from typing import Any

import pytest

from broker.config.host_name import canonical_host_name


class Resolver:
    """A resolver of two tables, in the place of the machine's."""

    def __init__(self, addresses: dict[str, list[str]], names: dict[str, str]) -> None:
        self.addresses = addresses
        self.names = names

    def getaddrinfo(self, host: str, port: None, type: int) -> list[tuple[Any, ...]]:
        if host not in self.addresses:
            raise socket.gaierror(-2, "unknown")
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, type, 6, "", (address, 0))
            for address in self.addresses[host]
        ]

    def getnameinfo(self, address: tuple[str, int], flags: int) -> tuple[str, str]:
        if address[0] not in self.names:
            raise socket.gaierror(-2, "unknown")
        return self.names[address[0]], "0"


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Any:
    def name_with(addresses: dict[str, list[str]], names: dict[str, str]) -> str:
        resolver = Resolver(addresses, names)
        monkeypatch.setattr(socket, "gethostname", lambda: "node")
        monkeypatch.setattr(socket, "getaddrinfo", resolver.getaddrinfo)
        monkeypatch.setattr(socket, "getnameinfo", resolver.getnameinfo)
        return canonical_host_name()

    return name_with


def test_the_full_name_of_the_first_ipv4_address(resolve: Any) -> None:
    addresses = {"node": ["::7", "10.0.0.7"], "node.example": ["10.0.0.7"]}
    assert resolve(addresses, {"10.0.0.7": "node.example", "::7": "other"}) == "node.example"


def test_an_address_without_a_name_stands_for_itself(resolve: Any) -> None:
    assert resolve({"node": ["10.0.0.7"]}, {}) == "10.0.0.7"


def test_a_name_that_does_not_lead_back_is_not_believed(resolve: Any) -> None:
    names = {"10.0.0.7": "liar.example"}
    assert resolve({"node": ["10.0.0.7"], "liar.example": ["10.9.9.9"]}, names) == "10.0.0.7"
    assert resolve({"node": ["10.0.0.7"]}, names) == "10.0.0.7"


def test_a_machine_whose_name_has_no_address(resolve: Any) -> None:
    with pytest.raises(OSError):
        resolve({}, {})
