"""Draw docs/demo.svg: the demo's screen on a day of the year, from the outputs of a run.

ebbtide demo --out demo-out
python -m tools.draw_demo demo-out --day 2017-09-15
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console

from stream import wire
from stream.demo import journey
from stream.demo.run import baskets_of
from stream.demo.screen import screen
from stream.demo.view import Seen, View
from stream.replay import FILES, SUMMARY_FILE

SIZE: Final = (112, 32)
#: Where each kind of output says when it happened.
TIMES: Final = {wire.RECOMMENDATIONS: "event_time", wire.LIFECYCLE: "at", wire.CHURN_ALERTS: "at"}


def outputs(folder: Path, until_ms: int) -> Iterator[Seen]:
    """Yield what a run wrote, up to a moment of the year."""
    for role, time in TIMES.items():
        for line in (folder / FILES[role]).read_bytes().splitlines():
            if json.loads(line)[time] <= until_ms:
                yield Seen(role, line, {})


def draw(folder: Path, until_ms: int) -> str:
    events = journey.events(journey.lines())
    view = View(baskets_of(events), to_send=len(events))
    view.observe(outputs(folder, until_ms))
    view.latest_alerts = type(view.latest_alerts)(
        sorted(view.latest_alerts, key=lambda alert: alert.at), view.latest_alerts.maxlen
    )
    view.accepted = view.records = sum(event.at_ms <= until_ms for event in events)
    view.events_per_s = json.loads((folder / SUMMARY_FILE).read_text())["events_per_second"]
    width, height = SIZE
    console = Console(record=True, width=width, height=height, file=io.StringIO(), force_terminal=True)
    console.print(screen(view, journey.product_names(), width, height))
    return console.export_svg(title="make demo", unique_id="demo")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the outputs of `ebbtide demo`")
    parser.add_argument("--day", default="2017-09-15")
    parser.add_argument("--out", type=Path, default=Path("docs/demo.svg"))
    arguments = parser.parse_args()
    until = datetime.fromisoformat(arguments.day).replace(tzinfo=UTC)
    arguments.out.write_text(draw(arguments.folder, int(until.timestamp() * 1000)))


if __name__ == "__main__":
    main()
