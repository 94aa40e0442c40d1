"""The oracle: `ebbtide replay --no-model` as DESIGN.md section 4 words it, event by event, in plain Python.

It is written from the text and never from `stream/`. Where the text leaves a choice, the reading is in
`docs/decisions/0060-readings-of-the-semantics.md`. It favours the obvious over the fast: a row is an object,
a ring a dict from bucket index to counts, everyone's timers a scan of all users.

    oracle = Oracle(config, now)          config: `tests.oracle_settings.defaults()`, times in milliseconds
    oracle.record(line); oracle.idle(w)   a record of the file; an idle step of W (an entry of the journal)
    oracle.result()                       what the files of `replay` hold, as lists of JSON objects
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import math
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.oracle_decode import Event, RefusedError, decode
from tests.oracle_settings import DAY, Json
from tests.oracle_windows import Ring

EVENT_IDS_MAX = 32
RECENT_ITEMS_MAX = 20
GAPS_MAX = 8
ACTIVE_WINDOW_DAYS = 7

CONFIRMED = ("new", "retained", "active", "converted", "loyal")  # "the first five states"
SILENT = ("at_risk", "dormant", "churned")


class Replayed(NamedTuple):
    """What `replay` wrote: one JSON object a line, and the summary."""

    lifecycle: list[Json]
    churn_alerts: list[Json]
    dead_letters: list[Json]
    users: list[Json]
    summary: Json


def replay(data: bytes, config: Mapping[str, Any], now: int | None = None) -> Replayed:
    """Replay a file: "only `\\n` ends a record, a final one adds none"."""
    oracle = Oracle(config, now)
    for line in lines(data):
        oracle.record(line)
    return oracle.result()


def lines(data: bytes) -> list[bytes]:
    """The records of a file."""
    records = data.split(b"\n")
    return records[:-1] if records[-1] == b"" else records


class Row:
    """A user; made by the first engagement or conversion."""

    def __init__(self, event: Event, config: Mapping[str, Any]) -> None:
        self.user = event.user
        self.state = "none"
        self.first = event.time
        self.last: int | None = None
        self.events = 0
        self.conversions = 0
        self.orders = 0
        self.sessions = 0
        self.session_has_order = False
        self.gaps = 0
        self.gap_mean = 0.0
        self.event_ids: deque[str] = deque(maxlen=EVENT_IDS_MAX)
        self.recent: deque[str] = deque(maxlen=RECENT_ITEMS_MAX)
        self.alert: tuple[str, int] | None = None  # id and last_event_time that it was opened with
        self.rings = {
            bucket: Ring(bucket, buckets, config["day_offset"] if bucket == DAY else 0, event.time)
            for bucket, buckets in config["rings"]
        }


class Oracle:
    """One partition."""

    def __init__(self, config: Mapping[str, Any], now: int | None = None) -> None:
        self.config = config
        self.now = now
        self.kinds: dict[str, str] = config["kinds"]
        self.own_kinds = [kind for kind, role in self.kinds.items() if role != "contact"]
        self.rows: dict[bytes, Row] = {}
        self.watermark: int | None = None  # None: −∞
        self.deadlines: dict[bytes, int] = {}  # "one deadline a user"
        self.earliest = math.inf  # no deadline is earlier; spares most of the scans
        self.offset = 0
        self.accepted = 0
        self.duplicates = 0
        self.lifecycle: list[Json] = []
        self.alerts: list[Json] = []
        self.dead_letters: list[Json] = []
        self.applied: list[int] = []  # offsets of accepted engagements and conversions
        self.ids: list[tuple[str, str]] = []  # (topic, header `id`) of transitions and alerts
        self.emitted: Counter[tuple[str, int]] = Counter()  # by topic and offset

    # Inputs

    def record(self, line: bytes) -> None:
        """Guard, watermark, duplicates: "Order of the checks: decode, guard, too late, duplicate"."""
        try:
            event = decode(line, self.kinds, self.config["fields"])
            if self.now is not None and event.time > self.now + self.config["future_max"]:
                raise RefusedError("from_future")
            if self.watermark is not None and event.time < self.watermark - self.config["lateness_max"]:
                raise RefusedError("too_late")
        except RefusedError as refused:
            self.dead_letters.append(
                {
                    "offset": self.offset,
                    "reason": refused.reason,
                    "detail": refused.detail,
                    "record": base64.b64encode(line).decode(),
                }
            )
        else:
            self.event(event)
        self.offset += 1

    def idle(self, watermark: int) -> None:
        """An idle step: W is now at least `watermark`, "before record X", the next one."""
        self.watermark = self.watermark_after(watermark)
        self.everyones_timers()

    def event(self, event: Event) -> None:
        row = self.rows.get(event.user)
        if self.kinds[event.kind] == "contact":
            if row is not None:
                self.count_in_windows(row, event)
            self.accepted += 1
        elif row is not None and event.event_id is not None and event.event_id in row.event_ids:
            self.duplicates += 1
        else:
            self.apply(event)
            self.accepted += 1
            self.applied.append(self.offset)
        self.idle(event.time - self.config["out_of_order_max"])  # (4) and (5)

    def watermark_after(self, candidate: int) -> int:
        return candidate if self.watermark is None else max(self.watermark, candidate)

    # An engagement or conversion is applied: (1), (2), (3)

    def apply(self, event: Event) -> None:
        row = self.rows.get(event.user)
        late = row is not None and row.last is not None and event.time < row.last
        if row is not None and not late:
            self.own_silence(row, event.time)
            row = self.rows.get(event.user)
        if row is None:
            row = self.rows[event.user] = Row(event, self.config)
        before = row.last

        self.count_in_windows(row, event)
        started = False if late else self.session_and_rhythm(row, event.time)
        raised = self.totals(row, event, late)

        left = row.state
        row.state = self.next_state(row, event, late, started, raised)
        conversion = self.kinds[event.kind] == "conversion"
        if left == "churned" and row.state != "churned":
            row.orders = 1 if conversion else 0
            row.session_has_order = conversion
        if row.state != left:
            trigger = "order" if (conversion if left == "churned" else raised) else "engagement"
            as_of = event.time if row.last is None else max(event.time, row.last)
            self.transition(row, left, trigger, event.time, before, as_of)
            if left in SILENT and row.alert is not None:
                self.alert(row, "resolved", left, event.time, as_of)
                row.alert = None
        self.set_deadline(row)

    def count_in_windows(self, row: Row, event: Event) -> None:
        for bucket, ring in row.rings.items():
            spends = bucket == DAY and self.kinds[event.kind] == "conversion"
            ring.add(event.time, event.kind, event.value if spends else None)

    def session_and_rhythm(self, row: Row, time: int) -> bool:
        """A not-late event; returns whether it started a session."""
        gap = None if row.last is None else time - row.last
        started = gap is None or gap >= self.config["session_gap"]
        if started:
            row.sessions += 1
            row.session_has_order = False
        if gap is not None and gap >= self.config["visit_gap"]:
            row.gaps += 1
            row.gap_mean += (gap - row.gap_mean) / min(row.gaps, GAPS_MAX)
        row.last = time
        return started

    def totals(self, row: Row, event: Event, late: bool) -> bool:
        """Returns whether the event raised `orders`."""
        row.events += 1
        if event.event_id is not None:
            row.event_ids.append(event.event_id)
        if event.item is not None:
            row.recent.append(event.item)
        if self.kinds[event.kind] != "conversion":
            return False
        row.conversions += 1
        raised = row.orders == 0 if late else not row.session_has_order
        row.orders += raised
        row.session_has_order |= not late
        return raised

    def next_state(self, row: Row, event: Event, late: bool, started: bool, raised: bool) -> str:
        """The table of section 4: the first row that applies."""
        state, orders = row.state, row.orders
        if state not in SILENT:
            if raised:
                return "converted" if orders == 1 else "loyal"
            if late:
                return state
            active_days = self.active_days(row, event.time)
            if state == "none":
                return "new"
            if state == "new" and started:
                return "retained"
            if state == "retained" and active_days >= self.config["active_days_min"]:
                return "active"
            if state == "active" and active_days < self.config["active_days_min"]:
                return "retained"
            return state
        w = self.watermark_after(event.time - self.config["out_of_order_max"])
        if late or not event.time + self.at_risk_after(row) > w:
            return state
        if state == "churned":
            return "converted" if self.kinds[event.kind] == "conversion" else "retained"
        return "loyal" if orders >= 2 else "converted" if orders == 1 else "retained"

    # Timers

    def at_risk_after(self, row: Row) -> int:
        config = self.config
        if row.gaps < 2:
            return int(config["at_risk_default"])
        after = int(config["cadence"] * row.gap_mean)
        return int(min(max(after, config["at_risk_min"]), config["at_risk_max"]))

    def deadline(self, row: Row) -> int:
        assert row.last is not None
        if row.state in CONFIRMED:
            return row.last + self.at_risk_after(row)
        wait = {"at_risk": "dormant_after", "dormant": "churned_after", "churned": "forget_after"}
        return int(row.last + self.config[wait[row.state]])

    def set_deadline(self, row: Row) -> None:
        self.deadlines[row.user] = self.deadline(row)
        self.earliest = min(self.earliest, self.deadlines[row.user])

    def own_silence(self, row: Row, time: int) -> None:
        """(1): the user's own deadlines, without alerts, except that `forgotten` expires an open one."""
        while row.state != "forgotten" and self.deadline(row) <= time:
            self.fall(row, own=True)

    def everyones_timers(self) -> None:
        """(5): smallest (deadline, user_id) first; the next deadline joins the same order."""
        w = self.watermark
        if w is None or self.earliest > w:
            return
        due = [(deadline, user) for user, deadline in self.deadlines.items() if deadline <= w]
        heapq.heapify(due)
        while due:
            _, user = heapq.heappop(due)
            self.fall(self.rows[user], own=False)
            if user in self.deadlines and self.deadlines[user] <= w:
                heapq.heappush(due, (self.deadlines[user], user))
        self.earliest = min(self.deadlines.values(), default=math.inf)

    def fall(self, row: Row, own: bool) -> None:
        """The user's deadline is due: one stage further into silence."""
        at, left = self.deadline(row), row.state
        row.state = {"at_risk": "dormant", "dormant": "churned", "churned": "forgotten"}.get(left, "at_risk")
        self.transition(row, left, "silence", at, row.last, at)
        if row.state == "forgotten":
            if row.alert is not None:
                self.alert(row, "expired", "forgotten", at, at)
            del self.rows[row.user], self.deadlines[row.user]
            return
        self.set_deadline(row)
        if own:
            return
        if row.alert is None:
            assert row.last is not None
            row.alert = (alert_id(row.user, row.last), row.last)
            self.alert(row, "opened", row.state, at, at)
        else:
            self.alert(row, "escalated", row.state, at, at)

    # Outputs

    def name_output(self, topic: str) -> None:
        """`id`: "source, then `/n` for the n-th further output to that topic at that offset"."""
        further = self.emitted[topic, self.offset]
        self.emitted[topic, self.offset] += 1
        self.ids.append((topic, f"file-0-{self.offset}" + (f"/{further}" if further else "")))

    def active_days(self, row: Row, as_of: int) -> int:
        return row.rings[DAY].days(as_of, ACTIVE_WINDOW_DAYS, self.own_kinds)

    def evidence(self, row: Row, as_of: int) -> Json:
        return {
            "first_event_time": row.first,
            "events": row.events,
            "sessions": row.sessions,
            "orders": row.orders,
            "active_days": self.active_days(row, as_of),
        }

    def transition(self, row: Row, left: str, trigger: str, at: int, before: int | None, as_of: int) -> None:
        self.name_output("lifecycle")
        self.lifecycle.append(
            {
                "user_id": row.user.decode(),
                "from": left,
                "to": row.state,
                "trigger": trigger,
                "at": at,
                "last_event_time": before,
                "silent_ms": None if before is None else at - before,
                **self.evidence(row, as_of),
            }
        )

    def alert(self, row: Row, status: str, stage: str, at: int, as_of: int) -> None:
        assert row.alert is not None
        self.name_output("churn_alerts")
        self.alerts.append(
            {
                "alert_id": row.alert[0],
                "user_id": row.user.decode(),
                "status": status,
                "stage": stage,
                "at": at,
                "last_event_time": row.alert[1],
                **self.evidence(row, as_of),
            }
        )

    def user(self, row: Row) -> Json:
        assert row.last is not None
        windows = self.config["windows"]
        return {
            "user_id": row.user.decode(),
            "lifecycle": row.state,
            "first_event_time": row.first,
            "last_event_time": row.last,
            "events": row.events,
            "sessions": row.sessions,
            "conversions": row.conversions,
            "orders": row.orders,
            "gaps": row.gaps,
            "gap_mean": row.gap_mean,
            "active_days": self.active_days(row, row.last),
            "deadline": self.deadline(row),
            "windows": {
                name: {kind: row.rings[bucket].count(row.last, buckets, kind) for kind in self.kinds}
                for name, (bucket, buckets) in windows.items()
            },
            "spend": {
                name: _finite(row.rings[bucket].spent(row.last, buckets))
                for name, (bucket, buckets) in windows.items()
                if bucket == DAY
            },
            "recent_items": list(row.recent),
            "alert": None if row.alert is None else row.alert[0],
        }

    def result(self) -> Replayed:
        summary = {
            "records_in": self.offset,
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "dead_letters": dict(Counter(letter["reason"] for letter in self.dead_letters)),
            "users": len(self.rows),
            "transitions": dict(Counter(f"{move['from']}>{move['to']}" for move in self.lifecycle)),
            "alerts": dict(Counter(alert["status"] for alert in self.alerts)),
            "watermark": self.watermark,
        }
        users = [self.user(self.rows[user]) for user in sorted(self.rows)]
        return Replayed(self.lifecycle, self.alerts, self.dead_letters, users, summary)


def alert_id(user: bytes, last_event_time: int) -> str:
    """Hex of the 8-byte BLAKE2b of user_id, a zero byte, and last_event_time in decimal."""
    return hashlib.blake2b(user + b"\0" + str(last_event_time).encode(), digest_size=8).hexdigest()


def _finite(number: float) -> float | None:
    """JSON has no word for a sum that left float64's range."""
    return number if math.isfinite(number) else None
