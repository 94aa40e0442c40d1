"""Item sequences from files that hold nothing else: the data sets by which recommenders are compared.

    sequences      one user a line: the user, then the items in time order (SASRec's and S3-Rec's form)
    bare           the same without the user
    atomic         a table with a head of name:type columns, tabs between (RecBole's `.inter`)

They become the `Sequences` that events become, with one kind of event, `view`. A file without times gets one
second between events, so that each is a moment of its own; its gaps mean nothing, so no recipe for such a
file reads them. A value (a rating) stands in the features as the core would write it.

Refuses, and names the line: what is no UTF-8, a line without items, a row that is not as long as the head, a
number that is none. And a table without the columns it needs, and a file without a line.
"""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from models.dataset import Sequences
from stream.errors import InputError
from stream.times import TIME_MS_MAX

Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

KINDS: Final = ["view"]
FEATURES: Final = ["value_log", "has_value"]
#: The beginning of the year 1 in seconds.
_YEAR_1_S: Final = -62_135_596_800
#: The one attribute of the items of such data sets: a bag of words.
WORDS: Final = "words"


def read_sequences(path: Path | str, *, bare: bool = False, item_ids: Sequence[str] = ()) -> Sequences:
    """Read one user a line (`.gz` too); with `bare` the lines begin with the first item.

    item_ids: items that are known beforehand, first in the table. Raises InputError, which names the line.
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
    if not users:
        raise InputError("holds no event", place=str(path), remedy="give item sequences, a user a line")
    return from_lists(users, items, item_ids)


def from_lists(
    users: Sequence[str], items: Sequence[Sequence[str]], item_ids: Sequence[str] = ()
) -> Sequences:
    """Make sequences of lists of items; `item_ids` come first in the table, others as they appear."""
    table = {item: place for place, item in enumerate(item_ids)}
    flat = np.array([table.setdefault(item, len(table)) for taken in items for item in taken], np.int32)
    length = np.array([len(taken) for taken in items], np.int64)
    start = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    place = np.arange(len(flat)) - np.repeat(start[:-1], length)
    return make_sequences(start, list(users), flat, place * 1000, list(table))._replace(timed=False)


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


def read_atomic(source: Path | str | bytes, item_ids: Sequence[str] = ()) -> Sequences:
    """Read a table of user_id, item_id, timestamp (seconds) and, if it is there, rating.

    source: a file, or what is in one. Events of the same second stay in the order of the file.
    item_ids: items that are known beforehand, first in the table. Raises InputError, which names the line.
    """
    table = _read_table(source)
    users, user = np.unique(np.array(table.column("user_id")), return_inverse=True)
    names, name = np.unique(np.array(table.column("item_id")), return_inverse=True)
    places = {item: place for place, item in enumerate(item_ids)}
    item = np.array([places.setdefault(item, len(places)) for item in names.tolist()], np.int32)[name]
    seconds = table.numbers("timestamp")
    outside = (seconds < _YEAR_1_S) | (seconds > TIME_MS_MAX / 1000)
    table.refuse(outside, "timestamp lies outside the years 1 to 9999", "give seconds since 1970")
    time_ms = (seconds * 1000).astype(np.int64)
    order = np.lexsort((time_ms, user))
    start = np.searchsorted(user[order], np.arange(len(users) + 1)).astype(np.int64)
    value = table.numbers("rating")[order] if "rating" in table.names else None
    return make_sequences(start, users.tolist(), item[order], time_ms[order], list(places), value)


class _Table(NamedTuple):
    """Rows of text beneath a head of names."""

    place: str
    names: list[str]
    rows: list[list[str]]
    lines: list[int]  # of the rows, from 1

    def column(self, name: str) -> list[str]:
        at = self.names.index(name)
        return [row[at] for row in self.rows]

    def numbers(self, name: str) -> Doubles:
        """Return a column of numbers. Raises InputError for a text, NaN or infinity."""
        words = self.column(name)
        try:
            found = np.array(words, np.float64)
        except ValueError:
            found = np.array([_number(word) for word in words])
        self.refuse(~np.isfinite(found), f"{name} is no number", "mend the line, or leave it out")
        return found

    def refuse(self, bad: npt.NDArray[np.bool_], what: str, remedy: str) -> None:
        """Raise InputError that names the first row that is bad."""
        if bad.any():
            raise InputError(what, place=f"{self.place}:{self.lines[int(bad.argmax())]}", remedy=remedy)


def _read_table(source: Path | str | bytes) -> _Table:
    place = "table" if isinstance(source, bytes) else str(source)
    lines = _decode(io.BytesIO(source), place) if isinstance(source, bytes) else read_lines(source)
    names = [column.split(":")[0] for column in next(lines, "").rstrip("\r\n").split("\t")]
    missing = [name for name in ("user_id", "item_id", "timestamp") if name not in names]
    if missing:
        raise InputError(f"no column {', '.join(missing)}", place=place, remedy="name them name:type")
    table = _Table(place, names, [], [])
    for number, line in enumerate(lines, 2):
        if line.strip():
            row = line.rstrip("\r\n").split("\t")
            if len(row) != len(names):
                raise InputError(
                    f"{len(row)} columns where the head has {len(names)}",
                    place=f"{place}:{number}",
                    remedy="part them by tabs, and leave none out",
                )
            table.rows.append(row)
            table.lines.append(number)
    if not table.rows:
        raise InputError("holds no event", place=place, remedy="give rows beneath the head")
    return table


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return np.nan


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
    """Yield the lines of a file of text, packed by gzip or not. Raises InputError if it cannot be read."""
    packed = str(path).endswith(".gz")
    try:
        with gzip.open(path) if packed else open(path, "rb") as file:
            yield from _decode(file, str(path))
    except (OSError, EOFError, zlib.error) as error:
        what = (isinstance(error, OSError) and error.strerror) or str(error)
        raise InputError(what, place=str(path), remedy="give a file of text, packed as .gz or not") from error


def _decode(lines: Iterable[bytes], place: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                "no UTF-8", place=f"{place}:{number}", remedy="save the file as UTF-8"
            ) from error


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
