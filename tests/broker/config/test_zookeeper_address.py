"""The grammar of zookeeper.connect."""
from __future__ import annotations

import pytest

from broker.config.zookeeper_address import AddressSyntaxError, parse_address


@pytest.mark.parametrize(("text", "hosts", "chroot"), [
    ("zk", ("zk:2181",), ""),
    ("zk:2182", ("zk:2182",), ""),
    ("zk1:1,zk2,10.0.0.3:3", ("zk1:1", "zk2:2181", "10.0.0.3:3"), ""),
    (" zk1:1 , zk2:2,", ("zk1:1", "zk2:2"), ""),
    ("zk/", ("zk:2181",), ""),
    ("zk1,zk2/kafka", ("zk1:2181", "zk2:2181"), "/kafka"),
    ("zk:1/a/b c/d", ("zk:1",), "/a/b c/d"),
    ("[::1]:2182,[fe80::1%eth0]/k", ("[::1]:2182", "[fe80::1%eth0]:2181"), "/k"),
])
def test_hosts_and_chroot(text: str, hosts: tuple[str, ...], chroot: str) -> None:
    assert parse_address(text) == (hosts, chroot)


@pytest.mark.parametrize("text", [
    "", " ", ",", "/kafka", "zk:port", "zk:0", "zk:65536", "zk:1:2", "::1", "[::1", "z k", "zk/a/", "zk//a",
    "zk/a/../b", "zk/\x00", "zk1/a,zk2/a:b/",
])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(AddressSyntaxError):
        parse_address(text)
