"""Tables of results: printed, drawn, kept as JSON beside the code, and put together as docs/quality.md.

A row has a name, where its figures come from (`published`, `baseline` or `ours`), and its figures. What is
kept says with which settings, seed and time it was made; the plot goes to a folder that git ignores.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table as Printed

HERE: Final = Path(__file__).parent
#: Columns of a table that goes to a file.
WIDTH: Final = 150
RESULTS: Final = HERE / "results"
OUT: Final = HERE / "out"
#: Plots that are kept: docs/quality.md shows the one of a result's name.
DRAWN: Final = HERE.parent.parent / "docs" / "quality"
PAGE: Final = HERE.parent.parent / "docs" / "quality.md"
COLOURS: Final = {"published": "0.75", "baseline": "tab:blue", "ours": "tab:orange"}


class Row(msgspec.Struct, frozen=True):
    name: str
    source: str  # published, baseline, ours
    figures: dict[str, float | str]


class Result(msgspec.Struct, frozen=True):
    name: str
    title: str
    protocol: str
    columns: list[str]
    rows: list[Row]
    command: str
    seed: int
    cpu_minutes: float
    notes: list[str] = []


class Stopwatch:
    """CPU time of this process and of those it waited for: other programs on the machine do not count."""

    def __init__(self) -> None:
        self._from = self._seconds()

    @property
    def minutes(self) -> float:
        return (self._seconds() - self._from) / 60.0

    @staticmethod
    def _seconds() -> float:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system


def finish(result: Result, *, keep: bool = True, drawn: str | None = None) -> None:
    """Print the table, draw one column of it, and keep the result."""
    show(result)
    draw(result, drawn or result.columns[0])
    if keep:
        RESULTS.mkdir(exist_ok=True)
        text = msgspec.json.format(msgspec.json.encode(result), indent=1)
        (RESULTS / f"{result.name}.json").write_bytes(text + b"\n")


def show(result: Result) -> None:
    printed = Printed(title=result.title, caption=result.protocol)
    printed.add_column("")
    printed.add_column("from")
    for column in result.columns:
        printed.add_column(column, justify="right")
    for row in result.rows:
        style = "bold" if row.source == "ours" else None
        printed.add_row(row.name, row.source, *cells(result, row), style=style)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(printed)
    for note in result.notes:
        console.print(note)
    console.print(f"seed {result.seed}, {result.cpu_minutes:.1f} CPU minutes")


def cells(result: Result, row: Row) -> list[str]:
    found = [row.figures.get(column, "") for column in result.columns]
    return [figure if isinstance(figure, str) else f"{figure:.4f}" for figure in found]


def draw(result: Result, column: str) -> None:
    """Draw one column as bars, one a row."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in result.rows if isinstance(row.figures.get(column), float)][::-1]
    wide = 5 + 0.08 * max(len(row.name) for row in rows)  # inches: the bars keep theirs
    figure, axes = pyplot.subplots(figsize=(wide, 1 + 0.35 * len(rows)))
    axes.barh([row.name for row in rows], [row.figures[column] for row in rows])
    for bar, row in zip(axes.patches, rows, strict=True):
        bar.set_color(COLOURS[row.source])
    axes.set_xlabel(column)
    axes.set_title(result.title)
    figure.tight_layout()
    OUT.mkdir(exist_ok=True)
    figure.savefig(OUT / f"{result.name}.svg")
    pyplot.close(figure)


def write_page() -> None:
    """Write docs/quality.md from the results that are kept."""
    parts = [
        "# Quality",
        "",
        "Made by `python -m benchmarks.quality docs` from `benchmarks/quality/results`. Where items are"
        " ranked, the whole catalogue is. Published figures are those of the papers, or of the issue that"
        " asked for the comparison. CPU minutes are of one thread, baselines and evaluation included. Toys"
        " and Sports are files of github.com/aHuiWang/CIKM2020-S3Rec, data/: no setting was chosen for them.",
    ]
    for file in sorted(RESULTS.glob("*.json")):
        result = msgspec.json.decode(file.read_bytes(), type=Result)
        parts += ["", f"## {result.title}", "", result.protocol, "", f"    {result.command}", ""]
        parts.append("| | from | " + " | ".join(result.columns) + " |")
        parts.append("|---|---|" + "---:|" * len(result.columns))
        for row in result.rows:
            name = f"**{row.name}**" if row.source == "ours" else row.name
            parts.append(f"| {name} | {row.source} | " + " | ".join(cells(result, row)) + " |")
        parts += ["", f"Seed {result.seed}, {result.cpu_minutes:.1f} CPU minutes."]
        if (DRAWN / f"{result.name}.svg").exists():
            parts += ["", f"![{result.title}]({DRAWN.name}/{result.name}.svg)"]
        parts += [line for note in result.notes for line in ("", note)]
    PAGE.write_text("\n".join(parts) + "\n", "utf-8")
