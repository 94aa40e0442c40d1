"""What workers store for one another is read by one rule: what a version cannot read, it does not guess."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from stream.errors import StateError

T = TypeVar("T")

#: What to do about a record that only another version understands.
OTHER_VERSION: Final = "go on with the version of ebbtide that wrote it, or a later one"


def decode_stored(decode: Callable[[bytes], T], value: bytes | None, what: str, *, place: str) -> T:
    """Return what a record holds; `what` names such a record in the error.

    Raises StateError, naming `place`.
    """
    try:
        return decode(value or b"")
    except msgspec.MsgspecError as error:
        raise StateError(f"{what} cannot be read: {error}", place=place, remedy=OTHER_VERSION) from error
