"""What `inter.broker.protocol.version` decides for the controller (PURE).

Runs in: controller. Made once at start.
"""
from __future__ import annotations

from dataclasses import dataclass

from broker.config.versions import version_index

FEATURE_NODE_DISABLED = 0


@dataclass(frozen=True, slots=True)
class InterBrokerFeatures:
    """broker_node_version, feature_node_version: JSON versions of those nodes; the feature node is
    written as disabled where its version is FEATURE_NODE_DISABLED."""

    broker_node_version: int
    feature_node_version: int
    uses_topic_ids: bool
    recovery_state_supported: bool


def features_of(version: str) -> InterBrokerFeatures:
    """version: as configured, already validated."""
    def at_least(other: str) -> bool:
        index, other_index = version_index(version), version_index(other)
        assert index is not None and other_index is not None
        return index >= other_index

    return InterBrokerFeatures(
        broker_node_version=5 if at_least("2.7-IV0") else 4 if at_least("0.10.0-IV1") else 2,
        feature_node_version=2 if at_least("3.3-IV0") else 1 if at_least("2.7-IV0") else FEATURE_NODE_DISABLED,
        uses_topic_ids=at_least("2.8-IV0"),
        recovery_state_supported=at_least("3.2-IV0"),
    )
