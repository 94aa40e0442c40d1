"""The page docs/config.md, made from the table of fields and the presets.

    python -m stream.config_docs > docs/config.md

A test holds the page to what this writes.
"""

from __future__ import annotations

import re
from typing import Final

from stream.config_fields import ORDERS, PRESET, SECTIONS, Key, Section
from stream.config_load import PRESETS_FOLDER, preset_names
from stream.config_tables import CLIENT_RESERVED
from stream.config_values import DURATION_WORDS

_HEAD: Final = """# Config

<!-- Written by `python -m stream.config_docs > docs/config.md` from stream/config_fields.py. -->

One TOML file. `ebbtide init` writes one with every key as a comment, `ebbtide check --config FILE` says what
is wrong with it, all at once. Every key has a default; an unknown key is an error.

- **Durations** are `"250ms"`, `"30s"`, `"5m"`, `"12h"`, `"7d"`, or integer milliseconds.
- **The environment**: `${NAME}` in a string is replaced by the variable, `${NAME:-default}` by the default
  where the variable is unset or empty; `$${` is `${` itself. A number may come from a variable too:
  `port = "${PORT}"`. Values that came this way never appear in an error or a log.
- **A preset** is a config that yours overrides: `preset = "e-commerce"`. Tables are merged key by key;
  `events.kinds`, `events.fields`, `windows.windows` and lists are replaced whole. A file with kinds of its
  own does not inherit what the preset recommends on.
- **Keys marked ◆ decide the state**: the fold of a log under one value is not the fold under another. Their
  hash stands in every commit record, and a change of one is a change that the journal records. All others
  may change between two starts.
"""


def to_toml(value: object) -> str:
    """Write a value as TOML does, on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(to_toml, value))}]"
    if isinstance(value, dict):
        entries = ", ".join(f"{_bare(name)} = {to_toml(entry)}" for name, entry in value.items())
        return f"{{ {entries} }}" if entries else "{}"
    return str(value)


def _bare(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else to_toml(name)


def docs_page() -> str:
    """Return docs/config.md."""
    lines = [_HEAD, f"`preset`: {PRESET.meaning}\n"]
    for section in SECTIONS:
        lines += _section(section)
    lines.append("## What keys must agree on\n")
    lines += [f"- `{o.less}` {'≤' if o.equal else '<'} `{o.more}`" for o in ORDERS]
    lines.append(
        "- a ring of 1-day buckets, 30 or more; a window is a multiple of its ring's bucket and fits it"
    )
    lines.append("- `events.recommend` names kinds of `events.kinds` that are no contacts")
    lines.append("- no two `topics` have one name\n")
    lines.append("## librdkafka settings that are refused\n")
    lines += [f"- `{name}`: {reason}" for name, reason in CLIENT_RESERVED.items()]
    lines.append("\n## Presets\n")
    for name in preset_names():
        text = (PRESETS_FOLDER / f"{name}.toml").read_text(encoding="utf-8")
        lines.append(f"### {name}\n\n```toml\n{text}```\n")
    return "\n".join(lines).rstrip() + "\n"


def _section(section: Section) -> list[str]:
    title = "policies.*" if section.name == "policies" else section.name
    head = [f"## [{title}]\n", f"{section.meaning}\n"]
    head += ["| key | expects | default | meaning |", "|---|---|---|---|"]
    return [*head, *(_row(key) for key in section.keys), ""]


def _row(key: Key) -> str:
    mark = " ◆" if key.folds else ""
    default = "not set" if key.default is None else f"`{to_toml(key.default)}`"
    expected = key.reader.expected.replace(DURATION_WORDS, "a duration")
    cells = (f"`{key.name}`{mark}", expected, default, key.meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    print(docs_page(), end="")
