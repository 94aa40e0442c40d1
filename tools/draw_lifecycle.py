"""Draw docs/lifecycle.svg from the table in stream/core/lifecycle.py: one arrow for each of its lines.

Where states stand and how an arrow runs is chosen here; which arrows there are, and what is written on them,
is the table's. A line that has no route makes this fail, so the picture cannot leave one out.
"""

from __future__ import annotations

from html import escape
from typing import Final, NamedTuple

from stream.core import lifecycle as lc

WIDTH: Final = 1000
HEIGHT: Final = 524
NODE: Final = (112, 40)

Point = tuple[int, int]


class Frame(NamedTuple):
    """A box around states that share a line of the table."""

    x: int
    y: int
    width: int
    height: int
    title: str


class Route(NamedTuple):
    """An arrow's corners, and where its words stand."""

    points: tuple[Point, ...]
    words: Point
    anchor: str = "start"


CENTRES: Final[dict[int, Point]] = {
    lc.NONE: (84, 120),
    lc.NEW: (270, 120),
    lc.RETAINED: (480, 120),
    lc.ACTIVE: (770, 120),
    lc.CONVERTED: (560, 250),
    lc.LOYAL: (730, 250),
    lc.AT_RISK: (270, 450),
    lc.DORMANT: (480, 450),
    lc.CHURNED: (690, 450),
    lc.FORGOTTEN: (910, 450),
}

EVERYONE: Final = (lc.NONE, *lc.STAGES)
FRAMES: Final[dict[tuple[int, ...], Frame]] = {
    EVERYONE: Frame(14, 28, 972, 286, ""),
    lc.STAGES: Frame(190, 50, 700, 250, "the stages"),
    lc.SILENT: Frame(190, 400, 580, 110, "silent"),
}

ROUTES: Final[dict[tuple[tuple[int, ...], int], Route]] = {
    (EVERYONE, lc.CONVERTED): Route(((14, 250), (504, 250)), (26, 242)),
    (EVERYONE, lc.LOYAL): Route(((986, 250), (786, 250)), (978, 242), "end"),
    ((lc.NONE,), lc.NEW): Route(((140, 120), (214, 120)), (177, 90), "middle"),
    ((lc.NEW,), lc.RETAINED): Route(((326, 120), (424, 120)), (375, 90), "middle"),
    ((lc.RETAINED,), lc.ACTIVE): Route(((536, 112), (714, 112)), (625, 90), "middle"),
    ((lc.ACTIVE,), lc.RETAINED): Route(((714, 130), (536, 130)), (625, 160), "middle"),
    (lc.SILENT, lc.RETAINED): Route(((460, 400), (460, 140)), (452, 360), "end"),
    (lc.SILENT, lc.CONVERTED): Route(((560, 400), (560, 270)), (568, 360)),
    (lc.SILENT, lc.LOYAL): Route(((730, 400), (730, 270)), (738, 360)),
    (lc.STAGES, lc.AT_RISK): Route(((240, 300), (240, 430)), (232, 360), "end"),
    ((lc.AT_RISK,), lc.DORMANT): Route(((326, 450), (424, 450)), (375, 494), "middle"),
    ((lc.DORMANT,), lc.CHURNED): Route(((536, 450), (634, 450)), (585, 494), "middle"),
    ((lc.CHURNED,), lc.FORGOTTEN): Route(((746, 450), (854, 450)), (852, 494), "middle"),
}

COLOURS: Final[dict[int, str]] = {
    lc.NONE: "#f4f4f5",
    lc.NEW: "#cffafe",
    lc.RETAINED: "#cffafe",
    lc.ACTIVE: "#dbeafe",
    lc.CONVERTED: "#dcfce7",
    lc.LOYAL: "#bbf7d0",
    lc.AT_RISK: "#fef9c3",
    lc.DORMANT: "#fed7aa",
    lc.CHURNED: "#fecaca",
    lc.FORGOTTEN: "#f4f4f5",
}

HEAD: Final = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">
<title>The user's lifecycle</title>
<!-- Written by `make docs` from stream/core/lifecycle.py. -->
<style>
  text {{ font: 13px system-ui, sans-serif; fill: #27272a }}
  .state {{ font-weight: 600; font-size: 15px; text-anchor: middle }}
  .frame {{ fill: none; stroke: #a1a1aa; stroke-dasharray: 5 4 }}
  .arrow {{ fill: none; stroke: #3f3f46; stroke-width: 1.6; marker-end: url(#tip) }}
  .words {{ paint-order: stroke; stroke: #fff; stroke-width: 4px }}
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
  <path d="M0,0 L8,4 L0,8 z" fill="#3f3f46"/></marker></defs>
<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>
"""


def draw(table: tuple[lc.Line, ...] = lc.TABLE) -> str:
    """Return the picture. Raises KeyError, naming the line, if one has no route."""
    parts = [HEAD]
    parts += map(_frame, FRAMES.values())
    parts += map(_arrow, table)
    parts += [_state(state) for state in range(len(lc.STATES))]
    parts += [_words(line) for line in table]
    return "".join(parts) + "</svg>\n"


def _route(line: lc.Line) -> Route:
    if (line.states, line.to) not in ROUTES:
        states = ", ".join(lc.STATES[state] for state in line.states)
        raise KeyError(f"{states} → {lc.STATES[line.to]}: give this line of the table a route")
    return ROUTES[line.states, line.to]


def _frame(frame: Frame) -> str:
    x, y, width, height, title = frame
    return (
        f'<rect class="frame" x="{x}" y="{y}" width="{width}" height="{height}" rx="10"/>\n'
        f'<text x="{x + width - 10}" y="{y + 18}" text-anchor="end" fill-opacity=".6">{title}</text>\n'
    )


def _state(state: int) -> str:
    (x, y), (width, height) = CENTRES[state], NODE
    return (
        f'<rect x="{x - width // 2}" y="{y - height // 2}" width="{width}" height="{height}" rx="20"'
        f' fill="{COLOURS[state]}" stroke="#71717a"/>\n'
        f'<text class="state" x="{x}" y="{y + 5}">{lc.STATES[state]}</text>\n'
    )


def _arrow(line: lc.Line) -> str:
    corners = " ".join(f"{x},{y}" for x, y in _route(line).points)
    return f'<polyline class="arrow" points="{corners}"/>\n'


def _words(line: lc.Line) -> str:
    _, (x, y), anchor = _route(line)
    return f'<text class="words" x="{x}" y="{y}" text-anchor="{anchor}">{escape(line.when)}</text>\n'
