"""Checkpoints: what a reader of one partition of `user_state` knows up to some offset, kept in a local file.

A restore that finds one loads it and reads the topic from there on only. A file holds the records that a
reader would have kept (descriptions of layouts, the last row of each user, the commit record), so it is read
as the topic is. It is written only when a table is just that: in a restore, when the rows are loaded and the
log is not replayed yet; and when a partition has left in good order and every row was committed.

A file is a cache. One that does not fit in every respect is not used, and the log says why; one that cannot
be read or written stops nothing. It must be young: the cleaner drops tombstones after `delete.retention.ms`,
and whoever reads on from long ago would keep users who are gone.

    magic   one line
    frames  4 bytes length, 4 bytes CRC-32, the bytes: a header in JSON, blocks of keys and values in
            MessagePack; an empty frame ends the file
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import numpy as np
from msgspec import Struct

from stream.clock import Clock
from stream.config import Config
from stream.core.dirty import GRAVE, LIVE
from stream.core.persist import FORMAT, GRAVE_DEADLINE
from stream.core.table import UserTable
from stream.log import log
from stream.reading import Home, Steps
from stream.snapshot import ROW_KEY
from stream.snapshot_format import SnapshotFormat

#: A file is used for so long at most: half of Kafka's default for delete.retention.ms.
AGE_MS_MAX: Final = 43_200_000
#: Rows written or read in one step, some megabytes.
BLOCK_ROWS: Final = 10_000

_MAGIC: Final = b"ebbtide checkpoint 1\n"
_FRAME: Final = struct.Struct("<II")

Records = tuple[list[bytes], list[bytes | None]]

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Records).decode


class Header(Struct, frozen=True, kw_only=True):
    """What a file is of."""

    rows: int = FORMAT
    group: str
    topic: str
    topic_id: str
    partition: int
    layout: str
    n: int  # of the commit that it holds
    position: int  # records before this offset of the topic are in it
    written_ms: int


class DamagedError(Exception):
    """A file that is not what was written."""


class Saved:
    """A file that was found whole. `blocks` yields its records, once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.header: Header

    def check(self) -> Steps[None]:
        """Read all of it. Raises DamagedError, OSError."""
        if self._file.read(len(_MAGIC)) != _MAGIC:
            raise DamagedError("it is no checkpoint of this version")
        try:
            self.header = msgspec.json.decode(self._frame(), type=Header)
        except msgspec.MsgspecError as error:
            raise DamagedError(f"its header cannot be read: {error}") from error
        first = self._file.tell()
        while self._frame():
            yield
        self._file.seek(first)

    def blocks(self) -> Iterator[Records]:
        while frame := self._frame():
            yield _unpack(frame)

    def _frame(self) -> bytes:
        head = self._file.read(_FRAME.size)
        if len(head) < _FRAME.size:
            raise DamagedError("it is torn")
        length, crc = _FRAME.unpack(head)
        frame = self._file.read(length)
        if len(frame) < length:
            raise DamagedError("it is torn")
        if zlib.crc32(frame) != crc:
            raise DamagedError("it is damaged")
        return frame

    def close(self) -> None:
        self._file.close()


class Checkpoints:
    """The files of one group on this machine."""

    def __init__(self, folder: Path, config: Config, clock: Clock) -> None:
        self._folder, self._clock = folder, clock
        self._group, self._topic = config.kafka.group_id, config.topics.user_state
        name = msgspec.json.encode([self._group, self._topic])
        self._prefix = f"ebbtide-{hashlib.blake2b(name, digest_size=8).hexdigest()}-"
        self._forgotten = 0  # times that all files were removed

    def path(self, partition: int) -> Path:
        return self._folder / f"{self._prefix}{partition}.checkpoint"

    # ------------------------------------------------------------------------------------------- reading

    def find(self, partition: int, layout: str, n: int, home: Home) -> Steps[Saved | None]:
        """Return the partition's file if it fits a group that committed with record n. The caller closes it.

        layout: of the rows that are written now.
        """
        path = self.path(partition)
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("%s: the checkpoint cannot be read: %s", path, error.strerror)
            return None
        saved, why = Saved(file), "the restore was given up"
        try:
            yield from saved.check()
            why = self._judge(saved.header, partition, layout, n, home)
        except DamagedError as error:
            why = str(error)
        except OSError as error:
            why = f"it cannot be read: {error.strerror}"
        finally:
            if why:
                saved.close()
        if not why:
            return saved
        log.warning("%s: the checkpoint is not used: %s", path, why)
        return None

    def _judge(self, header: Header, partition: int, layout: str, n: int, home: Home) -> str:
        """Return in words why a file cannot be used, or nothing."""
        age_ms, age_ms_max = self._clock.now_ms() - header.written_ms, age_limit_ms(home)
        if (header.group, header.topic, header.partition) != (self._group, self._topic, partition):
            return f"it is of {header.topic}-{header.partition} of the group {header.group}"
        if not home.topic_id or header.topic_id != home.topic_id:
            return "the topic was made anew since, or the broker does not say"
        if (header.rows, header.layout) != (FORMAT, layout):
            return "its rows have another layout"
        if header.n > n:
            return f"it is of commit {header.n}, and the group has committed {n} only"
        if not home.kept.start <= header.position <= home.kept.end:
            return (
                f"it ends at offset {header.position}, the log goes from {home.kept.start} to {home.kept.end}"
            )
        if not 0 <= age_ms <= age_ms_max:
            return f"it was written {age_ms / 1_000:.0f} s ago; it counts for {age_ms_max / 1_000:.0f} s"
        return ""

    # ------------------------------------------------------------------------------------------- writing

    def write(
        self,
        table: UserTable,
        format: SnapshotFormat,
        beside: Records,
        *,
        partition: int,
        n: int,
        position: int,
        topic_id: str,
        through: int | None = None,
    ) -> Steps[None]:
        """Write a file of the rows of a table that does not change meanwhile, some of them a step.

        beside: records to be read after the rows: the commit record. through: which record or entry all rows
        hold, None for what each was loaded with. A disk that refuses is a line in the log.
        """
        header = Header(
            group=self._group, topic=self._topic, topic_id=topic_id, partition=partition,
            layout=format.layout, n=n, position=position, written_ms=self._clock.now_ms(),
        )  # fmt: skip
        path, forgotten = self.path(partition), self._forgotten
        new = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep()
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(_MAGIC)
                _write_frame(file, msgspec.json.encode(header))
                for block in _blocks(table, format, through):
                    _write_frame(file, _pack(block))
                    file.flush()
                    os.fsync(file.fileno())  # now and then, so that the last one does not take long
                    yield
                _write_frame(file, _pack(beside))
                _write_frame(file, b"")
                file.flush()
                os.fsync(file.fileno())
            if forgotten == self._forgotten:
                new.replace(path)
                self._settle()
        except OSError as error:
            log.warning("%s: no checkpoint is written: %s", path, error.strerror)
        finally:
            with suppress(OSError):
                new.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove every file of the group: a user is erased. A file that is being written will not appear."""
        self._forgotten += 1
        for path in self._folder.glob(f"{self._prefix}*"):
            path.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove files that are too old to be used, and what a killed process had not finished."""
        now_ms = self._clock.now_ms()
        for path in self._folder.glob(f"{self._prefix}*"):
            try:
                age_ms = now_ms - path.stat().st_mtime_ns // 1_000_000
            except FileNotFoundError:
                continue  # another worker's
            if age_ms > AGE_MS_MAX:
                path.unlink(missing_ok=True)

    def _settle(self) -> None:
        """Let the new name outlast a loss of power."""
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def age_limit_ms(home: Home) -> int:
    """Return how old a file may be: with a margin, as tombstones written since must all be there."""
    return min(AGE_MS_MAX, home.delete_retention_ms // 2)


def _blocks(table: UserTable, format: SnapshotFormat, through: int | None) -> Iterator[Records]:
    """Yield the users of a table, and the graves that a restore has loaded, as records of the topic."""
    users, slots = table.users, table.slots().astype(np.int32)
    for first in range(0, len(slots), BLOCK_ROWS):
        block = slots[first : first + BLOCK_ROWS]
        words = np.where(users.rows.deadline[block] == GRAVE_DEADLINE, GRAVE, LIVE).astype(np.uint8)
        held = users.marks.through[block] if through is None else through
        values = format.encode(table, block, words, held)
        yield [ROW_KEY + table.row_id(slot) for slot in block.tolist()], values


def _write_frame(file: BinaryIO, data: bytes) -> None:
    file.write(_FRAME.pack(len(data), zlib.crc32(data)) + data)
