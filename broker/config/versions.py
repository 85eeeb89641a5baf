"""Kafka's inter-broker protocol versions, as far as configuration needs them: which texts name one, which
record format each can carry, and from which on `log.message.format.version` is ignored.

PURE. Runs in: every process that reads a configuration.
"""
from __future__ import annotations

# In Kafka's order; "-IVn" counts changes inside a release. 4.0 exists in 3.9 but is not for production,
# therefore only its full names are known and "4.0" alone is not.
_VERSIONS = (
    "0.8.0", "0.8.1", "0.8.2", "0.9.0", "0.10.0-IV0", "0.10.0-IV1", "0.10.1-IV0", "0.10.1-IV1",
    "0.10.1-IV2", "0.10.2-IV0", "0.11.0-IV0", "0.11.0-IV1", "0.11.0-IV2", "1.0-IV0", "1.1-IV0", "2.0-IV0",
    "2.0-IV1", "2.1-IV0", "2.1-IV1", "2.1-IV2", "2.2-IV0", "2.2-IV1", "2.3-IV0", "2.3-IV1", "2.4-IV0",
    "2.4-IV1", "2.5-IV0", "2.6-IV0", "2.7-IV0", "2.7-IV1", "2.7-IV2", "2.8-IV0", "2.8-IV1", "3.0-IV0",
    "3.0-IV1", "3.1-IV0", "3.2-IV0", "3.3-IV0", "3.3-IV1", "3.3-IV2", "3.3-IV3", "3.4-IV0", "3.5-IV0",
    "3.5-IV1", "3.5-IV2", "3.6-IV0", "3.6-IV1", "3.6-IV2", "3.7-IV0", "3.7-IV1", "3.7-IV2", "3.7-IV3",
    "3.7-IV4", "3.8-IV0", "3.9-IV0", "4.0-IV0", "4.0-IV1",
)
_INDEX = {name: index for index, name in enumerate(_VERSIONS)}
_LATEST_PRODUCTION = _INDEX["3.9-IV0"]
# A bare release means the last of its versions.
_NAMED = _INDEX | {name.partition("-")[0]: _INDEX[name] for name in _VERSIONS[: _LATEST_PRODUCTION + 1]}

FORMAT_IGNORED_FROM = _INDEX["3.0-IV1"]
SASL_HANDSHAKE_FROM = _INDEX["0.10.0-IV1"]
_FORMAT_1_FROM = _INDEX["0.10.0-IV0"]
_FORMAT_2_FROM = _INDEX["0.11.0-IV0"]


def version_index(text: str) -> int | None:
    """Where the named version stands in the order, None if no version is named so. `3.9.1` means `3.9`."""
    segments = text.split(".")
    while segments and not segments[-1]:
        segments.pop()
    kept = 3 if text.startswith("0.") else 2
    return _NAMED.get(".".join(segments[:kept]) if len(segments) > kept else text)


def canonical_version(index: int) -> str:
    return _VERSIONS[index]


def record_format(index: int) -> int:
    """The newest record format (magic) that brokers of that version know: 0, 1 or 2."""
    return 2 if index >= _FORMAT_2_FROM else int(index >= _FORMAT_1_FROM)
