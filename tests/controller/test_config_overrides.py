"""Overrides: read at start, kept by notifications, told as complete resources."""
from __future__ import annotations

from typing import Any

from controller import identity, znodes
from controller.config_overrides import NOTIFICATION_AGE_MS_MAX, RESOURCES_PER_REQUEST_MAX, ConfigOverrides
from controller.metadata_store.operations import Create, Delete, SetData
from controller.request_batch import BrokerRequest
from controller.znodes import ConfigChange
from tests.controller.memory_store import NOW_MS, MemoryServer, MemoryStore, run


def prepared(**entities: dict[str, str]) -> tuple[MemoryServer, MemoryStore, ConfigOverrides]:
    """entities: `topics_name` = overrides."""
    server = MemoryServer()
    store = server.session()
    run(identity.ensure_paths(store))
    for entity, config in entities.items():
        write(store, *entity.split("_"), config)
    return server, store, ConfigOverrides(1)


def write(store: MemoryStore, entity_type: str, entity: str, config: dict[str, str]) -> None:
    path = znodes.config_path(entity_type, entity)
    run(store.submit([Create(path), SetData(path, znodes.encode_config(config))]))


def notify(store: MemoryStore, entity_type: str, entity: str) -> None:
    run(store.create(f"{znodes.CONFIG_CHANGES}/config_change_", sequential=True,
                     data=znodes.encode_config_change(ConfigChange(entity_type, entity))))


def resources(requests: list[BrokerRequest]) -> list[tuple[int, str, dict[str, str]]]:
    return [(resource.resource_type, resource.resource_name,
             {config.name: config.value for config in resource.configs})
            for request in requests for resource in request.message.resources]


def changes(overrides: ConfigOverrides, store: MemoryStore) -> tuple[Any, list[str]]:
    requests, problems = run(overrides.read_changes(store, NOW_MS))
    return resources(requests), problems


def test_everything_that_concerns_this_broker_is_told_at_the_start() -> None:
    _, store, overrides = prepared(topics_t={"a": "1"}, topics_plain={}, brokers_1={"b": "2"},
                                   brokers_2={"c": "3"})
    write(store, "brokers", "<default>", {"d": "4"})
    assert run(overrides.read_all(store)) == []
    assert resources(overrides.requests_for_all()) == [
        (4, "", {"d": "4"}), (4, "1", {"b": "2"}), (2, "t", {"a": "1"})]


def test_nothing_to_tell_is_no_request() -> None:
    _, store, overrides = prepared(topics_plain={})
    run(overrides.read_all(store))
    assert overrides.requests_for_all() == []


def test_very_many_topics_are_split() -> None:
    _, _, overrides = prepared()
    overrides.topics = {str(number): {"a": "1"} for number in range(RESOURCES_PER_REQUEST_MAX + 1)}
    sizes = [len(request.message.resources) for request in overrides.requests_for_all()]
    assert sizes == [RESOURCES_PER_REQUEST_MAX, 1]


def test_changes_are_told_in_order_once_each_and_removals_as_empty() -> None:
    _, store, overrides = prepared(topics_t={"a": "1"}, topics_u={"a": "1"})
    run(overrides.read_all(store))
    write(store, "topics", "t", {"a": "2"})
    write(store, "topics", "u", {})
    for entity in ("u", "t", "u"):
        notify(store, "topics", entity)
    notify(store, "brokers", "2")
    notify(store, "users", "x")
    assert changes(overrides, store) == ([(2, "u", {}), (2, "t", {"a": "2"})], [])
    assert overrides.topics == {"t": {"a": "2"}}
    assert changes(overrides, store) == ([], [])


def test_deleted_configuration_is_told_as_empty() -> None:
    _, store, overrides = prepared(topics_t={"a": "1"})
    run(overrides.read_all(store))
    run(store.submit([Delete("/config/topics/t")]))
    notify(store, "topics", "t")
    assert changes(overrides, store) == ([(2, "t", {})], [])


def test_notifications_from_before_the_start_are_covered_by_the_start() -> None:
    _, store, overrides = prepared(topics_t={"a": "1"})
    notify(store, "topics", "t")
    run(overrides.read_all(store))
    assert changes(overrides, store) == ([], [])


def test_watch_is_armed_at_the_start_and_after_each_change() -> None:
    _, store, overrides = prepared()
    run(overrides.read_all(store))
    for _ in range(2):
        notify(store, "topics", "t")
        assert store.next_event() is not None
        changes(overrides, store)


def test_unreadable_notifications_and_overrides_are_reported_and_passed_over() -> None:
    _, store, overrides = prepared(topics_t={"a": "1"})
    run(overrides.read_all(store))
    run(store.create(f"{znodes.CONFIG_CHANGES}/config_change_", sequential=True, data=b"{"))
    run(store.submit([SetData("/config/topics/t", b"{")]))
    notify(store, "topics", "t")
    requests, problems = changes(overrides, store)
    assert requests == [(2, "t", {"a": "1"})]
    assert len(problems) == 2


def test_old_notifications_are_removed_by_whoever_reads() -> None:
    server, store, overrides = prepared()
    run(overrides.read_all(store))
    server.now_ms = NOW_MS - NOTIFICATION_AGE_MS_MAX - 1
    notify(store, "topics", "old")
    server.now_ms = NOW_MS
    notify(store, "topics", "new")
    changes(overrides, store)
    assert sorted(server.tree.children(znodes.CONFIG_CHANGES)) == ["config_change_0000000001"]


def test_notification_numbers_compare_as_numbers() -> None:
    _, store, overrides = prepared()
    run(overrides.read_all(store))
    data = znodes.encode_config_change(ConfigChange("topics", "t"))
    for name in ("config_change_9", "config_change_10"):
        run(store.create(f"{znodes.CONFIG_CHANGES}/{name}", data))
        assert changes(overrides, store) == ([(2, "t", {})], [])


def test_new_topics_are_told_and_gone_ones_forgotten() -> None:
    _, _, overrides = prepared()
    assert resources(overrides.topics_appeared({"t": {"a": "1"}})) == [(2, "t", {"a": "1"})]
    assert resources(overrides.topics_went(["t", "without"])) == [(2, "t", {})]
    assert overrides.topics == {}


def test_lost_answer_leaves_what_was_known_and_makes_the_next_reading_complete() -> None:
    server, store, overrides = prepared(topics_t={"a": "1"}, topics_gone={"b": "2"})
    run(overrides.read_all(store))
    write(store, "topics", "t", {"a": "2"})
    run(store.delete("/config/topics/gone"))
    overrides.must_be_read_anew()
    assert changes(overrides, store) == ([(2, "gone", {}), (2, "t", {"a": "2"})], [])
    assert changes(overrides, store) == ([], [])


def test_refreshing_tells_only_what_is_new() -> None:
    _, store, overrides = prepared(topics_t={"a": "1"}, topics_gone={"b": "2"}, brokers_1={"c": "3"})
    run(overrides.read_all(store))
    write(store, "topics", "new", {"d": "4"})
    run(store.delete("/config/topics/gone"))
    requests, problems = run(overrides.refresh(store))
    assert (resources(requests), problems) == ([(2, "gone", {}), (2, "new", {"d": "4"})], [])
    assert overrides.topics == {"t": {"a": "1"}, "new": {"d": "4"}}
