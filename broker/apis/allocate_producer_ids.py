"""AllocateProducerIds (key 67) from another broker: a broker reserves a block of producer ids.

Versions: 0.
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
