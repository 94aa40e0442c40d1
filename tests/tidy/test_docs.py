"""The docs say what is: made pages are up to date, links lead somewhere, commands exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import pytest
import typer.main

from stream.cli import app
from tests.tidy.tree import ROOT, files, short
from tools.make_docs import pages, with_block

PAGES: Final = files(".md")
LINK: Final = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
FENCE: Final = re.compile(r"^ {0,3}```.*?^ {0,3}```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("path", "wanted"), [pytest.param(*page, id=short(page[0])) for page in pages()])
def test_a_made_page_is_up_to_date(path: Path, wanted: str) -> None:
    assert path.read_text() == wanted, f"{short(path)} is behind the code: run `make docs`"


def test_a_block_that_is_missing_is_noticed() -> None:
    with pytest.raises(ValueError, match="found 0 times"):
        with_block("no block here", "table", "text")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_somewhere() -> None:
    for page in PAGES:
        check_links(page)


def check_links(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        target, _, anchor = unquote(link[0] or link[1]).partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        to = page if not target else (page.parent / target).resolve()
        assert to.exists(), f"{short(page)} links to {target}"
        if anchor and to.suffix == ".md":
            assert anchor in anchors(to), f"{short(page)} links to {target}#{anchor}"


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the commands of a page's code blocks and inline code, as words."""
    text = page.read_text()
    lines = [line for block in FENCE.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    lines += [line for line in text.splitlines() if line.startswith("    ")]
    lines += re.findall(r"`((?:make|ebbtide|ebbtide-train|ebbtide-export) [^`]+)`", FENCE.sub("", text))
    for line in lines:
        command = line.strip().removeprefix("$ ").partition(" #")[0]
        if re.match(r"(make|ebbtide|ebbtide-train|ebbtide-export) [a-z-]", command):
            yield shlex.split(command.partition(" | ")[0])


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_make_target_and_command_exists() -> None:
    cli = typer.main.get_command(app)
    for page in PAGES:
        check_commands(page, cli.commands)  # type: ignore[attr-defined]


def check_commands(page: Path, known_commands: dict[str, Any]) -> None:
    for words in commands(page):
        if words[0] == "make":
            assert words[1] in targets(), f"{short(page)}: {shlex.join(words)}"
        elif words[0] == "ebbtide" and not words[1].startswith("-"):
            command = known_commands.get(words[1])
            if words[2:] and words[2] in getattr(command, "commands", {}):
                command = command.commands[words[2]]
            assert command is not None, f"{short(page)}: {shlex.join(words)}"
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            used = {word.partition("=")[0] for word in words[2:] if word.startswith("--")}
            assert used <= known, f"{short(page)}: {shlex.join(words)}: no {', '.join(used - known)}"


def test_the_readme_is_checked_at_all() -> None:
    assert [words[:2] for words in commands(ROOT / "README.md")].count(["make", "demo"]) >= 1


def test_decisions_are_numbered_once_and_fit_a_page() -> None:
    decisions = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    numbers = [path.name[:4] for path in decisions]
    assert len(numbers) == len(set(numbers))
    for path in decisions:
        assert re.match(r"\d{4}-[a-z0-9-]+\.md$", path.name), path.name
        assert path.read_text().startswith(f"# {path.name[:4]}"), path.name
        assert len(path.read_text().splitlines()) <= 60, f"{path.name}: more than a page"
