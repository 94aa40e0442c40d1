"""Draining: commits until no row waits to be written, so that whoever comes next has nothing to replay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from stream.clock import Clock
from stream.share import Share

#: How long it goes on.
DRAIN_S: Final = 5.0


def drain(commit: Callable[[], None], shares: Sequence[Share], clock: Clock) -> bool:
    """Commit until the shares owe nothing, commits stop helping, or time is up; return whether they owe none.

    Raises what `commit` raises.
    """
    until_s = clock.monotonic_s() + DRAIN_S
    commit()
    before, owed = 0, sum(share.owed for share in shares)
    while owed and owed != before and clock.monotonic_s() < until_s:
        commit()
        before, owed = owed, sum(share.owed for share in shares)
    return not owed
