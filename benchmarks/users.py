"""What an event costs, and what a user weighs, as users become many.

Six kinds, user ids of 12 bytes, a GRU with 64 numbers of state, no list asked for: the fold and the encoder,
without scoring. Each size runs in a process of its own: first every user gets one event, then EVENTS events
go to users drawn at random. Memory is the whole process, models and interpreter included.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from stream.bundle import open_bundle
from stream.codec import FILE
from stream.config_load import parse_config
from stream.records import RecordBatch
from stream.replay import open_partition

SIZES = (2_000, 1_000_000)
EVENTS = 1_000_000
BATCH = 4096
KINDS = {
    "view": "engagement",
    "cart": "engagement",
    "search": "engagement",
    "rate": "engagement",
    "purchase": "conversion",
    "impression": "contact",
}
START_MS = 1_704_067_200_000


def run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        # torch makes the bundle, in a process that ends: it would be most of the memory otherwise.
        make = (
            "import sys, pathlib; from export.random_bundle import random_bundle; "
            f"random_bundle(pathlib.Path(sys.argv[1]), {list(KINDS)!r}, items=1000, hidden=64)"
        )
        subprocess.run([sys.executable, "-c", make, f"{folder}/bundle"], check=True)
        costs = [measured_apart(users, f"{folder}/bundle") for users in SIZES]
    for users, (cost_us, size_bytes) in zip(SIZES, costs, strict=True):
        print(f"{users:>9,} users: {cost_us:.2f} µs an event, {size_bytes / users:,.0f} bytes a user")
    print(
        f"cost at {SIZES[-1]:,} users: {costs[-1][0] / costs[0][0]:.2f} times that at {SIZES[0]:,}",
        flush=True,
    )


def measured_apart(users: int, bundle: str) -> tuple[float, int]:
    """Return (µs an event, bytes of the process), measured in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.users", str(users), bundle],
        check=True,
        capture_output=True,
        text=True,
    )
    cost_us, size_bytes = json.loads(ran.stdout)
    return cost_us, size_bytes


def measure(users: int, bundle: str) -> tuple[float, int]:
    config = parse_config({"events": {"kinds": KINDS, "recommend": []}, "worker": {"users_max": 2 * users}})
    partition, _ = open_partition(config, open_bundle(Path(bundle)))
    rng = np.random.default_rng(1)
    kinds = list(KINDS)[:5]

    def apply(who: np.ndarray, first: int) -> float:
        spent_s = 0.0
        for start in range(0, len(who), BATCH):
            batch = records(who[start : start + BATCH], first + start, kinds)
            began_s = time.perf_counter()
            accepted = 0
            for part in partition.apply(batch):
                partition.table.commit()
                accepted += part.tally.accepted
            spent_s += time.perf_counter() - began_s
            assert accepted == len(batch.values), "the benchmark's own records are wrong"
        return spent_s

    apply(np.arange(users), 0)
    warm = rng.integers(users, size=50_000)
    apply(warm, users)
    seconds = apply(rng.integers(users, size=EVENTS), users + len(warm))
    # ru_maxrss is in KiB on Linux (getrusage(2)).
    return seconds / EVENTS * 1e6, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def records(who: np.ndarray, first: int, kinds: list[str]) -> RecordBatch:
    """Return events of these users, 10 ms apart."""
    n = len(who)
    offsets = list(range(first, first + n))
    values: list[bytes | None] = [
        b'{"user_id":"u%011d","event_type":"%s","event_time":%d,"item_id":"item-%d","event_id":"%d"}'
        % (user, kinds[offset % len(kinds)].encode(), START_MS + 10 * offset, offset % 1000, offset)
        for user, offset in zip(who.tolist(), offsets, strict=True)
    ]
    return RecordBatch(FILE, 0, offsets, [None] * n, values, [2**62] * n, [None] * n)


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), sys.argv[2])))
