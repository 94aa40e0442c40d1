"""Silence and alerts, in small streams computed by hand from DESIGN.md section 4; each cites its sentence."""

from __future__ import annotations

import hashlib

import pytest

from tests.oracle_settings import MINUTE, SECOND, T0, defaults
from tests.oracles import Oracle
from tests.scenarios import Run, alerts, click, days, every_program, moves, pick, tick, user

pytestmark = every_program


# Everyone's timers


@pytest.mark.parametrize(("late_by", "state"), [(1, "new"), (0, "at_risk")])
def test_a_deadline_fires_when_w_reaches_it(run: Run, late_by: int, state: str) -> None:
    """§ 4: "every user of the partition with deadline ≤ W moves on, at the time of the deadline"."""
    replayed = run([click("u", "view", 0), tick(days(30) + 60 * SECOND - late_by)])
    assert user(replayed, "u")["lifecycle"] == state
    assert replayed.summary["watermark"] == T0 + days(30) - late_by


def test_one_jump_carries_a_user_through_every_stage(run: Run) -> None:
    """§ 4: "one event may carry a user through several stages"; opened, escalated, escalated, expired."""
    replayed = run([click("u", "purchase", 0), tick(days(401))])
    assert moves(replayed)[1:] == [
        ("converted", "at_risk", "silence", days(30)),
        ("at_risk", "dormant", "silence", days(60)),
        ("dormant", "churned", "silence", days(120)),
        ("churned", "forgotten", "silence", days(400)),
    ]
    assert alerts(replayed) == [
        ("opened", "at_risk", days(30)),
        ("escalated", "dormant", days(60)),
        ("escalated", "churned", days(120)),
        ("expired", "forgotten", days(400)),
    ]
    assert replayed.users == []
    assert replayed.lifecycle[1] == {
        "user_id": "u",
        "from": "converted",
        "to": "at_risk",
        "trigger": "silence",
        "at": T0 + days(30),
        "last_event_time": T0,
        "silent_ms": days(30),
        "first_event_time": T0,
        "events": 1,
        "sessions": 1,
        "orders": 1,
        "active_days": 0,
    }
    assert replayed.churn_alerts[3] == {
        "alert_id": hashlib.blake2b(b"u\0" + b"1704067200000", digest_size=8).hexdigest(),
        "user_id": "u",
        "status": "expired",
        "stage": "forgotten",
        "at": T0 + days(400),
        "last_event_time": T0,
        "first_event_time": T0,
        "events": 1,
        "sessions": 1,
        "orders": 1,
        "active_days": 0,
    }


def test_equal_deadlines_go_by_the_bytes_of_the_user_id(run: Run) -> None:
    """§ 4: "smallest (deadline, user_id) first, users compared as bytes"; users.jsonl: by user_id."""
    users = ["\U0001f30a", "é", "b", "ab", "a\0", "a", "B", "\uffee"]
    replayed = run([*(click(user, "view", 0) for user in users), tick(days(31))])
    order = ["B", "a", "a\0", "ab", "b", "é", "\uffee", "\U0001f30a"]
    assert [row["user_id"] for row in replayed.lifecycle[len(users) :]] == order
    assert [row["user_id"] for row in replayed.churn_alerts] == order
    assert [row["user_id"] for row in replayed.users] == order


def test_the_next_deadline_joins_the_same_order(run: Run) -> None:
    """§ 4: "the next deadline joins the same order". "z" and "a" pass the stages
    in turns."""
    replayed = run([click("z", "view", 0), click("a", "view", 1), tick(days(170))])
    assert [(row["user_id"], row["to"], row["at"] - T0) for row in replayed.lifecycle[2:]] == [
        ("z", "at_risk", days(30)),
        ("a", "at_risk", days(30) + 1),
        ("z", "dormant", days(60)),
        ("a", "dormant", days(60) + 1),
        ("z", "churned", days(120)),
        ("a", "churned", days(120) + 1),
    ]


def test_an_event_delivered_long_after_its_time_makes_its_user_due_at_once(run: Run) -> None:
    """§ 4: "every user … with deadline ≤ W": W has not moved, the new deadline is behind it."""
    replayed = run([tick(days(40)), click("u", "view", 0)], lateness_max=days(100))
    assert moves(replayed) == [("none", "new", "engagement", 0), ("new", "at_risk", "silence", days(30))]
    assert alerts(replayed) == [("opened", "at_risk", days(30))]


# Own silence


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        (days(30) - 1, [("new", "retained", "engagement", days(30) - 1)]),
        (
            days(30),
            [("new", "at_risk", "silence", days(30)), ("at_risk", "retained", "engagement", days(30))],
        ),
    ],
)
def test_own_silence_fires_at_its_deadline_and_raises_no_alert(
    run: Run, gap: int, expected: list[tuple[str, str, str, int]]
) -> None:
    """§ 4: "the user's own deadlines ≤ event_time fire in the same way … but they emit transitions only"."""
    replayed = run([click("u", "view", 0), click("u", "view", gap)])
    assert moves(replayed)[1:] == expected
    assert replayed.churn_alerts == []


def test_own_silence_goes_through_several_stages(run: Run) -> None:
    """§ 4: "the user's own deadlines ≤ event_time": 30 d and 60 d; then "by `orders`: … converted (1)"."""
    replayed = run([click("u", "purchase", 0), click("u", "view", days(60))])
    assert moves(replayed)[1:] == [
        ("converted", "at_risk", "silence", days(30)),
        ("at_risk", "dormant", "silence", days(60)),
        ("dormant", "converted", "engagement", days(60)),
    ]
    assert [row["last_event_time"] for row in replayed.lifecycle[1:]] == [T0, T0, T0]
    assert [row["active_days"] for row in replayed.lifecycle[1:]] == [0, 0, 1]


def test_own_silence_leaves_an_open_alert_as_it_is_and_the_return_resolves_it(run: Run) -> None:
    """§ 4: "an alert that is open stays as it is"; "Leaving … by an event emits `resolved`".

    The stage is "the state left". W stops a millisecond short of the second deadline, so that the user's own
    event finds it.
    """
    replayed = run([click("u", "view", 0), tick(days(60) + MINUTE - 1), click("u", "view", days(60))])
    assert moves(replayed)[2:] == [
        ("at_risk", "dormant", "silence", days(60)),
        ("dormant", "retained", "engagement", days(60)),
    ]
    assert alerts(replayed) == [("opened", "at_risk", days(30)), ("resolved", "dormant", days(60))]
    assert pick(replayed.churn_alerts[1], "alert_id last_event_time events sessions active_days") == {
        "alert_id": replayed.churn_alerts[0]["alert_id"],
        "last_event_time": T0,
        "events": 2,
        "sessions": 2,
        "active_days": 1,
    }
    assert user(replayed, "u")["alert"] is None


def test_own_silence_that_forgets_makes_the_event_the_first_of_a_new_row(run: Run) -> None:
    """§ 4: "Own silence that ends in `forgotten` makes the event the first of a new row".

    No alert was open.
    """
    replayed = run([click("u", "purchase", 0, event_id="x"), click("u", "view", days(400), event_id="y")])
    assert moves(replayed)[1:] == [
        ("converted", "at_risk", "silence", days(30)),
        ("at_risk", "dormant", "silence", days(60)),
        ("dormant", "churned", "silence", days(120)),
        ("churned", "forgotten", "silence", days(400)),
        ("none", "new", "engagement", days(400)),
    ]
    assert replayed.lifecycle[-1]["last_event_time"] is None
    assert replayed.lifecycle[-1]["silent_ms"] is None
    assert pick(user(replayed, "u"), "first_event_time events orders conversions gaps") == {
        "first_event_time": T0 + days(400),
        "events": 1,
        "orders": 0,
        "conversions": 0,
        "gaps": 0,
    }
    assert replayed.churn_alerts == []


def test_own_silence_that_forgets_expires_an_open_alert(run: Run) -> None:
    """§ 4: "`forgotten` still expires it"."""
    replayed = run([click("u", "view", 0), tick(days(31)), click("u", "view", days(401))])
    assert alerts(replayed) == [("opened", "at_risk", days(30)), ("expired", "forgotten", days(400))]
    assert user(replayed, "u")["alert"] is None


def test_a_duplicate_is_told_before_own_silence(run: Run) -> None:
    """§ 4: "Order of the checks: decode, guard, too late, duplicate"; a repeat "touches nothing but W".

    The row still stands when the repeat arrives; the timers of the W that it moves then remove it, alerting.
    """
    replayed = run(
        [click("u", "view", 0, event_id="x"), click("u", "view", days(401), event_id="x")],
    )
    assert replayed.summary["duplicates"] == 1
    assert [to for _, to, _, _ in moves(replayed)] == ["new", "at_risk", "dormant", "churned", "forgotten"]
    assert alerts(replayed)[-1] == ("expired", "forgotten", days(400))
    assert replayed.users == []


def test_a_duplicate_moves_w_and_everyones_timers(run: Run) -> None:
    """§ 4: "They belong to the offset that moved W, a duplicate's too"."""
    replayed = run(
        [
            click("v", "view", 0),
            click("u", "view", days(20), event_id="x"),
            click("u", "view", days(31), event_id="x"),
        ]
    )
    assert moves(replayed, "v")[1:] == [("new", "at_risk", "silence", days(30))]
    assert user(replayed, "u")["last_event_time"] == T0 + days(20)


def test_own_silence_precedes_the_transition_and_everyones_timers_follow(run: Run) -> None:
    """§ 4: "A partition's outputs are in the order of application.

    Own silence, the event's own, everyone's".
    """
    replayed = run([click("a", "view", 0), click("z", "view", 0), click("z", "view", days(31))])
    assert [(row["user_id"], row["to"]) for row in replayed.lifecycle[2:]] == [
        ("z", "at_risk"),
        ("z", "retained"),
        ("a", "at_risk"),
    ]
    assert [row["user_id"] for row in replayed.churn_alerts] == ["a"]


# Idle steps, which a file has not


def test_an_idle_step_moves_w_and_the_timers(run: Run) -> None:
    """§ 4: "W follows the wall clock minus `out_of_order_max`, as a journal entry", and never goes back."""
    oracle = Oracle(defaults())
    oracle.record(click("u", "view", 0))
    oracle.idle(T0 + days(30))
    oracle.idle(T0)
    replayed = oracle.result()
    assert alerts(replayed) == [("opened", "at_risk", days(30))]
    assert replayed.summary["watermark"] == T0 + days(30)
