"""Where Ottla answers otherwise than Kafka on purpose: the one list, a reason per row.

A row names steps and places in the answer by regular expressions (whole match). A difference that no row
explains fails its step; a row that explains nothing fails as well, so that the list never grows stale.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

CLOSED = "<closed>"


class Known(NamedTuple):
    """steps: of step names; path: of places in the answer, empty for the answer as a whole."""

    steps: str
    path: str
    reason: str


UNADVERTISED_PRODUCE = (
    "Produce 0-2 carry the formats before 0.11, which are not served yet; the versions are not advertised"
)
TRANSACTIONS = "transactions are not served yet"
KAFKA_FAILS = "Kafka fails on it (UNKNOWN_SERVER_ERROR, or an error by accident); Ottla names what is wrong"
TOLD = "Ottla tells why, where Kafka leaves the message out"
TRUSTED_HEADERS = "records are not decoded if checksum and header agree (ottla.validate.records=header)"

SERVED = r"API_VERSIONS v\d: what is served"
BROKER_CONFIGS = r"DESCRIBE_CONFIGS v\d: broker(, synonyms)?"
CONTROLLER_KEYS = "4|5|6|7|56|58|67"
GROUP_KEYS = "68|69"
TRANSACTION_KEYS = "24|25|26|27|28|61|65|66"
SECURITY_KEYS = "29|30|31|36|38|39|40|41|50|51"
ADMIN_KEYS = "21|33|34|43|44|45|46|48|49|57"

KNOWN: tuple[Known, ...] = (
    Known(SERVED, rf"\.api_keys\[({CONTROLLER_KEYS})\]", "other brokers and controllers are not served yet"),
    Known(SERVED, rf"\.api_keys\[({GROUP_KEYS})\]", "the new group protocol is refused by not being there"),
    Known(SERVED, rf"\.api_keys\[({TRANSACTION_KEYS})\]", "transactions are not served yet"),
    Known(SERVED, rf"\.api_keys\[({SECURITY_KEYS})\]", "security is not served yet"),
    Known(SERVED, rf"\.api_keys\[({ADMIN_KEYS})\]", "the wider admin APIs are not served yet"),
    Known(SERVED, r"\.finalized_features_epoch", "features are not kept; there are none in ZooKeeper mode"),
    Known(SERVED, r"\.api_keys\[[89]\]\.min_version", "offsets in ZooKeeper are not served"),
    Known(SERVED, r"\.api_keys\[[01]\]\.min_version",
          "Produce 0-2 and Fetch 0-3 carry the formats before 0.11, which are not served yet"),
    Known(r"METADATA v12: neither name nor id", r".*", KAFKA_FAILS),
    Known(r"CREATE_TOPICS v\d: recompressed", r".*",
          "recompression is not there yet, so topics that want it are refused"),
    Known(r"CREATE_TOPICS v\d: negative partition", r"\.topics\[.*\]\.error_(code|message)", KAFKA_FAILS),
    Known(r"CREATE_PARTITIONS v\d: (empty name|two dots)", r"\.results\[.*\]\.error_(code|message)", KAFKA_FAILS),
    Known(r"DELETE_TOPICS v6: both", r"\.responses\[.*\]\.error_message", TOLD),
    Known(r"DELETE_TOPICS v6: neither", r"\.responses\[None\]\.error_code", KAFKA_FAILS),
    Known(BROKER_CONFIGS, r"\.results\[1\]\.configs\[ottla\..*\]", "our own keys"),
    Known(BROKER_CONFIGS, r"\.results\[1\]\.configs\[zookeeper\.connect\]\.config_source",
          "Ottla runs on embedded metadata here, Kafka on ZooKeeper"),
    Known(r"DESCRIBE_CONFIGS v\d: documentation", r".*\.documentation",
          "Kafka's sentences are not ours to copy; whoever asks for documentation gets none"),
    Known(r"DESCRIBE_CONFIGS v\d: loggers(, synonyms)?", r".*", "there are no log4j loggers to describe"),
    Known(r"PRODUCE v[0-2]: (format [01]|nothing|short|length too small)", r".*", UNADVERTISED_PRODUCE),
    Known(r"PRODUCE v\d+: codec 5", r".*", KAFKA_FAILS),
    Known(r"PRODUCE v\d+: count and delta too (high|low)", r".*", TRUSTED_HEADERS),
    Known(r"PRODUCE v\d+: transactional( id)?", r".*", TRANSACTIONS),
    Known(r"PRODUCE v\d+: a partition twice", r".*",
          "both batches are appended and answered; Kafka drops the first without a word"),
    Known(r"PRODUCE v\d+: .*", r".*\.error_message", TOLD),
    Known(r"FETCH v[0-3]: .*", r".*",
          "Fetch 0-3 carry the formats before 0.11, which are not served yet; the versions are not advertised"),
)


def reason_for(step: str, path: str) -> Known | None:
    """The first row that covers a difference."""
    for row in KNOWN:
        if re.fullmatch(row.steps, step) and re.fullmatch(row.path, path):
            return row
    return None


def describe(step: str, path: str, ottla: Any, kafka: Any) -> str:
    return f"{step}{path}: Ottla {_short(ottla)}, Kafka {_short(kafka)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 200 else text[:200] + "..."
