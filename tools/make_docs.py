"""Write anew the parts of the docs that the code decides: `make docs`.

A page is either made whole, or has a block between `<!-- made: NAME -->` and `<!-- end: NAME -->`.
tests/tidy holds the pages in the tree to what this would write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from models.recipe_docs import docs_page as recipes_page
from stream.config_docs import docs_page as config_page
from stream.core import lifecycle as lc
from stream.dead_letters import REASONS
from stream.metrics import METRICS, Metric
from tools.draw_lifecycle import draw
from tools.draw_protocol import draw as draw_protocol

ROOT: Final = Path(__file__).resolve().parent.parent
DOCS: Final = ROOT / "docs"


def pages() -> Iterator[tuple[Path, str]]:
    """Yield each page that is made or has a made block, with the text that it should have."""
    yield DOCS / "config.md", config_page()
    yield DOCS / "recipes.md", recipes_page()
    yield DOCS / "lifecycle.svg", draw()
    yield DOCS / "protocol.svg", draw_protocol()
    yield DOCS / "metrics.md", metrics_page()
    yield DOCS / "decisions" / "README.md", decisions_page()
    lifecycle = (DOCS / "lifecycle.md").read_text()
    yield DOCS / "lifecycle.md", with_block(lifecycle, "table", lifecycle_table())
    guarantees = (DOCS / "guarantees.md").read_text()
    yield DOCS / "guarantees.md", with_block(guarantees, "reasons", reasons_table())


def with_block(page: str, name: str, text: str) -> str:
    """Return the page with its made block replaced. Raises ValueError if it has none of that name."""
    begin, end = f"<!-- made: {name} -->\n", f"<!-- end: {name} -->"
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    made, found = re.subn(pattern, lambda _: begin + text + end, page, flags=re.DOTALL)
    if found != 1:
        raise ValueError(f"block {name}: found {found} times instead of once")
    return made


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def header(*names: str) -> str:
    return row(*names) + row(*("---" for _ in names))


def lifecycle_table() -> str:
    lines = [header("from", "when", "to")]
    for line in lc.TABLE:
        states = ", ".join(lc.STATES[state] for state in line.states)
        lines.append(row(states, line.when, lc.STATES[line.to]))
    return "".join(lines)


def reasons_table() -> str:
    return header("reason", "the record has") + "".join(
        row(f"`{reason}`", meaning) for reason, meaning in REASONS.items()
    )


DECISIONS_HEAD: Final = """# Decisions

<!-- Written by `make docs` from the titles in this folder. -->

Choices that a newcomer would question, a page at most each: the question, what was decided, and why.

"""


def decisions_page() -> str:
    """Return docs/decisions/README.md: the list of all decisions by their titles."""
    lines = [DECISIONS_HEAD]
    for path in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        number, _, title = path.read_text().partition("\n")[0].removeprefix("# ").partition(": ")
        lines.append(f"- [{number}]({path.name}) {title}\n")
    return "".join(lines)


METRICS_HEAD: Final = """# Metrics

<!-- Written by `make docs` from stream/metrics.py. -->

`ebbtide run` serves them at `/metrics` on the address in `[http]`, as Prometheus text or OpenMetrics. No
label ever carries a user or an item. Series whose labels are a closed list exist from the start, at 0.

The sum to watch: `records = accepted + duplicates + dead_letters`. It holds at every commit; if it does not,
a record was lost, and that is a bug.

"""


def metrics_page() -> str:
    """Return docs/metrics.md."""
    lines = [METRICS_HEAD, header("metric", "type", "labels", "means", "what to do")]
    for metric in METRICS:
        lines.append(row(f"`{metric.name}`", metric.type, labels(metric), metric.meaning, metric.what_to_do))
    return "".join(lines)


def labels(metric: Metric) -> str:
    return "; ".join(
        f"`{name}`: {', '.join(values)}" if values else f"`{name}`" for name, values in metric.labels.items()
    )


def main() -> None:
    for path, text in pages():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"{path.relative_to(ROOT)}: written")


if __name__ == "__main__":
    main()
