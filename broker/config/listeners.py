"""Listeners: the text of `listeners` and its relatives, turned into names, protocols, hosts and ports.

Kafka's grammar: entries with commas, `NAME://host:port`, names compared in upper case, an empty host for
every address of the machine, IPv6 in brackets or not. A name gets its security protocol from
`listener.security.protocol.map`.

Runs in: supervisor (at start). Pure but for `inet_pton`, which only parses.
"""
from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import NamedTuple

from broker.config.values import ConfigType, parse_value, trim

SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
PORT_MAX = 65535

_COMMA = re.compile(r"\s*,\s*", re.ASCII)
_ENDPOINT = re.compile(r"(.*)://\[?([0-9a-zA-Z\-%._:]*)\]?:(-?[0-9]+)")


class Listener(NamedTuple):
    """host is "" for every address of the machine; port 0 asks the kernel for one."""

    name: str
    security_protocol: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.name}://{host}:{self.port}"


class ListenerSyntaxError(ValueError):
    """The text says what the entry should be instead."""


def split_csv(text: str) -> list[str]:
    """Kafka's comma lists outside the type LIST: empty items are dropped."""
    return [item for item in _COMMA.split(text) if item]


def parse_csv_map(text: str) -> dict[str, str]:
    """`key:value` with commas; the last colon separates. Raises ValueError when one is missing."""
    entries: dict[str, str] = {}
    items = _COMMA.split(text) if text else []
    while items and not items[-1]:
        items.pop()
    for item in items:
        key, colon, value = item.rpartition(":")
        if not colon:
            raise ValueError(item)
        entries[trim(key)] = trim(value)
    return entries


def parse_protocol_map(text: str) -> dict[str, str]:
    """Listener name -> security protocol. Raises ListenerSyntaxError."""
    try:
        entries = parse_csv_map(text)
    except ValueError:
        raise ListenerSyntaxError("a list with commas of NAME:PROTOCOL") from None
    protocols: dict[str, str] = {}
    for name, protocol in entries.items():
        if not name:
            raise ListenerSyntaxError("a list with commas of NAME:PROTOCOL, no name empty")
        if protocol.upper() not in SECURITY_PROTOCOLS:
            raise ListenerSyntaxError(f"{protocol!r} is none of {', '.join(SECURITY_PROTOCOLS)}")
        protocols[name.upper()] = protocol.upper()
    return protocols


def parse_listeners(text: str, protocols: dict[str, str]) -> list[Listener]:
    """Raises ListenerSyntaxError. Names and ports are not compared with each other here."""
    return [_parse_listener(entry, protocols) for entry in split_csv(trim(text))]


def _parse_listener(entry: str, protocols: dict[str, str]) -> Listener:
    match = _ENDPOINT.fullmatch(entry)
    name = trim(match[1]) if match else ""
    if match is None or not name:
        raise ListenerSyntaxError(f"entries NAME://host:port, which {entry!r} is not")
    name = match[1].upper()
    try:
        port = parse_value(ConfigType.INT, match[3])
    except ValueError:
        port = -1
    if not 0 <= port <= PORT_MAX:
        raise ListenerSyntaxError(f"{entry!r} needs a port from 0 to {PORT_MAX}")
    if name not in protocols:
        raise ListenerSyntaxError(f"{name} needs a security protocol in listener.security.protocol.map")
    return Listener(name, protocols[name], match[2], port)


def duplicate_faults(listeners: list[Listener], distinct_ports: bool) -> Iterator[str]:
    """Sentences on names, and where it matters ports, used twice."""
    names = [listener.name for listener in listeners]
    if len(set(names)) < len(names):
        yield "every listener needs a name of its own"
    if distinct_ports:
        for port in sorted({listener.port for listener in listeners} - {0}):
            sharing = [listener.host for listener in listeners if listener.port == port]
            if len(sharing) > 1 and not _may_share_port(sharing):
                yield f"port {port} is used twice; only one IPv4 and one IPv6 address may share a port"


def _may_share_port(hosts: list[str]) -> bool:
    return len(hosts) == 2 and sorted(map(_ip_version, hosts)) == [4, 6]


def _ip_version(host: str) -> int:
    """4, 6, or 0 for a name or nothing. A zone (fe80::1%eth0) belongs to the address."""
    for version, family, text in ((4, socket.AF_INET, host), (6, socket.AF_INET6, host.partition("%")[0])):
        try:
            socket.inet_pton(family, text)
        except OSError:
            continue
        return version
    return 0
