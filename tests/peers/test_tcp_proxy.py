"""The proxy that stands for a network which breaks."""
from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.peers.tcp_proxy import TcpProxy

BRIEFLY_SECONDS = 0.1


@pytest.fixture
def proxy() -> Iterator[TcpProxy]:
    """Before a server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_echo, args=(listener,), daemon=True).start()
        proxy = TcpProxy(listener.getsockname())
        yield proxy
        proxy.close()


def _echo(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_echo_one, args=(connection,), daemon=True).start()


def _echo_one(connection: socket.socket) -> None:
    with connection:
        try:
            while data := connection.recv(100):
                connection.sendall(data)
        except OSError:
            return


def connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), 5)


def echo(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return connection.recv(100)


def test_bytes_pass_both_ways(proxy: TcpProxy) -> None:
    with connect(proxy) as connection:
        assert echo(connection, b"one") == b"one"
        assert echo(connection, b"two") == b"two"
    assert proxy.accepted_count == 1


def test_a_cut_resets_connections_and_lets_new_ones_pass(proxy: TcpProxy) -> None:
    with connect(proxy) as connection:
        echo(connection, b"one")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    with connect(proxy) as connection:
        assert echo(connection, b"two") == b"two"


def test_a_black_hole_holds_bytes_back_and_tells_nobody(proxy: TcpProxy) -> None:
    with connect(proxy) as connection:
        echo(connection, b"one")
        proxy.black_hole()
        connection.settimeout(BRIEFLY_SECONDS)
        with pytest.raises(TimeoutError):
            echo(connection, b"late")
        with connect(proxy) as another:
            another.settimeout(BRIEFLY_SECONDS)
            with pytest.raises(TimeoutError):
                echo(another, b"x")
        proxy.heal()
        connection.settimeout(5)
        assert connection.recv(100) == b"late"


def test_refused_connections_end_at_once_until_healed(proxy: TcpProxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionResetError), connect(proxy) as connection:
        connection.recv(100)
    proxy.heal()
    with connect(proxy) as connection:
        assert echo(connection, b"one") == b"one"
