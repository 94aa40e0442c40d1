"""The demo's screen and its last words: pure functions from a `View` to what rich prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stream.demo.quality import BUY_AGAIN, LISTED, PLACES, POPULARITY, RIVALS, Estimate, Quality
from stream.demo.view import ALERTS, Shown, View
from stream.wire import ChurnAlert

# Stages from cool to warm, then what silence does.
COLOURS: Final = {
    "new": "cyan",
    "retained": "bright_cyan",
    "active": "bright_blue",
    "converted": "green",
    "loyal": "bright_green",
    "at_risk": "yellow",
    "dormant": "dark_orange",
    "churned": "red",
}
STATUS_COLOURS: Final = {"opened": "yellow", "escalated": "red", "resolved": "green", "expired": "grey50"}
WARMING_UP: Final = "the first run compiles the core for this machine: about a minute"
#: Below this width the panels stand one below the other.
SIDE_BY_SIDE_MIN: Final = 96
#: From this height on there is room for a list's ten items.
TALL_MIN: Final = 30
DAY_MS: Final = 86_400_000


def screen(view: View, names: Mapping[str, str], width: int, height: int) -> RenderableType:
    """Return one frame that fits a terminal of width × height characters, 80 × 24 or more."""
    frame, head_rows, states = 2, 2, len(COLOURS)
    if width >= SIDE_BY_SIDE_MIN:
        left, rows = 40, PLACES + 1 if height >= TALL_MIN else states
        middle: RenderableType = side_by_side(
            funnel(view, left, rows), left, answers(view, names, rows, width - left)
        )
        used = rows + frame
    else:
        rows = 4
        middle = Group(funnel(view, width, states), answers(view, names, rows, width))
        used = states + frame + rows + frame
    # One row stays free for the cursor.
    left_over = height - 1 - (head_rows + frame) - used - frame
    return Group(head(view), middle, alerts(view, min(ALERTS, max(1, left_over))))


def side_by_side(left: RenderableType, width: int, right: RenderableType) -> Table:
    table = Table.grid(expand=True)
    table.add_column(width=width)
    table.add_column(ratio=1)
    table.add_row(left, right)
    return table


def head(view: View) -> Panel:
    done = view.records / view.to_send if view.to_send else 0.0
    top = Table.grid(expand=True, padding=(0, 1))
    top.add_column(width=12)
    top.add_column(ratio=1)
    top.add_column(width=5, justify="right")
    top.add_column(width=18, justify="right")
    top.add_row(
        Text(day(view.now_ms), style="bold") if view.now_ms else "…",
        ProgressBar(total=1.0, completed=done),
        f"{done:.0%}",
        Text(f"{view.events_per_s:,.0f} events/s", style="bold magenta"),
    )
    below = accounts(view) if view.records else Text(f"{WARMING_UP} · {view.waited_s:.0f} s", style="dim")
    return Panel(Group(top, below), title="Ebbtide · a year of groceries", box=box.ROUNDED)


def accounts(view: View) -> Text:
    """Return the sum that must hold: nothing is dropped silently."""
    return Text.assemble(
        "records in ",
        (f"{view.records:,}", "bold"),
        " = accepted ",
        (f"{view.accepted:,}", "bold green"),
        " + duplicates ",
        (f"{view.duplicates:,}", "bold"),
        " + dead letters ",
        (f"{view.dead_letters.total():,}", "bold red"),
        no_wrap=True,
        overflow="ellipsis",
    )


def funnel(view: View, width: int, rows: int) -> Panel:
    """Return the households by lifecycle state, each with its bar."""
    here = {state: view.states[state] for state in COLOURS}
    most = max(*here.values(), 1)
    room = width - 22  # beside name, number and frame
    table = Table.grid(padding=(0, 1))
    table.add_column(width=9)
    table.add_column(width=5, justify="right")
    table.add_column()
    for state, users in here.items():
        bar = Text("█" * round(room * users / most), style=COLOURS[state])
        table.add_row(spoken(state), f"{users:,}", bar)
    title = f"Where {sum(here.values()):,} households stand"
    return Panel(table, title=title, box=box.ROUNDED, height=rows + 2)


def answers(view: View, names: Mapping[str, str], rows: int, width: int) -> Panel:
    """Return the latest basket beside the list that answered it; ✓ stood in the list before."""
    if not view.shown:
        body: RenderableType = Text("waiting for the first basket", style="dim")
    else:
        body = answer(view.shown[-1], names, rows - 1, width - 4)
    title = f"Just bought → listed next · {view.recommendations:,} lists"
    return Panel(body, title=title, box=box.ROUNDED, height=rows + 2)


def answer(shown: Shown, names: Mapping[str, str], rows: int, width: int) -> RenderableType:
    half = width // 2
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(width=half, no_wrap=True, overflow="ellipsis")
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_row(
        Text.assemble(
            (f"household {shown.user}", "bold"), " · ", (spoken(shown.state), COLOURS.get(shown.state, ""))
        ),
        Text(f"{day(shown.at_ms)}, {clock(shown.at_ms)}", style="dim"),
    )
    bought = [bought_line(shown, item, names) for item in shown.bought]
    listed = [Text(f"{n}. {names.get(item, item)}") for n, item in enumerate(shown.answer, 1)]
    for n in range(rows):
        table.add_row(*(column[n] if n < len(column) else "" for column in (bought, listed)))
    return table


def bought_line(shown: Shown, item: str, names: Mapping[str, str]) -> Text:
    seen_coming = item in shown.foreseen
    return Text(
        f"{'✓' if seen_coming else ' '} {names.get(item, item)}", style="bold green" if seen_coming else ""
    )


def alerts(view: View, rows: int) -> Panel:
    """Return the latest churn alerts, the newest at the bottom."""
    table = Table.grid(padding=(0, 2))
    for alert in list(view.latest_alerts)[-rows:]:
        table.add_row(*alert_line(alert))
    title = (
        f"Churn alerts · {view.alerts_open:,} open · {view.alerts['opened']:,} opened,"
        f" {view.alerts['escalated']:,} escalated, {view.alerts['resolved']:,} resolved"
    )
    return Panel(table, title=title, box=box.ROUNDED, height=rows + 2)


def alert_line(alert: ChurnAlert) -> tuple[Text, ...]:
    days = (alert.at - alert.last_event_time) // DAY_MS
    told = f"is back after {days} days" if alert.status == "resolved" else f"silent for {days} days"
    return (
        Text(day(alert.at), style="dim"),
        Text(f"household {alert.user_id}"),
        Text(spoken(alert.stage), style=COLOURS.get(alert.stage, "")),
        Text(told),
        Text(alert.status, style=STATUS_COLOURS[alert.status]),
    )


def progress_line(view: View) -> str:
    """Return a line for a log, where there is no terminal."""
    return (
        f"{day(view.now_ms):>11}  {view.records / max(1, view.to_send):>4.0%}  {view.records:>7,} records"
        f"  {view.recommendations:>7,} lists  {view.alerts_open:>5,} alerts open"
        f"  {view.events_per_s:>8,.0f} events/s"
    )


def summary(view: View, quality: Quality, files: Sequence[Path]) -> RenderableType:
    """Return the last words: the sum, the quality on baskets never seen, and where the outputs lie."""
    return Group(
        "",
        accounts(view),
        Text(dead_letters_line(view), style="dim"),
        f"{view.recommendations:,} lists, {view.transitions.total():,} lifecycle transitions, "
        f"{view.alerts.total():,} alerts, in {view.seconds:.1f} s ({view.events_per_s:,.0f} events/s)",
        "",
        Text(
            f"October to December, unseen in training: {quality.baskets:,} baskets"
            f" of {quality.users:,} households, 95 % intervals",
            style="bold",
        ),
        quality_table(quality),
        *verdict(quality),
        "",
        *(Text(f"{path}  {path.stat().st_size / 1e6:.1f} MB", style="dim") for path in files),
    )


def dead_letters_line(view: View) -> str:
    return "dead letters: " + (
        ", ".join(f"{n} {reason}" for reason, n in view.dead_letters.items()) or "none"
    )


def quality_table(quality: Quality) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("the list")
    table.add_column(f"HR@{PLACES}", justify="right")
    table.add_column(f"NDCG@{PLACES}", justify="right")
    for rival in RIVALS:
        table.add_row(
            rival,
            measured(quality.hit_rate[rival]),
            measured(quality.ndcg[rival]),
            style="bold" if rival == LISTED else "",
        )
    return table


def verdict(quality: Quality) -> Iterator[str]:
    """Yield a sentence for each baseline: by how much, and whether the intervals stay apart."""
    for rival in (POPULARITY, BUY_AGAIN):
        told = [
            f"{measure} {gain(estimates[LISTED], estimates[rival])}"
            for measure, estimates in (("HR", quality.hit_rate), ("NDCG", quality.ndcg))
        ]
        yield f"against {rival}: {', '.join(told)}"


def gain(ours: Estimate, theirs: Estimate) -> str:
    apart = ours.low > theirs.high or ours.high < theirs.low
    more = ours.value / theirs.value - 1 if theirs.value else float("nan")
    return f"{more:+.0%} (intervals {'stay apart' if apart else 'overlap'})"


def measured(estimate: Estimate) -> str:
    return f"{estimate.value:.4f}  [{estimate.low:.4f}, {estimate.high:.4f}]"


def spoken(state: str) -> str:
    return state.replace("_", " ")


def day(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%-d %b %Y}"


def clock(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%H:%M}"
