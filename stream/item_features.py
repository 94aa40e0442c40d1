"""From an item's attributes to the numbers that the item encoder takes: one code for training and serving.

A bundle with an item encoder holds the list of fields as `item_features.json`. An item becomes two rows, the
fields' columns side by side in the order of the list:

    field       codes, i64                              floats, f32
    category    `most` codes: 1 + place in `values`     none
    number      none                                    standardised (of ln(1 + x) if `log`), 1
    text        `length` codes: 1 + hash of n letters   none
    vector      none                                    the vector at unit length, 1

A code of 0 is no value, or one that training did not know; the last float of a number or vector is 0, as are
the others, where there is none. An attribute of the wrong type counts as missing: the catalogue is other
people's data, and one bad attribute must not keep an item from being listed.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from stream.core.hashing import fnv1a_all
from stream.errors import BundleError

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

ITEM_FEATURES: Final = "item_features.json"
#: Standard deviations beyond which a number says no more than "very large": a price in the wrong unit.
NUMBER_MAX: Final = 8.0


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """What a field reads: the attribute of its name."""

    name: str

    @property
    def codes(self) -> int:
        """How many columns of codes it takes."""
        return 0

    @property
    def floats(self) -> int:
        """How many columns of floats it takes."""
        return 0

    def read(self, values: Sequence[Any], codes: Codes, floats: Floats) -> None:
        """Write the attribute of each item into codes [n, self.codes] and floats [n, self.floats]."""
        raise NotImplementedError


class Category(Field, frozen=True, tag="category"):
    """One word or several, of a closed list; a number or a boolean is taken as a word."""

    values: list[str]
    most: int = 1  # words of one item that count, the first ones

    @property
    def codes(self) -> int:
        return self.most

    def read(self, values: Sequence[Any], codes: Codes, floats: Floats) -> None:
        code = {word: i for i, word in enumerate(self.values, 1)}
        for row, value in enumerate(values):
            known = [code[word] for word in words(value) if word in code][: self.most]
            codes[row, : len(known)] = known


class Number(Field, frozen=True, tag="number"):
    mean: float
    deviation: float
    log: bool = False  # of a price or a count: ln(1 + x), 0 for what is negative

    @property
    def floats(self) -> int:
        return 2

    def read(self, values: Sequence[Any], codes: Codes, floats: Floats) -> None:
        for row, value in enumerate(values):
            if is_number(value):
                x = math.log1p(max(0.0, value)) if self.log else value
                standard = (x - self.mean) / self.deviation
                floats[row] = min(max(standard, -NUMBER_MAX), NUMBER_MAX), 1.0


class Text(Field, frozen=True, tag="text"):
    """Hashed runs of `letters` letters, in order: no words to split, no vocabulary to know."""

    buckets: int = 4096
    letters: int = 3
    length: int = 48  # runs of one item that count, the first ones

    @property
    def codes(self) -> int:
        return self.length

    def read(self, values: Sequence[Any], codes: Codes, floats: Floats) -> None:
        runs = [self._runs(" ".join(words(value))) for value in values]
        start = np.zeros(sum(map(len, runs)) + 1, np.int64)
        encoded = [run.encode(errors="surrogatepass") for row in runs for run in row]
        np.cumsum([len(run) for run in encoded], out=start[1:])
        hashes = fnv1a_all(np.frombuffer(b"".join(encoded), np.uint8), start)
        hashed = (hashes % np.uint64(self.buckets)).astype(np.int64) + 1
        first = 0
        for row, found in enumerate(runs):
            codes[row, : len(found)] = hashed[first : first + len(found)]
            first += len(found)

    def _runs(self, text: str) -> list[str]:
        """Return the runs of a text, its edges marked by blanks; none of an empty one."""
        plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
        if not plain:
            return []
        marked = f" {plain} "
        count = max(1, len(marked) - self.letters + 1)
        return [marked[i : i + self.letters] for i in range(min(count, self.length))]


class Vector(Field, frozen=True, tag="vector"):
    """A dense vector that another model made: of a picture, a sound, a sentence."""

    size: int

    @property
    def floats(self) -> int:
        return self.size + 1

    def read(self, values: Sequence[Any], codes: Codes, floats: Floats) -> None:
        for row, value in enumerate(values):
            if isinstance(value, list) and len(value) == self.size and all(map(is_number, value)):
                length = math.hypot(*value)
                if 0.0 < length < math.inf:
                    floats[row, :-1] = np.array(value, np.float64) / length
                    floats[row, -1] = 1.0


class ItemFeatures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """item_features.json: the fields in the order of their columns."""

    fields: list[Category | Number | Text | Vector]

    @property
    def codes(self) -> int:
        """Columns of codes of all fields, at least one: ONNX Runtime takes no empty row."""
        return max(1, sum(field.codes for field in self.fields))

    @property
    def floats(self) -> int:
        return max(1, sum(field.floats for field in self.fields))

    def to_builtins(self) -> list[dict[str, Any]]:
        """Return the fields as a config keeps them."""
        fields: list[dict[str, Any]] = msgspec.to_builtins(self.fields)
        return fields

    def encode(self, attributes: Sequence[Mapping[str, Any]]) -> tuple[Codes, Floats]:
        """Return the items' codes i64 [n, C] and floats f32 [n, F]."""
        codes = np.zeros((len(attributes), self.codes), np.int64)
        floats = np.zeros((len(attributes), self.floats), np.float32)
        code = number = 0
        for field in self.fields:
            values = [given.get(field.name) for given in attributes]
            own_codes = codes[:, code : code + field.codes]
            field.read(values, own_codes, floats[:, number : number + field.floats])
            code += field.codes
            number += field.floats
        return codes, floats


def read_item_features(path: Path) -> ItemFeatures:
    """Read item_features.json. Raises BundleError if it is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ItemFeatures)
    except (OSError, msgspec.MsgspecError) as error:
        raise BundleError(
            f"no list of item features: {error}", place=str(path), remedy="export the bundle again"
        ) from error


def words(value: Any) -> list[str]:
    """Return the words that an attribute holds."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if is_number(value):
        return [repr(value).removesuffix(".0")]
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
