"""Windows and spend, in small streams computed by hand from DESIGN.md section 4; each cites its sentence."""

from __future__ import annotations

import pytest

from tests.oracle_settings import DAY, HOUR, MINUTE, T0
from tests.oracle_windows import Ring
from tests.scenarios import Run, click, days, every_program, pick, user

FIVE = 5 * MINUTE


def views(run: Run, window: str, *times: int) -> int:
    """What the window counts as of the user's last event."""
    count: int = user(run([click("u", "view", time) for time in times]), "u")["windows"][window]["view"]
    return count


@every_program
@pytest.mark.parametrize(
    ("window", "bucket", "buckets"), [("1h", FIVE, 12), ("24h", HOUR, 24), ("7d", DAY, 7)]
)
def test_a_window_is_m_buckets_up_to_its_own(run: Run, window: str, bucket: int, buckets: int) -> None:
    """§ 4: "The window of m buckets read at time t sums indices in (i(t) − m, i(t)]".

    T0 is the first millisecond of a bucket of every ring, so bucket m ahead of it no longer sees it.
    """
    assert views(run, window, 0, buckets * bucket - 1) == 2
    assert views(run, window, 0, buckets * bucket) == 1
    assert views(run, window, -1, (buckets - 1) * bucket) == 1


@every_program
def test_a_ring_ignores_what_is_older_than_it_holds(run: Run) -> None:
    """§ 4: "If i > h − n, the kind's cell i mod n gains 1 …; otherwise the ring ignores the event".

    Of the ring 12 × 5 min with head 0, index −11 is held and −12 would share its cell with the head.
    """
    assert views(run, "1h", 0, -11 * FIVE) == 2
    assert views(run, "1h", 0, -11 * FIVE - 1) == 1
    assert views(run, "24h", 0, -11 * FIVE - 1) == 2


@every_program
def test_the_head_clears_what_it_passes(run: Run) -> None:
    """§ 4: "If i > h: cells h+1 … i are cleared (all, if i − h ≥ n) and h = i"."""
    assert views(run, "1h", 0, 12 * FIVE) == 1  # the same cell
    assert views(run, "1h", 0, 13 * FIVE) == 1  # passed over
    assert views(run, "1h", 0, 24 * FIVE) == 1  # the same cell, once round
    assert views(run, "1h", 0, 5 * FIVE, 6 * FIVE, 13 * FIVE) == 3


@every_program
def test_a_contact_moves_the_heads_ahead_of_the_user(run: Run) -> None:
    """§ 4: "one head per ring", and "indices outside (h − n, h] count 0".

    A contact half an hour later leaves indices −5 … 6; one an hour later leaves 1 … 12. The windows are read
    as of `last_event_time`, at index 0.
    """
    base = [click("u", "view", time) for time in (-6 * FIVE, -5 * FIVE, 0)]
    half = user(run([*base, click("u", "impression", 6 * FIVE)]), "u")
    assert half["windows"]["1h"] == {"view": 2, "purchase": 0, "impression": 0}
    hour = user(run([*base, click("u", "impression", 12 * FIVE)]), "u")
    assert hour["windows"]["1h"] == {"view": 0, "purchase": 0, "impression": 0}
    assert hour["windows"]["24h"] == {"view": 3, "purchase": 0, "impression": 0}


@every_program
def test_a_contact_ahead_can_hide_the_active_days(run: Run) -> None:
    """§ 4: active days are "of the last 7 days of the day ring": what its head has passed is not there.

    A contact on day 30 (with W not yet there: nothing is due before day 31) leaves days 1 … 30.
    """
    records = [click("u", "view", 0), click("u", "view", days(1)), click("u", "impression", days(30))]
    assert user(run(records), "u")["active_days"] == 1


@every_program
def test_a_fresh_row_has_fresh_rings(run: Run) -> None:
    """§ 4: "A fresh ring has head i": what a contact did to the row before is gone with it."""
    records = [click("u", "view", 0), click("u", "impression", days(405)), click("u", "view", days(404))]
    row = user(run(records), "u")
    assert row["windows"]["1h"] == {"view": 1, "purchase": 0, "impression": 0}
    assert row["windows"]["30d"] == {"view": 1, "purchase": 0, "impression": 0}


@every_program
@pytest.mark.parametrize(("offset", "days_apart"), [(0, 1), (HOUR, 2), (-HOUR, 1)])
def test_day_offset_moves_the_edge_of_the_day(run: Run, offset: int, days_apart: int) -> None:
    """§ 4: "i = (t + offset) // b (offset is 0; `day_offset` for the day ring)".

    22:30 and 23:30 of a day are in two days if the day begins at 23:00; the ring of hours does not move.
    """
    evening = days(1) - 90 * MINUTE
    row = user(run([click("u", "view", evening), click("u", "view", evening + HOUR)], day_offset=offset), "u")
    assert row["active_days"] == days_apart
    assert row["windows"]["24h"]["view"] == 2


@every_program
def test_day_offset_is_the_day_rings_alone(run: Run) -> None:
    """§ 4: "offset is 0; `day_offset` for the day ring": an hour still begins at the full hour.

    The window of 24 hours up to the one of 23:59 begins at 00:00.
    """
    records = [click("u", "view", -1), click("u", "view", days(1) - 1)]
    assert user(run(records, day_offset=30 * MINUTE), "u")["windows"]["24h"]["view"] == 1
    records = [click("u", "view", 0), click("u", "view", days(1) - 1)]
    assert user(run(records, day_offset=30 * MINUTE), "u")["windows"]["24h"]["view"] == 2


@every_program
def test_other_rings_and_windows(run: Run) -> None:
    """§ 4: rings are configurable; a window of m buckets reads the ring that it names."""
    row = user(
        run(
            [
                *(click("u", "view", time) for time in (0, 50 * MINUTE, 59 * MINUTE, HOUR)),
                click("u", "purchase", HOUR, value=2),
            ],
            rings=[(10 * MINUTE, 6), (30 * MINUTE, 48), (DAY, 40)],
            windows={"20m": (10 * MINUTE, 2), "1d": (30 * MINUTE, 48), "40d": (DAY, 40)},
        ),
        "u",
    )
    assert row["windows"] == {
        "20m": {"view": 3, "purchase": 1, "impression": 0},
        "1d": {"view": 4, "purchase": 1, "impression": 0},
        "40d": {"view": 4, "purchase": 1, "impression": 0},
    }
    assert row["spend"] == {"40d": 2.0}


# Spend


@every_program
def test_spend_sums_values_of_conversions(run: Run) -> None:
    """§ 4: "The day ring also keeps the sum of `value` of conversions", of negative ones too."""
    records = [
        click("u", "purchase", 0, value=2.5),
        click("u", "purchase", days(8)),
        click("u", "purchase", days(8), value=-4),
        click("u", "view", days(8), value=100),
        click("u", "purchase", days(7), value=1),
    ]
    assert user(run(records), "u")["spend"] == {"7d": -3.0, "30d": -0.5}


@every_program
def test_spend_sums_the_oldest_bucket_first(run: Run) -> None:
    """§ 4: "a window sums oldest bucket first": (0.1 + 0.2) + 0.3, though the newest came first."""
    late = {day: click("u", "purchase", days(day), value=value) for day, value in enumerate((0.1, 0.2, 0.3))}
    assert user(run([late[2], late[1], late[0]]), "u")["spend"]["7d"] == 0.1 + 0.2 + 0.3
    assert 0.1 + 0.2 + 0.3 != 0.3 + 0.2 + 0.1


@every_program
def test_the_day_ring_clears_spend_with_its_cells(run: Run) -> None:
    """§ 4: "The day ring also keeps": spend lives and dies with the day."""
    records = [click("u", "purchase", 0, value=1), click("u", "purchase", days(30), value=2)]
    assert user(run(records), "u")["spend"] == {"7d": 2.0, "30d": 2.0}
    records = [click("u", "purchase", 0, value=1), click("u", "purchase", days(29), value=2)]
    assert pick(user(run(records), "u"), "spend") == {"spend": {"7d": 2.0, "30d": 3.0}}


# The ring itself, where a file would be long


def test_a_cell_saturates_and_its_spend_goes_on() -> None:
    """§ 4: "(saturating at 65,535)"; "saturated cells go on" in spend; other cells are their own."""
    ring = Ring(DAY, 30, 0, T0)
    for _ in range(65_540):
        ring.add(T0, "purchase", 1.0)
    ring.add(T0 + DAY, "purchase", 1.0)
    ring.add(T0, "view", None)
    assert ring.count(T0, 1, "purchase") == 65_535
    assert ring.count(T0 + DAY, 7, "purchase") == 65_536
    assert ring.count(T0, 1, "view") == 1
    assert ring.spent(T0, 1) == 65_540.0
