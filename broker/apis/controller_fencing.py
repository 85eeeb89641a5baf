"""The checks that every request of a controller passes first (inter-broker facts, 2).

Runs in: front end. The state is the services'.
"""

from __future__ import annotations

import logging
from typing import Any

from broker.apis.services import Services
from broker.protocol.errors import ErrorCode

log = logging.getLogger(__name__)

ANY_BROKER_EPOCH = -1


def fence(services: Services, asked: Any) -> ErrorCode:
    """STALE_BROKER_EPOCH, STALE_CONTROLLER_EPOCH or NONE; remembers the highest controller epoch seen."""
    if asked.broker_epoch != ANY_BROKER_EPOCH and asked.broker_epoch < services.broker_epoch:
        log.info("%s of controller %d is for broker epoch %d, this is %d", type(asked).__name__,
                 asked.controller_id, asked.broker_epoch, services.broker_epoch)  # fmt: skip
        return ErrorCode.STALE_BROKER_EPOCH
    if asked.controller_epoch < services.roles.controller_epoch:
        log.warning("%s of controller %d has controller epoch %d, %d is known", type(asked).__name__,
                    asked.controller_id, asked.controller_epoch, services.roles.controller_epoch)  # fmt: skip
        return ErrorCode.STALE_CONTROLLER_EPOCH
    services.roles.controller_epoch = asked.controller_epoch
    return ErrorCode.NONE
