"""InitProducerId (key 22): a producer id and epoch 0 for an idempotent producer.

Versions: 2 flexible; 3 epoch bump with (id, epoch); 4 PRODUCER_FENCED; 5 TRANSACTION_ABORTABLE. Without a
transactional id Kafka always gives a new id, whatever id the client names (behaviour 67).
Transactional ids are not served yet: UNSUPPORTED_VERSION, so that nobody believes in a transaction.
Runs in: front end.
"""

from __future__ import annotations

from broker.apis.services import Services
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

InitProducerIdResponse = response_class(ApiKey.INIT_PRODUCER_ID)
NONE = -1
"""No producer id, no epoch: both or neither."""


def handle(services: Services, header: RequestHeader, request: Request) -> Answer:
    version = header.api_version
    asked = decode_request(
        ApiKey.INIT_PRODUCER_ID, version, request.view, header.body_position, request.end
    )
    producer_id, epoch, error = -1, -1, ErrorCode.NONE
    if asked.transactional_id == "" or (asked.producer_id == NONE) != (asked.producer_epoch == NONE):
        error = ErrorCode.INVALID_REQUEST
    elif asked.transactional_id is not None:
        error = ErrorCode.UNSUPPORTED_VERSION
    else:
        allocated = services.producer_ids.next_id()
        if allocated is None:
            error = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        else:
            producer_id, epoch = allocated, 0
    answer = InitProducerIdResponse(error_code=int(error), producer_id=producer_id, producer_epoch=epoch)
    return encode_response(ApiKey.INIT_PRODUCER_ID, version, header.correlation_id, answer)
