"""What the controller's event loop reacts to, besides calls of the front end (`request_server.ApiCall`).

Runs in: controller. Plain data.
"""
from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.metadata_store.operations import WatchEvent
from controller.request_batch import BrokerRequest


@dataclass(frozen=True, slots=True)
class WatchFired:
    event: WatchEvent


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

    to_broker: socket.socket
    from_broker: socket.socket
    ports: Mapping[str, int]
