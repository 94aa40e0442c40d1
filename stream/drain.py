"""Draining: commits until no row waits to be written, so that whoever comes next has nothing to replay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from stream.clock import Clock
from stream.share import Share

#: How long it goes on.
DRAIN_S: Final = 5.0


def drain(commit: Callable[[], None], shares: Sequence[Share], clock: Clock) -> bool:
    """Commit until the shares owe nothing, nothing is left to commit, or time is up.

    Returns whether they owe nothing. Raises what `commit` raises.
    """
    until_s = clock.monotonic_s() + DRAIN_S
    commit()
    # A grave is written twice, and as often as one likes while a storm holds the floor where it is.
    rounds = 2 * max((share.owed for share in shares), default=0)
    before, made = -1, sum(share.commits for share in shares)
    while rounds and made != before and clock.monotonic_s() < until_s:
        commit()
        rounds = rounds - 1 if any(share.owed for share in shares) else 0
        before, made = made, sum(share.commits for share in shares)
    return not any(share.owed for share in shares)
