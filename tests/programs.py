"""The real engine behind the oracle's interface: given what the oracle is given, read as the oracle is read.

    run_replay(data, settings, folder)      `replay --no-model` of a file, its output files read back
    Engine(settings)                        one partition in process: batches, idle steps, ids

`settings` are the oracle's (`tests.oracle_settings`); `worker` names keys of `[worker]`, which must change
nothing in what comes out.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stream.codec import FILE
from stream.config import Config
from stream.config_load import parse_config
from stream.core.events import NEVER, NO_GUARD
from stream.engine import Slice, Tally
from stream.records import Output, RecordBatch
from stream.replay import open_partition, replay
from stream.rows import user_rows
from tests.oracles import Json, Replayed

TIME = ("future_max", "out_of_order_max", "lateness_max", "session_gap", "visit_gap", "day_offset")
LIFECYCLE = (
    "active_days_min", "cadence", "at_risk_min", "at_risk_max", "at_risk_default",
    "dormant_after", "churned_after", "forget_after",
)  # fmt: skip
SUMMARY = (
    "records_in", "accepted", "duplicates", "dead_letters", "users", "transitions", "alerts", "watermark",
)  # fmt: skip


def to_tree(settings: Mapping[str, Any], **worker: Any) -> Json:
    """Return the oracle's settings as a config file would give them."""
    rings = [{"bucket": bucket, "buckets": buckets} for bucket, buckets in settings["rings"]]
    return {
        "events": {"kinds": settings["kinds"], "fields": settings["fields"]},
        "time": {name: settings[name] for name in TIME},
        "windows": {
            "rings": rings,
            "windows": {name: bucket for name, (bucket, _) in settings["windows"].items()},
        },
        "lifecycle": {name: settings[name] for name in LIFECYCLE},
        "worker": worker,
    }


def to_config(settings: Mapping[str, Any], **worker: Any) -> Config:
    """Return the same as a config; every inequality of the text is checked on the way."""
    return parse_config(to_tree(settings, **worker))


def run_replay(
    data: bytes, settings: Mapping[str, Any], folder: Path, now: int | None = None, **worker: Any
) -> Replayed:
    """Replay a file without a model and return what was written."""
    source = folder / "input.jsonl"
    source.write_bytes(data)
    replay(str(source), folder / "out", to_config(settings, **worker), None, model=False, now_ms=now)
    return read_outputs(folder / "out")


def read_outputs(folder: Path) -> Replayed:
    summary = json.loads((folder / "summary.json").read_bytes())
    return Replayed(
        *(
            [json.loads(line) for line in (folder / f"{name}.jsonl").read_bytes().splitlines()]
            for name in ("lifecycle", "churn-alerts", "dead-letters", "users")
        ),
        summary={name: summary[name] for name in SUMMARY},
    )


class Engine:
    """One partition in process. A slice's outputs are taken, then committed, as the worker does."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        now: int | None = None,
        *,
        undo: bool = False,
        snapshots: bool = False,
        **worker: Any,
    ) -> None:
        """undo: every step is taken, undone and taken again, as after an aborted transaction.

        snapshots: no row is let go of, because no snapshot ever has it.
        """
        self.config = to_config(settings, **worker)
        self.partition, self.items = open_partition(self.config, None)
        self.partition.table.users.counts.keep_undo = undo
        self.partition.table.users.counts.keep_dirty = snapshots
        self.undo = undo
        self.now = NO_GUARD if now is None else now
        self.offset = 0
        self.tally = Tally()
        self.outputs: list[Output] = []

    def records(self, lines: Sequence[bytes]) -> None:
        """Apply the next lines of the file as one batch."""
        n = len(lines)
        offsets = list(range(self.offset, self.offset + n))
        none: list[Any] = [None] * n
        batch = RecordBatch(FILE, 0, offsets, none, list(lines), [self.now] * n, none)
        self._take(lambda: self.partition.apply(batch))
        self.offset += n

    def idle(self, watermark: int) -> None:
        """An idle step of W before the next line."""
        self._take(lambda: self.partition.advance(self.offset, watermark))

    def _take(self, step: Callable[[], Iterable[Slice]]) -> None:
        if self.undo:
            savepoint = self.partition.table.savepoint()
            for _ in step():
                pass
            self.partition.table.rollback(savepoint)
        for part in step():
            self.outputs += part.outputs
            self.tally.add(part.tally)
            self.partition.table.commit()

    @property
    def ids(self) -> list[tuple[str, str]]:
        """(topic, id) of the transitions and alerts, in the order of application."""
        return [
            (output.topic, dict(output.headers)["id"].decode())
            for output in self.outputs
            if output.topic in ("lifecycle", "churn_alerts")
        ]

    def result(self) -> Replayed:
        tally, watermark = self.tally, self.partition.watermark
        summary = {
            "records_in": tally.records_in,
            "accepted": tally.accepted,
            "duplicates": tally.duplicates,
            "dead_letters": dict(tally.dead_letters),
            "users": len(self.partition.table),
            "transitions": dict(tally.transitions),
            "alerts": dict(tally.alerts),
            "watermark": None if watermark == NEVER else watermark,
        }
        return Replayed(
            [json.loads(output.value or b"") for output in self.outputs if output.topic == "lifecycle"],
            [json.loads(output.value or b"") for output in self.outputs if output.topic == "churn_alerts"],
            [_dead_letter(output) for output in self.outputs if output.topic == "dead_letters"],
            [json.loads(row) for row in user_rows(self.partition, self.config, self.items)],
            summary,
        )


def _dead_letter(output: Output) -> Json:
    headers = {name: value.decode() for name, value in output.headers}
    return {
        "offset": int(headers["source"].rpartition("-")[2]),
        "reason": headers["reason"],
        "detail": headers["detail"],
        "record": base64.b64encode(output.value or b"").decode(),
    }
