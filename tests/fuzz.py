"""Rounds of random streams under random settings, engine against oracle, until the time is up.

    python -m tests.fuzz --minutes 10 --seed 1

A round is a seed: the seed makes settings, stream, idle steps, batches and what the worker is told. A round
that differs is shrunk to a minimal list of inputs and printed with its settings; then the fuzzer stops.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tests import generators_edges as edges
from tests.compare import first_difference
from tests.generators import clicks
from tests.generators_hostile import hostile
from tests.generators_settings import NAMED, by_chance
from tests.oracle_settings import Json
from tests.oracles import Oracle
from tests.programs import Engine

GENERATORS = (
    *(edges.walk,) * 4, clicks, hostile,
    edges.ties, edges.storm, edges.comebacks, edges.regulars, edges.guard,
    edges.verges, edges.repeats, edges.spenders,
)  # fmt: skip

RECORDS_MAX = 400


class Round(NamedTuple):
    """Inputs are records (bytes) and idle steps (the W to reach); `seed` cuts them into batches."""

    seed: int
    settings: Json
    now: int | None
    worker: dict[str, Any]
    inputs: Sequence[bytes | int]


def make_round(seed: int) -> Round:
    rng = random.Random(seed)
    settings = by_chance(rng) if rng.random() < 0.7 else rng.choice(list(NAMED.values()))
    stream = rng.choice(GENERATORS)(rng, settings, rng.randrange(2, RECORDS_MAX))
    worker = {
        "timers_max": rng.choice([1, 2, 3, 10, 1000]),
        "events_per_5min_max": rng.choice([1, 600]),
        "undo": rng.random() < 0.5,
        "snapshots": rng.random() < 0.3,
    }
    idle = rng.choice([0, 0.02, 0.2])
    oracle = Oracle(settings, stream.now)
    inputs: list[bytes | int] = []
    for line in stream.records:
        if rng.random() < idle and oracle.watermark is not None:
            known = rng.choice([oracle.watermark, *oracle.deadlines.values()])
            w = known + rng.choice([-1, 0, 0, 1, rng.randrange(settings["forget_after"])])
            oracle.idle(w)
            inputs.append(w)
        oracle.record(line)
        inputs.append(line)
    return Round(seed, settings, stream.now, worker, inputs)


def difference(tried: Round) -> str | None:
    """Run both programs; return where they differ, in words, or None."""
    oracle = Oracle(tried.settings, tried.now)
    for step in tried.inputs:
        oracle.idle(step) if isinstance(step, int) else oracle.record(step)
    engine = Engine(tried.settings, tried.now, **tried.worker)
    for step in batches(tried):
        engine.idle(step) if isinstance(step, int) else engine.records(step)
    records = [step for step in tried.inputs if isinstance(step, bytes)]
    found = first_difference(oracle.result(), engine.result(), records, tried.settings)
    if found is None and oracle.ids != engine.ids:
        return f"ids: oracle {oracle.ids}, engine {engine.ids}"
    return found


def batches(tried: Round) -> Iterator[list[bytes] | int]:
    """Yield the inputs with the records between idle steps joined to batches."""
    rng = random.Random(tried.seed)
    likely = rng.choice([0.01, 0.2, 0.9])
    batch: list[bytes] = []
    for step in tried.inputs:
        if batch and (isinstance(step, int) or rng.random() < likely):
            yield batch
            batch = []
        if isinstance(step, int):
            yield step
        else:
            batch.append(step)
    if batch:
        yield batch


def shrink(tried: Round) -> Round:
    """Leave inputs out as long as the programs still differ: halves first, single ones last."""
    size = len(tried.inputs) // 2
    while size:
        start = 0
        while start < len(tried.inputs):
            shorter = tried._replace(inputs=[*tried.inputs[:start], *tried.inputs[start + size :]])
            if difference(shorter):
                tried = shorter
            else:
                start += size
        size //= 2
    return tried


def main() -> int:
    parser = argparse.ArgumentParser(description="engine against oracle, on streams made by chance")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0, help="the first round's; each further one is the next")
    arguments = parser.parse_args()
    seed, stop = arguments.seed, time.monotonic() + 60 * arguments.minutes
    while time.monotonic() < stop:
        tried = make_round(seed)
        if difference(tried):
            small = shrink(tried)
            print(f"seed {seed}: {difference(small)}")
            print(f"settings {small.settings}", f"now {small.now}", f"worker {small.worker}", sep="\n")
            print(*map(repr, small.inputs), sep="\n")
            return 1
        seed += 1
    print(f"{seed - arguments.seed} rounds, no difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())
