"""Settings that all tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A test states no time bound: the first call of a compiled function may take a second, and machines differ.
settings.register_profile("ebbtide", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ebbtide")
