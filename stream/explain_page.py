"""An explanation as a page for the terminal: the state first, then what it rests on, then the last list."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from stream.config import Config
from stream.explain import Change, Explanation
from stream.wire import Transition, UserRow

DAY_MS: Final = 86_400_000

#: What each state says about a user.
MEANINGS: Final = {
    "new": "has been here once",
    "retained": "came back",
    "active": "comes back often",
    "converted": "ordered once",
    "loyal": "ordered again in a later session",
    "at_risk": "silent beyond the own rhythm",
    "dormant": "silent for long",
    "churned": "silent for so long that a return would be a new beginning",
}

#: Where silence leads from each state.
AFTER: Final = {"at_risk": "dormant", "dormant": "churned", "churned": "forgotten"}

#: What a score is made of (stream/shares.py); a part that is nothing everywhere has no column.
PARTS: Final = ("history", "context", "prior", "co_occurrence", "repeats", "popularity", "reranked")

TRANSITIONS_SHOWN: Final = 10
INFLUENCES_SHOWN: Final = 10
ITEMS_SHOWN: Final = 3


def show(explanation: Explanation, config: Config) -> None:
    """Print the page."""
    Console().print(page(explanation, config))


def page(explanation: Explanation, config: Config) -> RenderableType:
    """Return the page as something to print."""
    return Group(*_blocks(explanation, config))


def _blocks(explanation: Explanation, config: Config) -> Iterator[RenderableType]:
    user = explanation.user
    if user is None:
        yield _head(f"{explanation.user_id}: no row")
        why = "only ever contacted: a contact makes no row"
        if explanation.transitions:
            forgotten = explanation.transitions[-1].to == "forgotten"
            why = "forgotten after a long silence" if forgotten else "erased by command"
        yield _indent(Text(why))
    else:
        yield _head(f"{user.user_id}: {user.lifecycle}, {MEANINGS[user.lifecycle]}")
        yield _indent(_lines(_state(user, explanation, config)))
        yield _head("Numbers")
        yield _indent(_lines(_numbers(user, explanation)))
        yield _head("Windows, as of the last event")
        yield _indent(_windows(user))
    if explanation.transitions:
        yield _head("Lifecycle")
        yield _indent(_history(explanation.transitions))
    if explanation.last_list is not None:
        yield from _list(explanation)


def _state(user: UserRow, explanation: Explanation, config: Config) -> Iterator[str]:
    """Say since when, how long the silence is, and what comes next."""
    if explanation.transitions:
        last = explanation.transitions[-1]
        yield f"since {when(last.at)}, by {last.trigger}"
    if explanation.watermark is not None:
        silence = max(0, explanation.watermark - user.last_event_time)
        yield f"silent for {span(silence)} when the log ends, at {when(explanation.watermark)}"
    if user.deadline is None:
        yield "no deadline"
    else:
        to = AFTER.get(user.lifecycle, "at_risk")
        yield f"becomes {to} at {when(user.deadline)} if nothing happens: {_reason(user, to, config)}"
    opened = next((alert for alert in reversed(explanation.alerts) if alert.status == "opened"), None)
    if user.alert is not None and opened is not None:
        yield f"alert {user.alert} is open since {when(opened.at)}"
    else:
        yield "no open alert"


def _reason(user: UserRow, to: str, config: Config) -> str:
    """Say which silence leads to the next state, and where its length comes from."""
    assert user.deadline is not None
    text = f"{span(user.deadline - user.last_event_time)} after the last event"
    if to != "at_risk":
        name = {"dormant": "dormant_after", "churned": "churned_after", "forgotten": "forget_after"}[to]
        return f"{text}, {name}"
    life = config.lifecycle
    if life.risk == "model":
        return f"{text}, from the model's hazard"
    if user.gaps < 2:
        return f"{text}, at_risk_default, as there are fewer than two visit gaps"
    low, high = span(life.at_risk_min_ms), span(life.at_risk_max_ms)
    return (
        f"{text}, {life.cadence:g} × the mean visit gap of {span(int(user.gap_mean))}, within {low} to {high}"
    )


def _numbers(user: UserRow, explanation: Explanation) -> Iterator[str]:
    counts = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in explanation.records.items() if n)
    yield f"records: {counts}"
    yield f"events {user.events}, of them conversions {user.conversions}"
    yield f"sessions {user.sessions}, with an order {user.orders}"
    yield f"first {when(user.first_event_time)}, last {when(user.last_event_time)}"
    yield f"visit gaps {user.gaps}, on average {span(int(user.gap_mean))}"
    yield f"active days of the last seven: {user.active_days}"
    if user.recent_items:
        yield f"last items, oldest first: {', '.join(user.recent_items)}"


def _windows(user: UserRow) -> Table:
    table = Table("", *user.windows, box=None, padding=(0, 2, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    for kind in next(iter(user.windows.values()), {}):
        table.add_row(kind, *(str(counts[kind]) for counts in user.windows.values()))
    spends = [f"{user.spend[name]:,.2f}" if name in user.spend else "" for name in user.windows]
    table.add_row("spend", *spends)
    return table


def _history(transitions: list[Transition]) -> RenderableType:
    table = Table(
        "at", "from", "to", "by", "silent", "events", "orders", "days", box=None, padding=(0, 1, 0, 0)
    )
    for column in table.columns:
        column.no_wrap = True
    for change in transitions[-TRANSITIONS_SHOWN:]:
        silent = "" if change.silent_ms is None else span(change.silent_ms)
        evidence = (str(change.events), str(change.orders), str(change.active_days))
        table.add_row(when(change.at), change.from_, change.to, change.trigger, silent, *evidence)
    more = len(transitions) - TRANSITIONS_SHOWN
    return Group(Text(f"… {more} before"), table) if more > 0 else table


def _list(explanation: Explanation) -> Iterator[RenderableType]:
    made = explanation.last_list
    assert made is not None
    cause = "an event" if made.trigger == "event" else "silence, a win-back"
    yield _head(f"Last list, at {when(made.event_time)}, by {cause}, policy {made.policy}")
    names = [name for name in PARTS if any(abs(getattr(share, name)) > 0 for share in explanation.shares)]
    table = Table("", "item", "score", *(name.replace("_", "-") for name in names), box=None)
    for i, item in enumerate(made.items, 1):
        parts = [f"{getattr(explanation.shares[i - 1], name):+.4f}" for name in names]
        table.add_row(str(i), item.item_id, f"{item.score:.4f}", *parts)
    yield _indent(table)
    count = len(explanation.moved_by)
    yield _head(f"What moved it: {count} of the last {explanation.left_out} events, each left out once")
    table = Table("at", "event", "item", "without it", box=None)
    for influence in explanation.moved_by[:INFLUENCES_SHOWN]:
        what = (influence.event_type, influence.item_id or "")
        table.add_row(when(influence.event_time), *what, describe(influence))
    yield _indent(table)
    if count > INFLUENCES_SHOWN:
        yield _indent(Text(f"… and {count - INFLUENCES_SHOWN} that moved it less; --json has them all"))


def describe(change: Change) -> str:
    """Say what would be different without the event."""
    if change.made_the_list:
        return "there would be no list"
    parts = []
    for items, words in ((change.brought, "not on it"), (change.kept_out, "on it instead")):
        if items:
            shown = ", ".join(items[:ITEMS_SHOWN])
            more = f" and {len(items) - ITEMS_SHOWN} more" if len(items) > ITEMS_SHOWN else ""
            parts.append(f"{words}: {shown}{more}")
    if change.raised:
        item, shift = max(change.raised.items(), key=lambda entry: abs(entry[1]))
        parts.append(f"{item} {-shift:+.4f}")
    return "; ".join(parts)


def when(ms: int) -> str:
    """Write an instant in UTC, to the minute."""
    return f"{datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms):%Y-%m-%d %H:%M}"


def span(ms: int) -> str:
    """Write a duration in the unit that one would say it in."""
    for unit, size in (("d", DAY_MS), ("h", 3_600_000), ("min", 60_000)):
        if abs(ms) >= size:
            return f"{ms / size:.1f} {unit}"
    return f"{ms / 1000:.1f} s"


def _head(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _lines(lines: Iterator[str]) -> Text:
    return Text("\n".join(lines))


def _indent(content: RenderableType) -> Padding:
    return Padding(content, (0, 0, 0, 2))
