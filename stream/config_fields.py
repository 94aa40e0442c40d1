"""The table of fields: every key of the config, with how it is read, its default and its meaning.

Everything that is said about a key is said here. The loader, the error texts, the comments of `ebbtide init`
and docs/config.md are made from this table; a new key is one line here and one attribute in
`stream/config.py`.

Defaults are written as the TOML file would spell them. None stands for a key that is not set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from stream.config_tables import ClientSettings, FieldNames, Kinds, Names, Rings, Windows
from stream.config_values import Choice, Duration, Instant, Number, Reader, Text, Whole


class Key(NamedTuple):
    """One key of a section."""

    name: str
    reader: Reader
    default: object
    meaning: str
    #: It decides what the fold of a log is; a change of it is a change of the state, and enters the journal.
    folds: bool = False
    #: A table whose entries are not merged with those of a preset: a file that gives it, replaces it.
    whole: bool = False
    #: For a key that is not set by default: a value to show.
    example: object = None


class Section(NamedTuple):
    """A table of the file."""

    name: str
    meaning: str
    keys: tuple[Key, ...]


#: Lifecycle states that a policy can be given for, in the order of the life of a user.
POLICY_STATES: Final = ("new", "retained", "active", "converted", "loyal", "at_risk", "dormant", "churned")

_POSITIVE: Final = Duration(min_ms=1)
_DAY_MS: Final = 86_400_000

_TOPIC: Final = Text(
    "a topic name: up to 249 of letters, digits, . _ -", re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
)
_PATH: Final = Text("a path")
_SERVERS: Final = Text('brokers as "host:port", separated by commas', re.compile(r"[^\s,]+(\s*,\s*[^\s,]+)*"))

EVENTS: Final = Section("events", "What the producers publish.", (
    Key(
        "kinds", Kinds(), {"view": "engagement", "purchase": "conversion", "impression": "contact"},
        "The values that event_type may have, at most 16, each with a role: `engagement` (the user did "
        "something), `conversion` (the user did what you hope for: bought, subscribed) or `contact` "
        "(something was done to the user: an impression, a campaign). An event of any other kind becomes a "
        "dead letter.",
        folds=True, whole=True,
    ),
    Key(
        "recommend", Names("a list of distinct kinds of this config, none of them a contact"), None,
        "The kinds that trigger a recommendation each. Not set: every kind with the role engagement.",
        folds=True,
    ),
    Key(
        "fields", FieldNames(), {},
        "What your producers call the fields of an event, where it differs: `{ event_time = \"timestamp\" "
        "}` reads event_time from the field timestamp.",
        folds=True, whole=True,
    ),
))  # fmt: skip

TIME: Final = Section("time", "How event time passes, and what is early, late or a visit.", (
    Key("future_max", Duration(), "5m",
        "An event that lies further ahead of its record's timestamp is a dead letter, `from_future`.",
        folds=True),
    Key("out_of_order_max", Duration(), "60s",
        "How far the watermark stays behind the latest event of a partition.", folds=True),
    Key("lateness_max", Duration(), "7d",
        "An event that lies further behind the watermark is a dead letter, `too_late`.", folds=True),
    Key("session_gap", _POSITIVE, "30m",
        "A silence of this length ends a session; at most visit_gap.", folds=True),
    Key("visit_gap", _POSITIVE, "12h",
        "A silence of this length counts as the gap between two visits: the user's rhythm.", folds=True),
    Key("idle_after", _POSITIVE, "30s",
        "A partition silent for so long by the wall clock may let time pass, if a deadline would fall due."),
    Key("idle_advance_max", Duration(), "30d",
        "How far beyond its last event an idle partition may let time pass."),
    Key("day_offset", Duration(min_ms=-_DAY_MS, max_ms=_DAY_MS), "0s",
        "Added to a time before it is cut into days: `1h` makes the days those of UTC+1, `-5h` of UTC-5.",
        folds=True),
))  # fmt: skip

WINDOWS: Final = Section("windows", "Rolling counts per user and kind.", (
    Key("rings", Rings(),
        [{"bucket": "5m", "buckets": 12}, {"bucket": "1h", "buckets": 24}, {"bucket": "1d", "buckets": 30}],
        "The rings of buckets that are kept for every user (2 bytes per bucket and kind). One must have "
        "buckets of 1 day, 30 or more: active days and spend are read from it.", folds=True),
    Key("windows", Windows(), {"1h": "5m", "24h": "1h", "7d": "1d", "30d": "1d"},
        "The windows by their length, each with the bucket size of the ring it is read from. A window is a "
        "multiple of the bucket and fits its ring.", folds=True, whole=True),
))  # fmt: skip

LIFECYCLE: Final = Section("lifecycle", "When a user moves from one state to the next.", (
    Key("active_days_min", Whole(1, 7), 3,
        "So many active days of the last 7 make a retained user active.", folds=True),
    Key("cadence", Number(0, 1_000, inner=True), 4.0,
        "A user is at risk after a silence of so many of the user's own mean visit gaps.", folds=True),
    Key("at_risk_min", _POSITIVE, "7d",
        "The least silence that puts a user at risk; at most at_risk_max.", folds=True),
    Key("at_risk_max", _POSITIVE, "45d",
        "The longest silence before a user is at risk; less than dormant_after.", folds=True),
    Key("at_risk_default", _POSITIVE, "30d",
        "The same for a user with fewer than two visit gaps; less than dormant_after.", folds=True),
    Key("dormant_after", _POSITIVE, "60d",
        "A silence of this length makes a user dormant; less than churned_after.", folds=True),
    Key("churned_after", _POSITIVE, "120d",
        "A silence of this length makes a user churned; less than forget_after.", folds=True),
    Key("forget_after", _POSITIVE, "400d",
        "After a silence of this length the user's row is removed.", folds=True),
    Key("risk", Choice(("rhythm", "model")), "rhythm",
        "What finds users at risk: their own `rhythm`, or the hazard head of the bundle's `model`.",
        folds=True),
    Key("horizon", _POSITIVE, "30d",
        "With `risk = \"model\"`: how far ahead the model looks for the user's next event.", folds=True),
    Key("risk_threshold", Number(0, 1, inner=True), 0.5,
        "With `risk = \"model\"`: at risk from the first silence at which no event within the horizon is so "
        "probable.", folds=True),
))  # fmt: skip

POLICIES: Final = Section(
    "policies",
    "What is recommended to whom. `[policies.default]` holds for everyone; a table of a lifecycle state "
    f"({', '.join(POLICY_STATES)}) overrides single keys of it. A `[policies.at_risk]` that is given, be it "
    "empty or by the preset, is a win-back policy: reaching at_risk then recommends without an event. "
    "`at_risk = false` in `[policies]` takes away what a preset gives for a state.",
    (
    Key("k", Whole(1, 1_000), 10, "Items in a list.", folds=True),
    Key("exclude", Choice(("none", "seen", "converted")), "none",
        "Leave out which of the user's last 20 items: `none`, those `seen` (all), those `converted`.",
        folds=True),
    Key("popularity", Number(0, 1e6), 0.0,
        "Weight of the bundle's popularity prior in the score: helps users the encoder knows little of.",
        folds=True),
    Key("diversity", Number(0, 1), 0.0,
        "How much an item loses by its likeness to those above it in the list.", folds=True),
    Key("min_gap", Duration(), "0s",
        "Event time that must pass between two lists for one user, win-backs included.", folds=True),
    Key("min_similarity", Number(), None,
        "Only items whose similarity to the user is above this. Not set: no threshold.",
        folds=True, example=0.0),
    Key("min_context", Number(), None,
        "Only items whose fit to the context is above this. Not set: no threshold.",
        folds=True, example=0.0),
    ),
)  # fmt: skip

BUNDLE: Final = Section("bundle", "The model.", (
    Key("path", _PATH, None,
        "The bundle's folder, relative to the config file. Not set: no encoder, no recommendations; windows, "
        "lifecycle and alerts go on.", example="bundle"),
))  # fmt: skip

KAFKA: Final = Section("kafka", "The brokers.", (
    Key("bootstrap_servers", _SERVERS, "localhost:9092",
        "Brokers to ask first, as host:port, separated by commas."),
    Key("group_id", Text("a name"), "ebbtide",
        "The consumer group. Workers of one group share the partitions."),
    Key("client", ClientSettings(), {},
        "Settings for librdkafka as they are, such as `\"security.protocol\" = \"SASL_SSL\"`. Those that "
        "exactly-once depends on are refused."),
))  # fmt: skip

TOPICS: Final = Section("topics", "The topics' names; no two are the same.", (
    Key("events", _TOPIC, "events", "Input: the events."),
    Key("recommendations", _TOPIC, "recommendations", "Output: the lists."),
    Key("lifecycle", _TOPIC, "lifecycle", "Output: the transitions."),
    Key("churn_alerts", _TOPIC, "churn-alerts", "Output: the alerts."),
    Key("dead_letters", _TOPIC, "dead-letters", "Output: the records that could not be applied, untouched."),
    Key("user_state", _TOPIC, "user-state", "Internal: commit records and users' rows; compacted."),
    Key("journal", _TOPIC, "journal", "Internal: what entered the fold and was no event; not compacted."),
    Key("items", _TOPIC, "items", "Input: attributes and withdrawals of items; compacted."),
    Key("control", _TOPIC, "control", "Input: roll-outs of bundles, erasure of users."),
))  # fmt: skip

WORKER: Final = Section("worker", "How a worker works, and the limits of what it takes on.", (
    Key("guarantee", Choice(("exactly-once", "at-least-once")), "exactly-once",
        "`exactly-once`: outputs, state and offsets in one transaction. `at-least-once`: no transactions; "
        "after a fault outputs may repeat, with equal ids."),
    Key("commit_interval_ms", Duration(min_ms=1, max_ms=60_000), 1_000,
        "Between two commits. What a reader sees is behind by about twice this."),
    Key("batch_records_max", Whole(1, 100_000), 4_096, "Records that are applied in one go."),
    Key("snapshot_rows_max", Whole(1, 1_000_000), 10_000,
        "Users' rows that a worker writes to user-state in a second, and at most in a commit."),
    Key("timers_max", Whole(1, 1_000_000), 10_000,
        "Deadlines that are worked off in one go; a commit may fall in between."),
    Key("users_max", Whole(1, 1_000_000_000), 2_000_000,
        "Users in a worker's memory, about 2 KB each. At this number intake pauses, and /readyz says why."),
    Key("events_per_5min_max", Whole(1, 1_000_000_000), 600,
        "A user with more engagements and conversions in 5 minutes of event time is throttled: events "
        "count, but neither step the encoder nor recommend.", folds=True),
    Key("emit_from", Instant(), None,
        "The first start on an old log: effects of records with an earlier timestamp change the state and "
        "are not published. Not set: the moment of the first start.", example="earliest"),
    Key("dead_letters_share_max", Number(0, 1), 0.5,
        "The worker stops when a larger share of the last 10,000 records became dead letters: a wrong "
        "deployment, not wrong records. 1 never stops it."),
    Key("alerts_share_per_hour_max", Number(0, 1), 0.1,
        "Idle partitions stop letting time pass when a larger share of users was alerted within an hour: an "
        "outage upstream, not users who leave."),
    Key("stall_after", _POSITIVE, "60s",
        "A stage that has work and makes no progress for so long is named on /readyz and in the metrics."),
    Key("checkpoint_dir", _PATH, None,
        "A local folder, relative to the config file, where partitions leave a copy of their users' rows, so "
        "that a restart on this machine reads only what came after it. Not set: none.",
        example="checkpoints"),
))  # fmt: skip

HTTP: Final = Section("http", "Where /metrics, /healthz and /readyz are served.", (
    Key("host", Text("a host name or address"), "127.0.0.1",
        "The address to listen on; `0.0.0.0` for every interface, as probes and scrapers from outside need."),
    Key("port", Whole(0, 65_535), 9_464, "The port; 0 takes a free one and logs it."),
))  # fmt: skip

PRESET: Final = Key("preset", Text("the name of a preset"), None,
    "The preset that this config overrides. Tables are merged key by key; events.kinds, events.fields, "
    "windows.windows and lists are replaced whole.")  # fmt: skip

SECTIONS: Final = (EVENTS, TIME, WINDOWS, LIFECYCLE, POLICIES, BUNDLE, KAFKA, TOPICS, WORKER, HTTP)


def _list_keys() -> Iterator[tuple[str, Key | None]]:
    """Yield every key by its full name, each table (without a Key) before its keys."""
    yield PRESET.name, PRESET
    for section in SECTIONS:
        yield section.name, None
        tables = [section.name]
        if section is POLICIES:
            tables = [f"policies.{state}" for state in ("default", *POLICY_STATES)]
        for table in tables:
            if table != section.name:
                yield table, None
            for key in section.keys:
                yield f"{table}.{key.name}", key


#: Every full name of a key or a table, in the order of the table of fields.
NAMES: Final = tuple(name for name, _ in _list_keys())
#: Every key by its full name. One of a lifecycle state's policy, when not given, is that of policies.default.
KEYS: Final = {name: key for name, key in _list_keys() if key}


class Order(NamedTuple):
    """Two keys of which the first must be less than the second, or as much where `equal`."""

    less: str
    more: str
    equal: bool = False


ORDERS: Final = (
    Order("time.session_gap", "time.visit_gap", equal=True),
    Order("lifecycle.at_risk_min", "lifecycle.at_risk_max", equal=True),
    Order("lifecycle.at_risk_max", "lifecycle.dormant_after"),
    Order("lifecycle.at_risk_default", "lifecycle.dormant_after"),
    Order("lifecycle.dormant_after", "lifecycle.churned_after"),
    Order("lifecycle.churned_after", "lifecycle.forget_after"),
)
