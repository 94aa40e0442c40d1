"""Dead letters in words: a table by reason with the newest letters, and one letter whole."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Final

import msgspec

from stream.dead_letters import REASONS, REMEDIES
from stream.explain_page import when
from stream.upkeep.letters import Letter

#: Bytes of a record that are shown; the rest is counted.
SHOWN_BYTES_MAX: Final = 4_096


@dataclass
class Row:
    """The letters of one reason."""

    count: int = 0
    replayed: int = 0
    first_ms: int = 0
    last_ms: int = 0
    partitions: set[int] = field(default_factory=set)


class Page:
    """Counts letters by reason and keeps the newest `limit`. marks: sources that were sent again."""

    def __init__(self, marks: set[str], limit: int) -> None:
        self._marks = marks
        self._rows = {reason: Row() for reason in REASONS}
        self._newest: list[tuple[int, str, Letter]] = []  # a heap, the oldest first
        self._limit = limit

    def add(self, letter: Letter) -> None:
        row = self._rows.setdefault(letter.reason, Row())
        row.first_ms = min(row.first_ms, letter.timestamp_ms) if row.count else letter.timestamp_ms
        row.last_ms = max(row.last_ms, letter.timestamp_ms)
        row.count += 1
        row.replayed += letter.source in self._marks
        row.partitions.add(letter.partition)
        heapq.heappush(self._newest, (letter.timestamp_ms, letter.source, letter))
        if len(self._newest) > self._limit:
            heapq.heappop(self._newest)

    @property
    def newest(self) -> list[Letter]:
        """The newest letters, the newest first."""
        return [letter for _, _, letter in sorted(self._newest, reverse=True)]

    def to_text(self) -> str:
        lines = [f"{'reason':20} {'count':>9} {'sent again':>10}  {'first':16}  {'last':16}  partitions"]
        for reason, row in self._rows.items():
            if row.count:
                times = f"{when(row.first_ms)}  {when(row.last_ms)}"
                partitions = ", ".join(map(str, sorted(row.partitions)))
                lines.append(f"{reason:20} {row.count:>9,} {row.replayed:>10,}  {times}  {partitions}")
        total = sum(row.count for row in self._rows.values())
        if not total:
            return "no dead letters"
        lines.append(f"{'together':20} {total:>9,}")
        if self._newest:
            lines.append(f"\nThe newest {len(self._newest)}; `ebbtide dlq show SOURCE` shows one whole:")
            lines += map(self._line, self.newest)
        return "\n".join(lines)

    def _line(self, letter: Letter) -> str:
        detail = f" {letter.detail}" if letter.detail else ""
        again = ", sent again" if letter.source in self._marks else ""
        size = f"{len(letter.value or b''):,} bytes"
        return f"  {letter.source}  {when(letter.timestamp_ms)}  {letter.reason}{detail}, {size}{again}"

    def to_json(self) -> str:
        reasons = {
            reason: {
                "count": row.count,
                "replayed": row.replayed,
                "first": row.first_ms,
                "last": row.last_ms,
                "partitions": sorted(row.partitions),
            }
            for reason, row in self._rows.items()
            if row.count
        }
        newest = [
            {
                "source": letter.source,
                "reason": letter.reason,
                "detail": letter.detail,
                "at": letter.timestamp_ms,
                "replayed": letter.source in self._marks,
            }
            for letter in self.newest
        ]
        return msgspec.json.format(msgspec.json.encode({"reasons": reasons, "newest": newest})).decode()


def describe(letter: Letter, *, replayed: bool) -> str:
    """Return one letter as text: why, what to do, and the record as it came."""
    field_name = f", field {letter.detail}" if letter.detail else ""
    lines = [
        f"source     {letter.source}",
        f"reason     {letter.reason}{field_name}: {REASONS.get(letter.reason, 'unknown to this version')}",
        f"what to do {REMEDIES.get(letter.reason, 'read it with the version that wrote it')}",
        f"found      {when(letter.timestamp_ms)}",
        f"sent again {'yes' if replayed else 'no'}",
        f"key        {_show(letter.key)}",
    ]
    lines += [f"header     {name}: {_show(content)}" for name, content in letter.headers]
    lines.append(f"value      {len(letter.value or b''):,} bytes")
    return "\n".join([*lines, _show(letter.value)])


def _show(content: bytes | None) -> str:
    """Write bytes as text where they are text, with whatever else they hold escaped."""
    if content is None:
        return "none"
    text = content[:SHOWN_BYTES_MAX].decode(errors="backslashreplace")
    shown = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
    more = len(content) - SHOWN_BYTES_MAX
    return f"{shown} … and {more:,} bytes more" if more > 0 else shown
