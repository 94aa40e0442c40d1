"""From a TOML file to a `Config`, or to everything that is wrong with it.

    file → tree → over the preset → variables of the environment → keys → agreements → Config

Faults are collected, never raised one by one: whoever mends a file should mend it once. Reads the file that
it is given and the presets that come with the package, and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from stream import config as parts
from stream.config_agree import DAY_MS, agree
from stream.config_fields import KEYS, NAMES, POLICY_STATES
from stream.config_tables import dotted
from stream.config_values import FromEnvironment, RefusedError, show, suggest
from stream.errors import ConfigError, Fault

Tree = dict[str, Any]

PRESETS_FOLDER: Final = Path(__file__).parent / "presets"

_VARIABLE: Final = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{[^}]*\}?")


def load_config(
    path: str | os.PathLike[str], *, environment: Mapping[str, str] | None = None
) -> parts.Config:
    """Read a config file. `${NAME}` in its strings comes from `environment`, by default the process's.

    Raises ConfigError with every fault of the file.
    """
    place = os.fspath(path)
    try:
        tree = tomllib.loads(Path(path).read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise ConfigError([Fault("", "no such file", "`ebbtide init` writes one")], place=place) from None
    except OSError as error:
        raise ConfigError([Fault("", f"cannot be read: {error.strerror}")], place=place) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Fault("", f"is not UTF-8 at byte {error.start}")], place=place) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([Fault("", f"is not TOML: {error}")], place=place) from None
    return parse_config(tree, place=place, folder=Path(path).parent, environment=environment)


def parse_config(
    tree: Mapping[str, object] | None = None,
    *,
    place: str = "config",
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> parts.Config:
    """Make a config of a tree as TOML would give it; of none, the defaults.

    Paths in it are relative to `folder`. Raises ConfigError with every fault of the tree.
    """
    faults: list[Fault] = []
    over = dict(tree or {})
    base = _read_preset(over.get("preset"), faults)
    if "kinds" in _table(over, "events"):
        # What the preset recommends on are kinds that this config may not have.
        _table(base, "events").pop("recommend", None)
    merged = _merge("", base, over)
    expanded = _expand("", merged, os.environ if environment is None else environment, faults)
    given: dict[str, object] = {}
    _flatten("", expanded, given, faults)
    values = _read_values(given, faults)
    faults.extend(agree(values))
    if faults:
        raise ConfigError(sorted(faults, key=_rank), place=place)
    return _build(values, given, place, folder)


def preset_names() -> list[str]:
    """Return the names of the presets that come with the package."""
    return sorted(path.stem for path in PRESETS_FOLDER.glob("*.toml"))


def _read_preset(name: object, faults: list[Fault]) -> Tree:
    if name is None:
        return {}
    names = preset_names()
    if name not in names:
        remedy = suggest(name, names) or f"presets: {', '.join(names)}"
        faults.append(Fault("preset", f"there is no preset {show(name)}", remedy))
        return {}
    return tomllib.loads((PRESETS_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def _table(tree: Tree, name: str) -> Tree:
    table = tree.get(name)
    return table if isinstance(table, dict) else {}


def _merge(key: str, base: Tree, over: Mapping[str, Any]) -> Tree:
    """Lay one tree over another, table by table; a key that is `whole`, like a list, is replaced."""
    merged = dict(base)
    for name, value in over.items():
        full = _join(key, name)
        whole = full in KEYS and KEYS[full].whole
        if not whole and isinstance(value, Mapping) and isinstance(merged.get(name), dict):
            merged[name] = _merge(full, merged[name], value)
        else:
            merged[name] = value
    return merged


def _expand(key: str, value: Any, environment: Mapping[str, str], faults: list[Fault]) -> Any:
    """Put variables of the environment into every string of the tree."""
    if isinstance(value, Mapping):
        return {name: _expand(_join(key, name), entry, environment, faults) for name, entry in value.items()}
    if isinstance(value, list):
        return [_expand(f"{key}[{i}]", entry, environment, faults) for i, entry in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def expand(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        if match[0] == "$${":
            return "${"
        if name is None:
            faults.append(
                Fault(key, f'"{match[0]}" names no variable', "write ${NAME}, or $${ for ${ itself")
            )
            return ""
        if default is not None:
            return environment.get(name) or default
        if name not in environment:
            what = f"the environment variable {name} is not set"
            faults.append(Fault(key, what, f"set it, or write ${{{name}:-default}}"))
        return environment.get(name, "")

    return FromEnvironment(_VARIABLE.sub(expand, value), value)


def _flatten(key: str, table: Tree, given: dict[str, object], faults: list[Fault]) -> None:
    """Write what the tree holds into `given` by full names, a table as its own name; the rest is unknown."""
    for name, value in table.items():
        full = _join(key, name)
        if full in KEYS:
            given[full] = value
        elif full not in NAMES:
            faults.append(Fault(full, "no such key", _nearest(full)))
        elif isinstance(value, dict):
            given[full] = value
            _flatten(full, value, given, faults)
        elif value is False and full.startswith("policies."):
            continue  # takes away what the preset gave
        else:
            faults.append(Fault(full, f"expected a table, [{full}], not {show(value)}"))


def _nearest(key: str) -> str:
    """Suggest the known key that was meant: one of this name elsewhere, else the nearest spelling."""
    last = key.rpartition(".")[2]
    elsewhere = [name for name in NAMES if name.rpartition(".")[2] == last]
    return f'did you mean "{elsewhere[0]}"?' if elsewhere else suggest(key, NAMES)


def _read_values(given: dict[str, object], faults: list[Fault]) -> dict[str, Any]:
    """Read every key: full name → value. One that is wrong is left out; one not set is None.

    A policy's key of a lifecycle state is only there if it was given.
    """
    values: dict[str, Any] = {}
    broken = {fault.key for fault in faults}
    for full, key in KEYS.items():
        inherits = full.startswith("policies.") and not full.startswith("policies.default.")
        value = given.get(full, None if inherits else key.default)
        if value is None:
            if not inherits:
                values[full] = None
        elif full not in broken:
            try:
                values[full] = key.reader.read(value)
            except RefusedError as refused:
                faults.extend(Fault(full + fault.key, fault.what, fault.remedy) for fault in refused.faults)
    return values


def _rank(fault: Fault) -> int:
    """The place of a fault: that of its key, or of the table that its unknown key stands in."""
    under = [
        place
        for place, name in enumerate(NAMES)
        if fault.key == name or fault.key.startswith((f"{name}.", f"{name}["))
    ]
    return max(under, default=-1 if not fault.key else len(NAMES))


def _join(key: str, name: str) -> str:
    return (key + dotted(name)).removeprefix(".")


_SectionT = TypeVar("_SectionT", bound=msgspec.Struct)


def _section(kind: type[_SectionT], table: str, values: Mapping[str, Any], **more: Any) -> _SectionT:
    """Fill a section's attributes with the values of the keys that they are encoded as."""
    filled = {
        attribute.name: values[f"{table}.{attribute.encode_name}"]
        for attribute in msgspec.structs.fields(kind)
        if attribute.name not in more
    }
    return kind(**filled, **more)


def _build(
    values: dict[str, Any], given: Mapping[str, object], place: str, folder: Path | None
) -> parts.Config:
    """Make the config of values that agree."""
    kinds = values["events.kinds"]
    if values["events.recommend"] is None:
        values["events.recommend"] = tuple(kind for kind in kinds if kinds[kind] == "engagement")
    policies = {}
    for state in POLICY_STATES:
        own = {
            full: values.get(full.replace(".default.", f".{state}."), values[full])
            for full in KEYS
            if full.startswith("policies.default.")
        }
        policies[state] = _section(parts.Policy, "policies.default", own)
    policies_given = frozenset(state for state in POLICY_STATES if f"policies.{state}" in given)
    path = values["bundle.path"]
    return parts.Config(
        place=place,
        preset=values["preset"],
        events=_section(parts.Events, "events", values),
        time=_section(parts.Time, "time", values),
        windows=_windows(values),
        lifecycle=_section(parts.Lifecycle, "lifecycle", values),
        policies=policies,
        policies_given=policies_given,
        bundle=parts.BundlePlace(path=None if path is None else (folder or Path()) / path),
        kafka=_section(parts.Kafka, "kafka", values),
        topics=_section(parts.Topics, "topics", values),
        worker=_section(parts.Worker, "worker", values, checkpoint_dir=_folder_of(values, folder)),
        http=_section(parts.Http, "http", values),
        meaning=_meaning(values, policies, policies_given),
    )


def _folder_of(values: Mapping[str, Any], folder: Path | None) -> Path | None:
    path = values["worker.checkpoint_dir"]
    return None if path is None else (folder or Path()) / path


def _windows(values: Mapping[str, Any]) -> parts.Windows:
    rings = values["windows.rings"]
    sizes = [ring.bucket_ms for ring in rings]
    windows = {
        name: parts.Window(sizes.index(span.bucket_ms), span.span_ms // span.bucket_ms)
        for name, span in values["windows.windows"].items()
    }
    return parts.Windows(rings=rings, windows=windows, day_ring=sizes.index(DAY_MS))


def _meaning(
    values: Mapping[str, Any], policies: dict[str, parts.Policy], policies_given: frozenset[str]
) -> str:
    """Hash what the fold depends on; the order of kinds, rings and windows is no part of it."""
    folds = {
        name: values[name] for name, key in KEYS.items() if key.folds and not name.startswith("policies.")
    }
    folds["events.recommend"] = sorted(folds["events.recommend"])
    folds["windows.rings"] = sorted(folds["windows.rings"])
    text = msgspec.json.encode([folds, policies, sorted(policies_given)], order="sorted")
    return hashlib.blake2b(text, digest_size=8, person=b"ebbtide-meaning").hexdigest()
