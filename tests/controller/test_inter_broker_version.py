"""What each inter-broker version switches."""
from __future__ import annotations

import pytest

from controller.inter_broker_version import InterBrokerFeatures, features_of


@pytest.mark.parametrize(("version", "expected"), [
    ("3.9", InterBrokerFeatures(5, 2, True, True)),
    ("3.3-IV0", InterBrokerFeatures(5, 2, True, True)),
    ("3.2", InterBrokerFeatures(5, 1, True, True)),
    ("3.1", InterBrokerFeatures(5, 1, True, False)),
    ("2.8-IV0", InterBrokerFeatures(5, 1, True, False)),
    ("2.7", InterBrokerFeatures(5, 1, False, False)),
    ("2.6", InterBrokerFeatures(4, 0, False, False)),
    ("0.10.0-IV0", InterBrokerFeatures(2, 0, False, False)),
])
def test_features(version: str, expected: InterBrokerFeatures) -> None:
    assert features_of(version) == expected
