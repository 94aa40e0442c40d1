"""A member of a group of the in-memory broker, and a reader of one of its partitions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from stream.broker import CommittedOffset, GroupToken, Listener
from stream.errors import InvariantError
from stream.records import RecordBatch
from stream.testing_group import Member, MemberToken
from stream.testing_line import Line
from stream.testing_log import PartitionLog

#: The position of a partition that was not sought yet.
NOWHERE = -1

#: Under `fetch_mixed`, records of one partition before the next has its turn.
MIXED_RECORDS_MAX = 3


class MemorySource:
    """Implements `stream.broker.Source`."""

    def __init__(self, line: Line, topic: str, group_id: str) -> None:
        self._line = line
        self._broker = line.broker
        self._topic = topic
        self._logs = self._broker.topic(topic).logs
        self._group = self._broker.group(group_id, topic)
        self._member: Member | None = None
        self._listener: Listener | None = None
        self._positions: dict[int, int] = {}  # of what is assigned
        self._paused: set[int] = set()
        self._turn = 0

    @property
    def topic(self) -> str:
        return self._topic

    def subscribe(self, listener: Listener) -> None:
        self._listener = listener

    def poll(self, records_max: int, timeout_s: float) -> list[RecordBatch]:
        with self._line.call("source.poll", refusable=True):
            if self._listener is None:
                raise InvariantError("a source is polled that is closed or not subscribed")
            self._serve_group(self._listener)
            if self._line.strikes("fetch_empty", "source.poll"):
                return []
            self._broker.wait_for(self._has_more, timeout_s)
            return self._fetch(records_max)

    # The group

    def _serve_group(self, listener: Listener) -> None:
        """Walk one step from what is owned towards what the group wants."""
        if self._member is not None and self._line.strikes("expelled", "source.poll"):
            self._group.leave(self._member.id)
        if self._member is not None and self._member.id not in self._group.members:
            self._line.members.remove(self._member)
            self._member = None
            self._give_up(list(self._positions), listener.on_lost)
        if self._member is None:
            self._member = self._group.join(self._broker.elapsed_ms())
            self._line.members.append(self._member)
        member = self._member
        member.heard_ms = self._broker.elapsed_ms()
        if gone := member.to_revoke():
            try:
                self._give_up(gone, listener.on_revoke)
            finally:
                self._group.release(member, gone)
        self._group.settle(member)
        if added := self._group.addable(member):
            member.owned.update(added)
            self._positions.update(dict.fromkeys(added, NOWHERE))
            self._paused.update(added)
            listener.on_assign(added)

    def _give_up(self, partitions: Sequence[int], tell: Callable[[Sequence[int]], None]) -> None:
        """Tell the listener, and forget them whatever it makes of it."""
        try:
            if partitions:
                tell(partitions)
        finally:
            for partition in partitions:
                del self._positions[partition]
            self._paused.difference_update(partitions)

    def group(self) -> GroupToken:
        return GroupToken(self._token())

    def _token(self) -> MemberToken:
        if self._member is None:
            return MemberToken(self._group.id, "", -1)
        return MemberToken(self._group.id, self._member.id, self._member.epoch)

    def assignment(self) -> frozenset[int]:
        return frozenset(self._positions)

    def member_id(self) -> str:
        return "" if self._member is None else self._member.id

    def close(self) -> None:
        with self._line.call("source.close"):
            listener, self._listener = self._listener, None
            member = self._member
            if listener is None or member is None:
                return
            try:
                known = member.id in self._group.members
                self._give_up(list(self._positions), listener.on_revoke if known else listener.on_lost)
            finally:
                self._member = None
                self._line.members.remove(member)
                self._group.leave(member.id)

    # Records

    def _flowing(self) -> list[int]:
        return [p for p in self._positions if p not in self._paused]

    def _has_more(self) -> bool:
        return any(self._logs[p].stable_end() > self._positions[p] for p in self._flowing())

    def _fetch(self, records_max: int) -> list[RecordBatch]:
        """Go round the partitions, beginning one further each time, so that none starves."""
        flowing = self._flowing()
        if not flowing:
            return []
        self._turn += 1
        first = self._turn % len(flowing)
        turns = flowing[first:] + flowing[:first]
        share = records_max
        plan = self._broker.plan
        if plan is not None and plan.strikes("fetch_short", "source.poll"):
            records_max = share = 1 + plan.below(records_max)
        if plan is not None and plan.strikes("fetch_mixed", "source.poll"):
            plan.shuffle(turns)
            share = MIXED_RECORDS_MAX
        batches = []
        for partition in turns:
            batch, position = self._logs[partition].read(self._positions[partition], min(share, records_max))
            self._positions[partition] = position
            if batch.offsets:
                batches.append(batch)
                records_max -= len(batch.offsets)
                if records_max <= 0:
                    break
        return batches

    def pause(self, partitions: Collection[int]) -> None:
        self._paused.update(self._assigned(partitions))

    def resume(self, partitions: Collection[int]) -> None:
        for partition in self._assigned(partitions):
            if self._positions[partition] == NOWHERE:
                raise InvariantError(f"partition {partition} is resumed before it was sought")
            self._paused.discard(partition)

    def seek(self, partition: int, offset: int) -> None:
        self._assigned([partition])
        self._positions[partition] = offset

    def position(self, partition: int) -> int:
        self._assigned([partition])
        return self._positions[partition]

    def _assigned(self, partitions: Collection[int]) -> Collection[int]:
        for partition in partitions:
            if partition not in self._positions:
                raise InvariantError(f"partition {partition} of {self._topic} is not assigned")
        return partitions

    # Offsets

    def end_offsets(self, partitions: Collection[int]) -> dict[int, int]:
        with self._line.call("source.end_offsets", refusable=True):
            return {p: self._logs[p].stable_end() for p in partitions}

    def committed(self, partitions: Collection[int]) -> dict[int, CommittedOffset | None]:
        with self._line.call("source.committed", refusable=True):
            return self._group.committed(self._topic, partitions)

    def commit(self, offsets: Mapping[int, CommittedOffset]) -> None:
        with self._line.call("source.commit", refusable=True):
            self._group.commit(self._topic, offsets, self._token())


class MemoryReader:
    """Implements `stream.broker.Reader`."""

    def __init__(self, line: Line, log: PartitionLog, start: int, end: int | None) -> None:
        self._line = line
        self._log = log
        self._position = start
        self._end = log.stable_end() if end is None else end

    def read(self, records_max: int, timeout_s: float) -> RecordBatch:
        broker, line, log = self._line.broker, self._line, self._log
        with line.call("reader.read", refusable=True):
            if line.strikes("fetch_empty", "reader.read"):
                records_max = 0
            elif broker.plan is not None and line.strikes("fetch_short", "reader.read"):
                records_max = 1 + broker.plan.below(records_max)
            if not self.done():
                broker.wait_for(lambda: log.stable_end() > self._position, timeout_s)
            batch, position = log.read(self._position, records_max, max(self._end, self._position))
            self._position = position
            return batch

    def position(self) -> int:
        return self._position

    def done(self) -> bool:
        return self._position >= self._end

    def close(self) -> None:
        """Nothing is held."""
