"""The config after load: frozen, checked, complete.

Attributes are named as the keys of the file are; those that hold a duration or a time end in `_ms`, so that
`session_gap = "30m"` is `config.time.session_gap_ms == 1_800_000`. What each key means stands in
`stream/config_fields.py`; what is wrong with a file is found by `stream/config_load.py`.

    from stream.config_load import load_config  # or parse_config({"events": {…}}), of a tree in memory

    config = load_config("ebbtide.toml")
    config.lifecycle.at_risk_min_ms             # 604_800_000
    config.windows.windows["1h"].buckets        # 12, of the ring config.windows.rings[0]
    config.policies["loyal"].k                  # default and override merged, for every state
    config.meaning                              # hash of what the fold depends on

The core never sees this type: it is given plain numbers (`stream/core/rules.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
from msgspec import field

from stream.config_tables import Ring


class Window(NamedTuple):
    """A window: the index of its ring in `rings`, and how many of the ring's buckets it spans."""

    ring: int
    buckets: int


class _Section(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the file."""


class Events(_Section, frozen=True):
    """The vocabulary: kinds in the file's order, their roles, and the producers' names of the fields."""

    kinds: dict[str, str]
    recommend: tuple[str, ...]
    fields: dict[str, str]


class Time(_Section, frozen=True):
    """How event time passes."""

    future_max_ms: int = field(name="future_max")
    out_of_order_max_ms: int = field(name="out_of_order_max")
    lateness_max_ms: int = field(name="lateness_max")
    session_gap_ms: int = field(name="session_gap")
    visit_gap_ms: int = field(name="visit_gap")
    idle_after_ms: int = field(name="idle_after")
    idle_advance_max_ms: int = field(name="idle_advance_max")
    day_offset_ms: int = field(name="day_offset")


class Windows(_Section, frozen=True):
    """Rings of buckets, and the windows that are read from them. `day_ring` is the ring of 1-day buckets."""

    rings: tuple[Ring, ...]
    windows: dict[str, Window]
    day_ring: int


class Lifecycle(_Section, frozen=True):
    """When silence and activity move a user."""

    active_days_min: int
    cadence: float
    at_risk_min_ms: int = field(name="at_risk_min")
    at_risk_max_ms: int = field(name="at_risk_max")
    at_risk_default_ms: int = field(name="at_risk_default")
    dormant_after_ms: int = field(name="dormant_after")
    churned_after_ms: int = field(name="churned_after")
    forget_after_ms: int = field(name="forget_after")
    risk: Literal["rhythm", "model"]
    horizon_ms: int = field(name="horizon")
    risk_threshold: float


class Policy(_Section, frozen=True):
    """How one lifecycle state is recommended to. A threshold of None is off."""

    k: int
    exclude: Literal["none", "seen", "converted"]
    popularity: float
    diversity: float
    min_gap_ms: int = field(name="min_gap")
    min_similarity: float | None
    min_context: float | None


class BundlePlace(_Section, frozen=True):
    """Where the model lies; None if there is none."""

    path: Path | None


class Kafka(_Section, frozen=True):
    """The brokers, and settings for librdkafka. Its text hides them: passwords are among them."""

    bootstrap_servers: str
    group_id: str
    client: dict[str, str | int | float | bool]

    def __repr__(self) -> str:
        names = ", ".join(self.client)
        return f"Kafka({self.bootstrap_servers!r}, {self.group_id!r}, client settings: {names or 'none'})"


class Topics(_Section, frozen=True):
    """Topic names by their role."""

    events: str
    recommendations: str
    lifecycle: str
    churn_alerts: str
    dead_letters: str
    user_state: str
    journal: str
    items: str
    control: str


class Worker(_Section, frozen=True):
    """Commits, limits, guards. `emit_from_ms` is None for the moment of the first start."""

    guarantee: Literal["exactly-once", "at-least-once"]
    commit_interval_ms: int
    batch_records_max: int
    snapshot_rows_max: int
    timers_max: int
    users_max: int
    events_per_5min_max: int
    emit_from_ms: int | None = field(name="emit_from")
    dead_letters_share_max: float
    alerts_share_per_hour_max: float
    stall_after_ms: int = field(name="stall_after")
    checkpoint_dir: Path | None


class Http(_Section, frozen=True):
    """Where metrics and health are served."""

    host: str
    port: int


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a run is told. `place` is the file it came from, `preset` the preset it overrides.

    `policies` holds one for every lifecycle state. `policies_given` names the states whose table was given:
    with `at_risk` among them, reaching at_risk recommends. `meaning` is a hash of the keys that the fold
    depends on: two folds of one log under equal meanings give equal users and effects.
    """

    place: str
    preset: str | None
    events: Events
    time: Time
    windows: Windows
    lifecycle: Lifecycle
    policies: dict[str, Policy]
    policies_given: frozenset[str]
    bundle: BundlePlace
    kafka: Kafka
    topics: Topics
    worker: Worker
    http: Http
    meaning: str
