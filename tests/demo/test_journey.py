"""The demo's input is what its README says, and its producer is as careless as it claims."""

from __future__ import annotations

from collections import Counter

from stream.dead_letters import POISON, REASONS, TOO_LARGE
from stream.demo import journey

YEAR = journey.lines()


def test_the_year_has_the_rows_of_its_sources() -> None:
    kinds = Counter(event.event_type for event in journey.events(YEAR))
    assert kinds == {"purchase": 75_000, "coupon": 2_102, "campaign": 6_589}


def test_the_year_is_in_time_order() -> None:
    times = [event.at_ms for event in journey.events(YEAR)]
    assert times == sorted(times)


def test_every_product_sold_has_a_name() -> None:
    sold = {event.item_id for event in journey.events(YEAR) if event.item_id}
    names = journey.product_names()
    assert len(sold) == 20_902
    assert sold == names.keys()
    assert all(names.values())


def test_the_producer_repeats_one_in_a_thousand_and_strews_in_the_broken() -> None:
    sent = list(journey.records(YEAR))
    broken = Counter(value.encode() for _, value, _ in journey.BROKEN)
    counted = Counter(record.value for record in sent)
    assert all(counted[value] == n for value, n in broken.items())
    again = len(sent) - len(YEAR) - len(journey.BROKEN)
    assert 60 <= again <= len(YEAR) // 1000


def test_there_is_a_broken_record_for_every_reason_that_a_small_record_can_have() -> None:
    assert {reason for *_, reason in journey.BROKEN} == set(REASONS) - {TOO_LARGE, POISON}
