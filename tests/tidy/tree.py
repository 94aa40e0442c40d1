"""The source tree as the tidy tests see it: what git would commit, parsed once."""

from __future__ import annotations

import ast
import os
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
#: Folders that are made, not written.
MADE: Final = {"build", "dist", "runs", "demo-out", "node_modules", "__pycache__"}
PACKAGES: Final = ("stream", "models", "export")


@cache
def files(*suffixes: str) -> tuple[Path, ...]:
    """Return the tree's files with one of the suffixes, or all of them, sorted."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in MADE and not name.endswith(".egg-info")]
        folders[:] = [name for name in folders if not name.startswith(".") or name == ".ci"]
        found += [Path(folder, name) for name in names if not suffixes or Path(name).suffix in suffixes]
    return tuple(sorted(found))


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def sources() -> tuple[Path, ...]:
    """Return the modules of the packages that are shipped."""
    return tuple(path for path in files(".py") if short(path).split("/")[0] in PACKAGES)


def imports(path: Path) -> set[str]:
    """Return the full names of the modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names
