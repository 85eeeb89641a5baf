"""Requests that the cluster's controller answers: handed to the controller process as they came.

What: admin requests of clients, and what brokers ask of the controller, go over the private stream; on a node
that does not lead the cluster the controller process answers NOT_CONTROLLER, as Kafka does.
Why they are decoded first: the controller process closes a stream on which something malformed comes, and with
it everybody's admin requests; a malformed one must end with its client's own connection.
Why one client id is not passed on: it marks what this broker itself asks for, which goes on to the node that
leads with this broker's rights.
Runs in: front end, in the connection's own task (nothing else of that connection starts meanwhile).
"""

from __future__ import annotations

from broker.apis.services import Services
from broker.client.controller_link import OWN_REQUESTS, ControllerUnavailableError
from broker.network.connection import CloseConnectionError, Request
from broker.protocol.frames import SIZE_PREFIX_BYTES, RequestHeader, decode_request, encode_request


async def forward(services: Services, header: RequestHeader, request: Request) -> bytes:
    """The controller's frame. An unknown outcome closes the connection: the client asks again and sees."""
    asked = decode_request(
        header.api_key, header.api_version, request.view, header.body_position, request.end
    )
    frame = request.view[request.start : request.end]
    if header.client_id == OWN_REQUESTS:
        anonymous = encode_request(header.api_key, header.api_version, header.correlation_id, "", asked)
        frame = memoryview(anonymous)[SIZE_PREFIX_BYTES:]
    try:
        return await services.controller.forward(frame)
    except ControllerUnavailableError as error:
        raise CloseConnectionError(f"outcome unknown: {error}") from error
