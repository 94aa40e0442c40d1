"""`python -m tests.simulation`: one seed, a range of them, or a broken protocol; see the package."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Final, NamedTuple

from tests.simulation.controls import CONTROLS, SEEDS_MAX
from tests.simulation.options import draw
from tests.simulation.truth import ViolationError
from tests.simulation.world import HAPPENINGS, run_seed

CHUNK_SEEDS: Final = 50
PROGRESS_EVERY_S: Final = 10.0


class Verdict(NamedTuple):
    """What some seeds came to: what happened, in how many seeds, and which of them failed, with what."""

    seeds: int
    happened: Counter[str]
    in_seeds: Counter[str]
    failed: dict[int, str]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, metavar="N", help="one seed, told step by step if it fails")
    which.add_argument("--seeds", metavar="A..B", help="all seeds from A to B, both included")
    which.add_argument("--controls", action="store_true", help="see every control caught")
    parser.add_argument("--control", choices=sorted(CONTROLS), help="break the protocol on purpose")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes")
    given = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    if given.controls:
        return tell_controls()
    if given.seed is not None:
        return tell_one(given.seed, given.control)
    first, _, last = given.seeds.partition("..")
    return tell_many(range(int(first), int(last or first) + 1), given.control, given.workers)


def tell_controls() -> int:
    """Go through the seeds until each control is caught, and print by which; return the exit code."""
    missed = 0
    for control in CONTROLS:
        if control == "none":
            continue
        with CONTROLS[control]():
            caught = next(catch(range(1, SEEDS_MAX + 1)), None)
        missed += caught is None
        words = "NOT CAUGHT" if caught is None else f"seed {caught[0]:<4} {caught[1][:70]}"
        print(f"{control:<34}{words}", flush=True)
    return 1 if missed else 0


def catch(seeds: range) -> Iterator[tuple[int, str]]:
    """Yield the seeds that fail, and how."""
    for seed in seeds:
        try:
            run_seed(draw(seed))
        except ViolationError as violation:
            yield seed, str(violation)


def tell_one(seed: int, control: str | None) -> int:
    """Run one seed and print all about it; return the exit code."""
    options = draw(seed)
    print(f"seed {seed}" + (f", control {control}" if control else ""))
    print("\n".join(options.lines()), flush=True)
    try:
        with CONTROLS[control or "none"]():
            happened = run_seed(options)
    except ViolationError as violation:
        print("\nwhat happened last:", *violation.__notes__, f"\nVIOLATION: {violation}", sep="\n")
        return 1
    print("\nevery promise was kept; what happened:")
    print("\n".join(f"  {n:6,}  {name}" for name, n in sorted(happened.items()) if n))
    return 0


def tell_many(seeds: range, control: str | None, workers: int) -> int:
    """Run many seeds in several processes, and print those that failed and what happened in all."""
    print(f"seeds {seeds[0]} to {seeds[-1]}" + (f", control {control}" if control else ""), flush=True)
    started = said = time.perf_counter()
    total = Verdict(0, Counter(), Counter(), {})
    for verdict in run_many(seeds, control, workers):
        total = add(total, verdict)
        if time.perf_counter() - said > PROGRESS_EVERY_S:
            said = time.perf_counter()
            left_s = (said - started) * (len(seeds) - total.seeds) / total.seeds
            print(f"  {total.seeds:,} of {len(seeds):,} seeds, about {left_s:.0f} s left", flush=True)
        for seed, words in sorted(verdict.failed.items()):
            replay = f"python -m tests.simulation --seed {seed}" + (
                f" --control {control}" if control else ""
            )
            print(f"FAILED {replay}\n    {words}", flush=True)
    seconds = time.perf_counter() - started
    print(f"\n{'what happened':<18}{'times':>12}{'in seeds':>12}")
    for name in HAPPENINGS:
        print(f"{name:<18}{total.happened[name]:>12,}{total.in_seeds[name]:>12,}")
    print(
        f"\n{total.seeds:,} seeds, {len(total.failed):,} violations; "
        f"{seconds:.0f} s, {total.seeds / seconds:.1f} seeds/s in {workers} processes"
    )
    return 1 if total.failed else 0


def run_many(seeds: range, control: str | None, workers: int) -> Iterator[Verdict]:
    chunks = [seeds[first : first + CHUNK_SEEDS] for first in range(0, len(seeds), CHUNK_SEEDS)]
    if workers == 1:
        yield from (run_chunk(chunk, control) for chunk in chunks)
        return
    with ProcessPoolExecutor(workers) as pool:
        for chunk in as_completed([pool.submit(run_chunk, chunk, control) for chunk in chunks]):
            yield chunk.result()


def run_chunk(seeds: range, control: str | None) -> Verdict:
    """Run some seeds in this process."""
    logging.disable(logging.CRITICAL)
    happened: Counter[str] = Counter()
    in_seeds: Counter[str] = Counter()
    failed: dict[int, str] = {}
    with CONTROLS[control or "none"]():
        for seed in seeds:
            try:
                counts = run_seed(draw(seed))
            except ViolationError as violation:
                failed[seed] = str(violation)
                continue
            happened.update(counts)
            in_seeds.update(name for name, n in counts.items() if n)
    return Verdict(len(seeds), happened, in_seeds, failed)


def add(a: Verdict, b: Verdict) -> Verdict:
    return Verdict(
        a.seeds + b.seeds, a.happened + b.happened, a.in_seeds + b.in_seeds, {**a.failed, **b.failed}
    )


if __name__ == "__main__":
    sys.exit(main())
