"""`ebbtide replay`: a file in, files out, through the very partition that the worker runs.

The input is one partition whose offsets are line numbers. Only `\\n` ends a record; a final one adds none.
"""

from __future__ import annotations

import gzip
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Final

import msgspec

from stream.bundle import Bundle, open_bundle
from stream.catalogue import apply_items_file
from stream.codec import FILE
from stream.config import Config
from stream.core.events import NEVER, NO_GUARD
from stream.engine import Partition, Tally
from stream.errors import InputError
from stream.garbage import settled
from stream.items import ItemTable
from stream.progress import Progress
from stream.records import Output, RecordBatch
from stream.rows import user_rows
from stream.wire import DeadLetterRow, Summary
from stream.workshop import Workshop

#: Output files by the role of the topic.
FILES: Final = {
    "recommendations": "recommendations.jsonl",
    "lifecycle": "lifecycle.jsonl",
    "churn_alerts": "churn-alerts.jsonl",
    "dead_letters": "dead-letters.jsonl",
}
USERS_FILE: Final = "users.jsonl"
SUMMARY_FILE: Final = "summary.json"

_READ_BYTES: Final = 1 << 20


def replay(
    input: str,
    out: Path,
    config: Config,
    bundle: Path | None,
    model: bool = True,
    now_ms: int | None = None,
    items: Path | None = None,
    progress: bool = False,
) -> Summary:
    """Fold the file `input` (`.gz`, or `-` for standard input) and write what comes of it into `out`.

    Without a bundle, or with model=False, it runs without a model: lifecycle, alerts and windows alone.
    Raises InputError if the input cannot be read, BundleError if the bundle is damaged.
    """
    partition, table = open_partition(config, open_bundle(bundle) if bundle and model else None, items)
    out.mkdir(parents=True, exist_ok=True)
    tally = Tally()
    started = time.monotonic()
    with Outputs(out) as outputs, Progress(input, shown=progress) as bar, settled():
        for records in read_records(input, config.worker.batch_records_max, now_ms):
            for part in partition.apply(records):
                outputs.write(part.outputs)
                tally.add(part.tally)
                partition.table.commit()
            bar.advance(sum(map(len, records.values)) + len(records.values), len(records.values))  # type: ignore[arg-type]
    seconds = time.monotonic() - started
    with (out / USERS_FILE).open("wb") as file:
        file.writelines(user_rows(partition, config, table))
    summary = summarize(tally, partition, seconds)
    (out / SUMMARY_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(summary)) + b"\n")
    return summary


def open_partition(
    config: Config, bundle: Bundle | None, items: Path | None = None
) -> tuple[Partition, ItemTable]:
    """Return a partition for the lines of a file, and its item table."""
    workshop = Workshop(config, bundle)
    if workshop.model and items:
        apply_items_file(workshop.model, workshop.items, items)
    partition = workshop.partition(FILE, 0, undo=bundle is not None, snapshots=False)
    return partition, workshop.items


def read_records(input: str, records_max: int, now_ms: int | None = None) -> Iterator[RecordBatch]:
    """Read the lines of a file as batches of at most `records_max` records."""
    offset = 0
    timestamp_ms = NO_GUARD if now_ms is None else now_ms
    for lines in _chunk(_read_lines(input), records_max):
        n = len(lines)
        yield RecordBatch(
            FILE, 0, list(range(offset, offset + n)), [None] * n, lines, [timestamp_ms] * n, [None] * n
        )
        offset += n


def _chunk(blocks: Iterator[list[bytes]], size: int) -> Iterator[list[bytes | None]]:
    held: list[bytes | None] = []
    for block in blocks:
        held += block
        while len(held) >= size:
            yield held[:size]
            held = held[size:]
    if held:
        yield held


def _read_lines(input: str) -> Iterator[list[bytes]]:
    rest: list[bytes] = []
    try:
        with _open_input(input) as file:
            while block := file.read(_READ_BYTES):
                lines = block.split(b"\n")
                rest.append(lines[0])
                if len(lines) > 1:
                    lines[0] = b"".join(rest)
                    rest = [lines.pop()]
                    yield lines
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            str(error), place=input, remedy="give a readable file of one JSON object a line"
        ) from error
    if last := b"".join(rest):
        yield [last]


def _open_input(input: str) -> IO[bytes]:
    if input == "-":
        return sys.stdin.buffer
    if input.endswith(".gz"):
        return gzip.open(input, "rb")  # type: ignore[return-value]
    return open(input, "rb")


class Outputs:
    """The output files of a run, one line an output."""

    def __init__(self, folder: Path) -> None:
        self._files = {role: (folder / name).open("wb") for role, name in FILES.items()}

    def __enter__(self) -> Outputs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()

    def write(self, outputs: list[Output]) -> None:
        for output in outputs:
            line = output.value if output.topic != "dead_letters" else _dead_letter_line(output)
            self._files[output.topic].write((line or b"") + b"\n")


def _dead_letter_line(output: Output) -> bytes:
    """A dead letter's headers and bytes as a line of JSON."""
    headers = dict(output.headers)
    return msgspec.json.encode(
        DeadLetterRow(
            offset=int(headers["source"].rsplit(b"-", 1)[1]),
            reason=headers["reason"].decode(),
            detail=headers["detail"].decode(),
            record=output.value or b"",
        )
    )


def summarize(tally: Tally, partition: Partition, seconds: float) -> Summary:
    watermark = partition.watermark
    return Summary(
        records_in=tally.records_in,
        accepted=tally.accepted,
        duplicates=tally.duplicates,
        dead_letters=dict(sorted(tally.dead_letters.items())),
        users=len(partition.table),
        transitions=dict(sorted(tally.transitions.items())),
        alerts=dict(sorted(tally.alerts.items())),
        watermark=None if watermark == NEVER else watermark,
        seconds=round(seconds, 3),
        events_per_second=round(tally.records_in / max(seconds, 1e-9), 1),
    )
