"""The event loop through lost connections, lost answers, expired sessions and deadlines, on a virtual clock."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing

from broker.client.controller_link import OWN_REQUESTS
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import message_class
from controller import znodes
from controller.cluster import ReplicaAssignment, TopicPartition
from controller.lease import LeaseState
from controller.metadata_store.errors import ConnectionLossError
from controller.metadata_store.operations import Exists, Outcome, Request
from controller.own_registration import WAIT_MARGIN_SECONDS
from controller.registration import RegistrationRefusedError
from controller.session_keeper import READS_PER_SESSION_TIMEOUT
from controller.znodes import ConfigChange
from tests.controller.faulty_store import SESSION_TIMEOUT_MS, FaultyStore, is_write
from tests.controller.loop_world import LoopNode, LoopWorld, loop_world

pytestmark = pytest.mark.trio
Virtual = trio.testing.MockClock
S = LeaseState
TIMEOUT_SECONDS = SESSION_TIMEOUT_MS / 1000


async def leader(world: LoopWorld) -> LoopNode:
    node = await world.node()
    await node.wait_for_state(S.LEADING)
    return node


def told(node: LoopNode) -> list[ApiKey]:
    return [key for key, _ in node.front_end.requests]


def create_request(topic: str) -> Any:
    request = message_class("CreateTopicsRequest")
    return request(topics=[request.CreatableTopic(name=topic, num_partitions=1, replication_factor=1)])


async def written_by_a_tool(world: LoopWorld, topic: str) -> None:
    assignment = znodes.TopicAssignment(bytes(15) + b"t", {0: ReplicaAssignment((1,))})
    await world.hand.create(znodes.topic_path(topic), znodes.encode_topic(assignment))


async def override(world: LoopWorld, topic: str, config: dict[str, str]) -> None:
    path = znodes.config_path(znodes.TOPIC_CONFIGS, topic)
    await world.hand.ensure_path(path)
    await world.hand.set_data(path, znodes.encode_config(config))
    await world.hand.create(f"{znodes.CONFIG_CHANGES}/{znodes.CONFIG_CHANGE_PREFIX}", sequential=True,
                            data=znodes.encode_config_change(ConfigChange(znodes.TOPIC_CONFIGS, topic)))


def overrides_told(node: LoopNode) -> dict[str, dict[str, str]]:
    """As the front end has them."""
    return {resource.resource_name: {config.name: config.value for config in resource.configs}
            for key, request in node.front_end.requests if key is ApiKey.ALTER_CONFIGS
            for resource in request.resources}


# Suspended


async def test_lost_connection_suspends_at_once_and_nothing_is_written_or_told(autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        node = await leader(world)
        node.store.disconnect()
        node.writes.clear()
        node.front_end.requests.clear()
        await trio.testing.wait_all_tasks_blocked()
        assert node.loop.lease_state is S.SUSPENDED
        assert (await node.front_end.create_topic("t")).error_code == ErrorCode.NOT_CONTROLLER
        await trio.sleep(1)
        assert (node.writes, told(node)) == ([], [])


async def test_leader_goes_on_in_the_same_epoch_and_tells_everything_again(autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        node = await leader(world)
        assert (await node.front_end.create_topic("before")).error_code == ErrorCode.NONE
        node.store.disconnect()
        await written_by_a_tool(world, "meanwhile")
        await trio.sleep(1)
        node.front_end.requests.clear()
        node.store.reconnect()
        await node.wait_until_told("meanwhile")
        await node.wait_until_told("before")
        assert (node.loop.lease_state, node.loop.controller_epoch, world.epoch()) == (S.LEADING, 1, 1)
        assert node.registered == [node.registered[0]]
        assert {request.controller_epoch for key, request in node.front_end.requests
                if key is not ApiKey.ALTER_CONFIGS} == {1}


async def test_watches_are_armed_again_after_a_reconnection(autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        node = await leader(world)
        node.store.disconnect()
        node.store.reconnect()
        await trio.testing.wait_all_tasks_blocked()
        await written_by_a_tool(world, "afterwards")
        await node.wait_until_told("afterwards")


async def test_many_losses_one_after_the_other_are_one_office(autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        node = await leader(world)
        for _ in range(5):
            node.store.disconnect()
            await trio.sleep(0.5)
            node.store.reconnect()
            node.store.disconnect()
            node.store.reconnect()
            await trio.testing.wait_all_tasks_blocked()
        await node.wait_for_state(S.LEADING)
        assert world.epoch() == 1


async def test_office_that_was_deleted_meanwhile_is_stood_for_under_the_next_epoch(autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        node = await leader(world)
        node.store.disconnect()
        await world.hand.delete(znodes.CONTROLLER)
        await trio.testing.wait_all_tasks_blocked()
        node.store.reconnect()
        await node.wait_for_state(S.LEADING)
        assert (node.loop.controller_epoch, world.epoch(), world.holder()) == (2, 2, 1)


async def test_office_that_another_node_took_meanwhile_is_given_up(autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        node = await leader(world)
        node.store.disconnect()
        await world.hand.delete(znodes.CONTROLLER)
        other = await world.node(2)
        await other.wait_for_state(S.LEADING)
        node.store.reconnect()
        await node.wait_for_state(S.STANDBY)
        assert (node.loop.controller_epoch, world.holder()) == (0, 2)


async def test_loss_without_any_word_of_it_is_found_out_by_the_periodic_read(autojump_clock: Virtual) -> None:
    """A single request fails; the store says nothing of its connection."""
    async with loop_world() as world:
        node = await leader(world)
        store, submit = node.store, node.store.submit
        failures = [True]

        async def fail_once(requests: list[Request]) -> list[Outcome]:
            if failures and any(not isinstance(request, Exists) for request in requests):
                failures.pop()
                raise ConnectionLossError(reason="no answer in time")
            return await submit(requests)

        store.submit = fail_once  # type: ignore[method-assign,assignment]
        assert (await node.front_end.create_topic("t")).error_code == ErrorCode.NOT_CONTROLLER
        assert node.loop.lease_state is S.SUSPENDED
        with trio.fail_after(TIMEOUT_SECONDS):
            await node.wait_for_state(S.LEADING)
        assert (await node.front_end.create_topic("t")).error_code == ErrorCode.NONE


# Lost answers


async def create_and_delete(node: LoopNode) -> None:
    """Tried until it is done, as a client would."""
    for act, done in ((node.front_end.create_topic, ErrorCode.TOPIC_ALREADY_EXISTS),
                      (node.front_end.delete_topic, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)):
        while (await act("t")).error_code not in (ErrorCode.NONE, done):
            await trio.sleep(0.1)


async def count_batches() -> int:
    async with loop_world() as world:
        node = await leader(world)
        before = node.store.batches
        await create_and_delete(node)
        return node.store.batches - before


@pytest.mark.parametrize("answered", range(45))
async def test_answer_that_is_lost_anywhere_in_a_procedure_is_made_good(
        answered: int, autojump_clock: Virtual) -> None:
    """The n-th batch takes effect, its answer and the connection are lost; half a second later it is back."""
    async with loop_world() as world:
        node = await leader(world)
        node.store.answer_limit = answered

        async def reconnect() -> None:
            while True:
                await trio.sleep(0.5)
                if not node.store.is_connected:
                    node.store.reconnect()

        world.nursery.start_soon(reconnect)
        with trio.fail_after(60):
            await create_and_delete(node)
            while (await node.front_end.create_topic("kept")).error_code not in (
                    ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
                await trio.sleep(0.1)
            await trio.sleep(5)
        assert await world.hand.get_children(znodes.TOPICS) == ("kept",)
        assert await world.hand.get_children(znodes.DELETE_TOPICS) == ()
        assert await world.hand.get_children("/config/topics") == ("kept",)
        state = znodes.decode_partition_state(
            TopicPartition("kept", 0), world.data(znodes.partition_state_path("kept", 0)), 0)
        assert (state.leader, world.epoch(), world.holder()) == (1, 1, 1)


async def test_the_lost_answers_above_reach_through_the_whole_story(autojump_clock: Virtual) -> None:
    assert 10 < await count_batches() < 45


@pytest.mark.parametrize("answered", range(20))
async def test_answer_that_is_lost_during_start_registration_or_election_is_made_good(
        answered: int, autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        node = LoopNode(world, 1)
        node.store.answer_limit = answered

        async def reconnect() -> None:
            while True:
                await trio.sleep(0.5)
                if not node.store.is_connected:
                    node.store.reconnect()

        world.nursery.start_soon(reconnect)
        await node.start()
        await node.wait_for_state(S.LEADING)
        assert (await node.front_end.create_topic("t")).error_code == ErrorCode.NONE
        assert len(node.registered) == 1
        assert (world.holder(), world.epoch()) == (1, node.loop.controller_epoch)


# The deadline


async def test_quiet_leader_keeps_its_lease_by_reading(autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        node = await leader(world)
        await trio.sleep(20 * TIMEOUT_SECONDS)
        assert (node.loop.lease_state, node.loop.controller_epoch) == (S.LEADING, 1)


async def test_standby_asks_the_store_nothing(autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        await leader(world)
        standby = await world.node(2)
        await trio.testing.wait_all_tasks_blocked()
        batches = standby.store.batches
        await trio.sleep(20 * TIMEOUT_SECONDS)
        assert standby.store.batches == batches


@pytest.mark.parametrize("is_busy", [False, True])
async def test_silent_store_ends_the_office_before_its_session_could_end(
        is_busy: bool, autojump_clock: Virtual) -> None:
    """Black hole: nothing says that the connection is gone; a procedure may be waiting in it."""
    async with loop_world() as world:
        node = await leader(world)
        await trio.sleep(TIMEOUT_SECONDS / READS_PER_SESSION_TIMEOUT * 3 + 0.01)
        silent_since = trio.current_time()
        node.store.hold()
        if is_busy:
            await node.front_end.send(ApiKey.CREATE_TOPICS, 7, create_request("t"))
            await trio.testing.wait_all_tasks_blocked()
        await node.wait_for_state(S.STANDBY)
        assert trio.current_time() - silent_since < 0.9 * TIMEOUT_SECONDS + 0.02
        assert node.loop.controller_epoch == 0
        node.writes.clear()
        node.front_end.requests.clear()
        node.store.holds.set()
        await node.wait_for_state(S.LEADING)
        assert node.loop.controller_epoch == 2
        assert all(request.controller_epoch == 2 for key, request in node.front_end.requests
                   if key is not ApiKey.ALTER_CONFIGS)


async def test_suspended_leader_gives_up_at_the_deadline_and_stands_again_later(autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        node = await leader(world)
        node.store.disconnect()
        await node.wait_for_state(S.STANDBY)
        await trio.sleep(TIMEOUT_SECONDS)
        node.store.reconnect()
        await node.wait_for_state(S.LEADING)
        assert (node.loop.controller_epoch, world.epoch()) == (2, 2)


async def test_paused_leader_writes_nothing_once_woken(autojump_clock: Virtual) -> None:
    """Stopped in the middle of a procedure: its clock has run on, its timers have not."""
    async with loop_world() as world:
        node = await leader(world)
        writes: list[Request] = []

        def pause(requests: Sequence[Request]) -> None:
            node.clock_offset_ns = SESSION_TIMEOUT_MS * 1_000_000
            writes.extend(request for request in requests if is_write(request))
            if world.holder() is None or node.loop.lease_state is not S.LEADING:
                node.store.on_submit = lambda requests: None

        node.store.on_submit = pause
        assert (await node.front_end.create_topic("t")).error_code == ErrorCode.NOT_CONTROLLER
        assert (writes, world.data(znodes.topic_path("t"))) == ([], None)
        await node.wait_for_state(S.LEADING)
        assert node.loop.controller_epoch == 2


# Expired


async def test_expired_session_is_replaced_and_the_broker_registered_anew_unasked(autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        node = await leader(world)
        assert (await node.front_end.create_topic("t")).error_code == ErrorCode.NONE
        node.renewals_refused = 3
        old = node.store
        node.front_end.requests.clear()
        old.expire()
        await trio.testing.wait_all_tasks_blocked()
        assert node.loop.lease_state is S.EXPIRED
        await node.wait_for_state(S.LEADING)
        assert node.store is not old
        assert len(node.registered) == 2
        assert node.registered[0] < node.registered[1]
        assert (node.loop.controller_epoch, world.holder()) == (2, 1)
        await node.wait_until_told("t")
        assert node.loop.session == node.store.session


async def test_new_session_is_tried_for_until_there_is_one_with_one_line(
        caplog: pytest.LogCaptureFixture, autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        node = await leader(world)
        node.renewals_refused = 1000
        node.store.expire()
        await trio.sleep(500)
        assert node.loop.lease_state is S.EXPIRED
        assert (await node.front_end.create_topic("t")).error_code == ErrorCode.NOT_CONTROLLER
        node.renewals_refused = 0
        with trio.fail_after(1.5):
            await node.wait_for_state(S.LEADING)
        assert len([line for line in caplog.messages if "no new session yet" in line]) == 1


async def test_node_that_was_replaced_while_its_session_expired_stands_by_and_takes_over_later(
        autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        first = await leader(world)
        second = await world.node(2)
        await trio.testing.wait_all_tasks_blocked()
        first.renewals_refused = 3
        first.store.expire()
        await second.wait_for_state(S.LEADING)
        await trio.sleep(2)
        assert (first.loop.lease_state, second.loop.controller_epoch) == (S.STANDBY, 2)
        second.renewals_refused = 3
        second.store.expire()
        await first.wait_for_state(S.LEADING)
        assert (first.loop.controller_epoch, world.holder()) == (3, 1)


async def test_expiry_of_all_at_once_leaves_one_leader_and_everybody_registered(autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        nodes = [await world.node(broker_id) for broker_id in (1, 2, 3)]
        await nodes[0].wait_for_state(S.LEADING)
        await trio.testing.wait_all_tasks_blocked()
        for node in nodes:
            node.store.expire()
        await trio.sleep(1)
        states = [node.loop.lease_state for node in nodes]
        assert sorted(state.name for state in states) == ["LEADING", "STANDBY", "STANDBY"]
        assert sorted(await world.hand.get_children(znodes.BROKER_IDS)) == ["1", "2", "3"]
        assert [len(node.registered) for node in nodes] == [2, 2, 2]


async def test_session_that_expires_during_the_start_is_replaced(autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        node = LoopNode(world, 1)
        node.store.expire()
        await node.start()
        await node.wait_for_state(S.LEADING)
        assert len(node.registered) == 1


# Configuration


@pytest.mark.parametrize("how", ["reconnect", "expire"])
async def test_overrides_that_changed_while_the_store_was_away_are_told(how: str, autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        node = await world.node()
        await override(world, "changed", {"retention.ms": "1"})
        await override(world, "removed", {"retention.ms": "1"})
        await node.wait_for_state(S.LEADING)
        await trio.testing.wait_all_tasks_blocked()
        assert overrides_told(node) == {"changed": {"retention.ms": "1"}, "removed": {"retention.ms": "1"}}
        node.store.disconnect()
        await override(world, "changed", {"retention.ms": "2"})
        await override(world, "removed", {})
        if how == "reconnect":
            node.store.reconnect()
        else:
            node.store.expire()
        await trio.sleep(1)
        assert overrides_told(node) == {"changed": {"retention.ms": "2"}, "removed": {}}


@pytest.mark.parametrize("answered", range(5))
async def test_change_of_configuration_survives_a_lost_answer(answered: int, autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        await leader(world)
        standby = await world.node(2)
        await trio.testing.wait_all_tasks_blocked()
        standby.store.answer_limit = answered
        await override(world, "t", {"retention.ms": "7"})
        await trio.testing.wait_all_tasks_blocked()
        standby.store.answer_limit = None
        if not standby.store.is_connected:
            standby.store.reconnect()
        await trio.sleep(1)
        assert overrides_told(standby) == {"t": {"retention.ms": "7"}}


# Registration


async def registered_elsewhere(world: LoopWorld) -> FaultyStore:
    """Our id, in a session of which we know nothing."""
    other = world.server.session()
    data = znodes.encode_broker((), None, 0, 5)
    await other.create(znodes.broker_path(1), data, ephemeral=True)
    return other


async def test_own_stale_registration_is_waited_out_with_a_line_that_says_so(
        caplog: pytest.LogCaptureFixture, autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        stale = await registered_elsewhere(world)
        node = await world.node()
        await trio.sleep(5)
        assert node.registered == []
        assert "waiting for it, at most 12 s" in caplog.text
        assert f"session {stale.session.id:#x}" in caplog.text
        stale.expire()
        await node.wait_for_state(S.LEADING)
        assert len(node.registered) == 1


async def test_another_live_broker_with_our_id_is_refused_after_the_time_out(autojump_clock: Virtual) -> None:
    with pytest.RaisesGroup(RegistrationRefusedError, flatten_subgroups=True):
        async with loop_world() as world:
            await registered_elsewhere(world)
            node = await world.node()
            began = trio.current_time()
            try:
                await trio.sleep(60)
            finally:
                waited = trio.current_time() - began
                assert TIMEOUT_SECONDS < waited < TIMEOUT_SECONDS + WAIT_MARGIN_SECONDS + 1
                assert node.registered == []


async def test_another_session_that_takes_the_id_while_we_wait_is_refused_at_once(autojump_clock: Virtual) -> None:
    with pytest.RaisesGroup(RegistrationRefusedError, flatten_subgroups=True):
        async with loop_world() as world:
            stale = await registered_elsewhere(world)
            node = await world.node()
            await trio.sleep(1)
            node.store.disconnect()
            stale.expire()
            await registered_elsewhere(world)
            node.store.reconnect()
            with trio.fail_after(2):
                await trio.sleep_forever()


async def test_every_demand_of_the_supervisor_is_answered_though_the_store_was_away(
        autojump_clock: Virtual) -> None:
    """A front end that starts again twice while nothing can be registered: two demands, two answers."""
    async with loop_world() as world:
        node = await leader(world)
        node.store.disconnect()
        await trio.testing.wait_all_tasks_blocked()
        node.restart_front_end()
        await trio.sleep(0.1)
        node.restart_front_end()
        await trio.sleep(0.1)
        assert len(node.registered) == 1
        node.store.reconnect()
        await node.wait_for_state(S.LEADING)
        assert len(node.registered) == 3
        assert node.registered[0] < node.registered[1] == node.registered[2]
        assert (await node.front_end.create_topic("t")).error_code == ErrorCode.NONE


async def test_without_a_front_end_nobody_stands(autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        node = await world.node(register=False)
        node.store.disconnect()
        node.store.reconnect()
        await trio.testing.wait_all_tasks_blocked()
        node.store.expire()
        await trio.sleep(2)
        assert (node.loop.lease_state, world.holder(), node.registered) == (S.STANDBY, None, [])


# Forwarding


async def test_own_request_is_forwarded_to_the_node_that_leads_and_a_client_s_refused(
        autojump_clock: Virtual) -> None:
    wanted = create_request("t")
    async with loop_world() as world:
        await leader(world)
        standby = await world.node(2)
        await trio.testing.wait_all_tasks_blocked()
        assert (await standby.front_end.create_topic("t")).error_code == ErrorCode.NOT_CONTROLLER
        await standby.front_end.send(ApiKey.CREATE_TOPICS, 7, wanted, client_id=OWN_REQUESTS)
        await trio.testing.wait_all_tasks_blocked()
        ((call, controller_id, endpoint),) = standby.forwarded
        assert (call.api_key, controller_id, endpoint.port) == (ApiKey.CREATE_TOPICS, 1, 9092)


async def test_wait_for_a_stale_session_begins_anew_when_the_store_was_away(autojump_clock: Virtual) -> None:
    """A restarted ZooKeeper gives every session its whole time-out again."""
    async with loop_world() as world:
        stale = await registered_elsewhere(world)
        node = await world.node()
        await trio.sleep(8)
        node.store.disconnect()
        await trio.sleep(1)
        node.store.reconnect()
        await trio.sleep(8)
        stale.expire()
        await node.wait_for_state(S.LEADING)


async def test_overrides_of_topics_that_others_made_are_told_before_office_is_taken(
        autojump_clock: Virtual) -> None:
    """As a controller that died before its LeaderAndIsr leaves them: without a notification."""
    async with loop_world() as world:
        node = await leader(world)
        standby = await world.node(2)
        await trio.testing.wait_all_tasks_blocked()
        await world.hand.create("/config/topics/t", znodes.encode_config({"retention.ms": "3"}))
        node.renewals_refused = 10
        node.store.expire()
        await standby.wait_for_state(S.LEADING)
        keys = told(standby)
        assert overrides_told(standby) == {"t": {"retention.ms": "3"}}
        assert keys.index(ApiKey.ALTER_CONFIGS) < keys.index(ApiKey.UPDATE_METADATA)


# Nodes that somebody wrote by hand


async def test_unreadable_controller_node_is_somebody_s_until_it_goes(autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        await world.hand.create(znodes.CONTROLLER, b"me", ephemeral=True)
        node = await world.node()
        await trio.sleep(5)
        assert node.loop.lease_state is S.STANDBY
        await world.hand.delete(znodes.CONTROLLER)
        await node.wait_for_state(S.LEADING)


async def test_unreadable_epoch_elects_nobody_until_it_is_repaired(autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        await world.hand.create(znodes.CONTROLLER_EPOCH, b"seven")
        node = await world.node()
        await trio.sleep(5)
        assert world.holder() is None
        await world.hand.set_data(znodes.CONTROLLER_EPOCH, b"7")
        await node.wait_for_state(S.LEADING)
        assert node.loop.controller_epoch == 8


async def test_deleted_epoch_node_ends_the_office_and_the_next_begins(autojump_clock: Virtual) -> None:
    async with loop_world() as world:
        node = await leader(world)
        await world.hand.delete(znodes.CONTROLLER_EPOCH)
        assert (await node.front_end.create_topic("t")).error_code == ErrorCode.NOT_CONTROLLER
        await node.wait_for_state(S.LEADING)
        assert (world.holder(), world.epoch()) == (1, 1)
