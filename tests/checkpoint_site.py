"""A place where workers leave checkpoints: restores with the file and without it, and the file's inside."""

from __future__ import annotations

import random
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from stream.checkpoint import Checkpoints
from stream.config import Config
from stream.phases import Phase
from stream.upkeep.rows_differ import encode_users
from stream.worker import Worker
from tests.courses import kill, leave
from tests.upkeep.rig import Rig


class Site(Rig):
    """A rig whose workers have a folder, and that counts what they read of user-state."""

    def __init__(self, folder: Path, partitions: int = 1, **worker: Any) -> None:
        settings = {"emit_from": "earliest", "snapshot_rows_max": 5, "commit_interval_ms": 100, **worker}
        super().__init__(partitions, worker={**settings, "checkpoint_dir": str(folder / "saved")})
        self.folder = folder / "saved"
        self.files = Checkpoints(self.folder, self.config, self.clock)
        self.plain = msgspec.structs.replace(
            self.config, worker=msgspec.structs.replace(self.config.worker, checkpoint_dir=None)
        )
        self.chance = random.Random(1)

    @property
    def path(self) -> Path:
        return self.files.path(0)

    def live(self, config: Config | None = None) -> tuple[Worker, int]:
        """Let a worker restore; return it, and how many records of user-state it has read."""
        worker = self.start(config)
        read = 0
        reader = worker.broker.reader

        def counting(topic: str, partition: int, start: int, end: int | None = None) -> Any:
            nonlocal read
            if topic == self.config.topics.user_state:
                log_ = self.broker.log(topic, partition)
                read += len(log_.read(start, 1 << 40, end)[0].offsets)
            return reader(topic, partition, start, end)

        worker.broker.reader = counting  # type: ignore[method-assign]
        for _ in range(300):
            if len(worker.shares) == self.partitions and all(
                share.phase is Phase.LIVE for share in worker.shares.values()
            ):
                return worker, read
            worker.turn()
        raise AssertionError("it does not go live")

    def users(self, worker: Worker) -> dict[bytes, bytes]:
        return {
            user: row
            for share in worker.shares.values()
            for user, row in encode_users(share.engine, self.config).items()
        }

    def restore_both_ways(self) -> Both:
        """Restore with the file and without it."""
        whole = len(self.read("user-state", 0).offsets)
        worker, read = self.live()
        found = self.users(worker)
        kill(self, worker)
        behind = len(self.read("user-state", 0).offsets)  # what it owed, it may have written by now
        worker, all_read = self.live(self.plain)
        plainly = self.users(worker)
        kill(self, worker)
        assert len(plainly) > 3, "too few users to tell"
        assert all_read == behind, "without a file all is read"
        return Both(found, plainly, read, whole)


class Both(NamedTuple):
    """What a restore with the file came to, and one without."""

    found: dict[bytes, bytes]
    plainly: dict[bytes, bytes]
    read: int  # records of user-state, with the file
    whole: int  # records of user-state that there were


def behind_the_file(site: Site) -> int:
    """Count the records of user-state that the file does not hold."""
    position = msgspec.json.decode(frames(site)[0])["position"]
    return sum(offset >= position for offset in site.read("user-state", 0).offsets)


def leave_all(site: Site) -> None:
    worker, _ = site.live()
    site.settle(worker)
    leave(worker)


def frames(site: Site) -> list[bytes]:
    data = site.path.read_bytes()
    at, found = data.index(b"\n") + 1, []
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        found.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    return found


def rewrite(site: Site, header: dict[str, Any]) -> None:
    pieces = [msgspec.json.encode(header), *frames(site)[1:]]
    data = site.path.read_bytes()
    magic = data[: data.index(b"\n") + 1]
    for piece in pieces:
        magic += len(piece).to_bytes(4, "little") + zlib.crc32(piece).to_bytes(4, "little") + piece
    site.path.write_bytes(magic)
