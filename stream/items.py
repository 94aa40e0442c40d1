"""The item table: item ids as dense integers, for the core, and as ready-made JSON, for the output.

The bundle's items come first, in its order, so that an index below `known` is also a row of the bundle's
arrays. Items that only events name come behind. Those could be any number: `compact` drops the ones that no
user remembers any more, and says where the others went.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from stream.core.events import NO_ITEM

Indices = npt.NDArray[np.int32]

#: Indices are int32 in the core's columns.
ITEMS_MAX: Final = 2**31 - 1


class Texts(NamedTuple):
    """Ids as JSON, laid end to end; the i-th one asked for is data[start[row[i]] : start[row[i] + 1]]."""

    data: npt.NDArray[np.uint8]
    start: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]


class ItemTable:
    """Interned item ids; `known` of them are the bundle's.

    Raises ValueError if the bundle's ids are not distinct or one is empty.
    """

    def __init__(self, bundle_ids: Sequence[str] = ()) -> None:
        self.known: Final = len(bundle_ids)
        self._names = list(bundle_ids)
        self._index: dict[str | None, int] = {name: i for i, name in enumerate(bundle_ids)}
        if len(self._index) < self.known or "" in self._index:
            raise ValueError("the item ids of a bundle must be distinct and not empty")
        # "No item" is said by an absent field or an empty one.
        self._index[None] = self._index[""] = NO_ITEM
        self._texts, self._text_start = _lay_out(bundle_ids)

    def __len__(self) -> int:
        return len(self._names)

    def intern(self, name: str | None) -> int:
        """Return the index of the item, a new one if it was never seen; NO_ITEM for none."""
        index = self._index.get(name)
        if index is None:
            assert name is not None
            index = len(self._names)
            if index >= ITEMS_MAX:
                raise OverflowError(f"more than {ITEMS_MAX:,} items")
            self._names.append(name)
            self._index[name] = index
        return index

    def intern_all(self, names: Sequence[str | None]) -> Indices:
        """Return the indices of many items, i32[B]."""
        try:
            return np.fromiter(map(self._index.__getitem__, names), np.int32, len(names))
        except KeyError:
            return np.fromiter(map(self.intern, names), np.int32, len(names))

    def find(self, name: str) -> int:
        """Return the index of the item, or NO_ITEM if it was never seen."""
        return self._index.get(name, NO_ITEM)

    @property
    def names(self) -> Sequence[str]:
        """All ids by index: one list for the table's life, that grows."""
        return self._names

    def name(self, index: int) -> str:
        """Return the id of the item with this index."""
        if index < 0:
            raise IndexError(f"no item has the index {index}")
        return self._names[index]

    def texts(self, items: npt.NDArray[np.int64]) -> Texts:
        """Return the ids of the items as JSON strings, and where to find each of them, see `Texts`.

        The bundle's are ready; if any other is among them, all are encoded for the occasion. Raises
        IndexError for an index that no item has.
        """
        if len(items) == 0 or (items.min() >= 0 and items.max() < self.known):
            return Texts(self._texts, self._text_start, items)
        texts, start = _lay_out([self.name(item) for item in items.tolist()])
        return Texts(texts, start, np.arange(len(items)))

    def compact(self, used: npt.NDArray[np.bool_]) -> Indices:
        """Drop the unknown items that are not `used`, bool[len(self)], and close the gaps.

        Returns each old index's new one, NO_ITEM for the dropped, i32[len(self) before]. The bundle's items
        keep theirs, used or not. Whoever holds indices must map them before the next event is read.
        """
        if len(used) != len(self._names):
            raise ValueError(f"used has {len(used)} entries for {len(self._names)} items")
        keep = used.copy()
        keep[: self.known] = True
        moved = np.where(keep, np.cumsum(keep) - 1, NO_ITEM).astype(np.int32)
        for name in self._names[self.known :]:
            del self._index[name]
        self._names[:] = [name for name, kept in zip(self._names, keep.tolist(), strict=True) if kept]
        self._index.update({name: i for i, name in enumerate(self._names[self.known :], self.known)})
        return moved


def _lay_out(names: Sequence[str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    texts = [msgspec.json.encode(name) for name in names]
    start = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=start[1:])
    return np.frombuffer(b"".join(texts), np.uint8), start
