"""The control topic: what operators command a running group, obeyed by each partition exactly once.

    bundle     workers go over to another bundle (`roll_out.py`); a partition has obeyed when its worker knows
    erase      a user is forgotten: an entry of the journal removes the row, at the offset where it is obeyed
    replayed   dead letters were sent again (`upkeep/letters_replay.py`): a note, nothing to do

Every worker reads the one partition of the topic. How far a partition has obeyed it stands in its commit
record, in the transaction of what that did; so a partition that is restored, or undone, goes on from there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Final

import msgspec

from stream.broker import Broker, Reader
from stream.clock import Clock
from stream.engine import Slice
from stream.errors import RetriableError
from stream.log import log
from stream.share import Share
from stream.wire import Control, Erasure, RollOut

#: How often the topic is looked at, and whether it is there is asked again.
LOOK_EVERY_S: Final = 1.0
ASK_EVERY_S: Final = 60.0
RECORDS_MAX: Final = 1_000
#: A reader that is opened with this end follows its partition for ever.
_NO_END: Final = 2**62

_decode = msgspec.json.Decoder(Control).decode


class ControlFeed:
    """Hands the commands of the control topic to the live partitions of one worker."""

    def __init__(
        self,
        broker: Broker,
        topic: str,
        clock: Clock,
        *,
        roll_out: Callable[[str], None],
        erased: Callable[[], None] = lambda: None,
    ) -> None:
        """roll_out: is told the version of the bundle that workers are to go over to.
        erased: called when somebody is to be forgotten, whose partition may be anywhere.
        """
        self._broker, self._topic, self._clock = broker, topic, clock
        self._roll_out, self._erased = roll_out, erased
        self._reader: Reader | None = None
        self._handed = 0  # commands before this offset were handed to every live partition
        self._read: deque[tuple[int, bytes | None]] = deque()  # and these not yet
        self._due_s = clock.monotonic_s()
        self._refused = 0

    def poll(self, shares: Mapping[int, Share]) -> Iterator[tuple[Share, Iterator[Slice]]]:
        """Yield each partition with what a command makes it do; the command is obeyed when that is taken.

        While the broker is away there is none.
        """
        obeyed = [at for share in shares.values() if (at := share.obeyed) is not None]
        if not obeyed or self._clock.monotonic_s() < self._due_s:
            return
        with suppress(RetriableError):
            self._fetch(min(obeyed))
        if not self._read:
            self._due_s = max(self._due_s, self._clock.monotonic_s() + LOOK_EVERY_S)
            if self._reader is None:
                return
        while self._read:
            yield from self._hand(*self._read[0], list(shares.values()))
            self._handed = self._read.popleft()[0] + 1
        for share in shares.values():
            share.pass_command(self._handed)

    def _fetch(self, start: int) -> None:
        """Read what has come, if nothing is waiting; behind `start`, if a partition has to go back there."""
        reader = self._open(start)
        if reader is not None and not self._read:
            batch = reader.read(RECORDS_MAX, 0.0)
            self._read.extend(zip(batch.offsets, batch.values, strict=True))

    def _hand(
        self, offset: int, value: bytes | None, shares: list[Share]
    ) -> Iterator[tuple[Share, Iterator[Slice]]]:
        command = self._decode(value)
        if isinstance(command, Erasure):
            self._erased()
        if isinstance(command, RollOut):
            self._roll_out(command.version)
        for share in shares:
            if share.obeyed is None or share.obeyed > offset:
                continue
            if isinstance(command, Erasure) and share.answers_for(command.user_id):
                yield share, share.erase(command.user_id)
            share.pass_command(offset + 1)

    def _decode(self, value: bytes | None) -> Control | None:
        try:
            command: Control = _decode(value or b"")
        except msgspec.MsgspecError as error:
            self._refused += 1
            log.warning("%s: a command is refused, %d so far: %s", self._topic, self._refused, error)
            return None
        return command

    def _open(self, start: int) -> Reader | None:
        """Return a reader behind what was read; one from `start` on for a partition that has to go back.

        None if there is no such topic.
        """
        if self._reader is not None and start < self._handed:
            self.close()
        if self._reader is None:
            begin = self._find_begin()
            if begin is None:
                self._due_s = self._clock.monotonic_s() + ASK_EVERY_S
                return None
            self._handed = max(start, begin)
            self._reader = self._broker.reader(self._topic, 0, self._handed, _NO_END)
        return self._reader

    def _find_begin(self) -> int | None:
        """Return where the topic begins, None if there is none."""
        admin = self._broker.admin()
        try:
            found = admin.describe([self._topic])[self._topic]
            return None if found is None else admin.ranges(self._topic, [0])[0].start
        finally:
            admin.close()

    def close(self) -> None:
        self._read.clear()
        if self._reader is not None:
            self._reader.close()
            self._reader = None
