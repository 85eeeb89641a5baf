"""Cluster id and broker id at start, through the real command: Kafka's rules, one clear line, exit code 1.

A wrong directory must come out of it exactly as it was, and so must every other directory of the node.
"""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from storage.checkpoint.clean_shutdown import CLEAN_SHUTDOWN_MARKER, write_clean_shutdown_marker
from storage.checkpoint.meta_properties import (
    META_PROPERTIES,
    MetaProperties,
    read_meta_properties,
    write_meta_properties,
)
from tests.peers.ottla_broker import OttlaBroker
from tests.peers.processes import wait_until
from tests.peers.wire import WireConnection

CLUSTER, OTHER_CLUSTER = "AAAAAAAAAAAAAAAAAAAAAA", "BBBBBBBBBBBBBBBBBBBBBB"
EXIT_SECONDS_MAX = 20
MakeOttla = Callable[..., OttlaBroker]


def directory(path: Path, cluster_id: str | None = CLUSTER, broker_id: int | None = 1, version: int = 0) -> Path:
    """A log directory after a clean stop; without meta.properties when both ids are None."""
    path.mkdir(parents=True)
    write_clean_shutdown_marker(str(path))
    if version == 1:
        (path / META_PROPERTIES).write_text(f"version=1\nnode.id={broker_id}\ncluster.id={cluster_id}\n")
    elif cluster_id is not None or broker_id is not None:
        write_meta_properties(str(path / META_PROPERTIES), MetaProperties(cluster_id, broker_id), 0)
    return path


def meta(path: Path) -> MetaProperties:
    found = read_meta_properties(str(path / META_PROPERTIES))
    assert found is not None
    return found


def refusal(broker: OttlaBroker) -> str:
    """The one ERROR line of a start that must fail, with exit code 1 and without a second try."""
    process = broker.spawn()
    wait_until(lambda: process.return_code is not None, "ottla gives up", EXIT_SECONDS_MAX)
    text = process.log_text()
    assert process.return_code == 1, text
    assert text.count("started controller") == 1, text
    assert "started storage" not in text
    assert "Traceback" not in text
    lines = [line for line in text.splitlines() if " ERROR [supervisor] " in line]
    assert len(lines) == 1, text
    return lines[0]


def kept(path: Path) -> dict[str, bytes]:
    """What must not change: everything but the lock and the metadata file."""
    return {entry.name: entry.read_bytes() for entry in path.iterdir()
            if entry.name != ".lock" and not entry.name.startswith("ottla-metadata")}


def broker_id_seen_by_clients(broker: OttlaBroker) -> int:
    with WireConnection(broker.address) as connection:
        (broker_id,) = connection.metadata(()).brokers
    return broker_id


# broker.id=-1


def test_generated_id_is_that_of_the_directories(tmp_path: Path, make_ottla: MakeOttla) -> None:
    old, new = directory(tmp_path / "old", broker_id=7), tmp_path / "new"
    broker = make_ottla(broker_id=-1, log_dirs=[new, old])
    broker.start()
    assert broker_id_seen_by_clients(broker) == 7
    assert broker.stop() == 0
    assert meta(new) == meta(old) == MetaProperties(CLUSTER, 7)


def test_generated_id_begins_above_the_reserved_ones_and_stays(tmp_path: Path, make_ottla: MakeOttla) -> None:
    broker = make_ottla(overrides={"reserved.broker.max.id": "50"}, broker_id=-1, log_dirs=[tmp_path / "a"])
    broker.start()
    assert broker_id_seen_by_clients(broker) == 51
    assert broker.stop() == 0
    cluster_id = meta(tmp_path / "a").cluster_id
    for path in (tmp_path / "a").glob("ottla-metadata*"):
        path.unlink()
    broker.start()
    assert broker_id_seen_by_clients(broker) == 51
    assert broker.stop() == 0
    assert meta(tmp_path / "a") == MetaProperties(cluster_id, 51)


# Conflicts


def test_other_broker_id_in_the_configuration(tmp_path: Path, make_ottla: MakeOttla) -> None:
    mine, other = directory(tmp_path / "mine", broker_id=7), directory(tmp_path / "new", None, None)
    before = kept(mine), kept(other)
    line = refusal(make_ottla(broker_id=1, log_dirs=[other, mine]))
    assert f"{mine / META_PROPERTIES} says broker.id=7, but this broker is 1" in line
    assert "Set broker.id to 7, or correct log.dirs" in line
    assert (kept(mine), kept(other)) == before
    assert CLEAN_SHUTDOWN_MARKER in before[0]


def test_directories_of_two_brokers(tmp_path: Path, make_ottla: MakeOttla) -> None:
    one, two = directory(tmp_path / "one", broker_id=1), directory(tmp_path / "two", broker_id=2)
    before = kept(one), kept(two)
    line = refusal(make_ottla(broker_id=-1, log_dirs=[one, two]))
    assert f"{one / META_PROPERTIES} says broker.id=1, {two / META_PROPERTIES} says broker.id=2" in line
    assert "out of log.dirs" in line
    assert (kept(one), kept(two)) == before


def test_directories_of_two_clusters(tmp_path: Path, make_ottla: MakeOttla) -> None:
    one, two = directory(tmp_path / "one"), directory(tmp_path / "two", OTHER_CLUSTER)
    before = kept(one), kept(two)
    line = refusal(make_ottla(log_dirs=[one, two]))
    assert f"cluster.id={CLUSTER}" in line
    assert f"cluster.id={OTHER_CLUSTER}" in line
    assert (kept(one), kept(two)) == before


def test_directory_of_another_cluster_than_the_metadata(tmp_path: Path, make_ottla: MakeOttla) -> None:
    home, away = tmp_path / "home", tmp_path / "away"
    broker = make_ottla(overrides={"ottla.metadata.path": str(tmp_path / "metadata.sqlite")}, log_dirs=[home])
    broker.start()
    assert broker.stop() == 0
    ours = meta(home).cluster_id
    broker.log_dirs[:] = [tmp_path / "new", directory(away, OTHER_CLUSTER)]
    before = kept(away)
    line = refusal(broker)
    assert f"{away / META_PROPERTIES} says cluster.id={OTHER_CLUSTER}, but the metadata store says {ours}" in line
    assert "ottla.metadata.path" in line
    assert kept(away) == before
    assert kept(tmp_path / "new") == {}


def test_directory_of_a_kraft_node(tmp_path: Path, make_ottla: MakeOttla) -> None:
    path = directory(tmp_path / "kraft", version=1)
    before = kept(path)
    assert "is of version 1 (KRaft)" in refusal(make_ottla(log_dirs=[path]))
    assert kept(path) == before


@pytest.mark.parametrize("text", ["broker.id=one\n", "version=9\nbroker.id=1\n"])
def test_meta_properties_that_kafka_would_refuse(tmp_path: Path, make_ottla: MakeOttla, text: str) -> None:
    path = directory(tmp_path / "broken", None, None)
    (path / META_PROPERTIES).write_text(text)
    before = kept(path)
    assert str(path / META_PROPERTIES) in refusal(make_ottla(log_dirs=[path]))
    assert kept(path) == before
