"""CreateTopics (key 19): decided and answered by the controller process (controller/), forwarded untouched.

Versions: 0-1 deprecated but served; 4 broker defaults by -1; 5 flexible, configs in the answer;
6 strict mutation quota; 7 topic ids. Behaviours 24, 73, 74.
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
