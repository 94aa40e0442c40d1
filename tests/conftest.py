"""Settings that all tests share, and which run in one process where there are several (pytest-xdist)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

# A test states no time bound: the first call of a compiled function may take a second, and machines differ.
settings.register_profile("ebbtide", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ebbtide")


class Together(LoadScopeScheduling):
    """A file's tests stay together, for what they make once; and so do all that start brokers."""

    def _split_scope(self, nodeid: str) -> str:
        brokers = nodeid.startswith("tests/kafka/") or "[kafka" in nodeid or "[classic" in nodeid
        return "brokers" if brokers else nodeid.split("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    return Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with those that start brokers: they wait a lot, and other processes take the rest meanwhile."""
    items.sort(key=lambda item: not item.get_closest_marker("kafka"))
