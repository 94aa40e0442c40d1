"""Being the only member of a group: while a command is, no worker of the group holds a partition.

A group has no lock, but it has members: whoever joins it and is given every partition is alone. Somebody who
joins later takes partitions away, which is noticed before the next transaction, and in it by the broker.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final

from stream.broker import CommittedOffset, GroupToken, Source
from stream.clock import Clock
from stream.errors import RetriableError, UsageError
from stream.upkeep.logs import ask

#: How long to wait for the others to go: a worker that was killed is a member for its session timeout, 45 s.
WAIT_S: Final = 60.0
_POLL_S: Final = 0.2


class Alone:
    """A membership with every partition of the group's topic; a context manager.

    Raises UsageError if others hold partitions and do not give them up.
    """

    def __init__(
        self, source: Source, group_id: str, partitions: int, clock: Clock, *, wait_s: float = WAIT_S
    ) -> None:
        self._source, self._group_id, self._clock = source, group_id, clock
        self.partitions = range(partitions)
        source.subscribe(self)
        until_s = clock.monotonic_s() + wait_s
        try:
            while len(source.assignment()) < partitions:
                if clock.monotonic_s() >= until_s:
                    raise self._refusal(partitions - len(source.assignment()))
                self._poll(_POLL_S)
        except BaseException:
            source.close()
            raise

    def check(self) -> None:
        """Raise UsageError if somebody has joined."""
        self._poll(0.0)
        if missing := len(self.partitions) - len(self._source.assignment()):
            raise self._refusal(missing)

    def committed(self) -> dict[int, CommittedOffset | None]:
        """Return what the group has committed."""
        return ask(lambda: self._source.committed(self.partitions), self._clock)

    def token(self) -> GroupToken:
        """Return the proof of membership as of now."""
        return self._source.group()

    def _poll(self, timeout_s: float) -> None:
        with suppress(RetriableError):
            self._source.poll(1, timeout_s)  # every partition is paused: it only serves the group

    def _refusal(self, missing: int) -> UsageError:
        return UsageError(
            f"{missing} of {len(self.partitions)} partitions are held by other members",
            place=f"group {self._group_id}",
            remedy="stop every worker of the group with SIGTERM, and run this again",
        )

    def on_assign(self, partitions: Sequence[int]) -> None:
        """They stay paused."""

    def on_revoke(self, partitions: Sequence[int]) -> None:
        """`check` sees it."""

    def on_lost(self, partitions: Sequence[int]) -> None:
        """`check` sees it."""

    def __enter__(self) -> Alone:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.close()
