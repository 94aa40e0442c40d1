"""A short share of the chaos; `make chaos` runs it for longer."""

from __future__ import annotations

import pytest

from tests.kafka.broker import REASON, kafka_home
from tests.kafka.chaos import run

pytestmark = pytest.mark.kafka


@pytest.mark.timeout(900)
def test_two_minutes_of_chaos_lose_double_and_change_nothing() -> None:
    if kafka_home() is None:
        pytest.skip(REASON)
    assert run(seed=1, minutes=2.0) == 0
