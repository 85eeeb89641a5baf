"""The strokes that a plan can hold, each with its end, and the mending of everything.

Runs in: the test process, in callbacks of the timeline.
"""
from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import trio

from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.messages import message_class
from controller import znodes
from controller.cluster import ReplicaAssignment
from controller.metadata_store.operations import Create, Delete, Request, SetData
from controller.znodes import ConfigChange, TopicAssignment
from tests.controller.simulation.history import LeaderLost
from tests.controller.simulation.plan import LEADER, Stroke

if TYPE_CHECKING:
    from tests.controller.simulation.node import Node
    from tests.controller.simulation.world import World

TOPICS = ("a", "b", "c", "d")
CREATE_TOPICS_VERSION = 7
DELETE_TOPICS_VERSION = 5
RESTART_AFTER_KILL_SECONDS = 0.3
TRAP_ACTS_MAX = 8
STORM_OVER_SECONDS = 2.0


def _topic_of(stroke: Stroke) -> str:
    return random.Random(stroke.number).choice(TOPICS)


class Strokes:
    def __init__(self, world: World) -> None:
        self._world = world
        self._deleted = {_topic_of(stroke) for stroke in world.plan.strokes
                         if stroke.kind in ("delete_topic", "call_delete_topic")}

    def falling(self, stroke: Stroke) -> Callable[[], None]:
        def fall() -> None:
            victim = self._victim(stroke)
            self._world.note(f"{stroke.kind} node {victim.id} for {stroke.seconds:.2f} s")
            getattr(self, stroke.kind)(victim, stroke)
        return fall

    def _victim(self, stroke: Stroke) -> Node:
        if stroke.victim == LEADER:
            leader = self._world.leader()
            return leader if leader is not None else self._world.nodes[1 + stroke.number % len(self._world.nodes)]
        return self._world.nodes[stroke.victim]

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        self._world.timeline.after(seconds, what)

    def _strikes_leader(self, victim: Node, stroke: Stroke) -> None:
        """If it lasts until the servers end the session."""
        world = self._world
        ends_at = world.ensemble.latest_end_after(trio.current_time() + 0.1, world.plan.session_timeout_ms)
        if victim.is_leading and victim.holds_office and victim.link.is_quick and not victim.is_stopped \
                and trio.current_time() + stroke.seconds > ends_at:
            world.history.add(LeaderLost(trio.current_time(), victim.id, ends_at, stroke.kind))

    # Nodes

    def stop(self, victim: Node, stroke: Stroke) -> None:
        self._strikes_leader(victim, stroke)
        victim.stop()
        self._later(stroke.seconds, victim.wake)

    def stop_at_work(self, victim: Node, stroke: Stroke) -> None:
        """Between two of the acts that a new topic gives it to do; at times a broker is out of its reach."""
        if stroke.number % 2:
            unreachable = self._world.nodes[1 + stroke.number % len(self._world.nodes)]
            unreachable.door.link.cut()
            self._later(stroke.seconds, unreachable.door.link.heal)
        self.create_topic(victim, stroke)
        self.call_create_topic(victim, stroke)
        victim.trap(1 + stroke.number % TRAP_ACTS_MAX, lambda: self.stop(victim, stroke))

    def kill_node(self, victim: Node, stroke: Stroke) -> None:
        """At times its successor resumes the session, which was kept in a file."""
        self._strikes_leader(victim, stroke)
        kept = victim.session if stroke.number % 2 else None
        victim.kill(with_front_end=True)
        self._later(stroke.seconds, lambda: victim.start(kept))

    def kill_controller(self, victim: Node, stroke: Stroke) -> None:
        kept = victim.session
        victim.kill(with_front_end=False)
        self._later(RESTART_AFTER_KILL_SECONDS, lambda: victim.start(kept))

    def restart_front_end(self, victim: Node, stroke: Stroke) -> None:
        victim.restart_front_end()

    def cut(self, victim: Node, stroke: Stroke) -> None:
        self._strikes_leader(victim, stroke)
        victim.link.cut()
        self._later(stroke.seconds, victim.heal_link)

    def black_hole(self, victim: Node, stroke: Stroke) -> None:
        self._strikes_leader(victim, stroke)
        victim.link.black_hole()
        self._later(stroke.seconds, victim.heal_link)

    def flap(self, victim: Node, stroke: Stroke) -> None:
        """The connection is reset, and can be made again at once."""
        victim.link.cut()
        victim.heal_link()

    def storm(self, victim: Node, stroke: Stroke) -> None:
        victim.link.storm = True
        self._later(stroke.seconds, victim.heal_link)

    def cut_from_peers(self, victim: Node, stroke: Stroke) -> None:
        victim.door.link.cut()
        self._later(stroke.seconds, victim.door.link.heal)

    def expire(self, victim: Node, stroke: Stroke) -> None:
        world = self._world
        session = None if victim.session is None else world.ensemble.session(victim.session.id)
        if session is not None and world.ensemble.is_serving:
            world.ensemble.end_session(session, "ended by an operator")

    # Servers

    def expire_all(self, victim: Node, stroke: Stroke) -> None:
        for node in self._world.nodes.values():
            self.expire(node, stroke)

    def expire_in_turn(self, victim: Node, stroke: Stroke) -> None:
        def falling(node: Node) -> Callable[[], None]:
            return lambda: self.expire(node, stroke)

        for number, node in enumerate(self._world.nodes.values()):
            self._later(number * stroke.seconds / 3, falling(node))

    def stop_servers(self, victim: Node, stroke: Stroke) -> None:
        """All, or the leading one of several: nobody serves until there is another."""
        ensemble = self._world.ensemble
        ensemble.stop()
        self._later(stroke.seconds, ensemble.start)

    def stop_one_server(self, victim: Node, stroke: Stroke) -> None:
        servers = self._world.ensemble.servers
        server = servers[stroke.number % len(servers)]
        server.stop()
        self._later(stroke.seconds, lambda: server.start() if self._world.ensemble.is_serving else None)

    def slow_server(self, victim: Node, stroke: Stroke) -> None:
        server = random.Random(stroke.number).choice(self._world.ensemble.servers)
        server.is_behind = True

        def recovered() -> None:
            server.is_behind = False

        self._later(stroke.seconds, recovered)

    def delete_controller(self, victim: Node, stroke: Stroke) -> None:
        """How operators make another node lead."""
        self._world.write(Delete(znodes.CONTROLLER))

    def depose_at_work(self, victim: Node, stroke: Stroke) -> None:
        """It hears of it late, and has something to do meanwhile."""
        victim.link.storm = True
        self._later(STORM_OVER_SECONDS, victim.heal_link)
        for number in range(stroke.number, stroke.number + 3):
            self.call_create_topic(victim, replace(stroke, number=number))
        self._later(random.Random(stroke.number).uniform(0, STORM_OVER_SECONDS),
                    lambda: self.delete_controller(victim, stroke))

    # Topics

    def create_topic(self, victim: Node, stroke: Stroke) -> None:
        """As old tools do: configuration first, then the node."""
        draw = random.Random(stroke.number)
        topic = draw.choice(TOPICS)
        if self._world.data(znodes.topic_path(topic)) is not None:
            return
        partitions = {number: self._replicas(draw) for number in range(draw.randint(1, 3))}
        topic_id = draw.randbytes(16) if draw.random() < 0.5 else None
        requests: list[Request] = []
        if draw.random() < 0.5:
            requests.append(self._config(topic, draw))
        assignment = TopicAssignment(topic_id, partitions)
        self._world.write(*requests, Create(znodes.topic_path(topic), znodes.encode_topic(assignment)))

    def add_partitions(self, victim: Node, stroke: Stroke) -> None:
        draw = random.Random(stroke.number)
        topic = draw.choice(TOPICS)
        data = self._world.data(znodes.topic_path(topic))
        if data is None:
            return
        assignment = znodes.decode_topic(topic, data)
        partitions = dict(assignment.partitions)
        partitions[len(partitions)] = self._replicas(draw)
        self._world.write(SetData(znodes.topic_path(topic),
                                  znodes.encode_topic(TopicAssignment(assignment.topic_id, partitions))))

    def delete_topic(self, victim: Node, stroke: Stroke) -> None:
        topic = _topic_of(stroke)
        if self._world.data(znodes.topic_path(topic)) is not None:
            self._world.write(Create(znodes.delete_topic_path(topic)))

    def configure_topic(self, victim: Node, stroke: Stroke) -> None:
        draw = random.Random(stroke.number)
        topic = draw.choice(TOPICS)
        if self._world.data(znodes.topic_path(topic)) is None:
            return
        self._world.write(self._config(topic, draw), Create(
            f"{znodes.CONFIG_CHANGES}/{znodes.CONFIG_CHANGE_PREFIX}",
            znodes.encode_config_change(ConfigChange(znodes.TOPIC_CONFIGS, topic)), sequential=True))

    def _config(self, topic: str, draw: random.Random) -> Request:
        return self._world.set_or_create(znodes.config_path(znodes.TOPIC_CONFIGS, topic),
                                         znodes.encode_config({"retention.ms": str(draw.randint(1, 10**6))}))

    def _replicas(self, draw: random.Random) -> ReplicaAssignment:
        ids = sorted(self._world.nodes)
        return ReplicaAssignment(tuple(draw.sample(ids, draw.randint(1, len(ids)))))

    def call_create_topic(self, victim: Node, stroke: Stroke) -> None:
        def answered(response: Any) -> None:
            for topic in response.topics:
                if topic.error_code == ErrorCode.NONE and topic.name not in self._deleted:
                    self._world.acknowledged[topic.name] = bytes(topic.topic_id)

        draw = random.Random(stroke.number)
        request = message_class("CreateTopicsRequest")
        victim.call(ApiKey.CREATE_TOPICS, CREATE_TOPICS_VERSION, request(timeout_ms=1000, topics=[
            request.CreatableTopic(name=draw.choice(TOPICS), num_partitions=draw.randint(1, 3),
                                   replication_factor=1, configs=[])]), answered)

    def call_delete_topic(self, victim: Node, stroke: Stroke) -> None:
        victim.call(ApiKey.DELETE_TOPICS, DELETE_TOPICS_VERSION, message_class("DeleteTopicsRequest")(
            topic_names=[_topic_of(stroke)], timeout_ms=1000))

    # The end

    def mend_everything(self) -> None:
        world = self._world
        world.note("everything is mended")
        for server in world.ensemble.servers:
            server.is_behind = False
        if not world.ensemble.is_serving:
            world.ensemble.start()
        for server in world.ensemble.servers:
            if not server.is_up:
                server.start()
        for node in world.nodes.values():
            node.wake()
            node.heal_link()
            node.door.link.heal()
            node.start()
