"""What the hand-computed scenarios share: how a record is written, and which programs they are put to.

A scenario takes `run` and calls it with records; every program must give what the text says.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import pytest

from tests.oracle_settings import DAY, T0, Json, defaults
from tests.oracles import Replayed, replay
from tests.programs import run_replay


class Run(Protocol):
    """Replays records: `now` is `--now`, `settings` override `defaults()`."""

    def __call__(self, records: Sequence[bytes], now: int | None = None, **settings: Any) -> Replayed: ...


def run_oracle(records: Sequence[bytes], now: int | None = None, **settings: Any) -> Replayed:
    return replay(b"".join(record + b"\n" for record in records), defaults(**settings), now)


def run_engine(records: Sequence[bytes], now: int | None = None, **settings: Any) -> Replayed:
    data = b"".join(record + b"\n" for record in records)
    with TemporaryDirectory() as folder:
        return run_replay(data, defaults(**settings), Path(folder), now)


every_program = pytest.mark.parametrize(
    "run", [pytest.param(run_oracle, id="oracle"), pytest.param(run_engine, id="engine")]
)


def click(user: str, kind: str, time: int, **fields: Any) -> bytes:
    """A record; `time` counts from T0."""
    return json.dumps({"user_id": user, "event_type": kind, "event_time": T0 + time, **fields}).encode()


def tick(time: int) -> bytes:
    """A contact to a user without a row: it moves W and nothing else."""
    return click("nobody", "impression", time)


def moves(replayed: Replayed, user: str | None = None) -> list[tuple[str, str, str, int]]:
    """(from, to, trigger, at since T0) of each transition."""
    return [
        (row["from"], row["to"], row["trigger"], row["at"] - T0)
        for row in replayed.lifecycle
        if user in (None, row["user_id"])
    ]


def alerts(replayed: Replayed) -> list[tuple[str, str, int]]:
    """(status, stage, at since T0) of each alert."""
    return [(row["status"], row["stage"], row["at"] - T0) for row in replayed.churn_alerts]


def user(replayed: Replayed, user_id: str) -> Json:
    """The user's row of `users.jsonl`."""
    (row,) = (row for row in replayed.users if row["user_id"] == user_id)
    return row


def pick(row: Json, names: str) -> dict[str, Any]:
    """The named entries of a row."""
    return {name: row[name] for name in names.split()}


def days(count: float) -> int:
    return int(count * DAY)
