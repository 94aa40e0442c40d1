"""The explanation of a run's list as a page for the terminal, in the manner of `ebbtide explain`."""

from __future__ import annotations

from typing import Final

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from models.influence import Explanation
from stream.explain_page import INFLUENCES_SHOWN, describe, when

#: What a score is made of; a part that is nothing everywhere has no column.
PARTS: Final = ("history", "context", "prior", "co_occurrence", "repeats", "reranked")


def show(explanation: Explanation) -> None:
    """Print the page."""
    Console().print(page(explanation))


def page(explanation: Explanation) -> RenderableType:
    """Return the page as something to print."""
    moved = [influence for influence in explanation.influences if influence.moved]
    left_out = len(explanation.influences)
    at = "" if explanation.event_time is None else f", at {when(explanation.event_time)}"
    blocks: list[RenderableType] = [
        _head(f"{explanation.user_id}: the list after {explanation.events} events{at}"),
        _indent(_list(explanation)),
        _head(f"What moved it: {len(moved)} of the last {left_out} events, each left out once"),
    ]
    table = Table("at" if at else "events back", "event", "item", "without it", box=None)
    for each in moved[:INFLUENCES_SHOWN]:
        moment = str(each.back) if each.event_time is None else when(each.event_time)
        table.add_row(moment, each.event_type, each.item_id or "", describe(each))
    blocks.append(_indent(table))
    if len(moved) > INFLUENCES_SHOWN:
        blocks.append(
            _indent(Text(f"… and {len(moved) - INFLUENCES_SHOWN} that moved it less; --json has them all"))
        )
    return Group(*blocks)


def _list(explanation: Explanation) -> Table:
    names = [name for name in PARTS if any(getattr(item, name) for item in explanation.items)]
    table = Table("", "item", "score", *(name.replace("_", "-") for name in names), box=None)
    for number, item in enumerate(explanation.items, 1):
        parts = (f"{getattr(item, name):+.4f}" for name in names)
        table.add_row(str(number), item.item_id, f"{item.score:.4f}", *parts)
    return table


def _head(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _indent(content: RenderableType) -> Padding:
    return Padding(content, (0, 0, 0, 2))
