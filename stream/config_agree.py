"""What several keys of a config must agree on, each check over the keys that could be read.

`agree` takes the values by their full names; a key that was wrong is missing among them, and what depends on
it is not judged. Every disagreement becomes a fault of the key that one would change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from stream.config_fields import ORDERS, TOPICS
from stream.config_tables import Ring, Span, dotted
from stream.config_values import format_duration, suggest
from stream.errors import Fault

DAY_MS: Final = 86_400_000

#: Active days and the 30-day window look back this far at least.
DAY_BUCKETS_MIN: Final = 30

Values = Mapping[str, Any]


def agree(values: Values) -> Iterator[Fault]:
    """Yield every disagreement between keys."""
    yield from _orders(values)
    yield from _recommend(values)
    yield from _rings(values)
    yield from _windows(values)
    yield from _topics(values)


def _orders(values: Values) -> Iterator[Fault]:
    for less, more, equal in ORDERS:
        if less not in values or more not in values:
            continue
        a, b = values[less], values[more]
        if a > b or (a == b and not equal):
            relation = "more than" if a > b else "the same as"
            remedy = f"{less} {'≤' if equal else '<'} {more} must hold"
            yield Fault(less, f"{format_duration(a)} is {relation} {more} = {format_duration(b)}", remedy)


def _recommend(values: Values) -> Iterator[Fault]:
    kinds, recommend = values.get("events.kinds"), values.get("events.recommend")
    if kinds is None or recommend is None:
        return
    for kind in recommend:
        if kind not in kinds:
            remedy = suggest(kind, list(kinds)) or f"kinds: {', '.join(kinds)}"
            yield Fault("events.recommend", f'"{kind}" is no kind of this config', remedy)
        elif kinds[kind] == "contact":
            remedy = "contacts never reach the encoder; name engagements or conversions"
            yield Fault("events.recommend", f'"{kind}" is a contact', remedy)


def _rings(values: Values) -> Iterator[Fault]:
    rings: tuple[Ring, ...] = values.get("windows.rings", ())
    if rings and not any(ring.bucket_ms == DAY_MS and ring.buckets >= DAY_BUCKETS_MIN for ring in rings):
        what = f"no ring has buckets of 1d, {DAY_BUCKETS_MIN} or more: active days and spend are read from it"
        yield Fault("windows.rings", what, 'add { bucket = "1d", buckets = 30 }')


def _windows(values: Values) -> Iterator[Fault]:
    rings: tuple[Ring, ...] = values.get("windows.rings", ())
    windows: dict[str, Span] = values.get("windows.windows", {})
    if not rings:
        return
    for name, (span_ms, bucket_ms) in windows.items():
        key, bucket = "windows.windows" + dotted(name), format_duration(bucket_ms)
        ring = next((ring for ring in rings if ring.bucket_ms == bucket_ms), None)
        if ring is None:
            sizes = ", ".join(format_duration(ring.bucket_ms) for ring in rings)
            yield Fault(key, f"no ring has buckets of {bucket}", f"the rings' buckets: {sizes}")
        elif span_ms % bucket_ms:
            yield Fault(key, f"is no multiple of its ring's buckets of {bucket}")
        elif span_ms // bucket_ms > ring.buckets:
            need = span_ms // bucket_ms
            what = f"needs {need} buckets of {bucket}; its ring has {ring.buckets}"
            yield Fault(key, what, f'{{ bucket = "{bucket}", buckets = {need} }} in windows.rings would do')


def _topics(values: Values) -> Iterator[Fault]:
    seen: dict[str, str] = {}
    for key in TOPICS.keys:
        full = f"topics.{key.name}"
        if full in values and (first := seen.setdefault(values[full], full)) != full:
            yield Fault(full, f'"{values[full]}" is {first} already', "every role needs a topic of its own")
