"""Times against `datetime`, which knows the calendar but not this contract's bounds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream.codec import join_strings
from stream.times import TIME_MS_MAX, TIME_MS_MIN, UNREADABLE, parse_time, parse_times

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(\.\d+)?([Zz]|[+-](\d\d):(\d\d))", re.ASCII
)

written = st.builds(
    "{}-{}-{}{}{}:{}:{}{}{}".format,
    st.one_of(
        st.integers(1998, 2040).map("{:04}".format),
        st.sampled_from(["0000", "1970", "9998", "9999", "10000"]),
    ),
    st.integers(0, 13).map("{:02}".format),
    st.integers(0, 32).map("{:02}".format),
    st.sampled_from("TTTTt "),
    st.integers(0, 24).map("{:02}".format),
    st.integers(0, 60).map("{:02}".format),
    st.integers(0, 60).map("{:02}".format),
    st.sampled_from(["", "", ".", ".5", ".1239", ".999999999", ".0000000000000000000000000001", ",5"]),
    st.sampled_from(
        ["Z", "z", "+00:00", "-00:00", "+05:30", "-23:59", "+24:00", "-01:60", "", "+0530", "UTC"]
    ),
)
valid = st.builds(
    lambda moment, minutes, digits: (
        moment.astimezone(timezone(timedelta(minutes=minutes))).strftime("%Y-%m-%dT%H:%M:%S.")
        + digits
        + f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    ),
    st.datetimes(datetime(1999, 12, 28), datetime(9999, 12, 29), timezones=st.just(UTC)),
    st.integers(-1439, 1439),
    st.text("0123456789", min_size=1, max_size=12),
)


def naive(text: str) -> int | None:
    """Read the text with a pattern, the calendar with datetime, and cut the fraction as text."""
    match = RFC3339.fullmatch(text)
    if match is None:
        return None
    try:
        clock = datetime(*(int(match[i]) for i in range(1, 7)), tzinfo=UTC)
    except ValueError:
        return None
    ms = (clock - EPOCH) // timedelta(milliseconds=1) + int(((match[7] or ".") + "000")[1:4])
    if match[9]:
        if int(match[9]) > 23 or int(match[10]) > 59:
            return None
        offset = (int(match[9]) * 60 + int(match[10])) * 60_000
        ms += offset if match[8][0] == "-" else -offset
    return ms if 946_684_800_000 <= ms <= 253_402_300_799_999 else None


@given(st.one_of(written, valid))
@example("2000-01-01T00:00:00Z")
@example("1999-12-31T23:59:59.999Z")
@example("1999-12-31T23:00:00-01:00")
@example("9999-12-31T23:59:59.9999999Z")
@example("9999-12-31T23:59:59-00:01")
@example("2016-12-31T23:59:60Z")
@example("2100-02-29T00:00:00Z")
@example("2000-02-29T00:00:00Z")
def test_a_text_is_read_as_datetime_reads_it(text: str) -> None:
    assert parse_time(text) == naive(text)


@given(valid, st.integers(0, 40), st.text("0123456789-+:.TtZz٣\0 ", max_size=2))
def test_a_spoilt_text_is_read_as_datetime_reads_it(text: str, at: int, spoil: str) -> None:
    spoilt = text[:at] + spoil + text[at + 1 :]
    assert parse_time(spoilt) == naive(spoilt)


def test_the_strategies_reach_both_answers() -> None:
    seen = set()

    @given(st.one_of(written, valid))
    def look(text: str) -> None:
        seen.add(naive(text) is None)

    look()
    assert seen == {False, True}


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2000-01-01T00:00:00Z", TIME_MS_MIN),
        ("9999-12-31T23:59:59.999Z", TIME_MS_MAX),
        ("2017-02-14t12:17:11.1239z", 1_487_074_631_123),
        ("2017-02-14T12:17:11+05:30", 1_487_054_831_000),
    ],
)
def test_known_times(text: str, ms: int) -> None:
    assert parse_time(text) == ms


@pytest.mark.parametrize(
    "text", ["", "Z", "2017-02-14", "2017-02-14T12:17:11", "2017-02-14T12:17:11.Z", "\ud800"]
)
def test_what_is_no_time(text: str) -> None:
    assert parse_time(text) is None


@given(st.lists(st.one_of(written, valid, st.text(max_size=30))))
def test_a_batch_is_read_like_its_texts(texts: list[str]) -> None:
    pieces = join_strings(texts)
    expected = [UNREADABLE if (ms := naive(text)) is None else ms for text in texts]
    assert parse_times(np.frombuffer(pieces.data, np.uint8), pieces.start).tolist() == expected
