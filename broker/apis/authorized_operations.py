"""The authorized-operations bit fields of Metadata and DescribeCluster.

Without an authoriser everybody may do everything: every operation that the resource type supports. Bit n is
the AclOperation with code n. Pure.
"""

from __future__ import annotations

NOT_REQUESTED = -(2**31)

_CREATE, _ALTER, _DESCRIBE, _CLUSTER_ACTION = 5, 7, 8, 9
_READ, _WRITE, _DELETE = 3, 4, 6
_DESCRIBE_CONFIGS, _ALTER_CONFIGS, _IDEMPOTENT_WRITE = 10, 11, 12


def _bits(*codes: int) -> int:
    return sum(1 << code for code in codes)


TOPIC_OPERATIONS = _bits(
    _READ, _WRITE, _CREATE, _DELETE, _ALTER, _DESCRIBE, _DESCRIBE_CONFIGS, _ALTER_CONFIGS
)
CLUSTER_OPERATIONS = _bits(
    _CREATE, _ALTER, _DESCRIBE, _CLUSTER_ACTION, _DESCRIBE_CONFIGS, _ALTER_CONFIGS, _IDEMPOTENT_WRITE
)
GROUP_OPERATIONS = _bits(_READ, _DELETE, _DESCRIBE)
