"""What one seed chooses: sizes, the config, and which faults strike how often.

Swarm style (Groce et al., ISSTA 2012): every seed leaves most faults out, so that some seeds get deep into
one of them. Limits are drawn small, because a limit that is never reached tests nothing. Durations are hours
where production has weeks.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

#: Wall clock and event time begin here: 2023-11-14T22:13:20Z.
T0_MS: Final = 1_700_000_000_000

#: The broker's faults (`stream.testing_faults.FAULTS`): how probable at each point, at least and at most.
RATES: Final[Mapping[str, tuple[float, float]]] = {
    "crash_before": (0.0005, 0.005),
    "crash_after": (0.0005, 0.005),
    "refused": (0.005, 0.05),
    "delivery_failed": (0.005, 0.05),
    "offsets_refused": (0.01, 0.1),
    "expired": (0.002, 0.02),
    "commit_slow": (0.02, 0.2),
    "answer_lost": (0.01, 0.1),
    "end_delayed": (0.01, 0.1),
    "marker_late": (0.02, 0.5),
    "offsets_late": (0.02, 0.3),
    "expelled": (0.002, 0.02),
    "fetch_empty": (0.05, 0.3),
    "fetch_short": (0.05, 0.5),
    "fetch_mixed": (0.05, 0.5),
}

#: What the scheduler does to the processes and the topics: how probable at each step (`stand_still` and
#: `pause`: at each call of a process).
SHOCKS: Final[Mapping[str, tuple[float, float]]] = {
    "kill": (0.002, 0.02),  # between two turns; calls have their own crashes
    "pause": (0.001, 0.01),  # the others go on meanwhile, and nobody notices
    "stand_still": (0.0005, 0.004),  # beyond the session's timeout: a zombie when it wakes up
    "replace": (0.002, 0.01),  # a second process with the same transactional id, while the first stands
    "leave": (0.002, 0.01),
    "join": (0.002, 0.01),
    "jump": (0.005, 0.05),  # of the wall clock
    "night": (0.01, 0.05),  # nothing arrives for hours: idle steps
    "trim": (0.005, 0.05),  # retention drops what no restore needs any more
    "compact": (0.005, 0.05),
}

#: What the producers do: how probable for a record or a burst.
QUIRKS: Final[Mapping[str, tuple[float, float]]] = {
    "bad": (0.02, 0.2),
    "poison": (0.01, 0.1),
    "repeated": (0.02, 0.2),
    "reordered": (0.05, 0.5),
    "late": (0.02, 0.2),
    "transactional": (0.1, 1.0),  # the events' producer has transactions of its own, some of them aborted
    "silence": (0.01, 0.08),  # everyone is silent for so long that a storm of timers follows
}


class Options(NamedTuple):
    """What a run is made of; a function of the seed alone."""

    seed: int
    workers: int
    partitions: int
    users: int
    records: int
    preloaded: int  # records that are there before the first worker starts
    model: str  # "", "lists", or "lists, risk"
    tree: dict[str, Any]  # the config
    rates: dict[str, float]
    shocks: dict[str, float]
    quirks: dict[str, float]
    undo_rows_max: int
    look_ms: float  # elapsed time that a look at the clock takes: commits fall due within a batch
    pieces: bool  # outputs reach the broker in several calls
    session_timeout_ms: int
    sweep_ms: int
    oracle_batch: int  # records that the oracle folds at a time
    watched: bool  # with the observer and metrics of production
    ahead: bool  # workers fold on while a commit is on its way
    spare_items: int  # items that are kept although nobody remembers them
    checkpoint: bool  # partitions leave files, in one folder for all processes

    @property
    def exactly_once(self) -> bool:
        return bool(self.tree["worker"]["guarantee"] == "exactly-once")

    def lines(self) -> Iterator[str]:
        """Yield the options as text, one a line."""
        for name, value in self._asdict().items():
            if name == "tree":
                for table, keys in value.items():
                    yield f"  config.{table}: {keys}"
            elif isinstance(value, dict):
                faults = ", ".join(f"{fault} {rate:.4f}" for fault, rate in value.items())
                yield f"  {name}: {faults or 'none'}"
            else:
                yield f"  {name}: {value}"


def draw(seed: int) -> Options:
    """Draw the options of a seed."""
    chance = random.Random(seed)
    calm = chance.random() < 0.05
    model = chance.choice(("", "", "", "lists", "lists, risk"))
    records = chance.choice((50, 80, 120, 120, 160, 250))
    partitions = chance.randint(1, 4)
    options = Options(
        seed=seed,
        workers=chance.randint(1, 3),
        partitions=partitions,
        users=chance.choice((2, 5, 10, 20)) * partitions,
        records=records,
        preloaded=chance.choice((0, 0, records // 4, records)),
        model=model,
        tree=_tree(chance, model),
        rates={} if calm else _some(chance, RATES, 0.35),
        shocks={} if calm else _some(chance, SHOCKS, 0.4),
        quirks=_some(chance, QUIRKS, 0.4),
        undo_rows_max=chance.choice((3, 10, 200_000, 200_000)),
        look_ms=chance.choice((0.0, 0.0, 1.0, 20.0)),
        pieces=chance.random() < 0.4,
        session_timeout_ms=chance.choice((6_000, 45_000)),
        sweep_ms=chance.choice((100, 10_000)),
        oracle_batch=chance.choice((1, 7, 32, 32)),
        watched=chance.random() < 0.1,
        ahead=chance.random() < 0.6,
        spare_items=chance.choice((0, 2, 1_000_000)),
        checkpoint=random.Random(~seed).random() < 0.3,  # of its own: the others are what they were
    )
    if options.model == "":
        options.quirks.pop("poison", None)
    if not options.exactly_once:
        _leave_out_what_only_transactions_stand(options)
    return options


def _leave_out_what_only_transactions_stand(options: Options) -> None:
    """At least once, nobody fences a worker that wakes up, and an idle step that was not committed is taken
    again at another time: decision 0090 says what that may do.
    """
    for shock in ("pause", "stand_still", "replace"):
        options.shocks.pop(shock, None)
    if options.rates or options.shocks:
        options.tree["time"]["idle_after"] = "3650d"


def _some(chance: random.Random, faults: Mapping[str, tuple[float, float]], share: float) -> dict[str, float]:
    """Draw about a share of the faults, each with a rate, small ones as often as large ones."""
    drawn = {}
    for fault, (least, most) in faults.items():
        rate = least * (most / least) ** chance.random()
        if chance.random() < share:
            drawn[fault] = rate
    return drawn


def _tree(chance: random.Random, model: str) -> dict[str, Any]:
    policies: dict[str, Any] = {"default": {"k": 3, "min_gap": chance.choice(("0s", "1h"))}}
    if chance.random() < 0.5:
        policies["at_risk"] = {"exclude": "seen"}
    return {
        "events": {
            "kinds": {"view": "engagement", "like": "engagement", "buy": "conversion", "mail": "contact"},
            "recommend": chance.choice((["view"], ["view", "like", "buy"])),
        },
        "time": {
            "future_max": "5m",
            "out_of_order_max": chance.choice(("0s", "60s", "10m")),
            "lateness_max": chance.choice(("0s", "3h", "2d")),
            "session_gap": "30m",
            "visit_gap": "2h",
            "idle_after": chance.choice(("1s", "30s")),
            "idle_advance_max": chance.choice(("0s", "12h", "30d", "30d")),
        },
        "lifecycle": {
            "active_days_min": chance.randint(1, 3),
            "cadence": chance.choice((1.5, 4.0)),
            "at_risk_min": "6h",
            "at_risk_default": "12h",
            "at_risk_max": "1d",
            "dormant_after": "36h",
            "churned_after": "60h",
            "forget_after": "5d",
            "risk": "model" if "risk" in model else "rhythm",
            "horizon": "1d",
        },
        "policies": policies,
        "worker": _limits(chance),
    }


def _limits(chance: random.Random) -> dict[str, Any]:
    limits: dict[str, Any] = {
        "guarantee": chance.choice(("exactly-once", "exactly-once", "exactly-once", "at-least-once")),
        "commit_interval_ms": chance.choice((1, 50, 200, 1_000)),
        "batch_records_max": chance.choice((1, 4, 16, 64)),
        "snapshot_rows_max": chance.choice((1, 2, 5, 1_000)),
        "timers_max": chance.choice((1, 2, 5, 1_000)),
        "events_per_5min_max": chance.choice((2, 600)),
        "alerts_share_per_hour_max": chance.choice((0.3, 1.0, 1.0)),
        "dead_letters_share_max": 1.0,
    }
    emit_from = chance.choice(("", "earliest", "earliest", "instant"))
    if emit_from == "instant":
        limits["emit_from"] = datetime.fromtimestamp(T0_MS // 1_000 + chance.randrange(86_400), UTC)
    elif emit_from:
        limits["emit_from"] = emit_from
    return limits
