from __future__ import annotations

import pytest

from tests.contract.rigs import KafkaRig, MemoryRig, MockRig, Rig

KAFKA = pytest.param("kafka", marks=pytest.mark.kafka)
CLASSIC = pytest.param("classic", marks=pytest.mark.kafka)


def _make(name: str) -> Rig:
    if name == "memory":
        return MemoryRig()
    if name == "mock":
        return MockRig()
    return KafkaRig(name, {"group.protocol": "classic" if name == "classic" else "consumer"})


@pytest.fixture(params=["memory", "mock", KAFKA])
def any_rig(request: pytest.FixtureRequest) -> Rig:
    """Every broker: for records, keys, headers and offsets."""
    return _make(request.param)


@pytest.fixture(params=["memory", KAFKA])
def rig(request: pytest.FixtureRequest) -> Rig:
    """Every broker that keeps transactions: for all the rest."""
    return _make(request.param)


@pytest.fixture(params=["memory", KAFKA, CLASSIC])
def group_rig(request: pytest.FixtureRequest) -> Rig:
    """Every broker, by both protocols of groups."""
    return _make(request.param)
