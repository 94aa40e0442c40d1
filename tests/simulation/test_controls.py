"""The simulator sees a broken protocol: each control is caught by a seed that finds nothing without it."""

from __future__ import annotations

import pytest

from tests.simulation.controls import CONTROLS, SEEDS_MAX
from tests.simulation.options import draw
from tests.simulation.truth import ViolationError
from tests.simulation.world import run_seed

#: The first seed that catches each, as `make controls` prints them.
CAUGHT_BY = {
    "restore-offsets-but-not-rows": 1,
    "outputs-outside-the-transaction": 4,
    "commit-on-lost": 13,
    "skip-fencing": 26,
    "read-user-state-to-its-end": 142,
    "rows-without-through": 3,
}


@pytest.mark.parametrize(("control", "seed"), CAUGHT_BY.items())
def test_a_broken_protocol_is_caught(control: str, seed: int) -> None:
    with CONTROLS[control](), pytest.raises(ViolationError):
        run_seed(draw(seed))
    run_seed(draw(seed))


def test_every_control_is_tried_within_its_seeds() -> None:
    assert CAUGHT_BY.keys() == CONTROLS.keys() - {"none"}
    assert max(CAUGHT_BY.values()) <= SEEDS_MAX
