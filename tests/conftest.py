"""Settings that all tests share, and which run in one process where there are several (pytest-xdist)."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# A test states no time bound: the first call of a compiled function may take a second, and machines differ.
settings.register_profile("ebbtide", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ebbtide")


@pytest.hookimpl(tryfirst=True)  # before the plugin reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests together, for what they make once; and all that start brokers, which wait a lot.

    Those go first: the other processes take the files meanwhile.
    """
    items.sort(key=lambda item: not item.get_closest_marker("kafka"))
    for item in items:
        group = "kafka" if item.get_closest_marker("kafka") else item.location[0]
        item.add_marker(pytest.mark.xdist_group(group))
