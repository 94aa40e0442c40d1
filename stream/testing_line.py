"""The line between one process and the in-memory broker: its calls pass here, and faults strike them here."""

from __future__ import annotations

from types import TracebackType

from stream.errors import RetriableError
from stream.testing_broker import MemoryBroker
from stream.testing_faults import Crash
from stream.testing_group import Member


class Line:
    """What a process has in common over all its clients: whether it lives, and its memberships."""

    def __init__(self, broker: MemoryBroker, name: str) -> None:
        self.broker = broker
        self.name = name
        self.dead = False
        self.members: list[Member] = []

    def call(self, point: str, *, refusable: bool = False) -> Call:
        """Return a context manager around one call, named as in `sink.commit`.

        refusable: whether the caller is ready for a RetriableError here.
        """
        return Call(self, point, refusable)

    def strikes(self, fault: str, point: str) -> bool:
        plan = self.broker.plan
        return plan is not None and plan.strikes(fault, point)

    def crash_if_struck(self, fault: str, point: str) -> None:
        if self.strikes(fault, point):
            self.kill()
            raise Crash(f"{self.name} {fault} {point}")

    def kill(self) -> None:
        """The process is gone: it sends no more heartbeats, and every further call raises Crash."""
        self.dead = True
        self.freeze()

    def freeze(self) -> None:
        """The process stands still (SIGSTOP): from now on it sends no heartbeats."""
        for member in self.members:
            if not member.frozen:
                member.frozen = True
                member.heard_ms = self.broker.elapsed_ms()

    def thaw(self) -> None:
        """The process goes on. Whether it is still a member it learns at its next poll."""
        self.broker.tick()
        for member in self.members:
            member.frozen = False


class Call:
    """One call: takes the broker's lock, lets happen what is due, and asks for faults before and after."""

    __slots__ = ("_line", "_point", "_refusable")

    def __init__(self, line: Line, point: str, refusable: bool) -> None:
        self._line = line
        self._point = point
        self._refusable = refusable

    def __enter__(self) -> None:
        line = self._line
        line.broker.lock.acquire()
        try:
            if line.dead:
                raise Crash(f"{line.name} is dead and calls {self._point}")
            line.broker.tick()
            line.crash_if_struck("crash_before", self._point)
            if self._refusable and line.strikes("refused", self._point):
                raise RetriableError("the coordinator is loading", place=self._point)
        except BaseException:
            line.broker.lock.release()
            raise

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        line = self._line
        try:
            if error_type is None:
                line.crash_if_struck("crash_after", self._point)
        finally:
            line.broker.lock.notify_all()
            line.broker.lock.release()
