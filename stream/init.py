"""A config for one's own data: every key of the table of fields, with the values of a preset.

What one is likely to change is written as settings, the rest as comments that hold the value in force, so
that the file says what Ebbtide does and a key is changed by taking its `#` away.
"""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Iterator
from typing import Any, Final

from stream.config_docs import to_toml
from stream.config_fields import POLICIES, SECTIONS, Key, Section
from stream.config_load import PRESETS_FOLDER

_WIDTH: Final = 100

#: Keys that differ from one deployment to the next: written as settings.
_SETTINGS: Final = {"events.recommend", "kafka.bootstrap_servers", "kafka.group_id", "topics.events"}

_HEAD: Final = """\
# Ebbtide's config. A line with a # before its key holds the value in force; take the # away to change it.
# Durations: "250ms", "30s", "5m", "12h", "7d". Secrets: ${NAME} is taken from the environment.
"""


def commented_config(preset: str) -> str:
    """Return a config file over a preset: it loads to the preset, and so it does with every # removed."""
    text = (PRESETS_FOLDER / f"{preset}.toml").read_text(encoding="utf-8")
    tree = tomllib.loads(text)
    about, _, rest = text.partition("\n\n")
    kinds = rest[rest.index("[events.kinds]") :].partition("\n\n")[0]
    lines = [_HEAD, about, f"preset = {to_toml(preset)}"]
    for section in SECTIONS:
        lines += ["", "", *_comment(section.meaning)]
        given = tree.get(section.name, {})
        lines += _policies(given) if section is POLICIES else _section(section, given, kinds)
    return "\n".join(lines) + "\n"


def _section(section: Section, given: dict[str, Any], kinds: str) -> Iterator[str]:
    """Write a section; the kinds, a table of their own with the preset's comments, come last in theirs."""
    yield f"[{section.name}]"
    for key in section.keys:
        if key.name != "kinds":
            yield from _key(f"{section.name}.{key.name}", key, given)
    for key in section.keys:
        if key.name == "kinds":
            yield from ("", *_comment(key.meaning), kinds)


def _policies(given: dict[str, Any]) -> Iterator[str]:
    yield "[policies.default]"
    default = given.get("default", {})
    for key in POLICIES.keys:
        yield from _key(f"policies.default.{key.name}", key, default)
    for state, policy in given.items():
        if state != "default":
            yield ""
            yield f"[policies.{state}]"
            yield from (f"# {name} = {to_toml(value)}" for name, value in policy.items())


def _key(full: str, key: Key, given: dict[str, Any]) -> Iterator[str]:
    value = given.get(key.name, key.default)
    yield ""
    yield from _comment(key.meaning)
    if value is None:
        yield f"# For example:\n# {key.name} = {to_toml(key.example)}"
    else:
        yield f"{'' if full in _SETTINGS else '# '}{key.name} = {to_toml(value)}"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
