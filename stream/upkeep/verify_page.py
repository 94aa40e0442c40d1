"""A verification in words: what was compared in each partition, and the differences one by one."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from stream.upkeep.verify import Report


def to_text(reports: Sequence[Report], limit: int) -> str:
    """Return the report as text: a line a partition, what is to be known of it, and the first differences."""
    lines = [
        f"{'partition':>9} {'offsets':>21} {'records':>10} {'users':>9} {'older':>9} {'outputs':>10} "
        f"{'not scored':>10}  verdict"
    ]
    for report in reports:
        offsets = f"{report.start:,} to {report.stop:,}"
        verdict = f"{report.wrong:,} DIFFER" if report.wrong else "equal"
        lines.append(
            f"{report.partition:>9} {offsets:>21} {report.records:>10,} {report.users:>9,} "
            f"{report.users_older:>9,} {report.outputs:>10,} {report.unscored:>10,}  {verdict}"
        )
    lines += [f"partition {report.partition}: {note}" for report in reports for note in report.notes]
    if any(report.unscored for report in reports):
        lines.append("not scored: lists of an earlier bundle or catalogue, compared without their items")
    told = [line for report in reports for line in _differences(report)]
    lines += told[:limit]
    if len(told) > limit:
        lines.append(f"… and {sum(report.wrong for report in reports) - limit:,} more; --limit shows them")
    return "\n".join(lines)


def _differences(report: Report) -> list[str]:
    outputs = [
        f"{topic}-{report.partition}, {difference.kind}: {difference.id} {difference.what}"
        for topic, difference in report.differences
    ]
    rows = [
        f"users of partition {report.partition}, offset {report.stop}: {row.user_id} {row.what}"
        for row in report.rows
    ]
    return outputs + rows


class Bar:
    """A progress bar over the partitions, on the error stream; does nothing unless `shown`."""

    def __init__(self, *, shown: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), disable=not shown)
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, partition: int, done: int, total: int) -> None:
        """A partition has come to offset `done` of `total`."""
        if partition not in self._tasks:
            self._tasks[partition] = self._progress.add_task(f"partition {partition}", total=total)
        self._progress.update(self._tasks[partition], completed=done, total=total)
