"""The name that a broker gives its clients when no host is configured: this machine's, as Java finds it.

Kafka asks for the host name, takes its first address (IPv4 before IPv6), looks up that address's name, and
keeps the name only if it leads back to the address; else the address itself is the name. The look-ups may
take seconds where the resolver is slow, therefore this runs once, at start, and only when needed.

Runs in: supervisor, before any fork.
"""
from __future__ import annotations

import socket


def canonical_host_name() -> str:
    """Raises OSError (gaierror) when the machine's own host name has no address."""
    addresses = _addresses(socket.gethostname())
    return _name_of(addresses[0])


def _addresses(host: str) -> list[str]:
    """IPv4 first, otherwise in the resolver's order, as Java has it by default."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    found.sort(key=lambda info: info[0] != socket.AF_INET)
    return [str(info[4][0]) for info in found]


def _name_of(address: str) -> str:
    try:
        name, _ = socket.getnameinfo((address, 0), socket.NI_NAMEREQD)
        leads_back = address in _addresses(name)
    except OSError:  # no name, or a name that leads nowhere: the address has to do
        return address
    return name if leads_back else address
