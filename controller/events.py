"""What the controller's event loop reacts to, besides calls of the front end (`request_server.ApiCall`).

Runs in: controller. Plain data.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import trio

from controller.channel import Transport
from controller.metadata_store.interface import MetadataStore
from controller.metadata_store.operations import WatchEvent
from controller.request_batch import BrokerRequest


@dataclass(frozen=True, slots=True)
class WatchFired:
    """store: whose event it is; a session that has ended since does not count."""

    event: WatchEvent
    store: MetadataStore


@dataclass(frozen=True, slots=True)
class ConnectionBack:
    """The same session goes on; every watch is gone."""

    store: MetadataStore


@dataclass(frozen=True, slots=True)
class SessionRenewed:
    """A new session after the last one expired."""

    store: MetadataStore


@dataclass(frozen=True, slots=True)
class LookWanted:
    """The lease was interrupted: who holds it is to be found out."""


@dataclass(frozen=True, slots=True)
class BrokerAnswered:
    """response: of the class that belongs to the request."""

    broker_id: int
    request: BrokerRequest
    response: Any


@dataclass(frozen=True, slots=True)
class RegisterWanted:
    """The front end is ready. resume: it is registered already, with this epoch, if the session still lives.

    ports: real ports of listeners that were configured with port 0, by listener name.
    """

    resume: bool
    broker_epoch: int
    ports: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class FrontEndRestarted:
    """Fresh streams: to_broker for our requests, from_broker for the front end's. ports: as above."""

    to_broker: Transport
    from_broker: trio.abc.Stream
    ports: Mapping[str, int]
