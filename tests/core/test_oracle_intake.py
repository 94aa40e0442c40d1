"""What is let in and what it touches, computed by hand from DESIGN.md section 4; each cites its sentence."""

from __future__ import annotations

import pytest

from tests.oracle_settings import MINUTE, T0
from tests.scenarios import Run, alerts, click, days, every_program, moves, pick, tick, user

pytestmark = every_program


# Contacts


def test_a_contact_makes_no_row_and_moves_w(run: Run) -> None:
    """§ 4: "a contact to a user without a row makes no row"; "Contacts … count" for W and are accepted."""
    replayed = run([click("u", "impression", 0)])
    assert replayed.users == []
    assert replayed.lifecycle == []
    assert replayed.summary["accepted"] == 1
    assert replayed.summary["watermark"] == T0 - MINUTE


def test_a_contact_counts_in_windows_and_nothing_else(run: Run) -> None:
    """§ 4: "They never touch lifecycle, session, totals, recent items".

    Active days count engagements only.
    """
    contact = click("u", "impression", days(1), item_id="ad", event_id="x", value=5)
    replayed = run([click("u", "view", 0), contact, contact, click("u", "view", days(2), event_id="x")])
    assert moves(replayed)[1:] == [("new", "retained", "engagement", days(2))]
    row = user(replayed, "u")
    assert pick(row, "events sessions gaps active_days recent_items") == {
        "events": 2,
        "sessions": 2,
        "gaps": 1,
        "active_days": 2,
        "recent_items": [],
    }
    assert row["windows"]["7d"] == {"view": 2, "purchase": 0, "impression": 2}
    assert row["spend"] == {"7d": 0.0, "30d": 0.0}


def test_a_contact_after_a_deadline_raises_the_alert_of_silence(run: Run) -> None:
    """Own silence is "before a not-late engagement or conversion": a contact is neither."""
    replayed = run([click("u", "view", 0), click("u", "impression", days(31))])
    assert alerts(replayed) == [("opened", "at_risk", days(30))]


# Duplicates


def test_the_last_32_ids_are_remembered(run: Run) -> None:
    """§ 4: "the `event_id`s of the last 32 accepted engagement and conversion events that had one"."""
    ids = [click("u", "view", number, event_id=str(number)) for number in range(33)]
    plain = [click("u", "view", 40 + number) for number in range(40)]
    replayed = run([*ids, *plain, click("u", "view", 90, event_id="1"), click("u", "view", 91, event_id="0")])
    assert replayed.summary["duplicates"] == 1
    assert user(replayed, "u")["events"] == 33 + 40 + 1


def test_a_duplicate_does_not_renew_its_id(run: Run) -> None:
    """A repeat "touches nothing but W": the id is as old as its first event."""
    records = [click("u", "view", number, event_id=str(number)) for number in range(32)]
    records += [click("u", "view", 50, event_id="0"), click("u", "view", 51, event_id="new")]
    replayed = run([*records, click("u", "view", 52, event_id="0")])
    assert replayed.summary["duplicates"] == 1
    assert user(replayed, "u")["events"] == 34


def test_ids_belong_to_their_user_and_empty_is_none(run: Run) -> None:
    """§ 4: "Each user remembers"; `event_id`: "empty means none", and none is "never a duplicate"."""
    replayed = run(
        [
            click("u", "view", 0, event_id="x"),
            click("v", "view", 0, event_id="x"),
            click("u", "view", 0, event_id=""),
            click("u", "view", 0, event_id=""),
            click("u", "view", 0, event_id=None),
        ]
    )
    assert replayed.summary["duplicates"] == 0


def test_a_forgotten_users_ids_are_forgotten(run: Run) -> None:
    """`forgotten`: "the row is removed"; the memory was the row's."""
    replayed = run(
        [click("u", "view", 0, event_id="x"), tick(days(401)), click("u", "view", days(401), event_id="x")]
    )
    assert replayed.summary["duplicates"] == 0
    assert moves(replayed)[-1] == ("none", "new", "engagement", days(401))


# Guard, lateness, watermark


@pytest.mark.parametrize(("ahead", "reasons"), [(5 * MINUTE, {}), (5 * MINUTE + 1, {"from_future": 1})])
def test_the_guard_holds_back_the_future(run: Run, ahead: int, reasons: dict[str, int]) -> None:
    """§ 4: "`event_time > record timestamp + future_max` (5 min) → `from_future`"; `--now` stands in."""
    replayed = run([click("u", "view", 0), click("u", "view", ahead)], now=T0)
    assert replayed.summary["dead_letters"] == reasons
    assert replayed.summary["watermark"] == T0 - MINUTE + (0 if reasons else ahead)


def test_a_file_without_now_has_no_guard(run: Run) -> None:
    """§ 4: "without it there is no guard"."""
    replayed = run([b'{"user_id":"u","event_type":"view","event_time":"9999-12-31T23:59:59.999Z"}'])
    assert replayed.summary["accepted"] == 1


@pytest.mark.parametrize(("behind", "reasons"), [(0, {}), (1, {"too_late": 1})])
def test_too_late_is_later_than_lateness_max_behind_w(run: Run, behind: int, reasons: dict[str, int]) -> None:
    """§ 4: "`event_time < W − lateness_max` (7 d) → `too_late`": W is ten days less 60 s."""
    replayed = run([tick(days(10)), click("u", "view", days(3) - MINUTE - behind)])
    assert replayed.summary["dead_letters"] == reasons
    assert replayed.summary["users"] == 1 - len(reasons)


def test_too_late_reads_w_before_the_event_and_moves_nothing(run: Run) -> None:
    """§ 4: "with W as it was before this event"; dead letters keep offset, bytes and an empty detail."""
    late = click("u", "view", 0)
    replayed = run([late, tick(days(10)), late])
    assert replayed.summary["watermark"] == T0 + days(10) - MINUTE
    assert [pick(letter, "offset reason detail") for letter in replayed.dead_letters] == [
        {"offset": 2, "reason": "too_late", "detail": ""}
    ]


def test_too_late_is_told_before_duplicate(run: Run) -> None:
    """§ 4: "Order of the checks: decode, guard, too late, duplicate"."""
    twice = click("u", "view", 0, event_id="x")
    replayed = run([twice, tick(days(10)), twice])
    assert replayed.summary["dead_letters"] == {"too_late": 1}
    assert replayed.summary["duplicates"] == 0


def test_w_never_goes_back(run: Run) -> None:
    """W is the "max(event_time of records that passed …)" less `out_of_order_max`."""
    assert run([tick(100), tick(50)]).summary["watermark"] == T0 + 100 - MINUTE
    assert run([b""]).summary["watermark"] is None


# Recent items, and the sum


def test_recent_items_are_the_last_20_oldest_first(run: Run) -> None:
    """§ 4: "the last 20 item ids of engagements and conversions", in order of arrival; empty means none."""
    records = [click("u", "view", time, item_id=f"i{time}") for time in range(22)]
    replayed = run([*records, click("u", "view", 30, item_id=""), click("u", "view", 3, item_id="i21")])
    assert user(replayed, "u")["recent_items"] == [*(f"i{n}" for n in range(3, 22)), "i21"]


def test_records_in_are_accepted_and_duplicates_and_dead_letters(run: Run) -> None:
    """§ 4: "Nothing is dropped silently: `records in = accepted + duplicates + dead letters`"."""
    records = [click("u", "view", 0, event_id="x")] * 2 + [
        b"",
        b"{",
        tick(days(9)),
        tick(0),
        click("v", "odd", 0),
    ]
    assert pick(run(records).summary, "records_in accepted duplicates dead_letters users transitions") == {
        "records_in": 7,
        "accepted": 2,
        "duplicates": 1,
        "dead_letters": {"empty": 1, "not_json": 1, "too_late": 1, "unknown_event_type": 1},
        "users": 1,
        "transitions": {"none>new": 1},
    }
