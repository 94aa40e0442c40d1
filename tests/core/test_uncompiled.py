"""The core without its compiler: the same code as plain Python gives the same files, and no warning."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.generators import clicks
from tests.generators_edges import spenders, ties, walk
from tests.generators_settings import NAMED
from tests.programs import run_replay

ROOT = Path(__file__).resolve().parents[2]

GENERATORS = (walk, ties, clicks, spenders)

PROGRAM = """
import sys
from pathlib import Path
import numba
from tests.generators_settings import NAMED
from tests.programs import run_replay
assert numba.config.DISABLE_JIT
for folder in map(Path, sys.argv[2:]):
    data = (folder / "input.jsonl").read_bytes()
    run_replay(data, NAMED[sys.argv[1]], folder, batch_records_max=50, timers_max=3)
"""


@pytest.mark.parametrize("config", ["hasty", "trailing"])
def test_uncompiled_code_gives_the_same_files(config: str, tmp_path: Path) -> None:
    settings = NAMED[config]
    plain = [tmp_path / f"plain-{generator.__name__}" for generator in GENERATORS]
    compiled = [tmp_path / f"compiled-{generator.__name__}" for generator in GENERATORS]
    for generator, *folders in zip(GENERATORS, plain, compiled, strict=True):
        data = generator(random.Random(5), settings, 150).data
        for folder in folders:
            folder.mkdir()
            (folder / "input.jsonl").write_bytes(data)
        run_replay(data, settings, folders[1], batch_records_max=50, timers_max=3)
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, config, *map(str, plain)],
        cwd=ROOT,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    for one, other in zip(plain, compiled, strict=True):
        for name in ("lifecycle.jsonl", "churn-alerts.jsonl", "dead-letters.jsonl", "users.jsonl"):
            assert (one / "out" / name).read_bytes() == (other / "out" / name).read_bytes(), (one.name, name)
