"""The demo's view and screen: what the topics say is what is shown, and every frame fits its terminal."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console, RenderableType

from stream import wire
from stream.demo.quality import Lists, measure
from stream.demo.screen import progress_line, screen, summary
from stream.demo.view import Seen, View

DAY = 86_400_000
T0 = 1_493_640_000_000  # 1 May 2017, 12:00 UTC
EVIDENCE: dict[str, Any] = {"first_event_time": T0, "events": 1, "sessions": 1, "orders": 1, "active_days": 1}
NAMES = {"1": "Bananas", "2": "White bread", "3": "Fluid milk, 1 ga"}
BASKETS = {("18", T0): ["1"], ("18", T0 + 7 * DAY): ["2", "3"]}


def listed(user: str, at_ms: int, *items: str) -> Seen:
    scored = [wire.ScoredItem(item, 1.0) for item in items]
    value = wire.Recommendation("id", user, at_ms, "loyal", "default", "event", "b1", None, scored)
    return Seen(wire.RECOMMENDATIONS, msgspec.json.encode(value), {})


def moved(before: Any, to: Any) -> Seen:
    value = wire.Transition("18", before, to, "order", T0, None, None, **EVIDENCE)
    return Seen(wire.LIFECYCLE, msgspec.json.encode(value), {})


def alerted(status: Any, days: int) -> Seen:
    value = wire.ChurnAlert(
        alert_id="0" * 16,
        user_id="18",
        status=status,
        stage="at_risk",
        at=T0 + days * DAY,
        last_event_time=T0,
        **EVIDENCE,
    )
    return Seen(wire.CHURN_ALERTS, msgspec.json.encode(value), {})


def buried(reason: str) -> Seen:
    return Seen(wire.DEAD_LETTERS, b"{", {"reason": reason})


def observed(*messages: Seen) -> View:
    view = View(BASKETS, to_send=10)
    view.observe(messages)
    return view


def printed(renderable: RenderableType, width: int = 110, height: int = 40) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_funnel_counts_where_users_stand_now() -> None:
    view = observed(moved("none", "converted"), moved("none", "converted"), moved("converted", "loyal"))
    assert (view.states["converted"], view.states["loyal"]) == (1, 1)
    assert "Where 2 households stand" in printed(screen(view, NAMES, 110, 40))


def test_what_was_bought_stands_beside_what_is_listed() -> None:
    frame = printed(screen(observed(listed("18", T0, "2", "3")), NAMES, 110, 40))
    (line,) = (line for line in frame.splitlines() if "Bananas" in line)
    assert "1. White bread" in line


def test_what_the_list_before_had_foreseen_is_ticked() -> None:
    view = observed(listed("18", T0, "2", "1"), listed("18", T0 + 7 * DAY, "3"))
    assert view.shown[-1].foreseen == {"2"}
    frame = printed(screen(view, NAMES, 110, 40))
    assert "✓ White bread" in frame
    assert "✓ Fluid milk" not in frame


def test_a_list_for_one_who_bought_nothing_is_counted_and_not_shown() -> None:
    view = observed(listed("18", T0 + 1, "2"))
    assert (view.recommendations, len(view.shown)) == (1, 0)


def test_alerts_say_how_long_and_how_it_ended() -> None:
    frame = printed(screen(observed(alerted("opened", 30), alerted("resolved", 31)), NAMES, 110, 40))
    assert "silent for 30 days" in frame
    assert "is back after 31 days" in frame
    assert "0 open · 1 opened" in frame


def test_the_sum_adds_up_only_if_nothing_is_missing() -> None:
    view = observed(buried("not_json"))
    view.sent, view.records, view.accepted, view.duplicates = 10, 10, 8, 1
    assert view.adds_up
    view.accepted = 7
    assert not view.adds_up
    view.accepted, view.sent = 8, 11
    assert not view.adds_up


@pytest.mark.parametrize("size", [(80, 24), (96, 24), (100, 30), (120, 40), (200, 60)])
@pytest.mark.parametrize("fed", [False, True])
def test_a_frame_fits_its_terminal(size: tuple[int, int], fed: bool) -> None:
    messages = [listed("18", T0, *"123"), moved("none", "loyal"), *(alerted("opened", n) for n in range(30))]
    view = observed(*messages) if fed else observed()
    view.records = 5 if fed else 0
    lines = printed(screen(view, NAMES, *size), *size).splitlines()
    assert len(lines) < size[1], "the last row is the cursor's"
    assert max(map(len, lines)) <= size[0]


def test_a_line_for_the_log() -> None:
    view = observed(listed("18", T0, "1"))
    view.records, view.events_per_s = 5, 12_345.6
    line = " ".join(progress_line(view).split())
    assert line == "1 May 2017 50% 5 records 1 lists 0 alerts open 12,346 events/s"


def test_the_summary_says_by_how_much_and_whether_it_is_sure() -> None:
    purchases = [(f"u{n}", T0, "1" if n % 2 else f"own{n}") for n in range(400)]
    lists = {user: Lists([0], [[item]]) for user, _, item in purchases}
    text = printed(summary(observed(), measure(purchases, lists, test_from_ms=0), []), width=120)
    assert "400 baskets of 400 households" in text
    assert "intervals stay apart" in text
