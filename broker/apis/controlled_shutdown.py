"""ControlledShutdown (key 7) from another broker, which is about to stop: its leaderships are to be moved.

Versions: 0 without a client id in the header; 2 broker epoch; 3 flexible.
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
