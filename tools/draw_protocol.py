"""Draw docs/protocol.svg: the steps of a commit and of a restore, and what each line of defence answers.

The steps are a table; the picture is drawn from it, top to bottom, and grows with it.
"""

from __future__ import annotations

from html import escape
from typing import Final, Literal, NamedTuple

Side = Literal["events", "worker", "coordinator", "topics", "group", "heir"]

LANES: Final[dict[Side, str]] = {
    "events": "events log",
    "worker": "worker",
    "coordinator": "transaction coordinator",
    "topics": "outputs, rows, journal",
    "group": "group coordinator",
    "heir": "next owner",
}
X_FIRST: Final = 90
X_STEP: Final = 205
WIDTH: Final = X_FIRST * 2 + X_STEP * (len(LANES) - 1)
Y_FIRST: Final = 84
STEP: Final = 40
BAND: Final = 46
TEXT_PX: Final = 13

#: One colour a kind of line: what is said, what answers or is late, and what is refused.
COLOURS: Final = {"call": "#1d4ed8", "late": "#b45309", "refused": "#b91c1c", "own": "#3f3f46"}


class Step(NamedTuple):
    """A message from one lane to another, or something that a lane does by itself."""

    source: Side
    target: Side
    words: str
    kind: Literal["call", "late", "refused", "own"] = "call"


class Part(NamedTuple):
    """A band across the picture: here another part of the protocol begins."""

    title: str


SCRIPT: Final[tuple[Step | Part, ...]] = (
    Part("while it folds: one transaction, begun by the first output"),
    Step("worker", "events", "poll"),
    Step("worker", "worker", "decode, fold, encode, score; each row is copied at its first touch", "own"),
    Step("worker", "topics", "outputs, undecided"),
    Part("the commit, every commit_interval_ms"),
    Step("worker", "topics", "journal, rows with `through`, then commit record n (X, floor F, clock)"),
    Step("worker", "group", "offsets X with n as metadata, and the member's epoch, undecided"),
    Step("worker", "coordinator", "commit; meanwhile the worker polls and folds on, and produces nothing"),
    Step("coordinator", "worker", "committed: forget the way back, rows count as written", "late"),
    Step("coordinator", "topics", "markers, each partition on its own, some of them later", "late"),
    Step("coordinator", "group", "marker: X and n are committed", "late"),
    Part("the worker is gone, or has lost its partitions"),
    Step(
        "coordinator",
        "topics",
        "after transaction.timeout.ms: abort what is open, fence its producer",
        "late",
    ),
    Step("worker", "coordinator", "a zombie wakes up and commits: fenced, or no member any more", "refused"),
    Part("restore, per partition, while the others go on"),
    Step("heir", "group", "what is committed? X and n, once nothing is pending"),
    Step("heir", "topics", "rows, until record n is seen; journal entries from F to X"),
    Step("heir", "events", "replay F … X without outputs; each row takes what lies behind its `through`"),
    Step("heir", "heir", "live from X on: the clock is that of the record, or it refuses", "own"),
)


def x_of(side: Side) -> int:
    return X_FIRST + X_STEP * list(LANES).index(side)


def draw() -> str:
    """Return the picture as SVG."""
    body: list[str] = []
    y = Y_FIRST
    for line in SCRIPT:
        if isinstance(line, Part):
            body.append(band(line, y))
            y += BAND
        else:
            body.append(arrow(line, y))
            y += STEP
    height = y + 10
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" font-family="system-ui, sans-serif" font-size="{TEXT_PX}" role="img">',
            "<title>A commit and a restore, step by step</title>",
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            markers(),
            *(lane(side, name, height) for side, name in LANES.items()),
            *body,
            "</svg>\n",
        ]
    )


def markers() -> str:
    heads = "".join(
        f'<marker id="{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        f'orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" fill="{colour}"/></marker>'
        for kind, colour in COLOURS.items()
    )
    return f"<defs>{heads}</defs>"


def lane(side: Side, name: str, height: int) -> str:
    x = x_of(side)
    return (
        f'<line x1="{x}" y1="50" x2="{x}" y2="{height - 10}" stroke="#d4d4d8"/>'
        f'<rect x="{x - 88}" y="14" width="176" height="32" rx="6" fill="#f4f4f5" stroke="#a1a1aa"/>'
        f'<text x="{x}" y="35" text-anchor="middle">{escape(name)}</text>'
    )


def band(part: Part, y: int) -> str:
    return (
        f'<rect x="8" y="{y - 16}" width="{WIDTH - 16}" height="24" fill="#eef2ff"/>'
        f'<text x="18" y="{y + 1}" font-weight="600">{escape(part.title)}</text>'
    )


def arrow(step: Step, y: int) -> str:
    """Draw one step: its words stand above its line, on a white ground."""
    start, end, colour = x_of(step.source), x_of(step.target), COLOURS[step.kind]
    words = escape(step.words)
    left = min(start, end)
    if step.source == step.target:
        edge = "end" if left > WIDTH / 2 else "start"
        x = left - 12 if edge == "end" else left + 12
        return f'<circle cx="{left}" cy="{y}" r="4" fill="{colour}"/>' + text(x, y + 4, words, edge)
    dashed = ' stroke-dasharray="6 4"' if step.kind == "late" else ""
    middle = min(max((start + end) // 2, 250), WIDTH - 250)
    return (
        f'<line x1="{start}" y1="{y}" x2="{end}" y2="{y}" stroke="{colour}"{dashed} '
        f'marker-end="url(#{step.kind})"/>' + text(middle, y - 6, words, "middle")
    )


def text(x: int, y: int, words: str, anchor: str) -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" stroke="white" stroke-width="4" '
        f'paint-order="stroke">{words}</text>'
    )
