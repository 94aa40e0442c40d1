"""Room in the user table: compiled code writes without looking, so `reserve` must have made room before."""

from __future__ import annotations

import pytest

from tests.generators_edges import event, tick
from tests.oracle_settings import DAY, T0, defaults
from tests.programs import Engine


def forget_all(keep: bool) -> Engine:
    """Give 200 users with long ids a row and forget them all, in a table that may not let go of them yet.

    keep: no snapshot has their end. Otherwise: own silence ended them, and the timers have not come so far.
    """
    settings = defaults() if keep else defaults(out_of_order_max=2_000 * DAY)
    engine = Engine(settings, snapshots=keep)
    users = [f"{number:0128}" for number in range(200 if keep else 100)]
    engine.records([event(settings, user, "view", T0) for user in users])
    if keep:
        engine.records([tick(settings, T0 + 500 * DAY)])
    else:
        engine.records([event(settings, user, "view", T0 + 500 * DAY) for user in users])
        engine.records([event(settings, user, "view", T0 + 1000 * DAY) for user in users[:50]])
    return engine


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("id_bytes", [1, 5_000, 10_000, 40_000])
def test_ids_of_the_dead_leave_room_for_the_next_batch(keep: bool, id_bytes: int) -> None:
    table = forget_all(keep).partition.table
    for _ in range(3):
        table.reserve(1, id_bytes, 1)
        assert table.users.counts[0].ids + id_bytes <= len(table.users.ids)
