"""A process to be killed or stopped in the middle of a transaction.

    python -m tests.kafka.zombie SERVERS EVENTS LISTS GROUP TRANSACTIONAL_ID

It joins the group, produces one record, sends offsets, says `ready`, and waits for a line; then it commits,
polls, and says what came of either.
"""

from __future__ import annotations

import sys

from stream.broker import CommittedOffset, Identity
from stream.errors import BrokerError
from stream.kafka_broker import KafkaBroker
from tests.contract.rigs import Member, outputs, wait_until


def main(servers: str, events: str, lists: str, group_id: str, transactional_id: str) -> None:
    me = Identity(group_id, transactional_id, {"events": events, "recommendations": lists})
    broker = KafkaBroker(servers, me)
    member = Member(broker.source())
    wait_until(lambda: len(member.source.assignment()) > 0, member.poll)
    sink = broker.sink()
    sink.open()
    sink.begin()
    sink.produce(outputs("recommendations", b"zombie"))
    sink.flush()
    offsets = {p: CommittedOffset(1, "zombie") for p in member.source.assignment()}
    sink.send_offsets(events, offsets, member.source.group())
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        sink.commit()
        print("committed", flush=True)
    except BrokerError as error:
        print(type(error).__name__, flush=True)
    wait_until(lambda: bool(member.lost or member.revoked), member.poll)
    print("lost" if member.lost else "revoked", flush=True)
    sink.destroy()
    member.source.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
