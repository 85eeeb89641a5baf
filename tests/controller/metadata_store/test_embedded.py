"""The embedded store: conformance, and what only it has (the file, its lock, its owner, full disks)."""
from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from pytest_trio import trio_fixture

from controller.metadata_store.embedded import REQUEST_BYTES_MAX, EmbeddedDatabase, EmbeddedStore
from controller.metadata_store.errors import BadArgumentsError, StoreRefusedError, StoreUnavailableError
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import Create, GetData, Multi, SessionId, SetData
from tests.controller.metadata_store.conformance import MetadataStoreConformance


class EmbeddedServer:
    def __init__(self, database: EmbeddedDatabase) -> None:
        self.database = database

    async def open_session(self, resume: SessionId | None = None) -> MetadataStore:
        return await self.database.open_session(resume)

    async def expire(self, store: MetadataStore) -> None:
        await self.database.end_session(store.session.id)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "ottla-metadata.sqlite")


@trio_fixture
async def server(path: str) -> AsyncIterator[EmbeddedServer]:
    database = await EmbeddedDatabase.open(path, description="this test")
    await (await database.open_session()).create("/t")
    yield EmbeddedServer(database)
    await database.close()


@pytest.mark.trio
class TestEmbeddedStore(MetadataStoreConformance):
    pass


async def open_database(path: str) -> EmbeddedDatabase:
    return await EmbeddedDatabase.open(path, description="broker 1, process 11")


@pytest.mark.trio
async def test_tree_survives_a_restart(path: str) -> None:
    database = await open_database(path)
    store = await database.open_session()
    await store.submit([Create("/a", b"0"), Create("/a/b"), SetData("/a", b"1"),
                        Create("/a/n_", None, False, True)])
    before = await store.get_data("/a")
    await database.close()

    database = await open_database(path)
    store = await database.open_session()
    assert await store.get_data("/a") == before
    assert await store.create("/a/n_", sequential=True) == "/a/n_0000000002"
    assert (await store.get_data("/a")).stat.pzxid > before.stat.pzxid
    await database.close()



@pytest.mark.trio
async def test_resumed_session_keeps_its_ephemeral_nodes(path: str) -> None:
    database = await open_database(path)
    store = await database.open_session()
    await store.create("/mine", ephemeral=True)
    session = store.session
    await database.close()

    database = await open_database(path)
    store = await database.open_session(session)
    assert store.session == session
    assert (await store.get_data("/mine")).stat.ephemeral_owner == session.id
    await database.close()


@pytest.mark.trio
@pytest.mark.parametrize("wrong", ["password", "id", "none"])
async def test_session_that_nobody_resumes_has_ended(path: str, wrong: str) -> None:
    database = await open_database(path)
    store = await database.open_session()
    await store.create("/mine", ephemeral=True)
    session = store.session
    await database.close()

    resume = {"password": SessionId(session.id, b"x" * 16), "id": SessionId(session.id + 1, session.password),
              "none": None}[wrong]
    database = await open_database(path)
    store = await database.open_session(resume)
    assert store.session.password != session.password or store.session.id != session.id
    assert await store.exists("/mine") is None
    await database.close()


@pytest.mark.trio
async def test_database_in_use_is_refused_with_the_name_of_the_user(path: str) -> None:
    database = await open_database(path)
    with pytest.raises(StoreRefusedError, match="in use by broker 1, process 11.*zookeeper.connect"):
        await EmbeddedDatabase.open(path, description="broker 2, process 12")
    await database.close()
    await (await open_database(path)).close()


@pytest.mark.trio
async def test_lock_ends_with_the_process_that_holds_it(path: str) -> None:
    program = ("import sys, time; from controller.metadata_store.file_lock import FileLock;"
               "lock = FileLock(sys.argv[1] + '.lock', 'the child'); print('held', flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"held\n"
        with pytest.raises(StoreRefusedError, match="the child"):
            await open_database(path)
        child.kill()
        child.wait()
    await (await open_database(path)).close()


@pytest.mark.trio
async def test_file_belongs_to_the_broker_that_claimed_it(path: str) -> None:
    database = await open_database(path)
    assert await database.owner() is None
    await database.claim(1)
    await database.claim(1)
    with pytest.raises(StoreRefusedError, match="belongs to broker 1, but broker.id says 2"):
        await database.claim(2)
    await database.close()
    database = await open_database(path)
    assert await database.owner() == 1
    await database.close()


@pytest.mark.trio
async def test_damaged_file_is_refused(path: str) -> None:
    Path(path).write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreRefusedError, match="cannot be read"):
        await open_database(path)


@pytest.mark.trio
async def test_newer_format_is_refused_and_left_alone(path: str) -> None:
    await (await open_database(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreRefusedError, match="format 99"):
        await open_database(path)


@pytest.mark.trio
async def test_writes_are_on_disk_before_they_are_answered(path: str) -> None:
    """A child commits and is killed at once; what it was told is there."""
    program = ("import os, sys, signal, trio\n"
               "from controller.metadata_store.embedded import EmbeddedDatabase\n"
               "async def main():\n"
               "    database = await EmbeddedDatabase.open(sys.argv[1], description='child')\n"
               "    store = await database.open_session()\n"
               "    await store.create('/kept', b'x')\n"
               "    os.kill(os.getpid(), signal.SIGKILL)\n"
               "trio.run(main)\n")
    assert (await trio.run_process([sys.executable, "-c", program, path], check=False)).returncode == -9
    database = await open_database(path)
    store = await database.open_session()
    assert (await store.get_data("/kept")).data == b"x"
    await database.close()


@pytest.mark.trio
async def test_refused_commit_leaves_no_trace_and_can_be_repeated(
        path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    database = await open_database(path)
    store = await database.open_session()
    await store.create("/a", b"0")
    await store.get_data("/a", watch=True)
    before = await store.exists("/")
    commit = database._commit_in_thread

    def full_disk(statements: object) -> None:
        raise StoreUnavailableError(path, "database or disk is full")

    monkeypatch.setattr(database, "_commit_in_thread", full_disk)
    with pytest.raises(StoreUnavailableError):
        await store.submit([SetData("/a", b"1"), Create("/b")])
    assert [await store.exists("/b"), await store.exists("/")] == [None, before]
    monkeypatch.setattr(database, "_commit_in_thread", commit)
    await store.submit([SetData("/a", b"1"), Create("/b")])
    assert (await store.events.receive()).path == "/a"
    await database.close()


@pytest.mark.trio
async def test_sqlite_error_becomes_unavailable_and_is_rolled_back(path: str) -> None:
    database = await open_database(path)
    store = await database.open_session()
    database._connection.execute("PRAGMA max_page_count = 8")
    with pytest.raises(StoreUnavailableError, match="full"):
        await store.submit([Create(f"/{number}", b"x" * 4000) for number in range(20)])
    database._connection.execute("PRAGMA max_page_count = 100000")
    assert await store.get_children("/") == ()
    await store.create("/after")
    await database.close()


@pytest.mark.trio
async def test_request_that_zookeeper_could_not_hold_is_refused(path: str) -> None:
    database = await open_database(path)
    store = await database.open_session()
    big = b"x" * REQUEST_BYTES_MAX
    outcomes = await store.submit([Create("/big", big), Multi((Create("/big", big),)), Create("/small")])
    assert [type(outcome) for outcome in outcomes[:2]] == [BadArgumentsError, BadArgumentsError]
    assert await store.get_children("/") == ("small",)
    await database.close()


@pytest.mark.trio
async def test_ten_thousand_nodes_are_one_commit(path: str) -> None:
    database = await open_database(path)
    store = await database.open_session()
    commits = []
    original = database._commit_in_thread

    def counted(statements: object) -> None:
        commits.append(1)
        original(statements)  # type: ignore[arg-type]

    database._commit_in_thread = counted  # type: ignore[method-assign, assignment]
    await store.submit([Create("/p"), *(Create(f"/p/{number}", b"x") for number in range(10_000))])
    assert len(commits) == 1
    outcomes = await store.submit([GetData(f"/p/{number}") for number in range(10_000)])
    assert len(outcomes) == 10_000 and len(commits) == 1
    assert isinstance(store, EmbeddedStore)
    await database.close()
