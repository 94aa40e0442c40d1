"""The engine against the oracle: every file of `replay`, on every stream, config and size of batch.

CI takes a share of each stream. EBBTIDE_FULL=1 (`make oracle`) takes them whole, with the real year: about
ten minutes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from stream.demo import journey
from tests import generators_edges as edges
from tests.compare import FULL, assert_equal
from tests.generators import Stream, clicks
from tests.generators_hostile import hostile
from tests.generators_settings import GROCER, NAMED
from tests.oracles import Replayed, replay
from tests.programs import run_replay

Generator = Callable[[random.Random, Mapping[str, Any], int], Stream]

#: Records of a stream: in CI, in full.
SIZES: dict[Generator, tuple[int, int]] = {
    clicks: (1_000, 60_000),
    hostile: (600, 5_000),
    edges.walk: (800, 20_000),
    edges.ties: (300, 5_000),
    edges.storm: (400, 20_000),
    edges.comebacks: (700, 2_000),
    edges.regulars: (500, 5_000),
    edges.verges: (400, 5_000),
    edges.repeats: (500, 5_000),
    edges.spenders: (500, 10_000),
    edges.guard: (200, 5_000),
}

#: What must change nothing: the size of the batches, how long a slice may ring, who is throttled.
WORKERS: dict[int, dict[str, int]] = {
    1: {"timers_max": 10_000, "events_per_5min_max": 600},
    7: {"timers_max": 1, "events_per_5min_max": 1},
    256: {"timers_max": 3, "events_per_5min_max": 2},
    4096: {"timers_max": 100, "events_per_5min_max": 1},
}

CASES = [
    pytest.param(generator, name, id=f"{generator.__name__}-{name}")
    for generator, name in product(SIZES, NAMED)
    # Hostile records are written for the default vocabulary.
    if generator is not hostile or NAMED[name]["kinds"] == NAMED["defaults"]["kinds"]
]


@cache
def stream_of(generator: Generator, config: str) -> Stream:
    return generator(random.Random(f"{generator.__name__} {config}"), NAMED[config], SIZES[generator][FULL])


@cache
def oracle_of(generator: Generator, config: str) -> Replayed:
    stream = stream_of(generator, config)
    return replay(stream.data, NAMED[config], stream.now)


@pytest.mark.parametrize("batch", WORKERS)
@pytest.mark.parametrize(("generator", "config"), CASES)
def test_the_engine_says_what_the_oracle_says(
    generator: Generator, config: str, batch: int, tmp_path: Path
) -> None:
    stream = stream_of(generator, config)
    settings, worker = NAMED[config], WORKERS[batch]
    found = run_replay(stream.data, settings, tmp_path, stream.now, batch_records_max=batch, **worker)
    assert_equal(oracle_of(generator, config), found, stream.records, settings)


@pytest.mark.parametrize("batch", [1, 7, 256, 4096] if FULL else [4096])
def test_full_cells(batch: int, tmp_path: Path) -> None:
    """§ 4: a cell is "saturating at 65,535", and "saturated cells go on" in spend."""
    settings = NAMED["defaults"]
    stream = edges.full_cells(random.Random(1), settings, 10)
    expected, found = (
        full_cells_of_the_oracle(),
        run_replay(stream.data, settings, tmp_path, batch_records_max=batch),
    )
    assert_equal(expected, found, stream.records, settings)
    assert expected.users[0]["windows"]["1h"]["purchase"] == 65_535
    assert expected.users[0]["conversions"] > 65_535


@cache
def full_cells_of_the_oracle() -> Replayed:
    return replay(edges.full_cells(random.Random(1), NAMED["defaults"], 10).data, NAMED["defaults"])


@pytest.mark.skipif(not FULL, reason="the real year takes minutes: `make oracle`")
@pytest.mark.parametrize("batch", WORKERS)
def test_the_real_year(batch: int, tmp_path: Path) -> None:
    records, expected = year_of_the_oracle()
    data = b"".join(record + b"\n" for record in records)
    assert_equal(expected, run_replay(data, GROCER, tmp_path, batch_records_max=batch), records, GROCER)


@cache
def year_of_the_oracle() -> tuple[list[bytes], Replayed]:
    """The year with the demo's careless producer, as far as its records have no second line and no future."""
    records = [sent.value for sent in journey.records(journey.lines()) if b"2199" not in sent.value]
    return records, replay(b"".join(record + b"\n" for record in records), GROCER)


TRANSITIONS = {
    "none": {"new", "converted"},
    "new": {"retained", "converted", "at_risk"},
    "retained": {"active", "converted", "at_risk"},
    "active": {"retained", "converted", "at_risk"},
    "converted": {"loyal", "at_risk"},
    "loyal": {"at_risk"},
    "at_risk": {"retained", "converted", "loyal", "dormant"},
    "dormant": {"retained", "converted", "loyal", "churned"},
    "churned": {"retained", "converted", "forgotten"},
}
REASONS = {
    "empty", "too_large", "not_json", "missing_field", "bad_field", "unknown_event_type",
    "from_future", "too_late",
}  # fmt: skip
STATUSES = {"opened", "escalated", "resolved", "expired"}


def test_the_streams_meet_every_line_of_the_table() -> None:
    """What no stream made happen, no comparison has seen: all that can happen to a user is listed here."""
    met: Counter[str] = Counter()
    for case in CASES:
        summary = oracle_of(*case.values).summary
        met.update(summary["transitions"] | summary["alerts"] | summary["dead_letters"])
        met["duplicates"] += summary["duplicates"]
    moves = {f"{left}>{to}" for left, reached in TRANSITIONS.items() for to in reached}
    wanted = {"duplicates"} | moves | REASONS | STATUSES
    assert met.keys() == wanted
    assert not {name: count for name, count in met.items() if count < 5}
