"""Binding the listeners."""
from __future__ import annotations

import socket

import pytest

from broker.supervisor.errors import StartError
from broker.supervisor.listening_sockets import bind_listeners, describe
from tests.broker.supervisor.toy_node import ToyListener


def listener(host: str, port: int = 0) -> ToyListener:
    return ToyListener("PLAINTEXT", "PLAINTEXT", host, port)


def test_port_0_takes_a_free_port_and_the_description_names_it() -> None:
    ((named, sock),) = bind_listeners([listener("127.0.0.1")])
    with sock:
        port = sock.getsockname()[1]
        assert port > 0
        assert describe(named, sock) == f"PLAINTEXT://127.0.0.1:{port}"
        assert not sock.getblocking()


def test_connections_are_queued_before_anybody_accepts() -> None:
    ((_, sock),) = bind_listeners([listener("127.0.0.1")])
    with sock, socket.create_connection(sock.getsockname(), timeout=5):
        sock.setblocking(True)
        sock.accept()[0].close()


def test_an_empty_host_listens_on_every_interface() -> None:
    ((_, sock),) = bind_listeners([listener("")])
    with sock, socket.create_connection(("127.0.0.1", sock.getsockname()[1]), timeout=5):
        assert sock.getsockname()[0] in {"::", "0.0.0.0"}


def test_an_ipv6_address_is_described_in_brackets() -> None:
    ((named, sock),) = bind_listeners([listener("::1")])
    with sock:
        assert describe(named, sock) == f"PLAINTEXT://[::1]:{sock.getsockname()[1]}"


def test_a_taken_port_is_named_and_nothing_stays_bound() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as probe:
        port, free = taken.getsockname()[1], probe.getsockname()[1]
        probe.close()
        with pytest.raises(StartError, match=f"PLAINTEXT://127.0.0.1:{port} cannot be opened: Address already"):
            bind_listeners([listener("127.0.0.1", free), listener("127.0.0.1", port)])
        socket.create_server(("127.0.0.1", free)).close()


def test_a_name_that_does_not_resolve_is_a_clear_error() -> None:
    with pytest.raises(StartError, match="PLAINTEXT://no-such-host.invalid:0 cannot be opened: "):
        bind_listeners([listener("no-such-host.invalid")])


def test_a_receive_buffer_is_set_only_on_request() -> None:
    ((_, plain),) = bind_listeners([listener("127.0.0.1")])
    ((_, small),) = bind_listeners([listener("127.0.0.1")], receive_buffer_bytes=10_000)
    with plain, small:
        assert small.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 20_000
        assert plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) != 20_000
