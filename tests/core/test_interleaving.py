"""Users do not know each other: what happens to one depends on the own events and on W, on nothing else.

A stream is cut into epochs. Each begins with a record of nobody that moves W, and holds events of users that
move it no further. Within an epoch the users' events may be mixed in any way.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from tests.generators import record
from tests.generators_settings import HASTY
from tests.oracle_settings import DAY, HOUR, MINUTE, T0, Json
from tests.oracles import Replayed
from tests.programs import Engine

SETTINGS = HASTY | {"lateness_max": 2 * DAY}
USERS = ("a", "a\0", "b")


class Epoch(NamedTuple):
    """How far its record of nobody moves event time, and what users do."""

    length: int
    events: Sequence[tuple[str, str, int]]  # user, kind, how long before the epoch's record


edges = st.sampled_from([0, 1, MINUTE, 30 * MINUTE, HOUR, 6 * HOUR, 30 * HOUR, 2 * DAY])
spans = edges | st.integers(0, 3 * DAY)
epochs = st.lists(
    st.builds(
        Epoch,
        length=spans,
        events=st.lists(
            st.tuples(st.sampled_from(USERS), st.sampled_from(["view", "purchase", "impression"]), spans),
            max_size=8,
        ),
    ),
    max_size=6,
)


def write(made_of: Iterable[Epoch], rng: random.Random, only: str | None = None) -> list[bytes]:
    """Return the records, each epoch's users mixed by chance; or of one user alone."""
    lines, now = [], T0
    for number, epoch in enumerate(made_of):
        now += epoch.length
        lines.append(record(SETTINGS, user_id="nobody", event_type="impression", event_time=now))
        queues = {user: [event for event in epoch.events if event[0] == user] for user in USERS}
        order = [user for user, queue in queues.items() for _ in queue]
        rng.shuffle(order)
        for user in order:
            _, kind, before = queues[user].pop(0)
            if only in (None, user):
                fields = {"user_id": user, "event_type": kind, "event_time": now - before}
                lines.append(record(SETTINGS, **fields, event_id=f"{number}", value=0.1 * number))
    return lines


def run(lines: Sequence[bytes], rng: random.Random) -> Replayed:
    engine = Engine(SETTINGS, timers_max=rng.randrange(1, 5))
    while lines:
        size = rng.randrange(1, 9)
        engine.records(lines[:size])
        lines = lines[size:]
    return engine.result()


def life_of(user: str, replayed: Replayed) -> dict[str, list[Json]]:
    """Everything that was said of one user."""
    return {
        name: [row for row in getattr(replayed, name) if row["user_id"] == user]
        for name in ("lifecycle", "churn_alerts", "users")
    }


@given(made_of=epochs, seed=st.integers(0, 2**32))
def test_users_may_be_mixed_in_any_way(made_of: list[Epoch], seed: int) -> None:
    rng = random.Random(seed)
    one, other = (run(write(made_of, rng), rng) for _ in range(2))
    for user in USERS:
        assert life_of(user, one) == life_of(user, other)
    assert one.summary == other.summary


@given(made_of=epochs, seed=st.integers(0, 2**32))
def test_a_user_alone_lives_the_same_life(made_of: list[Epoch], seed: int) -> None:
    rng = random.Random(seed)
    together = run(write(made_of, rng), rng)
    for user in USERS:
        assert life_of(user, run(write(made_of, rng, only=user), rng)) == life_of(user, together)
