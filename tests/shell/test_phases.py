"""The phases: every phase × happening is decided, and what must not happen raises and changes nothing."""

from __future__ import annotations

from itertools import product

import pytest

from stream.errors import InvariantError
from stream.phases import ALLOWED, TABLE, Act, Happening, Passage, Phase

PAIRS = list(product(Phase, Happening))


def in_phase(phase: Phase) -> Passage:
    passage = Passage("events-3")
    passage.phase = phase
    return passage


def test_every_phase_and_happening_is_decided() -> None:
    assert {(phase, happening) for phase, row in TABLE.items() for happening in row} == set(PAIRS)
    assert ALLOWED.keys() == set(Phase)


@pytest.mark.parametrize(("phase", "happening"), PAIRS, ids=lambda value: value.name.lower())
def test_a_move_goes_where_the_table_says_or_raises_and_stays(phase: Phase, happening: Happening) -> None:
    passage = in_phase(phase)
    after = TABLE[phase][happening]
    if after is None:
        with pytest.raises(InvariantError, match="events-3"):
            passage.move(happening)
        assert passage.phase is phase
    else:
        assert passage.move(happening) is after
        assert passage.phase is after


@pytest.mark.parametrize(("phase", "act"), list(product(Phase, Act)), ids=lambda value: value.name.lower())
def test_an_act_is_allowed_or_raises(phase: Phase, act: Act) -> None:
    if act in ALLOWED[phase]:
        in_phase(phase).expect(act)
    else:
        with pytest.raises(InvariantError, match=phase.value):
            in_phase(phase).expect(act)


def test_every_phase_is_reached_and_gone_is_the_end() -> None:
    reached = {Phase.RESTORING}
    for _ in Phase:
        reached |= {after for phase in reached for after in TABLE[phase].values() if after is not None}
    assert reached == set(Phase)
    assert not any(TABLE[Phase.GONE].values())
    for phase in set(Phase) - {Phase.GONE}:
        assert TABLE[phase][Happening.LOST] is Phase.GONE


def test_only_who_has_lived_commits() -> None:
    assert {phase for phase in Phase if Act.COMMIT in ALLOWED[phase]} == {Phase.LIVE, Phase.DRAINING}
    assert {phase for phase, row in TABLE.items() if Phase.DRAINING in row.values()} == {Phase.LIVE}
