"""What every metadata store must do, as ZooKeeper does it.

A test class per implementation derives from `MetadataStoreConformance` and gives a fixture `server`: an
object with `open_session(resume=None)`, giving a `MetadataStore`, and `expire(store)`, which ends a session as
its time-out would. All nodes are made under `/t`, which is empty at the start of each test.
"""
from __future__ import annotations

from typing import Protocol

import pytest
import trio

from controller.metadata_store.errors import (
    BadArgumentsError,
    BadVersionError,
    MultiError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistencyError,
    SessionExpiredError,
)
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import (
    Check,
    CheckResult,
    Create,
    CreateResult,
    Delete,
    DeleteResult,
    EventType,
    Exists,
    GetChildren,
    GetData,
    GetDataResult,
    Multi,
    Outcome,
    SessionId,
    SessionState,
    SetData,
    SetDataResult,
    WatchEvent,
)

EVENT_WAIT_SECONDS_MAX = 5


class Server(Protocol):
    async def open_session(self, resume: SessionId | None = None) -> MetadataStore: ...

    async def expire(self, store: MetadataStore) -> None: ...


async def next_event(store: MetadataStore) -> WatchEvent:
    with trio.fail_after(EVENT_WAIT_SECONDS_MAX):
        return await store.events.receive()


async def events_until(store: MetadataStore, path: str) -> list[tuple[str, str]]:
    """Events delivered before the one that creating `path` fires; a fence that needs no sleep."""
    await store.exists(path, watch=True)
    await store.create(path)
    seen = []
    while (event := await next_event(store)).path != path:
        seen.append((event.type.value, event.path))
    return seen


class MetadataStoreConformance:
    """Derive, give the fixture `server`, and mark the class with `pytest.mark.trio`."""

    # Nodes and their Stat.

    async def test_created_node_has_its_data_and_version_zero(self, server: Server) -> None:
        store = await server.open_session()
        assert await store.create("/t/a", b"data") == "/t/a"
        data, stat = (lambda found: (found.data, found.stat))(await store.get_data("/t/a"))
        assert data == b"data"
        assert (stat.version, stat.cversion, stat.ephemeral_owner, stat.num_children) == (0, 0, 0, 0)
        assert stat.data_length == 4
        assert stat.czxid == stat.mzxid == stat.pzxid > 0
        assert stat.ctime_ms == stat.mtime_ms > 1_600_000_000_000

    async def test_null_data_is_not_empty_data(self, server: Server) -> None:
        store = await server.open_session()
        await store.submit([Create("/t/null", None), Create("/t/empty", b"")])
        assert (await store.get_data("/t/null")).data is None
        assert (await store.get_data("/t/empty")).data == b""

    async def test_create_over_an_existing_node_fails(self, server: Server) -> None:
        store = await server.open_session()
        await store.create("/t/a", b"first")
        with pytest.raises(NodeExistsError):
            await store.create("/t/a", b"second")
        assert (await store.get_data("/t/a")).data == b"first"

    async def test_create_without_parent_fails(self, server: Server) -> None:
        store = await server.open_session()
        with pytest.raises(NoNodeError):
            await store.create("/t/missing/a")

    async def test_set_data_counts_the_version_and_keeps_the_creation(self, server: Server) -> None:
        store = await server.open_session()
        await store.create("/t/a", b"0")
        created = (await store.get_data("/t/a")).stat
        stat = await store.set_data("/t/a", b"11")
        assert (stat.version, stat.data_length) == (1, 2)
        assert stat.czxid == created.czxid < stat.mzxid
        assert stat.pzxid == created.pzxid
        assert (await store.get_data("/t/a")).stat == stat

    async def test_set_data_with_the_expected_version(self, server: Server) -> None:
        store = await server.open_session()
        await store.create("/t/a", b"0")
        assert (await store.set_data("/t/a", b"1", 0)).version == 1
        with pytest.raises(BadVersionError):
            await store.set_data("/t/a", b"2", 0)
        assert (await store.get_data("/t/a")).data == b"1"
        assert (await store.set_data("/t/a", b"2", -1)).version == 2

    async def test_set_data_of_a_missing_node_fails(self, server: Server) -> None:
        store = await server.open_session()
        with pytest.raises(NoNodeError):
            await store.set_data("/t/a", b"")

    async def test_delete_with_the_expected_version(self, server: Server) -> None:
        store = await server.open_session()
        await store.create("/t/a")
        with pytest.raises(BadVersionError):
            await store.delete("/t/a", 1)
        await store.delete("/t/a", 0)
        assert await store.exists("/t/a") is None
        with pytest.raises(NoNodeError):
            await store.delete("/t/a")

    async def test_delete_of_a_parent_fails(self, server: Server) -> None:
        store = await server.open_session()
        await store.submit([Create("/t/a"), Create("/t/a/b")])
        with pytest.raises(NotEmptyError):
            await store.delete("/t/a")

    async def test_recreated_node_starts_again(self, server: Server) -> None:
        store = await server.open_session()
        await store.submit([Create("/t/a", b"0"), SetData("/t/a", b"1")])
        before = (await store.get_data("/t/a")).stat
        await store.delete("/t/a")
        await store.create("/t/a")
        after = (await store.get_data("/t/a")).stat
        assert after.version == 0
        assert after.czxid > before.mzxid

    async def test_exists_gives_the_stat_or_none(self, server: Server) -> None:
        store = await server.open_session()
        assert await store.exists("/t/a") is None
        await store.create("/t/a")
        assert await store.exists("/t/a") == (await store.get_data("/t/a")).stat

    async def test_children_are_names(self, server: Server) -> None:
        store = await server.open_session()
        await store.submit([Create("/t/a"), Create("/t/b"), Create("/t/a/deeper")])
        assert sorted(await store.get_children("/t")) == ["a", "b"]
        assert await store.get_children("/t/b") == ()
        with pytest.raises(NoNodeError):
            await store.get_children("/t/c")

    async def test_children_version_counts_creations_and_deletions(self, server: Server) -> None:
        store = await server.open_session()
        await store.create("/t/p")
        for operation, cversion, num_children in (
            (Create("/t/p/a"), 1, 1), (Create("/t/p/b"), 2, 2), (Delete("/t/p/a"), 3, 1),
            (Create("/t/p/c"), 4, 2), (SetData("/t/p/c", b"x"), 4, 2),
        ):
            await store.submit([operation])
            stat = await store.exists("/t/p")
            assert stat is not None
            assert (stat.cversion, stat.num_children, stat.version) == (cversion, num_children, 0)

    async def test_children_changes_move_only_pzxid_of_the_parent(self, server: Server) -> None:
        store = await server.open_session()
        await store.create("/t/p")
        before = await store.exists("/t/p")
        await store.create("/t/p/a")
        after = await store.exists("/t/p")
        assert before is not None and after is not None
        assert after.pzxid > before.pzxid
        assert (after.mzxid, after.czxid, after.version) == (before.mzxid, before.czxid, 0)
        await store.set_data("/t/p/a", b"x")
        assert await store.exists("/t/p") == after

    async def test_transaction_ids_grow(self, server: Server) -> None:
        store = await server.open_session()
        await store.submit([Create(f"/t/{number}") for number in range(3)])
        zxids = [(await store.get_data(f"/t/{number}")).stat.czxid for number in range(3)]
        assert zxids == sorted(set(zxids))

    @pytest.mark.parametrize("bad_path", ["", "a", "/t/", "/t//a", "/t/./a", "/t/..", "/t/a\x00", "/t/\x1f"])
    async def test_bad_paths_are_refused(self, server: Server, bad_path: str) -> None:
        store = await server.open_session()
        with pytest.raises(BadArgumentsError):
            await store.create(bad_path)

    async def test_unusual_names_are_allowed(self, server: Server) -> None:
        store = await server.open_session()
        names = ["ä€😀"[:2], "a b", "<default>", "...", "%2F"]
        await store.submit([Create(f"/t/{name}") for name in names])
        assert sorted(await store.get_children("/t")) == sorted(names)

    # Sequential nodes.

    async def test_sequential_numbers_count_creations_of_any_child(self, server: Server) -> None:
        store = await server.open_session()
        assert await store.create("/t/n_", sequential=True) == "/t/n_0000000000"
        await store.create("/t/other")
        assert await store.create("/t/n_", sequential=True) == "/t/n_0000000002"
        await store.delete("/t/n_0000000002")
        await store.delete("/t/other")
        assert await store.create("/t/m_", sequential=True) == "/t/m_0000000003"

    async def test_sequential_number_alone_can_be_the_name(self, server: Server) -> None:
        store = await server.open_session()
        assert await store.create("/t/", sequential=True) == "/t/0000000000"

    async def test_setting_data_does_not_move_sequential_numbers(self, server: Server) -> None:
        store = await server.open_session()
        await store.create("/t/n_", sequential=True)
        await store.set_data("/t/n_0000000000", b"x")
        await store.set_data("/t", b"x")
        assert await store.create("/t/n_", sequential=True) == "/t/n_0000000001"

    # Ephemeral nodes and sessions.

    async def test_ephemeral_node_names_its_session(self, server: Server) -> None:
        store = await server.open_session()
        await store.create("/t/e", b"x", ephemeral=True)
        assert (await store.get_data("/t/e")).stat.ephemeral_owner == store.session.id

    async def test_ephemeral_parents_refuse_children(self, server: Server) -> None:
        store = await server.open_session()
        await store.create("/t/e", ephemeral=True)
        with pytest.raises(NoChildrenForEphemeralsError):
            await store.create("/t/e/a")

    async def test_ephemerals_go_with_their_session(self, server: Server) -> None:
        store, other = await server.open_session(), await server.open_session()
        await store.submit([Create("/t/p"), Create("/t/e", b"", True), Create("/t/p/e_", b"", True, True)])
        await other.create("/t/mine", ephemeral=True)
        await store.close()
        assert sorted(await other.get_children("/t")) == ["mine", "p"]
        assert await other.get_children("/t/p") == ()

    async def test_end_of_a_session_fires_watches_of_others(self, server: Server) -> None:
        store, other = await server.open_session(), await server.open_session()
        await store.create("/t/e", ephemeral=True)
        await other.exists("/t/e", watch=True)
        await other.get_children("/t", watch=True)
        await server.expire(store)
        seen = {(await next_event(other)).type, (await next_event(other)).type}
        assert seen == {EventType.NODE_DELETED, EventType.NODE_CHILDREN_CHANGED}

    async def test_expired_session_is_told_and_can_do_nothing(self, server: Server) -> None:
        store = await server.open_session()
        await server.expire(store)
        event = await next_event(store)
        while event.state is not SessionState.EXPIRED:
            event = await next_event(store)
        assert event.type is EventType.SESSION
        with pytest.raises(SessionExpiredError):
            await store.create("/t/late")

    async def test_ephemeral_can_be_deleted_by_another_session(self, server: Server) -> None:
        store, other = await server.open_session(), await server.open_session()
        await store.create("/t/e", ephemeral=True)
        await other.delete("/t/e")
        assert await store.exists("/t/e") is None
        await store.create("/t/e", ephemeral=True)

    # Multi.

    async def test_multi_answers_for_each_operation(self, server: Server) -> None:
        store = await server.open_session()
        await store.submit([Create("/t/a", b"0"), Create("/t/gone")])
        results = await store.multi(
            Check("/t/a", 0), SetData("/t/a", b"1", 0), Create("/t/b"), Delete("/t/gone"))
        check, set_data, create, delete = results
        assert (check, create, delete) == (CheckResult(), CreateResult("/t/b"), DeleteResult())
        assert isinstance(set_data, SetDataResult)
        assert set_data.stat.version == 1

    async def test_multi_is_one_transaction(self, server: Server) -> None:
        store = await server.open_session()
        await store.multi(Create("/t/a"), Create("/t/b"), SetData("/t/a", b"x", 0))
        a, b = await store.exists("/t/a"), await store.exists("/t/b")
        assert a is not None and b is not None
        assert a.czxid == b.czxid == a.mzxid

    async def test_operations_of_a_multi_see_those_before(self, server: Server) -> None:
        store = await server.open_session()
        await store.multi(Create("/t/a"), Create("/t/a/b"), Delete("/t/a/b"), SetData("/t/a", b"1", 0),
                          SetData("/t/a", b"2", 1), Check("/t/a", 2))
        found = await store.get_data("/t/a")
        assert (found.data, found.stat.version, found.stat.num_children) == (b"2", 2, 0)
        assert found.stat.cversion == 2

    async def test_failed_multi_changes_nothing_and_names_the_cause(self, server: Server) -> None:
        store = await server.open_session()
        await store.create("/t/a", b"0")
        before = await store.exists("/t")
        with pytest.raises(MultiError) as raised:
            await store.multi(Create("/t/b"), SetData("/t/a", b"1", 7), Create("/t/c"), Delete("/t/missing"))
        error = raised.value
        assert [type(result) for result in error.results] == [
            RolledBackError, BadVersionError, RuntimeInconsistencyError, RuntimeInconsistencyError]
        assert (error.failed_index, type(error.cause)) == (1, BadVersionError)
        assert await store.exists("/t") == before
        assert (await store.get_data("/t/a")).data == b"0"

    async def test_bad_path_inside_a_multi_fails_it(self, server: Server) -> None:
        store = await server.open_session()
        with pytest.raises(MultiError) as raised:
            await store.multi(Create("/t/a"), Create("/t/b/"), Create("/t/c"))
        error = raised.value
        assert (error.failed_index, type(error.cause)) == (1, BadArgumentsError)
        assert await store.get_children("/t") == ()

    @pytest.mark.parametrize(("operation", "cause"), [
        (Check("/t/missing", 0), NoNodeError), (Check("/t/a", 1), BadVersionError),
        (Create("/t/a"), NodeExistsError), (Create("/t/x/y"), NoNodeError), (Delete("/t/p"), NotEmptyError),
        (Delete("/t/missing"), NoNodeError), (SetData("/t/missing", b""), NoNodeError),
        (Create("/t/e/x"), NoChildrenForEphemeralsError),
    ])
    async def test_causes_of_a_failed_multi(self, server: Server, operation: Create, cause: type) -> None:
        store = await server.open_session()
        await store.submit([Create("/t/a"), Create("/t/p"), Create("/t/p/c"), Create("/t/e", b"", True)])
        with pytest.raises(MultiError) as raised:
            await store.multi(operation)
        assert type(raised.value.cause) is cause

    async def test_check_of_any_version_only_needs_the_node(self, server: Server) -> None:
        store = await server.open_session()
        await store.submit([Create("/t/a"), SetData("/t/a", b"x")])
        assert await store.multi(Check("/t/a", -1)) == (CheckResult(),)

    async def test_registration_in_two_operations_shows_the_data_at_version_one(self, server: Server) -> None:
        store = await server.open_session()
        _, result = await store.multi(Create("/t/1", None, True), SetData("/t/1", b"{}", 0))
        assert isinstance(result, SetDataResult)
        found = await store.get_data("/t/1")
        assert found.stat == result.stat
        assert (found.data, found.stat.version) == (b"{}", 1)
        assert found.stat.czxid == found.stat.mzxid

    async def test_sequential_create_inside_a_multi(self, server: Server) -> None:
        store = await server.open_session()
        first, second = await store.multi(Create("/t/n_", None, False, True), Create("/t/n_", None, False, True))
        assert (first, second) == (CreateResult("/t/n_0000000000"), CreateResult("/t/n_0000000001"))

    # Batches.

    async def test_batch_goes_on_after_a_failed_request(self, server: Server) -> None:
        store = await server.open_session()
        outcomes = await store.submit([
            Create("/t/a", b"0"), Create("/t/a"), Multi((Check("/t/a", 9), Create("/t/x"))), GetData("/t/a"),
            SetData("/t/a", b"1"), GetData("/t/a"), GetChildren("/t"), Exists("/t/x")])
        assert outcomes[0] == CreateResult("/t/a")
        assert isinstance(outcomes[1], NodeExistsError)
        assert isinstance(outcomes[2], MultiError)
        assert [outcome.data for outcome in outcomes if isinstance(outcome, GetDataResult)] == [b"0", b"1"]

    async def test_empty_batch_has_no_outcomes(self, server: Server) -> None:
        store = await server.open_session()
        assert await store.submit([]) == []

    async def test_batches_of_several_tasks_each_keep_their_order(self, server: Server) -> None:
        store = await server.open_session()
        outcomes: dict[int, list[Outcome]] = {}

        async def write(task: int) -> None:
            await store.create(f"/t/{task}", b"")
            outcomes[task] = await store.submit(
                [SetData(f"/t/{task}", b"%d" % number, number) for number in range(50)])

        async with trio.open_nursery() as nursery:
            for task in range(4):
                nursery.start_soon(write, task)
        for task in range(4):
            versions = [each.stat.version for each in outcomes[task] if isinstance(each, SetDataResult)]
            assert versions == list(range(1, 51))

    async def test_sessions_see_each_other(self, server: Server) -> None:
        store, other = await server.open_session(), await server.open_session()
        await store.create("/t/a", b"x")
        assert (await other.get_data("/t/a")).data == b"x"

    async def test_ensure_path_makes_what_is_missing(self, server: Server) -> None:
        store = await server.open_session()
        await store.ensure_path("/t/a/b/c")
        await store.ensure_path("/t/a/b/c")
        assert await store.get_children("/t/a/b") == ("c",)
        assert (await store.get_data("/t/a")).data is None

    # Watches.

    async def test_existence_watch_fires_on_creation(self, server: Server) -> None:
        store = await server.open_session()
        await store.exists("/t/a", watch=True)
        await store.create("/t/a")
        assert await next_event(store) == WatchEvent(EventType.NODE_CREATED, "/t/a")

    async def test_existence_and_data_watches_fire_on_data_and_deletion(self, server: Server) -> None:
        store = await server.open_session()
        await store.create("/t/a")
        await store.exists("/t/a", watch=True)
        await store.set_data("/t/a", b"1")
        assert await next_event(store) == WatchEvent(EventType.NODE_DATA_CHANGED, "/t/a")
        await store.get_data("/t/a", watch=True)
        await store.delete("/t/a")
        assert await next_event(store) == WatchEvent(EventType.NODE_DELETED, "/t/a")

    async def test_watches_are_one_shot(self, server: Server) -> None:
        store = await server.open_session()
        await store.create("/t/a")
        await store.get_data("/t/a", watch=True)
        await store.submit([SetData("/t/a", b"1"), SetData("/t/a", b"2")])
        assert await events_until(store, "/t/fence") == [("data changed", "/t/a")]

    async def test_reads_of_missing_nodes_leave_no_watch(self, server: Server) -> None:
        store = await server.open_session()
        await store.submit([GetData("/t/a", True), GetChildren("/t/a", True)])
        await store.submit([Create("/t/a"), Create("/t/a/b"), SetData("/t/a", b"x")])
        assert await events_until(store, "/t/fence") == []

    async def test_child_watch_fires_for_children_only(self, server: Server) -> None:
        store = await server.open_session()
        await store.submit([Create("/t/p"), Create("/t/p/a"), GetChildren("/t/p", True)])
        await store.submit([SetData("/t/p", b"x"), SetData("/t/p/a", b"x"), Create("/t/p/a/deeper")])
        assert await events_until(store, "/t/fence") == []
        await store.create("/t/p/b")
        assert await next_event(store) == WatchEvent(EventType.NODE_CHILDREN_CHANGED, "/t/p")

    async def test_child_watch_fires_on_deletion_of_the_node(self, server: Server) -> None:
        store = await server.open_session()
        await store.submit([Create("/t/p"), GetChildren("/t/p", True), Delete("/t/p")])
        assert await next_event(store) == WatchEvent(EventType.NODE_DELETED, "/t/p")

    async def test_data_watch_does_not_fire_for_children(self, server: Server) -> None:
        store = await server.open_session()
        await store.submit([Create("/t/p"), GetData("/t/p", True), Create("/t/p/a"), Delete("/t/p/a")])
        assert await events_until(store, "/t/fence") == []

    async def test_both_watches_of_a_deleted_node_give_one_event(self, server: Server) -> None:
        store = await server.open_session()
        await store.submit([Create("/t/p"), GetData("/t/p", True), GetChildren("/t/p", True),
                            Exists("/t/p", True), Delete("/t/p")])
        assert await events_until(store, "/t/fence") == [("deleted", "/t/p")]

    async def test_watch_armed_twice_gives_one_event(self, server: Server) -> None:
        store = await server.open_session()
        await store.submit([Create("/t/a"), Exists("/t/a", True), GetData("/t/a", True), SetData("/t/a", b"1")])
        assert await events_until(store, "/t/fence") == [("data changed", "/t/a")]

    async def test_events_come_in_the_order_of_the_changes(self, server: Server) -> None:
        store = await server.open_session()
        await store.submit([Create("/t/b"), Exists("/t/a", True), GetData("/t/b", True), GetChildren("/t", True)])
        await store.submit([SetData("/t/b", b"1"), Create("/t/a"), GetData("/t/b", True), Delete("/t/b")])
        seen = [await next_event(store) for _ in range(4)]
        assert [(event.type.value, event.path) for event in seen] == [
            ("data changed", "/t/b"), ("created", "/t/a"), ("children changed", "/t"), ("deleted", "/t/b")]

    async def test_multi_fires_for_each_of_its_operations_in_order(self, server: Server) -> None:
        store = await server.open_session()
        await store.submit([Create("/t/b"), Exists("/t/a", True), GetData("/t/b", True), GetChildren("/t", True)])
        await store.multi(SetData("/t/b", b"1"), Create("/t/a"), Delete("/t/b"))
        seen = [await next_event(store) for _ in range(3)]
        assert [(event.type.value, event.path) for event in seen] == [
            ("data changed", "/t/b"), ("created", "/t/a"), ("children changed", "/t")]

    async def test_failed_multi_fires_nothing(self, server: Server) -> None:
        store = await server.open_session()
        await store.submit([Create("/t/a"), GetData("/t/a", True), GetChildren("/t/a", True)])
        with pytest.raises(MultiError):
            await store.multi(SetData("/t/a", b"1"), Create("/t/a/b"), Check("/t/a", 9))
        assert await events_until(store, "/t/fence") == []

    async def test_watches_belong_to_their_session(self, server: Server) -> None:
        store, other = await server.open_session(), await server.open_session()
        await store.create("/t/a")
        await other.get_data("/t/a", watch=True)
        await store.set_data("/t/a", b"1")
        assert await next_event(other) == WatchEvent(EventType.NODE_DATA_CHANGED, "/t/a")
        assert await events_until(store, "/t/fence") == []

    async def test_change_can_be_read_when_its_event_arrives(self, server: Server) -> None:
        store, other = await server.open_session(), await server.open_session()
        await store.create("/t/a", b"0")
        await other.get_data("/t/a", watch=True)
        await store.set_data("/t/a", b"1")
        await next_event(other)
        assert (await other.get_data("/t/a")).data == b"1"
