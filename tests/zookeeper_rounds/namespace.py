"""A network namespace for ZooKeeper, with a cable of its own to each node: the kernel loses packets, no proxy.

Each cable is a pair of virtual interfaces. Unplugged, nothing passes either way and nobody is told; muted, the
server hears the node and the node hears nothing. Needs root and iproute2.

Runs in: the test process, main thread (`inside` moves the calling thread into the namespace for a moment).
"""
from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.processes import PeerUnavailableError
from tests.peers.zookeeper import ZooKeeperServer

_CLONE_NEWNET = 0x40000000
_NETWORKS = 50
OPERATOR_CABLE = 0


class Namespace:
    """cable 0 is the operator's. Use `close`."""

    def __init__(self, cable_count: int) -> None:
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise PeerUnavailableError("network namespaces need root and Debian's iproute2")
        self._name = f"ottla{os.getpid()}"
        self._network = 200 + os.getpid() % _NETWORKS
        self._libc = ctypes.CDLL(None, use_errno=True)
        _ip("netns", "add", self._name)
        try:
            _ip("-n", self._name, "link", "set", "lo", "up")
            for cable in range(cable_count):
                self._lay(cable)
        except BaseException:
            self.close()
            raise

    def _lay(self, cable: int) -> None:
        ours, theirs = self._interface(cable), self._interface(cable) + "z"
        _ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", self._name)
        _ip("addr", "add", f"{self._our_address(cable)}/30", "dev", ours)
        _ip("link", "set", ours, "up")
        _ip("-n", self._name, "addr", "add", f"{self.address(cable)}/30", "dev", theirs)
        _ip("-n", self._name, "link", "set", theirs, "up")

    def _interface(self, cable: int) -> str:
        return f"ot{os.getpid() % 100_000}c{cable}"

    def _our_address(self, cable: int) -> str:
        return f"10.{self._network}.{cable}.1"

    def address(self, cable: int) -> str:
        """Of what runs inside, seen from this cable."""
        return f"10.{self._network}.{cable}.2"

    def unplug(self, cable: int) -> None:
        _ip("-n", self._name, "link", "set", self._interface(cable) + "z", "down")

    def mute(self, cable: int) -> None:
        _ip("-n", self._name, "route", "replace", "blackhole", f"{self._our_address(cable)}/32")

    def repair(self, cable: int) -> None:
        """Whatever was done to it."""
        _ip("-n", self._name, "link", "set", self._interface(cable) + "z", "up")
        subprocess.run(["ip", "-n", self._name, "route", "del", "blackhole", f"{self._our_address(cable)}/32"],
                       capture_output=True, check=False)  # there may be none

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Children started now live in the namespace."""
        with Path("/proc/self/ns/net").open() as home, Path(f"/run/netns/{self._name}").open() as there:
            self._enter(there.fileno())
            try:
                yield
            finally:
                self._enter(home.fileno())

    def _enter(self, descriptor: int) -> None:
        if self._libc.setns(descriptor, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    def close(self) -> None:
        """The cables go with it."""
        subprocess.run(["ip", "netns", "del", self._name], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    try:
        subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        raise PeerUnavailableError(f"ip {' '.join(arguments)}: {error.stderr.strip()}") from error


class NamespaceServer(ZooKeeperServer):
    """A ZooKeeper inside; the tests reach it by the operator's cable."""

    def __init__(self, classpath: str, work_dir: Path, namespace: Namespace) -> None:
        super().__init__(classpath, work_dir, properties={"clientPortAddress": "0.0.0.0"})
        self._namespace = namespace

    @property
    def address(self) -> tuple[str, int]:
        return (self._namespace.address(OPERATOR_CABLE), self.port)

    @property
    def connect_string(self) -> str:
        return f"{self._namespace.address(OPERATOR_CABLE)}:{self.port}"

    def start(self, wait: bool = True) -> None:
        with self._namespace.inside():
            super().start(wait=False)
        if wait:
            self.wait_until_serving()


class Cable:
    """A node's way to the server; breaks as a proxy does."""

    def __init__(self, namespace: Namespace, cable: int, port: int) -> None:
        self.connect_string = f"{namespace.address(cable)}:{port}"
        self._namespace = namespace
        self._cable = cable

    def black_hole(self) -> None:
        self._namespace.unplug(self._cable)

    def mute(self) -> None:
        self._namespace.mute(self._cable)

    def heal(self) -> None:
        self._namespace.repair(self._cable)

    def close(self) -> None:
        """Goes with the namespace."""
