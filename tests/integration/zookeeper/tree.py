"""A look at ZooKeeper's tree from outside, with a client of its own.

Runs in: the test process.
"""
from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from kazoo.handlers.threading import SequentialThreadingHandler

from tests.peers.processes import wait_until

SESSION_SECONDS = 10


class Znode(NamedTuple):
    """What can be compared between two trees. data: ids and times replaced by their names."""

    data: str | None
    is_ephemeral: bool
    version: int
    acl: str


_NAMED = (
    (re.compile(r'"timestamp":"\d+"'), '"timestamp":"TIME"'),
    (re.compile(r'"topic_id":"[\w-]{22}"'), '"topic_id":"TOPIC ID"'),
    (re.compile(r'"id":"[\w-]{22}"'), '"id":"CLUSTER ID"'),
)


class Tree:
    """chroot: "/kafka" or "". Nodes are named without it. Reads wait for a server that is away."""

    def __init__(self, client: KazooClient, chroot: str) -> None:
        self.client = client
        self._chroot = chroot

    def data(self, path: str) -> bytes | None:
        """None too when there is no such node."""
        try:
            data: bytes | None = self.client.retry(self.client.get, self._chroot + path)[0]
        except NoNodeError:
            return None
        return data

    def czxid(self, path: str) -> int:
        """-1 when there is no such node; of a registration, the broker epoch."""
        stat = self.client.retry(self.client.exists, self._chroot + path)
        return -1 if stat is None else int(stat.czxid)

    def owner(self, path: str) -> int:
        """The session of an ephemeral node, 0 for none."""
        stat = self.client.retry(self.client.exists, self._chroot + path)
        return 0 if stat is None else int(stat.ephemeralOwner)

    def create(self, path: str, data: bytes = b"", ephemeral: bool = False) -> None:
        self.client.create(self._chroot + path, data, ephemeral=ephemeral, makepath=True)

    def walk(self) -> dict[str, Znode]:
        """Every node below the chroot. What ZooKeeper itself keeps at its root is left out."""
        found: dict[str, Znode] = {}
        self._walk("", found)
        return found

    def _walk(self, path: str, found: dict[str, Znode]) -> None:
        for child in sorted(self.client.get_children(self._chroot + path or "/")):
            below = f"{path}/{child}"
            if below == "/zookeeper":
                continue
            data, stat = self.client.get(self._chroot + below)
            acls, _ = self.client.get_acls(self._chroot + below)
            found[below] = Znode(None if data is None else _named(data), stat.ephemeralOwner != 0, stat.version,
                                 ", ".join(f"{acl.id.scheme}:{acl.id.id}:{acl.perms}" for acl in acls))
            self._walk(below, found)


def _named(data: bytes) -> str:
    """JSON with its keys in order: a reader gives nothing on it, and Kafka's comes from its hash tables."""
    text = data.decode()
    if text.startswith("{"):
        text = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    for pattern, name in _NAMED:
        text = pattern.sub(name, text)
    return text


@contextmanager
def tree(connect_string: str, chroot: str = "") -> Iterator[Tree]:
    client = KazooClient(connect_string, timeout=SESSION_SECONDS, handler=SequentialThreadingHandler())
    client.start(timeout=20)
    try:
        yield Tree(client, chroot)
    finally:
        client.stop()
        client.close()


def expire(connect_string: str, session_id: int, password: bytes) -> None:
    """End somebody's session, as ZooKeeper does when it hears nothing of it: a client takes it over and ends it."""
    client = KazooClient(connect_string, timeout=SESSION_SECONDS, client_id=(session_id, password))
    client.start(timeout=20)
    assert client.client_id[0] == session_id, "the session was gone already"
    client.stop()
    client.close()


def difference(one: dict[str, Znode], other: dict[str, Znode]) -> list[str]:
    """A line for each node that is missing in one of them or not the same."""
    return [f"{path}: {one.get(path)} and {other.get(path)}"
            for path in sorted(one.keys() | other.keys()) if one.get(path) != other.get(path)]


def wait_for(condition: object, what: str, seconds: float = 20) -> None:
    assert callable(condition)
    wait_until(lambda: bool(condition()), what, seconds)
