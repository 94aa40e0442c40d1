"""A progress bar for reading a file: bytes of it where its size is known, records in any case."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


class Progress:
    """Shows how far the reading of `input` is, on the error stream; does nothing unless `shown`."""

    def __init__(self, input: str, *, shown: bool) -> None:
        known = input != "-" and not input.endswith(".gz")
        self._bar = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[records]:,} records, {task.fields[rate]:,.0f}/s"),
            console=Console(stderr=True),
            disable=not shown,
        )
        total = Path(input).stat().st_size if known and Path(input).is_file() else None
        self._task = self._bar.add_task(f"replaying {Path(input).name}", total=total, records=0, rate=0.0)
        self._records = 0

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, read_bytes: int, records: int) -> None:
        self._records += records
        elapsed = self._bar.tasks[self._task].elapsed or 0.0
        rate = self._records / elapsed if elapsed else 0.0
        self._bar.update(self._task, advance=read_bytes, records=self._records, rate=rate)
