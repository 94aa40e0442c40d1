"""The lifecycle, in small streams computed by hand from DESIGN.md section 4; each cites its sentence."""

from __future__ import annotations

import pytest

from tests.oracle_settings import HOUR, MINUTE, T0
from tests.scenarios import Run, alerts, click, days, every_program, moves, pick, tick, user

pytestmark = every_program

ORDERS = "lifecycle events sessions conversions orders"


# The table: up to loyal


def test_first_engagement_makes_a_new_user(run: Run) -> None:
    """`none | engagement | new`; `last_event_time`, `silent_ms`: "null for the first"."""
    replayed = run([click("u", "view", 0)])
    assert replayed.lifecycle == [
        {
            "user_id": "u",
            "from": "none",
            "to": "new",
            "trigger": "engagement",
            "at": T0,
            "last_event_time": None,
            "silent_ms": None,
            "first_event_time": T0,
            "events": 1,
            "sessions": 1,
            "orders": 0,
            "active_days": 1,
        }
    ]
    assert replayed.churn_alerts == []


def test_first_conversion_makes_a_converted_user(run: Run) -> None:
    """`none, … | orders became 1 | converted`; "trigger is `order` if the event raised `orders`"."""
    replayed = run([click("u", "purchase", 0)])
    assert moves(replayed) == [("none", "converted", "order", 0)]
    assert replayed.lifecycle[0]["orders"] == 1


@pytest.mark.parametrize(
    ("gap", "sessions", "states"), [(30 * MINUTE - 1, 1, ["new"]), (30 * MINUTE, 2, ["new", "retained"])]
)
def test_a_gap_of_session_gap_starts_a_session_and_retains(
    run: Run, gap: int, sessions: int, states: list[str]
) -> None:
    """§ 4: "a gap ≥ `session_gap` (30 min), starts a session"; `new | engagement that started a session`."""
    replayed = run([click("u", "view", 0), click("u", "view", gap)])
    assert [to for _, to, _, _ in moves(replayed)] == states
    assert user(replayed, "u")["sessions"] == sessions


def test_third_active_day_makes_active_and_a_thin_week_unmakes_it(run: Run) -> None:
    """`retained | engagement, active days ≥ min | active`, and back to retained with fewer.

    Days 0, 1, 2; the week up to day 8 is days 2 … 8 and counts days 2 and 8 only.
    """
    replayed = run([click("u", "view", days(day)) for day in (0, 1, 2, 8)])
    assert moves(replayed) == [
        ("none", "new", "engagement", 0),
        ("new", "retained", "engagement", days(1)),
        ("retained", "active", "engagement", days(2)),
        ("active", "retained", "engagement", days(8)),
    ]
    assert [row["active_days"] for row in replayed.lifecycle] == [1, 2, 3, 2]


def test_orders_are_sessions_with_a_conversion(run: Run) -> None:
    """§ 4: "a conversion that is not late adds 1 if its session had none yet"; 2 or more is loyal."""
    first = [click("u", "purchase", 0), click("u", "purchase", MINUTE)]
    assert pick(user(run(first), "u"), ORDERS) == {
        "lifecycle": "converted",
        "events": 2,
        "sessions": 1,
        "conversions": 2,
        "orders": 1,
    }
    replayed = run([*first, click("u", "view", HOUR), click("u", "purchase", HOUR + 1)])
    assert moves(replayed)[1:] == [("converted", "loyal", "order", HOUR + 1)]
    assert pick(user(replayed, "u"), ORDERS) == {
        "lifecycle": "loyal",
        "events": 4,
        "sessions": 2,
        "conversions": 3,
        "orders": 2,
    }


def test_third_order_leaves_loyal_without_a_transition(run: Run) -> None:
    """§ 4: "A change emits a transition": loyal to loyal is none."""
    replayed = run([click("u", "purchase", day * HOUR) for day in range(3)])
    assert [to for _, to, _, _ in moves(replayed)] == ["converted", "loyal"]
    assert user(replayed, "u")["orders"] == 3


# Late for the user


def test_equal_event_time_is_not_late(run: Run) -> None:
    """§ 4: "not late for the user (`event_time ≥ last_event_time`)".

    The conversion belongs to the session.
    """
    replayed = run([click("u", "view", 0), click("u", "purchase", 0), click("u", "purchase", 1)])
    assert moves(replayed) == [("none", "new", "engagement", 0), ("new", "converted", "order", 0)]
    assert pick(user(replayed, "u"), "sessions orders") == {"sessions": 1, "orders": 1}


def test_late_conversion_makes_the_first_order_and_belongs_to_no_session(run: Run) -> None:
    """§ 4: "one that is late belongs to no session and makes `orders` 1 if it was 0".

    Its `silent_ms` is negative. The session itself has no order yet: its own conversion is the second.
    """
    replayed = run(
        [click("u", "view", HOUR), click("u", "purchase", 1), click("u", "purchase", HOUR + 1)],
    )
    assert moves(replayed)[1:] == [
        ("new", "converted", "order", 1),
        ("converted", "loyal", "order", HOUR + 1),
    ]
    assert pick(replayed.lifecycle[1], "last_event_time silent_ms sessions orders active_days") == {
        "last_event_time": T0 + HOUR,
        "silent_ms": 1 - HOUR,
        "sessions": 1,
        "orders": 1,
        "active_days": 1,
    }


def test_second_late_conversion_raises_nothing(run: Run) -> None:
    """§ 4: "makes `orders` 1 if it was 0"."""
    replayed = run([click("u", "view", HOUR), click("u", "purchase", 1), click("u", "purchase", 2)])
    assert pick(user(replayed, "u"), "conversions orders lifecycle") == {
        "conversions": 2,
        "orders": 1,
        "lifecycle": "converted",
    }


def test_late_event_changes_no_session_rhythm_or_last_event_time(run: Run) -> None:
    """§ 4: "An event late for the user counts in windows and totals, joins the recent items …"."""
    replayed = run([click("u", "view", days(2), item_id="a"), click("u", "view", 0, item_id="b")])
    assert moves(replayed) == [("none", "new", "engagement", days(2))]
    assert pick(
        user(replayed, "u"), "first_event_time last_event_time events sessions gaps active_days recent_items"
    ) == {
        "first_event_time": T0 + days(2),
        "last_event_time": T0 + days(2),
        "events": 2,
        "sessions": 1,
        "gaps": 0,
        "active_days": 2,
        "recent_items": ["a", "b"],
    }
    assert user(replayed, "u")["windows"]["7d"]["view"] == 2


def test_late_engagement_moves_no_state(run: Run) -> None:
    """§ 4: "a late engagement moves nothing": the third active day comes late, the next event finds it."""
    records = [click("u", "view", days(day)) for day in (0, 2, 1)]
    assert [to for _, to, _, _ in moves(run(records))] == ["new", "retained"]
    replayed = run([*records, click("u", "view", days(2) + 1), click("u", "view", 1)])
    assert moves(replayed)[2:] == [("retained", "active", "engagement", days(2) + 1)]


def test_the_evidence_of_a_late_conversion_is_as_of_the_last_event(run: Run) -> None:
    """§ 4: active days are "up to the day of `as_of`", `as_of = max(event_time, last_event_time)`.

    Up to the day of the conversion they would be one.
    """
    replayed = run([click("u", "view", 0), click("u", "view", days(1)), click("u", "purchase", 1)])
    assert moves(replayed)[-1] == ("retained", "converted", "order", 1)
    assert replayed.lifecycle[-1]["active_days"] == 2


def test_late_conversion_moves_no_silent_state(run: Run) -> None:
    """§ 4: "a late conversion only by the first two rows": at_risk is not in them; the order counts."""
    replayed = run(
        [click("u", "view", 0), tick(days(30) + MINUTE), click("u", "purchase", -1)], lateness_max=days(90)
    )
    assert pick(user(replayed, "u"), "lifecycle orders") == {"lifecycle": "at_risk", "orders": 1}
    assert alerts(replayed) == [("opened", "at_risk", days(30))]


# Rhythm


@pytest.mark.parametrize(("gap", "gaps"), [(12 * HOUR - 1, 0), (12 * HOUR, 1)])
def test_a_gap_of_visit_gap_is_a_visit_gap(run: Run, gap: int, gaps: int) -> None:
    """§ 4: "A gap ≥ `visit_gap` (12 h) is the n-th visit gap"; the first is the mean."""
    row = user(run([click("u", "view", 0), click("u", "view", gap)]), "u")
    assert pick(row, "gaps gap_mean") == {"gaps": gaps, "gap_mean": float(gap * gaps)}


def test_gap_mean_and_its_deadline(run: Run) -> None:
    """§ 4: "with ≥ 2 visit gaps `int(cadence × gap_mean)` (cadence 4) clamped", else 30 d.

    Gaps of 1 d and 4 d: 1 d, then 1 + 3/2 = 2.5 d; 4 × 2.5 = 10 d. A third of 40 d: 2.5 + 37.5/3 = 15 d, 60 d
    clamped to 45 d.
    """
    records = [click("u", "view", days(day)) for day in (0, 1, 5, 45)]
    one, two, three = (user(run(records[:count]), "u") for count in (2, 3, 4))
    assert (one["gap_mean"], one["deadline"]) == (days(1), T0 + days(1 + 30))
    assert (two["gap_mean"], two["deadline"]) == (days(2.5), T0 + days(5 + 10))
    assert (three["gap_mean"], three["deadline"]) == (days(15), T0 + days(45 + 45))


def test_gap_mean_weighs_by_an_eighth_from_the_eighth_gap_on(run: Run) -> None:
    """§ 4: "`gap_mean += (gap − gap_mean) / min(n, 8)`".

    Nine gaps of 1 d keep 1 d, a tenth of 9 d adds 1 d.
    """
    records = [click("u", "view", days(day)) for day in (*range(10), 18)]
    assert pick(user(run(records), "u"), "gaps gap_mean") == {"gaps": 10, "gap_mean": float(days(2))}


def test_a_fast_rhythm_is_clamped_to_at_risk_min(run: Run) -> None:
    """§ 4: "clamped to [`at_risk_min` 7 d, …]": 4 × 1 d is too little."""
    row = user(run([click("u", "view", days(day)) for day in range(3)]), "u")
    assert row["deadline"] == T0 + days(2 + 7)


# Return


@pytest.mark.parametrize(
    ("purchases", "state"),
    [([], "retained"), ([0], "converted"), ([0, HOUR], "loyal"), ([0, HOUR, 2 * HOUR], "loyal")],
)
def test_return_from_at_risk_is_by_orders(run: Run, purchases: list[int], state: str) -> None:
    """§ 4: "by `orders`: loyal (≥ 2), converted (1), retained (0)".

    Trigger `engagement`: no order was raised.
    """
    records = [click("u", "view", 0), *(click("u", "purchase", time) for time in purchases)]
    replayed = run([*records, tick(days(40)), click("u", "view", days(40))])
    assert moves(replayed)[-1] == ("at_risk", state, "engagement", days(40))


def test_return_with_an_order_counts_it_first(run: Run) -> None:
    """(2) totals come before (3) the table; "trigger is `order` if the event raised `orders`"."""
    replayed = run([click("u", "purchase", 0), tick(days(70)), click("u", "purchase", days(70))])
    assert moves(replayed)[-1] == ("dormant", "loyal", "order", days(70))


@pytest.mark.parametrize(("w", "state"), [(days(35) - 1, "retained"), (days(35), "at_risk")])
def test_return_holds_only_if_it_would_not_be_silent_again(run: Run, w: int, state: str) -> None:
    """§ 4: "*Return holds* if `event_time + at_risk_after > W`": an event of day 5 that arrives on day 35."""
    replayed = run(
        [click("u", "view", 0), tick(w + MINUTE), click("u", "view", days(5))], lateness_max=days(100)
    )
    assert user(replayed, "u")["lifecycle"] == state
    assert len(moves(replayed)) == (3 if state == "retained" else 2)
    assert user(replayed, "u")["last_event_time"] == T0 + days(5)
    assert user(replayed, "u")["events"] == 2


def test_return_holds_with_the_rhythm_that_the_event_gives(run: Run) -> None:
    """(2) precedes (3): the event's own gap is the second, so at_risk_after is 4 × 10 d, not 30 d.

    Visits on days 0, 10 and, delivered when W is day 55, day 20: 20 + 40 > 55, though 20 + 30 is not.
    """
    replayed = run(
        [
            click("u", "view", 0),
            click("u", "view", days(10)),
            tick(days(55) + MINUTE),
            click("u", "view", days(20)),
        ],
        lateness_max=days(100),
    )
    assert moves(replayed)[-1] == ("at_risk", "retained", "engagement", days(20))
    assert alerts(replayed) == [("opened", "at_risk", days(40)), ("resolved", "at_risk", days(20))]
    assert user(replayed, "u")["deadline"] == T0 + days(60)


def test_an_event_that_does_not_return_moves_the_deadline_and_keeps_the_alert(run: Run) -> None:
    """§ 4: "An alert keeps the id, and the `last_event_time`, that it was opened with."

    The alert opens for the silence since day 0. An event of day 5 arrives on day 40: at_risk stays, dormant
    moves from day 60 to day 65.
    """
    replayed = run(
        [click("u", "view", 0), tick(days(40)), click("u", "view", days(5)), tick(days(66))],
        lateness_max=days(100),
    )
    assert moves(replayed)[2:] == [("at_risk", "dormant", "silence", days(65))]
    assert alerts(replayed) == [("opened", "at_risk", days(30)), ("escalated", "dormant", days(65))]
    assert [row["last_event_time"] for row in replayed.churn_alerts] == [T0, T0]
    assert len({row["alert_id"] for row in replayed.churn_alerts}) == 1
    assert replayed.lifecycle[-1]["last_event_time"] == T0 + days(5)
    assert user(replayed, "u")["alert"] == replayed.churn_alerts[0]["alert_id"]


def test_back_from_churned_with_an_order_starts_orders_again(run: Run) -> None:
    """§ 4: "`orders` starts again (1 if this event is a conversion …)", and its session has it."""
    records = [click("u", "purchase", 0), click("u", "purchase", HOUR), tick(days(130))]
    back = [click("u", "purchase", days(130)), click("u", "purchase", days(130) + 1)]
    replayed = run([*records, *back])
    assert moves(replayed)[-1] == ("churned", "converted", "order", days(130))
    assert pick(replayed.lifecycle[-1], "orders events sessions") == {"orders": 1, "events": 3, "sessions": 3}
    assert pick(user(replayed, "u"), "orders conversions") == {"orders": 1, "conversions": 4}
    assert alerts(replayed)[-1] == ("resolved", "churned", days(130))
    later = run([*records, *back, click("u", "purchase", days(130) + HOUR)])
    assert moves(later)[-1] == ("converted", "loyal", "order", days(130) + HOUR)


def test_back_from_churned_without_an_order_starts_orders_at_zero(run: Run) -> None:
    """§ 4: "else 0, and its session has an order only then".

    A conversion in the same session is the first.
    """
    replayed = run(
        [
            click("u", "purchase", 0),
            click("u", "purchase", HOUR),
            tick(days(130)),
            click("u", "view", days(130)),
            click("u", "purchase", days(130) + 1),
        ]
    )
    assert moves(replayed)[-2:] == [
        ("churned", "retained", "engagement", days(130)),
        ("retained", "converted", "order", days(130) + 1),
    ]
    assert [row["orders"] for row in replayed.lifecycle[-2:]] == [0, 1]


def test_back_from_churned_by_a_conversion_is_an_order_even_in_a_session_that_had_one(run: Run) -> None:
    """§ 4: "(from churned: if it is a conversion)": the trigger is `order` though `orders` goes from 1 to 1.

    W is day 130: the first purchase does not return, the second, of the same session, does.
    """
    base = days(100) - 10 * MINUTE
    replayed = run(
        [
            click("u", "view", -days(100)),
            tick(days(130) + MINUTE),
            click("u", "purchase", base),
            click("u", "purchase", base + 15 * MINUTE),
        ],
        lateness_max=days(400),
        forget_after=days(800),
    )
    assert moves(replayed)[-1] == ("churned", "converted", "order", base + 15 * MINUTE)
    assert pick(replayed.lifecycle[-1], "orders sessions events") == {"orders": 1, "sessions": 2, "events": 3}


def test_churned_without_return_counts_orders_on(run: Run) -> None:
    """The churned row needs "not late, and return holds"; else the totals are as ever: orders 1 → 2."""
    replayed = run(
        [click("u", "purchase", 0), tick(days(130)), click("u", "purchase", days(5))], lateness_max=days(200)
    )
    assert pick(user(replayed, "u"), ORDERS) == {
        "lifecycle": "churned",
        "events": 2,
        "sessions": 2,
        "conversions": 2,
        "orders": 2,
    }
    assert user(replayed, "u")["deadline"] == T0 + days(405)


def test_back_from_churned_within_the_session_of_an_order(run: Run) -> None:
    """Its session "has an order only then": a view back from churned clears what the session had.

    W is day 130. The conversion ten minutes before day 100 does not return, the view five minutes after it
    does; it belongs to the same session. The next conversion is again the first.
    """
    base = days(100) - 10 * MINUTE
    replayed = run(
        [
            click("u", "view", -days(100)),
            tick(days(130) + MINUTE),
            click("u", "purchase", base),
            click("u", "view", base + 15 * MINUTE),
            click("u", "purchase", base + 20 * MINUTE),
        ],
        lateness_max=days(400),
        forget_after=days(800),
    )
    assert moves(replayed)[-2:] == [
        ("churned", "retained", "engagement", base + 15 * MINUTE),
        ("retained", "converted", "order", base + 20 * MINUTE),
    ]
    assert pick(user(replayed, "u"), "sessions orders conversions") == {
        "sessions": 2,
        "orders": 1,
        "conversions": 2,
    }
