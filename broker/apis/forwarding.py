"""Requests that the cluster's controller answers: handed to the controller process as they came.

What: CreateTopics, DeleteTopics and CreatePartitions of this node's clients go over the private stream; on
a node that does not lead the cluster the controller process answers NOT_CONTROLLER, as Kafka does.
Why they are decoded first: the controller process closes a stream on which something malformed comes, and with
it everybody's admin requests; a malformed one must end with its client's own connection.
Runs in: front end, in the connection's own task (nothing else of that connection starts meanwhile).
"""

from __future__ import annotations

from broker.apis.services import Services
from broker.client.controller_link import ControllerUnavailableError
from broker.network.connection import CloseConnectionError, Request
from broker.protocol.frames import RequestHeader, decode_request


async def forward(services: Services, header: RequestHeader, request: Request) -> bytes:
    """The controller's frame. An unknown outcome closes the connection: the client asks again and sees."""
    decode_request(header.api_key, header.api_version, request.view, header.body_position, request.end)
    try:
        return await services.controller.forward(request.view[request.start : request.end])
    except ControllerUnavailableError as error:
        raise CloseConnectionError(f"outcome unknown: {error}") from error
