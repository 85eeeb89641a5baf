"""The text of `zookeeper.connect`: several hosts and a chroot, as ZooKeeper's client reads it.

    host[:port],host[:port],...[/chroot]

A port left out is 2181; IPv6 addresses stand in brackets. The chroot is one for all hosts, at the end.

PURE. Runs in: supervisor, at start.
"""
from __future__ import annotations

import re
from typing import NamedTuple

PORT_DEFAULT = 2181
PORT_MAX = 65535

_HOST = re.compile(r"\[([0-9a-fA-F:.%\w]+)\](?::([0-9]+))?|([^\s:\[\]/]+)(?::([0-9]+))?")
_BAD_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff]")


class ZooKeeperAddress(NamedTuple):
    """hosts: `host:port`, IPv6 in brackets. chroot: "" or "/kafka", without '/' at its end."""

    hosts: tuple[str, ...]
    chroot: str


class AddressSyntaxError(ValueError):
    """The text says what it should be instead."""


def parse_address(text: str) -> ZooKeeperAddress:
    """Raises AddressSyntaxError."""
    hosts_text, slash, rest = text.partition("/")
    hosts = tuple(_parse_host(each.strip()) for each in hosts_text.split(",") if each.strip())
    if not hosts:
        raise AddressSyntaxError("host:port of at least one ZooKeeper server")
    return ZooKeeperAddress(hosts, _parse_chroot(slash + rest))


def _parse_host(text: str) -> str:
    match = _HOST.fullmatch(text)
    if match is None:
        raise AddressSyntaxError(
            f"host:port with commas, IPv6 in brackets, the chroot once at the end, which {text!r} is not")
    port = int(match[2] or match[4] or PORT_DEFAULT)
    if not 0 < port <= PORT_MAX:
        raise AddressSyntaxError(f"{text!r} needs a port from 1 to {PORT_MAX}")
    host = f"[{match[1]}]" if match[1] is not None else match[3]
    return f"{host}:{port}"


def _parse_chroot(text: str) -> str:
    if text in ("", "/"):
        return ""
    if text.endswith("/") or any(part in ("", ".", "..") for part in text[1:].split("/")) \
            or _BAD_CHARACTERS.search(text):
        raise AddressSyntaxError(f"{text!r} is no path of a node")
    return text
