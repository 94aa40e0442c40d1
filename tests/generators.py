"""Streams for the comparison with the oracle: pure functions of a random generator, settings, a size.

    clicks    what a shop sends: sessions, silences, late, repeated, future and incomplete records
    hostile   what nobody should send, between records that are good          (tests/generators_hostile.py)
    the rest  what the text's edges need: ties, storms, full cells, …         (tests/generators_edges.py)

`settings` are the oracle's; thresholds are taken from there, so that every stream meets its edges under every
config.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.oracle_settings import DAY, HOUR, MINUTE, T0, Json

#: Ids that sort otherwise as text, as UTF-16 or with their zero bytes cut off than they do as bytes.
AWKWARD_IDS = (
    "a", "a\0", "a\0b", "ab", "b", "B", "é", "e\u0301", "\uffee", "\U0001f30a", "\U0001f30ab", "\x7f",
    "\u0080", " ", "\\", '"', "user-1", "user-10", "user-2", "0", "00", "z" * 127, "z" * 128, "\u07ff" * 64,
)  # fmt: skip


class Stream(NamedTuple):
    """The records of a file in their order, and the `--now` that they are read with."""

    records: list[bytes]
    now: int | None = None

    @property
    def data(self) -> bytes:
        """The file. It has no final newline unless its last record is empty."""
        return b"\n".join(self.records) + (b"" if self.records and self.records[-1] else b"\n")


def record(settings: Mapping[str, Any], **fields: Any) -> bytes:
    """A record with these fields, under the names that the config reads them by."""
    names = settings["fields"]
    named = {names.get(field, field): value for field, value in fields.items()}
    return json.dumps(named, ensure_ascii=len(fields) % 2 == 0).encode()


def kinds_of(settings: Mapping[str, Any], role: str) -> list[str]:
    return [kind for kind, kind_role in settings["kinds"].items() if kind_role == role]


def a_kind(
    rng: random.Random, settings: Mapping[str, Any], conversions: float = 0.25, contacts: float = 0.1
) -> str:
    """A kind of some role; a role that the vocabulary has not falls back on engagement or conversion."""
    draw = rng.random()
    wanted = (
        "conversion" if draw < conversions else "contact" if draw < conversions + contacts else "engagement"
    )
    kinds = kinds_of(settings, wanted) or kinds_of(settings, "conversion") or kinds_of(settings, "engagement")
    return rng.choice(kinds)


def extras(rng: random.Random, offset: int) -> Json:
    """Fields beside the three that must be there: some missing, some null, some empty."""
    found: Json = {}
    if rng.random() < 0.7:
        found["item_id"] = rng.choice(["", None, "ü", *(f"item-{number}" for number in range(40))])
    if rng.random() < 0.5:
        found["event_id"] = rng.choice(["", None, f"e{rng.randrange(40)}", f"e{offset}", f"e{offset}"])
    if rng.random() < 0.6:
        found["value"] = rng.choice(
            [None, 0, -0.0, 1, 0.1, 0.2, 1e-9, 19.99, -5, -0.3, rng.uniform(0, 100), rng.uniform(-3, 3), 1e15]
        )
    if rng.random() < 0.2:
        found["context"] = rng.choice([{}, {"device": "phone", "score": 0.5, "new": True, "place": None}])
    if rng.random() < 0.2:
        found |= {
            "session_id": "s",
            "rec_id": "r",
            "position": rng.randrange(10),
            "unknown": [1, {"a": None}],
        }
    return found


def clicks(rng: random.Random, settings: Mapping[str, Any], size: int) -> Stream:
    """Synthetic clicks: `size` records of about size / 40 users over one and a half times `forget_after`."""
    span = int(1.5 * settings["forget_after"])
    moments: list[tuple[int, str]] = []
    while len(moments) < size:
        moments += _life(rng, settings, f"user-{len(moments)}", span)
    moments = sorted(moments[:size])
    lines = []
    for offset, (time, user) in enumerate(moments):
        fields = {"user_id": user, "event_type": a_kind(rng, settings, 0.1, 0.2), "event_time": T0 + time}
        lines.append(record(settings, **_damage(rng, fields | extras(rng, offset), span)))
    return Stream(_deliver(rng, lines), T0 + span)


def _life(rng: random.Random, settings: Mapping[str, Any], user: str, span: int) -> list[tuple[int, str]]:
    """A user's times: sessions in an own rhythm, broken by silences that may last beyond every deadline."""
    rhythm = rng.choice(
        [settings["visit_gap"], settings["at_risk_min"] // 2, settings["at_risk_default"] // 2]
    )
    time, moments = rng.randrange(span), []
    for _ in range(rng.randrange(1, 16)):
        for _ in range(rng.randrange(1, 7)):
            moments.append((time, user))
            time += rng.randrange(1, 4 * MINUTE)
        pause = rng.choice(
            ["session_gap", "at_risk_default", "dormant_after", "churned_after", "forget_after"]
        )
        silence = settings[pause] if rng.random() < 0.25 else rhythm
        time += int(silence * rng.uniform(0.6, 1.6))
    return [(time, user) for time, user in moments if time < span]


def _damage(rng: random.Random, fields: Json, span: int) -> Json:
    """In one record of thirty a field is missing, null or wrong, or the time lies ahead of all others."""
    if rng.random() > 1 / 30:
        return fields
    if rng.random() < 0.2:
        return fields | {"event_time": T0 + span + rng.choice([MINUTE, HOUR, 5 * DAY, 5000 * DAY])}
    field = rng.choice(["user_id", "event_type", "event_time", "value", "context", "position"])
    if rng.random() < 0.3:
        return {name: value for name, value in fields.items() if name != field}
    wrong = rng.choice([None, "", [], {}, True, 1.5, "nap", "2024-02-30T00:00:00Z"])
    return fields | {field: wrong}


def _deliver(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    """Deliver one in twelve late, most by a little, some by a lot; and one in twenty-five again."""
    places: list[tuple[float, bytes]] = []
    for place, line in enumerate(lines):
        late = rng.random() < 1 / 12
        delay = rng.choice([2, 20, 20, len(lines) / 20, len(lines) / 3]) * rng.random() if late else 0
        places.append((place + delay, line))
        if rng.random() < 1 / 25:
            places.append((place + delay + rng.choice([0.5, 3, 60, len(lines) / 10]), line))
    return [line for _, line in sorted(places, key=lambda entry: entry[0])][: len(lines)]
