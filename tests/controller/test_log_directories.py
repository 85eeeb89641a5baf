"""Whose the log directories are, and which partitions in them the metadata do not know."""
from __future__ import annotations

from pathlib import Path

import pytest

from controller import identity, znodes
from controller.log_directories import Claims, describe_unknown, read_claims
from controller.metadata_store.operations import Create
from storage.checkpoint.meta_properties import (
    META_PROPERTIES,
    ForeignDirectoryError,
    MetaProperties,
    write_meta_properties,
)
from storage.errors import CorruptLogError
from tests.controller.memory_store import MemoryServer, MemoryStore, run


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryServer().session()
    run(identity.ensure_paths(store))
    return store


def directories(path: Path, **found: MetaProperties | None) -> list[str]:
    """name -> meta.properties; their paths."""
    for name, properties in found.items():
        (path / name).mkdir()
        if properties is not None:
            write_meta_properties(str(path / name / META_PROPERTIES), properties, 0)
    return [str(path / name) for name in found]


def add_partition(store: MemoryStore, topic: str, number: int) -> None:
    paths = [znodes.topic_path(topic), znodes.partitions_path(topic), znodes.partition_path(topic, number),
             znodes.partition_state_path(topic, number)]
    run(store.submit([Create(path) for path in paths]))


def test_new_directories_claim_nothing(tmp_path: Path) -> None:
    claims = read_claims(directories(tmp_path, a=None, b=None))
    assert claims == Claims({}, (f"{tmp_path}/a", f"{tmp_path}/b"), {})
    assert (claims.cluster_id, claims.broker_id) == (None, None)
    claims.check_owner("c", 1)


def test_any_directory_may_say_whose_all_are(tmp_path: Path) -> None:
    """Version 0 leaves keys out as it likes."""
    claims = read_claims(directories(tmp_path, a=None, b=MetaProperties(None, 7), c=MetaProperties("c", None)))
    assert claims.cluster_id == ("c", f"{tmp_path}/c/{META_PROPERTIES}")
    assert claims.broker_id == (7, f"{tmp_path}/b/{META_PROPERTIES}")
    claims.check_owner("c", 7)


@pytest.mark.parametrize(("a", "b", "said"), [
    (MetaProperties("x", 1), MetaProperties("y", 1), ("cluster.id=x", "cluster.id=y")),
    (MetaProperties("x", 1), MetaProperties("x", 2), ("broker.id=1", "broker.id=2")),
])
def test_directories_that_do_not_belong_together_are_refused(
        tmp_path: Path, a: MetaProperties, b: MetaProperties, said: tuple[str, str]) -> None:
    with pytest.raises(ForeignDirectoryError) as refused:
        read_claims(directories(tmp_path, a=a, b=b))
    assert f"{tmp_path}/a/{META_PROPERTIES} says {said[0]}" in str(refused.value)
    assert f"{tmp_path}/b/{META_PROPERTIES} says {said[1]}" in str(refused.value)


@pytest.mark.parametrize(("cluster_id", "broker_id", "sentence"), [
    ("other", 1, "says cluster.id=c, but the metadata store says other"),
    ("c", 2, "says broker.id=1, but this broker is 2. Set broker.id to 1"),
    (None, 2, "says broker.id=1, but this broker is 2"),
])
def test_directories_of_somebody_else_are_refused(
        tmp_path: Path, cluster_id: str | None, broker_id: int, sentence: str) -> None:
    claims = read_claims(directories(tmp_path, a=MetaProperties("c", 1)))
    with pytest.raises(ForeignDirectoryError, match=sentence):
        claims.check_owner(cluster_id, broker_id)


def test_cluster_without_an_id_yet_contradicts_nobody(tmp_path: Path) -> None:
    read_claims(directories(tmp_path, a=MetaProperties("c", 1))).check_owner(None, 1)


def test_directory_that_cannot_be_read_is_named_not_fatal(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    good = directories(tmp_path, a=MetaProperties("c", 1))
    claims = read_claims([str(tmp_path / "file"), *good, str(tmp_path / "gone")])
    assert claims.directories == (good[0],)
    assert claims.unreadable == {
        str(tmp_path / "file"): "Not a directory", str(tmp_path / "gone"): "No such file or directory"}


def test_meta_properties_that_make_no_sense_are_an_error(tmp_path: Path) -> None:
    (path,) = directories(tmp_path, a=None)
    Path(path, META_PROPERTIES).write_text("version=3")
    with pytest.raises(CorruptLogError, match="version 3"):
        read_claims([path])


def test_partitions_that_the_metadata_do_not_know_are_named_by_topic(tmp_path: Path, store: MemoryStore) -> None:
    add_partition(store, "known", 0)
    for name in ("known-0", "known-1", *(f"stray-{number}" for number in range(7))):
        (tmp_path / name).mkdir()
    known, stray = run(describe_unknown(store, [str(tmp_path)]))
    assert known.startswith("1 partition of topic 'known' is not in the metadata and left alone: ")
    assert f"{tmp_path}/known-1." in known
    assert stray.startswith("7 partitions of topic 'stray' are not in the metadata and left alone: ")
    assert f"{tmp_path}/stray-4 and 2 more" in stray


def test_known_partitions_are_not_worth_a_word(tmp_path: Path, store: MemoryStore) -> None:
    add_partition(store, "known", 0)
    (tmp_path / "known-0").mkdir()
    assert run(describe_unknown(store, [str(tmp_path)])) == []
