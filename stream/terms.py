"""The terms of a commit held against those of this worker: whether it can go on, and what changes then."""

from __future__ import annotations

from typing import Final, NoReturn

from stream.broker import CommittedOffset
from stream.commits import Commit, Terms, read_metadata
from stream.config import Config
from stream.core import catching_up
from stream.engine import Partition
from stream.errors import StateError
from stream.journal import Entry, ModelChange, RulesChange

#: The remedy that always works.
ANEW: Final = "or start anew with another group and other user_state and journal topics"


class Judge:
    """Judges the commits of one partition. topic: that of the events; terms: what this worker is told."""

    def __init__(self, partition: Partition, terms: Terms, config: Config, topic: str) -> None:
        self._partition, self._terms, self._config, self._topic = partition, terms, config, topic
        self._exactly_once = config.worker.guarantee == "exactly-once"

    def check(self, commit: Commit, committed: CommittedOffset | None) -> None:
        """Raise StateError if the commit is none that this worker can go on from."""
        place = self._place(self._topic)
        terms, n = commit.terms, commit.n
        if terms.group != self._terms.group:
            raise StateError(
                f'the rows are those of the group "{terms.group}", not of "{self._terms.group}"',
                place=place,
                remedy=f"give each group its own user_state and journal topics, {ANEW}",
            )
        if terms.partitions != self._terms.partitions:
            raise StateError(
                f"commit {n} was made with {terms.partitions} partitions, now there are "
                f"{self._terms.partitions}: users are in other partitions",
                place=place,
                remedy="move the rows with `ebbtide repartition`",
            )
        if committed and read_metadata(committed.metadata) == n and committed.offset != commit.at.offset:
            raise StateError(
                f"the group's offset is {committed.offset}, but commit {n} was made at {commit.at.offset}",
                place=place,
                remedy=f"set the group's offset back to {commit.at.offset}, {ANEW}",
            )
        self._check_rows(commit)
        if commit.floor.applied < commit.at.applied:
            self._check_replay(commit)

    def _check_rows(self, commit: Commit) -> None:
        ahead = catching_up.count_ahead(self._partition.table.users, commit.at.applied)
        if self._exactly_once and ahead:
            raise StateError(
                f"{ahead} rows before commit {commit.n} hold more than it does: two workers wrote here",
                place=self._place(self._config.topics.user_state),
                remedy=f"see that no other group writes to this topic, then {ANEW[3:]}",
            )

    def _check_replay(self, commit: Commit) -> None:
        """The log before the commit must be folded as it was: raise StateError if that cannot be done."""
        if commit.terms.meaning != self._terms.meaning:
            self._refuse_replay(commit, "the config means something else")
        self.check_bundle(commit)

    def check_bundle(self, commit: Commit) -> None:
        """Raise StateError if the log before the commit cannot be folded with this bundle."""
        terms, ours = commit.terms, self._terms
        if terms.bundle != ours.bundle and None in (terms.bundle, ours.bundle):
            changed = "there is a model now" if terms.bundle is None else "there is no model any more"
            self._refuse_replay(commit, changed)
        elif terms.bundle != ours.bundle and self._partition.rules.model_risk:
            what = f"the bundle is {ours.bundle}, not {terms.bundle}, and sets the risk"
            self._refuse_replay(commit, what)

    def _refuse_replay(self, commit: Commit, changed: str) -> NoReturn:
        raise StateError(
            f"{changed} since commit {commit.n}, which left records to be replayed",
            place=self._place(self._topic),
            remedy="start all workers with what they had, stop them with SIGTERM, and start them anew: "
            "a worker that stops in good order leaves nothing to replay",
        )

    def changes(self, commit: Commit) -> tuple[Entry, ...]:
        """Return the journal entries that lead from the commit's terms to ours."""
        terms, ours, offset = commit.terms, self._terms, commit.at.offset
        changes: list[Entry] = []
        if terms.bundle != ours.bundle:
            changes.append(ModelChange(offset, terms.bundle, ours.bundle))
        if terms.meaning != ours.meaning:
            changes.append(RulesChange(offset, terms.meaning, ours.meaning))
        return tuple(changes)

    def _place(self, topic: str) -> str:
        return f"{topic}-{self._partition.partition}"
