"""Whatever stops a worker has an entry in the runbook, in the very words of the error."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.tidy.tree import ROOT, parsed, short, sources

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
#: What a sentence must share with its entry: its longest piece between values.
PIECE_MIN = 10


def sentences() -> Iterator[tuple[str, list[str]]]:
    """Yield where a StateError is made, and the fixed pieces of what it says."""
    for path in sources():
        if not short(path).startswith("stream/") or "testing" in path.name:
            continue
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "StateError":
                pieces = list(fixed_pieces(node.args[0]))
                yield f"{short(path)}:{node.lineno}", pieces


def fixed_pieces(text: ast.expr) -> Iterator[str]:
    if isinstance(text, ast.Constant):
        yield str(text.value)
    elif isinstance(text, ast.JoinedStr):
        yield from (str(part.value) for part in text.values if isinstance(part, ast.Constant))


def test_every_error_that_stops_a_worker_is_in_the_runbook() -> None:
    entries = re.sub(r"\s+", " ", RUNBOOK)
    missing = []
    for place, pieces in sentences():
        longest = max((re.split(r'[:"]', piece)[0].strip(" ,") for piece in pieces), key=len, default="")
        if len(longest) >= PIECE_MIN and longest not in entries:
            missing.append(f"{place}: {longest}")
    assert not missing


def test_there_are_such_errors_at_all() -> None:
    assert sum(1 for _ in sentences()) > 15
