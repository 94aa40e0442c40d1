"""A share of the seeds, for every change; `make simulate` runs ten thousand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.options import draw
from tests.simulation.world import World, run_seed

SEEDS = 160
CHUNK = 40
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("first", range(1, SEEDS + 1, CHUNK))
def test_every_promise_is_kept_under_faults(first: int) -> None:
    """`run_seed` raises ViolationError with the story of a seed that breaks a promise."""
    for seed in range(first, first + CHUNK):
        options = draw(seed)
        happened = run_seed(options)
        assert happened["records"] >= options.records, f"seed {seed} did not publish its records"


def test_a_seed_is_a_run_whatever_the_hashes_of_strings() -> None:
    program = (
        "from tests.simulation.options import draw\n"
        "from tests.simulation.world import World\n"
        "world = World(draw(7))\n"
        "world.run()\n"
        "print(world.digest())\n"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hashes},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hashes in ("1", "2")
    }
    assert len(digests) == 1


def test_options_say_what_a_seed_is() -> None:
    lines = list(draw(7).lines())
    assert lines[0] == "  seed: 7"
    assert any("marker_late" in line for seed in range(30) for line in draw(seed).lines())


def test_faults_are_left_out_by_most_seeds_and_none_by_all() -> None:
    drawn = [draw(seed) for seed in range(200)]
    for fault in ("crash_after", "end_delayed", "marker_late"):
        seeds = sum(fault in options.rates for options in drawn)
        assert 30 < seeds < 120
    assert any(not options.rates and not options.shocks for options in drawn)


def test_a_world_without_faults_is_quiet() -> None:
    options = draw(7)._replace(rates={}, shocks={})
    world = World(options)
    world.run()
    assert world.happened["crash_after"] == 0
    assert world.happened["records"] >= options.records
