"""Two programs' words about one stream: equal to the last digit, or the first difference with its history."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tests.oracle_decode import RefusedError, decode
from tests.oracles import Json, Replayed

#: Whether comparisons are to run whole, which takes minutes.
FULL = bool(os.environ.get("EBBTIDE_FULL"))

#: Lines of a user's history that a difference shows, the last before it.
HISTORY_MAX = 40


def assert_equal(
    expected: Replayed, found: Replayed, records: Sequence[bytes], settings: Mapping[str, Any]
) -> None:
    """Compare all files. Numbers by their JSON: 1 is not 1.0, and the last bit of a sum counts."""
    __tracebackhide__ = True
    difference = first_difference(expected, found, records, settings)
    assert difference is None, difference


def first_difference(
    expected: Replayed, found: Replayed, records: Sequence[bytes], settings: Mapping[str, Any]
) -> str | None:
    """Return the first line of the first file that differs, in words, or None."""
    for name in ("dead_letters", "lifecycle", "churn_alerts", "users"):
        ours, theirs = getattr(expected, name), getattr(found, name)
        if list(map(_canonical, ours)) != list(map(_canonical, theirs)):
            at, one, other = next(
                (at, one, other)
                for at, (one, other) in enumerate(_zip_longest(ours, theirs))
                if one is None or other is None or _canonical(one) != _canonical(other)
            )
            user = (one or other or {}).get("user_id")
            story = "" if user is None else "\n" + history(user, records, settings)
            return f"{name}, line {at}:\n  oracle {_show(one, other)}\n  engine {_show(other, one)}{story}"
    if _canonical(expected.summary) != _canonical(found.summary):
        return f"summary:\n  oracle {expected.summary}\n  engine {found.summary}"
    return None


def history(user: str, records: Sequence[bytes], settings: Mapping[str, Any]) -> str:
    """Return the user's records of the stream, oldest first: offset, kind, time and the rest."""
    lines = []
    for offset, record in enumerate(records):
        try:
            event = decode(record, settings["kinds"], settings["fields"])
        except RefusedError:
            continue
        if event.user == user.encode():
            lines.append(f"    {offset:>6} {event.kind} {event.time} id={event.event_id} value={event.value}")
    return f"  history of {user!r}, {len(lines)} records:\n" + "\n".join(lines[-HISTORY_MAX:])


def _canonical(row: Json) -> str:
    return json.dumps(row, sort_keys=True)


def _zip_longest(ours: list[Json], theirs: list[Json]) -> list[tuple[Json | None, Json | None]]:
    length = max(len(ours), len(theirs))
    return list(zip(_pad(ours, length), _pad(theirs, length), strict=True))


def _pad(rows: list[Json], length: int) -> list[Json | None]:
    return [*rows, *[None] * (length - len(rows))]


def _show(row: Json | None, other: Json | None) -> str:
    """Write a row, what the other one has otherwise first."""
    if row is None:
        return "has no such line"
    differing = {name: value for name, value in row.items() if (other or {}).get(name, row) != value}
    return f"{differing} of {json.dumps(row)}"
