"""DeleteTopics (key 20): decided and answered by the controller process (controller/), forwarded untouched.

Versions: 1-5 by name; 4 flexible; 5 error message; 6 by topic id. Behaviour 75.
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
