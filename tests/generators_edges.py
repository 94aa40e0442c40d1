"""Streams for the edges of the text: each generator is named for what it makes happen.

Most of them keep an oracle beside them and read its rows, so that the next record can be put at exactly the
deadline, the watermark or the bucket's edge that matters, or a millisecond to either side.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import product
from typing import Any

from tests.generators import AWKWARD_IDS, Stream, a_kind, extras, kinds_of, record
from tests.oracle_settings import DAY, MINUTE, T0
from tests.oracle_windows import CELL_MAX
from tests.oracles import EVENT_IDS_MAX, Oracle

#: Every duration that a silence is measured by, and how often a walk takes it: short ones let users grow.
SILENCES = {
    "session_gap": 30, "visit_gap": 30, "at_risk_min": 12, "at_risk_max": 6, "at_risk_default": 10,
    "dormant_after": 6, "churned_after": 4, "forget_after": 2,
}  # fmt: skip

NOBODY = "nobody"


def walk(rng: random.Random, settings: Mapping[str, Any], size: int) -> Stream:
    """A few users with awkward ids, every step at some edge of what the user or the partition has come to."""
    walker = Walker(rng, settings, rng.sample(AWKWARD_IDS, rng.choice([2, 5, 12])))
    return Stream([walker.step() for _ in range(size)])


class Walker:
    """Chooses records by what an oracle of the same settings holds."""

    def __init__(self, rng: random.Random, settings: Mapping[str, Any], users: list[str]) -> None:
        self.rng, self.settings, self.users = rng, settings, users
        self.oracle = Oracle(settings)
        self.top = T0
        self.conversions = rng.choice([0.02, 0.1, 0.35])  # with few, users have time to become active
        places = {
            self.soon: 20, self.after_the_last: 30, self.before_the_last: 8, self.at_a_deadline: 10,
            self.at_a_bucket: 12, self.behind_w: 8, self.where_w_meets_a_deadline: 6,
        }  # fmt: skip
        self.places, self.weights = list(places), list(places.values())

    def step(self) -> bytes:
        rng = self.rng
        user = rng.choice(self.users)
        (place,) = rng.choices(self.places, self.weights)
        time = place(user) + rng.choice([-1, 0, 0, 0, 1])
        if self.is_lost(time) and rng.random() < 0.8:
            time = self.soon(user)
        if rng.random() < 0.05:
            user = NOBODY  # without a row as long as only contacts name it
        line = self.write(user, a_kind(rng, self.settings, self.conversions, 0.15), max(time, T0 - DAY))
        self.oracle.record(line)
        return line

    def write(self, user: str, kind: str, time: int) -> bytes:
        if user == NOBODY:
            kind = self.rng.choice(kinds_of(self.settings, "contact") or [kind])
        if not self.is_lost(time):
            self.top = max(self.top, time)
        fields = extras(self.rng, self.oracle.offset)
        return record(self.settings, user_id=user, event_type=kind, event_time=time, **fields)

    def is_lost(self, time: int) -> bool:
        """Whether the record would be too late; a walk of such would meet nothing else."""
        w = self.oracle.watermark
        return w is not None and time < w - self.settings["lateness_max"]

    def last(self, user: str) -> int:
        row = self.oracle.rows.get(user.encode())
        return self.top if row is None or row.last is None else row.last

    def a_silence(self) -> int:
        (name,) = self.rng.choices(list(SILENCES), list(SILENCES.values()))
        return int(self.settings[name])

    # Places in time

    def soon(self, user: str) -> int:
        return self.top + self.rng.randrange(2 * MINUTE)

    def after_the_last(self, user: str) -> int:
        return self.last(user) + self.rng.choice([0, self.a_silence()])

    def before_the_last(self, user: str) -> int:
        return self.last(user) - self.rng.choice([1, MINUTE, self.a_silence(), self.settings["lateness_max"]])

    def at_a_deadline(self, user: str) -> int:
        return self.oracle.deadlines.get(user.encode(), self.top)

    def at_a_bucket(self, user: str) -> int:
        """The edge of a bucket, some buckets after the last event: one, nearly the ring, the ring."""
        bucket, buckets = self.rng.choice(self.settings["rings"])
        shift = self.settings["day_offset"] if bucket == DAY else 0
        steps = self.rng.choice([0, 1, 1, 1, 6, 7, buckets - 1, buckets, -(buckets - 1), -buckets])
        index: int = (self.last(user) + shift) // bucket + (
            steps if bucket < DAY or self.rng.random() < 0.3 else 1
        )
        return index * int(bucket) - int(shift)

    def behind_w(self, user: str) -> int:
        """As late as lateness allows, or as a return allows: `event_time + at_risk_after > W`."""
        row = self.oracle.rows.get(user.encode())
        w = self.oracle.watermark or self.top
        own = self.settings["at_risk_default"] if row is None else self.oracle.at_risk_after(row)
        return w - self.rng.choice([0, own, own, self.settings["lateness_max"]])

    def where_w_meets_a_deadline(self, user: str) -> int:
        return self.at_a_deadline(user) + int(self.settings["out_of_order_max"])


def ties(rng: random.Random, settings: Mapping[str, Any], size: int) -> Stream:
    """Users with equal deadlines, whose ids are prefixes of each other or not ASCII; W stops at the edges."""
    users = [
        *AWKWARD_IDS,
        *("p" * length for length in range(1, 40)),
        *(f"n{number}" for number in range(99)),
    ]
    engagement, oo = a_kind(rng, settings, 0, 0), settings["out_of_order_max"]
    lines, time = [], T0
    while len(lines) < size:
        chosen = rng.sample(users, min(len(users), max(2, size // 6)))
        lines += [event(settings, user, engagement, time + rng.choice([0, 0, 0, 1])) for user in chosen]
        top = time
        for name in ("at_risk_default", "dormant_after", "churned_after", "forget_after"):
            if rng.random() < 0.7:
                top = time + settings[name] + oo + rng.choice([-1, 0, 1])
                lines.append(tick(settings, top))
        time = top + rng.choice([0, settings["session_gap"], settings["forget_after"]])
    return Stream(lines[:size])


def storm(rng: random.Random, settings: Mapping[str, Any], size: int) -> Stream:
    """W jumps with most users' deadlines due, some through several stages; between them users return."""
    kinds, lines, time = settings["kinds"], [], T0
    while len(lines) < size:
        for number in range(size // 5):
            user = rng.choice([f"user-{number}", f"user-{rng.randrange(size)}"])
            kind = a_kind(rng, settings, 0.3, 0)
            lines.append(event(settings, user, kind, time + rng.randrange(settings["visit_gap"])))
        time += settings["visit_gap"]
        jump = rng.choice(["at_risk_default", "dormant_after", "churned_after", "forget_after"])
        time += int(settings[jump] * rng.uniform(0.9, 1.5))
        cause = rng.choice([NOBODY, "user-0", "user-1"])
        lines.append(
            event(settings, cause, tick_kind(settings) if cause == NOBODY else next(iter(kinds)), time)
        )
    return Stream(lines[:size])


def comebacks(rng: random.Random, settings: Mapping[str, Any], size: int) -> Stream:
    """Every silence, met a millisecond before, at and after its deadline, with every sort of return.

    It is found by the user's own return, or by W; and the user returns with an engagement, with a conversion,
    or with a late conversion first.
    """
    silences = ("at_risk_default", "dormant_after", "churned_after", "forget_after")
    engagement, conversion = a_kind(rng, settings, 0, 0), a_kind(rng, settings, 1, 0)
    cases = list(
        product(
            silences, (-1, 0, 1), ("own", "w", "w first"), ("engagement", "conversion", "late"), (0, 1, 2)
        )
    )
    rng.shuffle(cases)
    lines: list[bytes] = []
    time = T0
    for number, (silence, jitter, found, returns_with, orders) in enumerate(cases):
        user = f"{AWKWARD_IDS[number % len(AWKWARD_IDS)][:50]}{number // 7}"
        for _ in range(orders):
            lines.append(event(settings, user, conversion, time, value=rng.choice([None, -1.5, 2])))
            time += settings["session_gap"]
        lines.append(event(settings, user, engagement, time))
        back = time + settings[silence] + jitter
        if found != "own":
            ahead = settings["out_of_order_max"] + (settings["session_gap"] if found == "w first" else jitter)
            lines.append(tick(settings, back + ahead))
        if returns_with == "late":
            lines.append(event(settings, user, conversion, time - 1))
        lines.append(event(settings, user, conversion if returns_with == "conversion" else engagement, back))
        lines.append(event(settings, user, conversion, back + rng.choice([0, 1, settings["session_gap"]])))
        time = back + settings["session_gap"] + settings["out_of_order_max"] + 1
        if len(lines) >= size:
            break
    return Stream(lines[:size])


def regulars(rng: random.Random, settings: Mapping[str, Any], size: int) -> Stream:
    """Weeks of many and of few active days, at the edges of days; a contact or a late event fills others."""
    users = dict.fromkeys(rng.sample(AWKWARD_IDS, 8), 0.5)
    lines: list[bytes] = []
    day = (T0 + settings["day_offset"]) // DAY
    while len(lines) < size:
        start = day * DAY - settings["day_offset"]
        for user in users:
            users[user] = rng.choice([0.1, 0.9]) if rng.random() < 0.2 else users[user]
            moment = start + rng.choice([0, 0, DAY - 1, rng.randrange(DAY)])
            if rng.random() < users[user]:
                lines.append(event(settings, user, a_kind(rng, settings, 0.01, 0), moment))
            if rng.random() < 0.2:
                lines.append(event(settings, user, tick_kind(settings), moment))
            if rng.random() < 0.05:
                lines.append(event(settings, user, a_kind(rng, settings, 0.02, 0), moment - 2 * DAY))
        day += 1
    return Stream(lines[:size])


def verges(rng: random.Random, settings: Mapping[str, Any], size: int) -> Stream:
    """Silent users whose events are delivered long after their time, about the edge where a return holds."""
    oracle = Oracle(settings)
    lines: list[bytes] = []
    top = T0
    while len(lines) < size:
        user = rng.choice(AWKWARD_IDS)
        start = top + 1
        silence = settings[rng.choice(["at_risk_default", "at_risk_max", "dormant_after", "churned_after"])]
        top = start + silence + settings["out_of_order_max"] + rng.choice([0, 0, 1, MINUTE])
        visits = [
            event(settings, user, a_kind(rng, settings, 0.5, 0), start) for _ in range(rng.randrange(1, 3))
        ]
        for line in [*visits, tick(settings, top)]:
            oracle.record(line)
            lines.append(line)
        for _ in range(rng.randrange(1, 6)):
            row = oracle.rows.get(user.encode())
            own = oracle.at_risk_after(row) if row else settings["at_risk_default"]
            edge = (oracle.watermark or top) - own
            gap = settings["session_gap"]
            moment = edge + rng.choice([-2, -1, 0, 0, 1, 1, 2, -gap, gap])
            lines.append(event(settings, user, a_kind(rng, settings, 0.5, 0), max(moment, start)))
            oracle.record(lines[-1])
            top = max(top, moment)
    return Stream(lines[:size])


def repeats(rng: random.Random, settings: Mapping[str, Any], size: int) -> Stream:
    """Ids that come again after about as many others as a user remembers; of contacts and other users too."""
    lines: list[bytes] = []
    sent: dict[str, list[str]] = {}
    time = T0
    while len(lines) < size:
        user = rng.choice(["a", "a\0"])
        ids = sent.setdefault(user, [])
        back = rng.choice([1, EVENT_IDS_MAX - 1, EVENT_IDS_MAX, EVENT_IDS_MAX, EVENT_IDS_MAX + 1])
        again = rng.random() < 0.2 and len(ids) >= back
        name = ids[-back] if again else f"id {len(lines)}"
        kind = a_kind(rng, settings, 0.2, 0.1)
        if not again and settings["kinds"][kind] != "contact":
            ids.append(name)
        elif rng.random() < 0.2:
            name = ""
        time += rng.choice([0, 1, MINUTE]) if rng.random() < 0.997 else settings["forget_after"]
        lines.append(event(settings, user, kind, time, event_id=name))
    return Stream(lines)


def spenders(rng: random.Random, settings: Mapping[str, Any], size: int) -> Stream:
    """Many users who spend on several days: sums whose last bit tells in what order they were made."""
    days = min(40 * DAY, settings["forget_after"] // 2)
    times = sorted(T0 + rng.randrange(days) for _ in range(size))
    lines = []
    for number, time in enumerate(times):
        late = rng.randrange(1 + min(settings["lateness_max"], 3 * DAY)) if rng.random() < 0.3 else 0
        value = rng.choice([0.1, 0.2, 0.3, 1e15, -1e15, 1e-3, rng.uniform(-9, 9), None])
        kind = a_kind(rng, settings, 0.8, 0.05)
        lines.append(event(settings, f"user-{rng.randrange(1 + size // 12)}", kind, time - late, value=value))
        if number % 50 == 0:
            lines.append(event(settings, "user-0", kind, time, value=rng.choice([1.7e308, -1.7e308])))
    return Stream(lines)


def full_cells(rng: random.Random, settings: Mapping[str, Any], size: int) -> Stream:
    """One bucket takes more events than its cell can count, beside others of the user and a neighbour's."""
    conversion, contact = a_kind(rng, settings, 1, 0), tick_kind(settings)
    lines = [event(settings, "a", conversion, T0 + i % MINUTE, value=0.1) for i in range(CELL_MAX + 4)]
    for kind, user in (
        (a_kind(rng, settings, 0, 0), "a"),
        (contact, "a"),
        (conversion, "a\0"),
        (conversion, "a"),
    ):
        lines.append(event(settings, user, kind, T0 + MINUTE, value=1))
    lines += [event(settings, "a", contact, T0 + MINUTE) for _ in range(size)]
    return Stream(lines)


def guard(rng: random.Random, settings: Mapping[str, Any], size: int) -> Stream:
    """Times about `--now` + `future_max`: what is held back must not move W, or all after it is too late."""
    now, edge = T0, T0 + settings["future_max"]
    lines = []
    for number in range(size):
        time = edge + rng.choice(
            [-2, -1, 0, 1, 2, DAY, 9999 * DAY, -settings["lateness_max"], -rng.randrange(DAY)]
        )
        user = rng.choice(["a", "b", f"user-{number % 9}"])
        lines.append(event(settings, user, a_kind(rng, settings), time, **extras(rng, number)))
    return Stream(lines, now)


def event(settings: Mapping[str, Any], user: str, kind: str, time: int, **fields: Any) -> bytes:
    return record(settings, user_id=user, event_type=kind, event_time=time, **fields)


def tick_kind(settings: Mapping[str, Any]) -> str:
    return (kinds_of(settings, "contact") or list(settings["kinds"]))[0]


def tick(settings: Mapping[str, Any], time: int) -> bytes:
    """A record that moves W; of a vocabulary without contacts it makes a user of its own."""
    return event(settings, NOBODY, tick_kind(settings), time)
