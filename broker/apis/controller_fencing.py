"""The checks that every request of a controller passes first (inter-broker facts, 2). Pure but for services."""

from __future__ import annotations

from typing import Any

from broker.apis.services import Services
from broker.protocol.errors import ErrorCode

ANY_BROKER_EPOCH = -1


def fence(services: Services, asked: Any) -> ErrorCode:
    """STALE_BROKER_EPOCH, STALE_CONTROLLER_EPOCH or NONE; remembers the highest controller epoch seen."""
    if asked.broker_epoch != ANY_BROKER_EPOCH and asked.broker_epoch < services.broker_epoch:
        return ErrorCode.STALE_BROKER_EPOCH
    if asked.controller_epoch < services.roles.controller_epoch:
        return ErrorCode.STALE_CONTROLLER_EPOCH
    services.roles.controller_epoch = asked.controller_epoch
    return ErrorCode.NONE
