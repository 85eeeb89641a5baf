"""AlterPartition (key 56) from another broker: a leader proposes another in-sync set.

Versions: 0 named AlterIsr; 1 leader recovery state; 2 topic ids; 3 in-sync replicas with broker epochs.
Decided and answered by the controller process (controller/), forwarded untouched; NOT_CONTROLLER while another
node leads.
Runs in: front end.
"""

from __future__ import annotations

from collections.abc import Awaitable

from broker.apis.forwarding import forward
from broker.apis.services import Services
from broker.network.connection import Request
from broker.protocol.frames import RequestHeader


def handle(services: Services, header: RequestHeader, request: Request) -> Awaitable[bytes]:
    return forward(services, header, request)
