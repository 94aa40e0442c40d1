"""What an event costs, and what a user weighs, as users become many.

Six kinds, user ids of 12 bytes, no list asked for: the fold alone, and with a GRU of 64 numbers of state.
Users live the same lives at every size: an event a day on average, ROUNDS of them before the clock starts,
the first ORDERS of them purchases, so that all are loyal, and as few transitions and alerts come of an event
among 2,000 users as among 1,000,000. Each size runs in a process of its own. The cost is CPU time, the median
over batches of BATCH; memory is that of the whole process, models and interpreter included.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from stream.bundle import open_bundle
from stream.codec import FILE
from stream.config_load import parse_config
from stream.garbage import settled
from stream.records import RecordBatch
from stream.replay import open_partition

SIZES = (2_000, 1_000_000)
ROUNDS = 8
ORDERS = 2
EVENTS = 500_000
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
DAY_MS = 86_400_000
WIDTH = {"hidden": 64}


def run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        # torch makes the bundle, in a process that ends: it would be most of the memory otherwise.
        make = (
            "import sys, pathlib; from export.random_bundle import random_bundle; random_bundle("
            f"pathlib.Path(sys.argv[1]), {list(KINDS)!r}, items=1000, encoder_config={WIDTH!r})"
        )
        subprocess.run([sys.executable, "-c", make, f"{folder}/bundle"], check=True)
        for name, bundle in (("with a GRU of 64", f"{folder}/bundle"), ("without a model", "")):
            costs = [measured_apart(users, bundle) for users in SIZES]
            for users, (cost_us, size_bytes) in zip(SIZES, costs, strict=True):
                print(
                    f"{name}, {users:>9,} users: {cost_us:.2f} µs an event, "
                    f"{size_bytes / users:,.0f} bytes a user"
                )
            ratio = costs[-1][0] / costs[0][0]
            print(f"{name}: cost at {SIZES[-1]:,} users {ratio:.2f} times that at {SIZES[0]:,}", flush=True)


def measured_apart(users: int, bundle: str) -> tuple[float, int]:
    """Return (µs an event, bytes of the process), measured in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.users", str(users), bundle],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    cost_us, size_bytes = json.loads(ran.stdout)
    return cost_us, size_bytes


def measure(users: int, bundle: str) -> tuple[float, int]:
    config = parse_config({"events": {"kinds": KINDS, "recommend": []}, "worker": {"users_max": 2 * users}})
    partition, _ = open_partition(config, open_bundle(Path(bundle)) if bundle else None)
    rng = np.random.default_rng(1)
    outputs = 0

    def apply(who: np.ndarray, first: int) -> list[float]:
        nonlocal outputs
        costs = []
        for start in range(0, len(who), BATCH):
            batch = records(who[start : start + BATCH], first + start, users, rng)
            began_s = time.process_time()
            accepted = 0
            for part in partition.apply(batch):
                partition.table.commit()
                accepted += part.tally.accepted
                outputs += len(part.outputs)
            costs.append((time.process_time() - began_s) / len(batch.values) * 1e6)
            assert accepted == len(batch.values), "the benchmark's own records are wrong"
        return costs

    with settled():
        for done in range(ROUNDS):
            apply(rng.permutation(users), done * users)
        outputs = 0
        costs = apply(rng.integers(users, size=EVENTS), ROUNDS * users)
    print(f"{outputs / EVENTS:.3f} outputs an event", file=sys.stderr)
    # ru_maxrss is in KiB on Linux (getrusage(2)).
    return statistics.median(costs), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def records(who: np.ndarray, first: int, users: int, rng: np.random.Generator) -> RecordBatch:
    """Return events of these users, a day apart for each on average."""
    n = len(who)
    offsets = list(range(first, first + n))
    kinds = ["purchase"] if first < ORDERS * users else list(KINDS)[:5]
    values: list[bytes | None] = [
        b'{"user_id":"u%011d","event_type":"%s","event_time":%d,"item_id":"item-%d","event_id":"%d"}'
        % (user, kinds[kind].encode(), START_MS + offset * DAY_MS // users, offset % 1000, offset)
        for user, kind, offset in zip(
            who.tolist(), rng.integers(len(kinds), size=n).tolist(), offsets, strict=True
        )
    ]
    return RecordBatch(FILE, 0, offsets, [None] * n, values, [2**62] * n, [None] * n)


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), sys.argv[2])))
