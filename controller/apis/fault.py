"""A request, or one topic of it, that cannot be served: Kafka's code and a sentence for the client (PURE)."""
from __future__ import annotations

from broker.protocol.errors import ErrorCode


class ApiFault(Exception):
    """code: what the client gets. message: None where the code says all."""

    def __init__(self, code: ErrorCode, message: str | None = None) -> None:
        super().__init__(message or code.name)
        self.code = code
        self.message = message
