"""docs/recipes.md: every key of a recipe, made from the recipe's own types (`make docs`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from models.recipe import Recipe, Stage
from stream.core.features import FEATURES
from stream.core.lifecycle import CHURNED, NEW, STATES

_HEAD: Final = """# Recipes

<!-- Written by `make docs` from models/recipe.py and stream/core/features.py. -->

A recipe is a TOML file with every choice of a training run. `ebbtide-train fit --recipe FILE` trains it, and
`--set KEY=VALUE` overrides a key (tables parted by dots: `--set augment.mask=0.1`). The run folder keeps it:
`--recipe runs/x/recipe.json` trains the same again. Examples are in models/recipes; how to choose is in
[models.md](models.md).

"""

_FEATURES_HEAD: Final = f"""## Features

What `step_features` and `context_features` may name. KIND is a kind of `events.kinds` in the config, WINDOW
one of `windows.windows`, NAME a key of the recipe's `contexts`, STATE one of
{", ".join(STATES[NEW : CHURNED + 1])}. All are read after the event was applied.

| feature | meaning |
|---|---|
"""

#: Where the keys of the recipe itself are parted: the heading goes before the key.
_PARTS: Final = {
    "encoder": "The model",
    "next_item": "What is asked for",
    "cleaning": "How it is learnt",
}


def docs_page() -> str:
    """Return the page."""
    lines = [_HEAD]
    tables: list[type] = []
    for field in msgspec.structs.fields(Recipe):
        if field.name in _PARTS:
            lines.append(f"## {_PARTS[field.name]}\n\n{_HEADER}")
        lines.append(_row(field))
        if _last_of_part(field.name):
            lines.append("\n")
        tables += list(_tables(field.type))
    for table in tables:
        key = _key_of(table)
        heading = f"[[{key}]]" if table is Stage else f"[{key}]"
        lines.append(f"## `{heading}`\n\n{_first_paragraph(table)}\n\n{_HEADER}")
        lines += [_row(field) for field in msgspec.structs.fields(table)]
        lines.append("\n")
    lines += [_FEATURES_HEAD, *(f"| `{feature.name}` | {feature.meaning} |\n" for feature in FEATURES)]
    return "".join(lines).rstrip("\n") + "\n"


_HEADER: Final = "| key | expects | default | meaning |\n|---|---|---|---|\n"


def _last_of_part(name: str) -> bool:
    names = [field.name for field in msgspec.structs.fields(Recipe)]
    at = names.index(name) + 1
    return at == len(names) or names[at] in _PARTS


def _tables(annotation: Any) -> Iterator[type]:
    """Yield the structs that a key's value may be."""
    for part in _parts(msgspec.inspect.type_info(annotation)):
        if isinstance(part, msgspec.inspect.ListType):
            part = part.item_type
        if isinstance(part, msgspec.inspect.StructType):
            yield part.cls


def _parts(kind: msgspec.inspect.Type) -> list[msgspec.inspect.Type]:
    if isinstance(kind, msgspec.inspect.Metadata):
        return _parts(kind.type)
    if isinstance(kind, msgspec.inspect.UnionType):
        return [inner for part in kind.types for inner in _parts(part)]
    return [kind]


def _key_of(table: type) -> str:
    for field in msgspec.structs.fields(Recipe):
        if table in _tables(field.type):
            return field.name
    raise ValueError(f"no key holds a {table.__name__}")


def _first_paragraph(table: type) -> str:
    return " ".join((table.__doc__ or "").split("\n\n")[0].split())


def _row(field: msgspec.structs.FieldInfo) -> str:
    kind = msgspec.inspect.type_info(field.type)
    said = kind.extra_json_schema if isinstance(kind, msgspec.inspect.Metadata) else None
    meaning = str((said or {}).get("description", "")).replace("|", "\\|")
    cells = f"`{field.name}`", _expects(kind), _default(field), meaning
    return f"| {' | '.join(cells)} |\n"


def _expects(kind: msgspec.inspect.Type) -> str:
    """Return what a value may be, in words."""
    if isinstance(kind, msgspec.inspect.Metadata):
        return _expects(kind.type)
    if isinstance(kind, msgspec.inspect.UnionType):
        if {type(part) for part in kind.types} == {msgspec.inspect.StrType, msgspec.inspect.IntType}:
            return "a duration"
        return " or ".join(
            _expects(part) for part in kind.types if not isinstance(part, msgspec.inspect.NoneType)
        )
    match kind:
        case msgspec.inspect.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in values)
        case msgspec.inspect.StructType():
            return "a table"
        case msgspec.inspect.ListType(item_type=item):
            return f"a list: {_expects(item)}"
        case msgspec.inspect.DictType():
            return "a table"
        case msgspec.inspect.IntType(ge=low):
            return "a whole number" + _bounds(low, None, None)
        case msgspec.inspect.FloatType(ge=low, gt=above, le=high):
            return "a number" + _bounds(low, above, high)
        case msgspec.inspect.BoolType():
            return "true or false"
        case _:
            return "text"


def _bounds(low: float | None, above: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if above is not None:
        return f" above {above}"
    return "" if low is None else f", {low} or more"


def _default(field: msgspec.structs.FieldInfo) -> str:
    value = field.default
    if value is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    if value is None:
        return "none"
    if isinstance(value, msgspec.Struct):
        return "its own"
    text = msgspec.json.encode(value).decode()
    return f"`{text}`" if value != {} and value != [] else "empty"
