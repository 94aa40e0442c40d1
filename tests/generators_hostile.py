"""Hostile lines: all that `tests/hostile.py` knows by name, and records broken at random, among good ones.

What is broken at random may still be a good record, or become one by the bytes that went missing: that is for
the two readers to agree on.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

from tests.generators import AWKWARD_IDS, Stream, extras
from tests.hostile import HOSTILE, TIME_MS, raw, record
from tests.oracle_settings import DAY, HOUR

#: A `--now` that lets the records near TIME_MS pass and holds back those of the year 9999.
NOW = TIME_MS + 90 * DAY

TIMES = (
    "2017-02-14T12:17:11Z", "2017-02-14t12:17:11z", "2017-02-14T12:17:11.1Z", "2017-02-14T12:17:11.9999999Z",
    "2017-02-14T12:17:11.Z", "2017-02-14T12:17:11,5Z", "2017-02-14T12:17:60Z", "2017-02-14T24:00:00Z",
    "2017-02-29T00:00:00Z", "2016-02-29T00:00:00Z", "2017-02-14T12:17:11+23:59", "2017-02-14T12:17:11+24:00",
    "2017-02-14T12:17:11-00:00", "2017-02-14T12:17:11+0100", "2017-02-14T12:17:11", "2017-02-14 12:17:11Z",
    "2017-2-14T12:17:11Z", "0000-01-01T00:00:00Z", "1999-12-31T23:59:59.999Z", "1999-12-31T23:59:59-00:01",
    "10000-01-01T00:00:00Z", "9999-12-31T23:59:59.9999Z", "9999-12-31T23:59:59-00:01",
    "２017-02-14T12:17:11Z", "2017-02-14T12:17:11Z ", " 2017-02-14T12:17:11Z",
    "2017-00-14T12:17:11Z", "2017-13-14T12:17:11Z",
    "2017-W07-2T12:17:11Z", "+2017-02-14T12:17:11Z", "2017-02-14T12:17:11ZZ", "2017-02-14T12:17:11\u0000Z",
    "2017-02-14T12:17Z", "1487074631123", "now", "",
)  # fmt: skip

LITERALS = (
    "null", "true", "false", "0", "-0", "-1", "1.0", "1e3", "1E+3", "1e999", "-1e999", "1e-999",
    "01", "+1", "1.", ".5", "NaN", "Infinity", "-Infinity", "0x1F", "1_000",
    "9" * 19, "9" * 25, "9" * 400, "-" + "9" * 400, "9" * 5000,
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "946684799999", "253402300800000",
    '""', '" "', '"ü"', r'"\ud83d\ude00"', r'"\ud83d"', r'"\ude00\ud83d"', r'"\u0000"',
    '"\\', r'"\x"', '"\t"', "'a'",
    "[]", "{}", "[[]]", '{"a":[]}', '{"a":1,"a":null}', '{"":""}', '{"a":1e400}', '{"a":NaN}', "[1,]", "{,}",
)  # fmt: skip

FIELDS = (
    "user_id", "event_type", "event_time", "item_id", "event_id", "value", "session_id", "rec_id", "position",
    "context", "x", r"user\u005fid", "",
)  # fmt: skip


def hostile(rng: random.Random, settings: Mapping[str, Any], size: int) -> Stream:
    """`size` lines, half of them good. Every named hostile record is there once if they fit."""
    del settings  # written in the contract's own names and the kinds of tests/hostile.py
    named = [value for _, value, _ in HOSTILE if value is not None]
    rng.shuffle(named)
    lines = [b"" if value is None else value for value in named[: size // 3]]
    while len(lines) < size // 2:
        lines.append(rng.choice(BREAKERS)(rng))
    lines += [good(rng, len(lines)) for _ in range(size - len(lines))]
    rng.shuffle(lines)
    return Stream([line + rng.choice([b"", b"", b"", b"", b"\r", b" \t"]) for line in lines], NOW)


def good(rng: random.Random, offset: int) -> bytes:
    time = TIME_MS + rng.randrange(-HOUR, DAY)
    user = rng.choice(AWKWARD_IDS)
    kind = rng.choice(["view", "view", "purchase", "impression"])
    return record(user_id=user, event_type=kind, event_time=time, **extras(rng, offset))


def _with_a_literal(rng: random.Random) -> bytes:
    pairs = [f'"{rng.choice(FIELDS)}":{rng.choice(LITERALS)}' for _ in range(rng.randrange(1, 4))]
    return raw(",".join(pairs))


def _with_a_time(rng: random.Random) -> bytes:
    return record(event_time=rng.choice(TIMES), user_id=rng.choice(AWKWARD_IDS))


def _with_flipped_bytes(rng: random.Random) -> bytes:
    line = bytearray(good(rng, rng.randrange(99)))
    for _ in range(rng.randrange(1, 4)):
        line[rng.randrange(len(line))] = rng.choice(
            [0, 0x22, 0x5C, 0x7B, 0x7D, 0x2C, 0x80, 0xC3, 0xED, 0xFF, rng.randrange(256)]
        )
    return bytes(line)


def _with_a_piece_moved(rng: random.Random) -> bytes:
    line = good(rng, rng.randrange(99))
    start, stop = sorted(rng.randrange(len(line) + 1) for _ in range(2))
    place = rng.randrange(len(line) + 1)
    return rng.choice(
        [line[:start] + line[stop:], line[:place] + line[start:stop] + line[place:], line[:start]]
    )


def _deep(rng: random.Random) -> bytes:
    levels = rng.choice([1, 62, 63, 64, 65, 1000])
    return raw(
        f'"{rng.choice(FIELDS)}":'
        + rng.choice(["[", '{"a":']) * levels
        + "1"
        + rng.choice(["]", "}"]) * levels
    )


def _in_another_encoding(rng: random.Random) -> bytes:
    text = json.dumps({"user_id": "ü", "event_type": "view", "event_time": TIME_MS}, ensure_ascii=False)
    return text.encode(
        rng.choice(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "utf-7"])
    )


def _big(rng: random.Random) -> bytes:
    size = rng.choice([1_000, 70_000, 1_048_576 - 200])
    return raw(f'"{rng.choice(FIELDS)}":"' + "x" * size + '"')


def _empty(rng: random.Random) -> bytes:
    return rng.choice([b"", b"\r", b" ", b"{}", b"[]", b"null", b"\xef\xbb\xbf", b"\0"])


BREAKERS: tuple[Callable[[random.Random], bytes], ...] = (
    *(_with_a_literal,) * 6, *(_with_a_time,) * 3, *(_with_flipped_bytes,) * 6, *(_with_a_piece_moved,) * 6,
    _deep, _in_another_encoding, _big, *(_empty,) * 4,
)  # fmt: skip
