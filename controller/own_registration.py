"""Keeping this broker registered: what was demanded, what has to be made anew, what has to be waited for.

A registration is *due* from the moment a front end wants it, or the session that held it has expired, until
the store has confirmed it; a lost connection in between leaves it due. While the node with our id belongs to
another session, that may be one of our own that nobody ended (`kill -9` of everything, and no kept session):
it is waited out. Kafka refuses to start there. A session that lives on beyond the time-out, or another one
that takes its place, is another broker's.

Runs in: controller (trio). Owner: the event loop.
"""
from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping

import trio

from broker.config.kafka_config import KafkaConfig
from controller import registration, znodes
from controller.cluster import Endpoint
from controller.inter_broker_version import features_of
from controller.registration import IdTakenError, RegistrationRefusedError
from controller.store_access import StoreAccess

_log = logging.getLogger(__name__)

WAIT_MARGIN_SECONDS = 3.0
"""A ZooKeeper server ends sessions at its ticks (2 s): one that was just seen may live that much longer."""


class OwnRegistration:
    """on_registered: told the broker epoch, once for each demand, and once if nobody had asked."""

    def __init__(self, access: StoreAccess, broker_id: int, config: KafkaConfig,
                 on_registered: Callable[[int], None], wall_clock_ms: Callable[[], int]) -> None:
        self._access = access
        self._broker_id = broker_id
        self._config = config
        self._on_registered = on_registered
        self._wall_clock_ms = wall_clock_ms
        self._ports: Mapping[str, int] = {}
        self._demands = 0
        self._front_end_is_there = False
        self._resumable_epoch: int | None = None
        # (session that has our id, when its time is over on trio's clock)
        self._waited_for: tuple[int, float] | None = None
        self.is_due = False

    @property
    def is_made(self) -> bool:
        return self._front_end_is_there and not self.is_due

    def demand(self, ports: Mapping[str, int], resumable_epoch: int | None = None) -> None:
        """A front end is there. resumable_epoch: it serves under this one already."""
        self._ports = ports or self._ports
        self._demands += 1
        self._front_end_is_there = True
        self._resumable_epoch = resumable_epoch
        self.is_due = True

    def session_ended(self) -> None:
        self.is_due = self._front_end_is_there
        self._resumable_epoch = None

    def wait_anew(self) -> None:
        """The connection is back: a store that was restarted gives every session its whole time-out again."""
        if self._waited_for is not None:
            self._waited_for = self._waited_for[0], trio.current_time() + self._wait_seconds()

    def _wait_seconds(self) -> float:
        return (self._access.session_timeout_ms or 0) / 1000 + WAIT_MARGIN_SECONDS

    def is_concerned_by(self, path: str) -> bool:
        """A watch on this path fired: is it worth another attempt?"""
        return self._waited_for is not None and path == znodes.broker_path(self._broker_id)

    async def attempt(self) -> None:
        """Register if it is due. RegistrationRefusedError when another live broker stands in the way."""
        if not self.is_due:
            return
        waited_for, is_over = self._waited_for, trio.current_time() >= self.wait_ends_at
        self._waited_for = None
        try:
            epoch = await self._make()
        except IdTakenError as taken:
            self._judge(taken, waited_for, is_over)
            return
        self.is_due = False
        demands, self._demands = self._demands, 0
        for _ in range(demands or 1):
            self._on_registered(epoch)

    async def _make(self) -> int:
        known = self._resumable_epoch
        if known is not None and await registration.resume(self._access, self._broker_id, known):
            _log.info("broker %d is still registered with epoch %d", self._broker_id, known)
            return known
        endpoints = tuple(
            Endpoint(listener.name, listener.security_protocol, listener.host,
                     listener.port or self._ports.get(listener.name, 0))
            for listener in self._config.advertised_listeners)
        version = features_of(self._config["inter.broker.protocol.version"]).broker_node_version
        data = znodes.encode_broker(endpoints, self._config["broker.rack"], self._wall_clock_ms(), version)
        epoch = await registration.register_anew(self._access, self._broker_id, endpoints, data)
        _log.info("broker %d is registered with epoch %d", self._broker_id, epoch)
        return epoch

    def _judge(self, taken: IdTakenError, waited_for: tuple[int, float] | None, is_over: bool) -> None:
        if self._access.session_timeout_ms is None or is_over:
            raise taken
        if waited_for is None:
            wait_seconds = self._wait_seconds()
            _log.warning(
                "broker.id %d is still registered by session %#x (%s), which is not ours (%#x). If an earlier run "
                "of this broker was killed, that session ends by itself: waiting for it, at most %.0f s. If "
                "another broker has this id, stop one of them", self._broker_id, taken.owner, taken.described,
                self._access.session.id, wait_seconds)
            waited_for = taken.owner, trio.current_time() + wait_seconds
        elif taken.owner != waited_for[0]:
            raise RegistrationRefusedError(
                f"broker.id {self._broker_id} is taken: while session {waited_for[0]:#x} was waited for, session "
                f"{taken.owner:#x} has registered ({taken.described}). Another broker runs with this id: stop it, "
                "or give this one a broker.id of its own and the log directories that belong to it")
        self._waited_for = waited_for

    @property
    def wait_ends_at(self) -> float:
        """On trio's clock; infinite while nothing is waited for."""
        return math.inf if self._waited_for is None else self._waited_for[1]
