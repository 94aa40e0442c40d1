"""The core without its compiler: the same code as plain Python gives the same files, and no warning."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.generators import Stream, clicks
from tests.generators_edges import ties, walk
from tests.generators_settings import NAMED
from tests.programs import run_replay

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import sys
from pathlib import Path
import numba
from tests.generators_settings import NAMED
from tests.programs import run_replay
assert numba.config.DISABLE_JIT
folder = Path(sys.argv[1])
data = (folder / "input.jsonl").read_bytes()
run_replay(data, NAMED[sys.argv[2]], folder, batch_records_max=50, timers_max=3)
"""


@pytest.mark.parametrize("config", ["hasty", "trailing"])
def test_uncompiled_code_gives_the_same_files(config: str, tmp_path: Path) -> None:
    settings = NAMED[config]
    streams = [generator(random.Random(5), settings, 150) for generator in (walk, ties, clicks)]
    data = Stream([line for stream in streams for line in stream.records]).data
    folders = {name: tmp_path / name for name in ("compiled", "uncompiled")}
    for folder in folders.values():
        folder.mkdir()
    run_replay(data, settings, folders["compiled"], batch_records_max=50, timers_max=3)
    (folders["uncompiled"] / "input.jsonl").write_bytes(data)
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(folders["uncompiled"]), config],
        cwd=ROOT,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    for name in ("lifecycle.jsonl", "churn-alerts.jsonl", "dead-letters.jsonl", "users.jsonl"):
        compiled, plain = ((folder / "out" / name).read_bytes() for folder in folders.values())
        assert compiled == plain, name
        assert compiled, name
