"""What Ottla does with a key: honours it (some only in a cluster), takes it without effect, or refuses it.

The table names a reason by a word; this module holds the sentences. A key is `unused` only where setting it
changes nothing that a client or an operator could rely on: sizes of things that do not exist here, and
tuning of features that are off. Whatever would change meaning or security is `refused` instead.

PURE. Runs in: every process that reads a configuration.
"""
from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple


class Kind(Enum):
    EFFECTIVE = "effective"
    CLUSTERED = "clustered"
    UNUSED = "unused"
    REFUSED = "refused"


class Treatment(NamedTuple):
    """allowed_texts: of a refused key, what may be set besides the default (for a list: its items)."""

    kind: Kind
    reason: str = ""
    allowed_texts: tuple[str, ...] = ()

    def permits(self, value: Any, default: Any) -> bool:
        """Whether a refused key may have this value. Empty and unset are the same."""
        if value == default or value in ("", []):
            return True
        items = value if isinstance(value, list) else [value]
        return all(item in self.allowed_texts for item in items)


class Refusal(NamedTuple):
    why: str
    advice: str


NOT_CLUSTERED = "zookeeper.connect is not set, the node is alone and keeps its metadata in a file"

UNUSED_REASONS = {
    "conversion": "old record formats are not served in this version, with or without this key",
    "dynamic": "configuration cannot be changed while running in this version, so no stored password is read",
    "format": "records are always kept in format 2",
    "kraft": "Kafka too ignores this key without KRaft",
    "metrics": "there is no JMX and no Kafka metrics library here",
    "no-authentication": "there is no SSL or SASL listener that would read this key",
    "one-node": "partitions are not copied between brokers in this version",
    "pem": "PEM files of certificates have no password",
    "preallocate": "segment files grow as they are written",
    "purgatory": "waiting requests are removed at once, there is nothing to purge",
    "quotas": "no quota can be set in this version, so there is nothing to measure",
    "recompression": "batches are kept as the producer compressed them",
    "threads": "requests are served by an event loop and one process per log directory, not by thread pools",
    "tiered": "there is no tiered storage",
    "tokens": "there are no delegation tokens",
    "transactions": "transactions are not served in this version",
}

REFUSALS = {
    "authorizer": Refusal(
        "access control is not in this version yet, every client may do everything",
        "remove the line and guard the listeners by other means, such as a firewall",
    ),
    "class": Refusal(
        "Ottla runs no Java and cannot load this class",
        "remove the line",
    ),
    "connection-rate": Refusal(
        "limits on the rate of new connections are not in this version yet",
        "remove the line, or limit the rate outside the broker",
    ),
    "disk-reserve": Refusal(
        "a reserve on disk is not in this version yet",
        "set it to 0, or remove the line",
    ),
    "kraft": Refusal(
        "Ottla takes the place of Kafka in ZooKeeper mode and has neither KRaft nor what only KRaft offers",
        "remove the line",
    ),
    "quotas": Refusal(
        "client quotas are not in this version yet",
        "remove the line",
    ),
    "recompression": Refusal(
        "the broker does not change the compression of batches in this version",
        "use producer, or remove the line, and set compression.type on the producers",
    ),
    "tiered": Refusal(
        "there is no tiered storage",
        "set it to false, or remove the line",
    ),
    "tokens": Refusal(
        "delegation tokens are not in this version yet",
        "remove the line",
    ),
    "unstable": Refusal(
        "only released versions of Kafka's protocol are served",
        "set it to false, or remove the line",
    ),
    "validation": Refusal(
        "batches are checked by header and checksum, not yet record by record",
        "use header, or remove the line",
    ),
    "zookeeper-tls": Refusal(
        "TLS to ZooKeeper takes OpenSSL's own choice of ciphers and asks nobody about revoked certificates",
        "remove the line",
    ),
}


# For keys that hold for the node but not for one listener: listener.name.<listener>.<key>
PER_LISTENER_LIMITS = frozenset(
    {"max.connections", "max.connections.per.ip", "max.connections.per.ip.overrides"}
)
PER_LISTENER_REFUSAL = Refusal(
    "limits on connections hold for all listeners together in this version",
    "set the key without its listener.name prefix",
)


def parse_treatment(notation: str) -> Treatment:
    """`effective`, `clustered`, `unused:REASON`, `refused:REASON` or `refused:REASON:allowed|values`."""
    word, _, rest = notation.partition(":")
    reason, _, allowed = rest.partition(":")
    return Treatment(Kind(word), reason, tuple(allowed.split("|")) if allowed else ())
