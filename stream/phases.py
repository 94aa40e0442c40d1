"""The phases of an assigned partition: a table that says what leads where, and what each phase allows.

    restoring ── loaded ──▶ replaying ── caught up ──▶ live ── revoked ──▶ draining ── drained ──▶ gone
        ▲                      │                        │
        └─────── fenced ◀──────┴────────────────────────┘      lost: from any of them to gone, at once

A partition loads its rows, then replays the log behind them without outputs, then lives. One that is taken
away in good order drains: one last commit. One that never lived has nothing to commit. A fenced producer
takes with it what was not committed, so that the partition begins again.

What a phase does not know is a broken invariant: it raises, and nothing has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from stream.errors import InvariantError


class Phase(Enum):
    """Where an assigned partition is on its way; the values are the labels of the metric."""

    RESTORING = "restoring"
    REPLAYING = "replaying"
    LIVE = "live"
    DRAINING = "draining"
    GONE = "gone"


class Happening(Enum):
    """What can happen to an assigned partition."""

    LOADED = "its rows are loaded"
    CAUGHT_UP = "the log is replayed up to the commit"
    REVOKED = "the group takes it away, and waits"
    DRAINED = "its last commit is done, or was given up"
    LOST = "the group has given it to another already"
    FENCED = "the producer is lost, and with it what was not committed"


class Act(Enum):
    """What a phase may allow."""

    RESTORE = "read rows, journal and log"
    FOLD = "take records and idle steps, and produce what comes of them"
    COMMIT = "commit"


_NEVER: Final = None

#: Every phase and happening is decided: the phase that follows, or that it must not happen.
TABLE: Final[Mapping[Phase, Mapping[Happening, Phase | None]]] = {
    Phase.RESTORING: {
        Happening.LOADED: Phase.REPLAYING,
        Happening.CAUGHT_UP: _NEVER,
        Happening.REVOKED: Phase.GONE,
        Happening.DRAINED: _NEVER,
        Happening.LOST: Phase.GONE,
        Happening.FENCED: Phase.RESTORING,
    },
    Phase.REPLAYING: {
        Happening.LOADED: _NEVER,
        Happening.CAUGHT_UP: Phase.LIVE,
        Happening.REVOKED: Phase.GONE,
        Happening.DRAINED: _NEVER,
        Happening.LOST: Phase.GONE,
        Happening.FENCED: Phase.RESTORING,
    },
    Phase.LIVE: {
        Happening.LOADED: _NEVER,
        Happening.CAUGHT_UP: _NEVER,
        Happening.REVOKED: Phase.DRAINING,
        Happening.DRAINED: _NEVER,
        Happening.LOST: Phase.GONE,
        Happening.FENCED: Phase.RESTORING,
    },
    Phase.DRAINING: {
        Happening.LOADED: _NEVER,
        Happening.CAUGHT_UP: _NEVER,
        Happening.REVOKED: _NEVER,
        Happening.DRAINED: Phase.GONE,
        Happening.LOST: Phase.GONE,
        Happening.FENCED: Phase.GONE,
    },
    Phase.GONE: dict.fromkeys(Happening, _NEVER),
}

ALLOWED: Final[Mapping[Phase, frozenset[Act]]] = {
    Phase.RESTORING: frozenset({Act.RESTORE}),
    Phase.REPLAYING: frozenset({Act.RESTORE}),
    Phase.LIVE: frozenset({Act.FOLD, Act.COMMIT}),
    Phase.DRAINING: frozenset({Act.COMMIT}),
    Phase.GONE: frozenset(),
}


class Passage:
    """One partition's way through the phases, from its assignment on."""

    def __init__(self, place: str) -> None:
        """place: the partition's name in errors, as `events-3`."""
        self.phase = Phase.RESTORING
        self._place = place

    def move(self, happening: Happening) -> Phase:
        """Go where it leads and return the phase. Raises InvariantError, and stays, if it must not happen."""
        after = TABLE[self.phase][happening]
        if after is None:
            raise InvariantError(f"while {self.phase.value}: {happening.value}", place=self._place)
        self.phase = after
        return after

    def expect(self, act: Act) -> None:
        """Raise InvariantError unless the phase allows the act."""
        if act not in ALLOWED[self.phase]:
            raise InvariantError(f"while {self.phase.value} it must not {act.value}", place=self._place)
