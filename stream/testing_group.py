"""A consumer group of the in-memory broker: members, their shares of one topic, and committed offsets.

It works as KIP-848 has it. A change of members makes a new epoch and new targets, as balanced and with as few
moves as possible. Each member then walks from what it owns to its target at its own polls: first it gives up
what goes, then it is added what nobody else holds any more. Its own epoch is the group's once it has given
up what it must. Offsets are taken from any member of the right epoch, whether it owns the partition or not:
that is how strict Kafka is, and no stricter.

Offsets in an undecided transaction are pending; until it ends nobody learns what is committed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from stream.broker import CommittedOffset
from stream.errors import AbortableError, RetriableError

#: A topic and partition.
TopicPartition = tuple[str, int]


class MemberToken(NamedTuple):
    """The in-memory broker's GroupToken."""

    group_id: str
    member_id: str
    epoch: int


class Member:
    """One member as the group's coordinator sees it."""

    __slots__ = ("epoch", "frozen", "heard_ms", "id", "owned", "target")

    def __init__(self, member_id: str, epoch: int, heard_ms: float) -> None:
        self.id = member_id
        self.epoch = epoch
        self.owned: set[int] = set()
        self.target: set[int] = set()
        #: When it polled last, on the elapsed time.
        self.heard_ms = heard_ms
        #: It sends no heartbeats: killed or stopped.
        self.frozen = False

    def to_revoke(self) -> list[int]:
        return sorted(self.owned - self.target)


class Group:
    """A group and what it has committed. It has no clock: whoever expels is told the time."""

    def __init__(self, group_id: str, partitions: int) -> None:
        self.id = group_id
        self.epoch = 0
        self.members: dict[str, Member] = {}  # in the order in which they joined
        self.rebalances = 0
        self._partitions = partitions
        self._joined = 0
        self._committed: dict[TopicPartition, CommittedOffset] = {}
        self._pending: dict[int, dict[TopicPartition, CommittedOffset]] = {}

    # Membership

    def join(self, now_ms: float) -> Member:
        self._joined += 1
        member = Member(f"{self.id}-member-{self._joined}", self.epoch + 1, now_ms)
        self.members[member.id] = member
        self._balance()
        return member

    def leave(self, member_id: str) -> None:
        """Remove a member, whether it asked for it or was given up."""
        if self.members.pop(member_id, None) is not None:
            self._balance()

    def release(self, member: Member, partitions: Collection[int]) -> None:
        """The member has given these up."""
        member.owned.difference_update(partitions)

    def addable(self, member: Member) -> list[int]:
        """Return what the member should own and nobody owns."""
        held = set().union(*(other.owned for other in self.members.values()))
        return sorted(member.target - held)

    def settle(self, member: Member) -> None:
        """The member owns nothing beyond its target: it is of the group's epoch now."""
        member.epoch = self.epoch

    def _balance(self) -> None:
        """Make new targets: shares that differ by at most one, each keeping what it has as far as it may."""
        self.epoch += 1
        self.rebalances += 1
        if not self.members:
            return
        quota, larger = divmod(self._partitions, len(self.members))
        free = set(range(self._partitions))
        members = sorted(self.members.values(), key=lambda member: -len(member.target))
        rooms = [quota + (i < larger) for i in range(len(members))]
        for member, room in zip(members, rooms, strict=True):
            member.target = set(sorted(member.target)[:room])
            free -= member.target
        for member, room in zip(members, rooms, strict=True):
            added = sorted(free)[: room - len(member.target)]
            member.target.update(added)
            free.difference_update(added)

    # Offsets

    def check(self, token: MemberToken) -> None:
        """Raise AbortableError unless the token is of a member in its present epoch."""
        member = self.members.get(token.member_id)
        if member is None:
            raise AbortableError(f"{token.member_id} is no member any more", place=f"group {self.id}")
        if member.epoch != token.epoch:
            raise AbortableError(
                f"epoch {token.epoch} is not the member's own, {member.epoch}", place=f"group {self.id}"
            )

    def commit(self, topic: str, offsets: Mapping[int, CommittedOffset], token: MemberToken) -> None:
        """Commit at once, outside of any transaction."""
        self.check(token)
        for partition, offset in offsets.items():
            self._committed[topic, partition] = offset

    def commit_pending(
        self, owner: int, topic: str, offsets: Mapping[int, CommittedOffset], token: MemberToken
    ) -> None:
        """Commit once the transaction `owner` is."""
        self.check(token)
        pending = self._pending.setdefault(owner, {})
        for partition, offset in offsets.items():
            pending[topic, partition] = offset

    def decide(self, owner: int, committed: bool) -> None:
        """Take the marker that ends a transaction."""
        pending = self._pending.pop(owner, {})
        if committed:
            self._committed.update(pending)

    def committed(self, topic: str, partitions: Collection[int]) -> dict[int, CommittedOffset | None]:
        """Return what is committed. Raises RetriableError while that is undecided for any of them."""
        for pending in self._pending.values():
            if undecided := [p for p in partitions if (topic, p) in pending]:
                raise RetriableError(
                    f"a transaction holds the offsets of partition {undecided[0]}, undecided yet",
                    place=f"group {self.id}, topic {topic}",
                )
        return {p: self._committed.get((topic, p)) for p in partitions}
