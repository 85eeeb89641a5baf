"""ApiVersions (key 18): which APIs and versions this listener serves.

Versions: 1 throttle time; 3 flexible, client software name and version, features; 4 no change for a broker.
The answer's header is always v0 (behaviour 1). An unsupported version is answered in v0 with error 35 and
ApiVersions' own range, its body unparsed (behaviour 2). Bad software names: INVALID_REQUEST, the connection
stays (behaviour 3).
Runs in: front end.
"""

from __future__ import annotations

import re

from broker.apis.ledger import advertised
from broker.apis.services import Services
from broker.network.connection import Answer, Request
from broker.protocol.api_keys import API_SPECS, ApiKey
from broker.protocol.errors import ErrorCode
from broker.protocol.frames import RequestHeader, decode_request, encode_response
from broker.protocol.messages import response_class

ApiVersionsResponse = response_class(ApiKey.API_VERSIONS)
FIRST_VERSION_WITH_SOFTWARE = 3

_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


def handle(services: Services, header: RequestHeader, request: Request) -> Answer:
    version = header.api_version
    own = API_SPECS[ApiKey.API_VERSIONS]
    if not own.min_version <= version <= own.max_version:
        entries = [_entry(ApiKey.API_VERSIONS, (own.min_version, own.max_version))]
        refusal = ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION, api_keys=entries)
        return encode_response(ApiKey.API_VERSIONS, 0, header.correlation_id, refusal)
    asked = decode_request(ApiKey.API_VERSIONS, version, request.view, header.body_position, request.end)
    if version >= FIRST_VERSION_WITH_SOFTWARE:
        name, software_version = asked.client_software_name, asked.client_software_version
        if not _SOFTWARE.fullmatch(name) or not _SOFTWARE.fullmatch(software_version):
            refusal = ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST)
            return encode_response(ApiKey.API_VERSIONS, version, header.correlation_id, refusal)
        request.connection.client_software = (name, software_version)
    ranges = advertised(embedded=services.config.embedded)
    answer = ApiVersionsResponse(api_keys=[_entry(key, versions) for key, versions in ranges.items()])
    return encode_response(ApiKey.API_VERSIONS, version, header.correlation_id, answer)


def _entry(key: ApiKey, versions: tuple[int, int]) -> object:
    return ApiVersionsResponse.ApiVersion(api_key=key, min_version=versions[0], max_version=versions[1])
