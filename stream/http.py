"""Metrics and health over HTTP, from a thread of their own.

    /metrics   Prometheus text
    /healthz   200 while the process answers: restart it when this stays silent
    /readyz    200 when there is nothing to wait for, else 503; JSON with every reason in words

It reads what the worker publishes and never calls into the worker: readiness is a function that returns
the reasons why not, and that function may only look at values that one thread writes and another may read.
Nothing is authenticated: keep it inside the cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar, NamedTuple

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from stream.errors import UsageError

#: A client that sends its request no faster than this is dropped: it holds a thread.
REQUEST_TIMEOUT_S = 5.0


class Reason(NamedTuple):
    """Why a worker is not ready: a word to match on, and a sentence for a person."""

    reason: str  # starting, restoring, stalled, full, …
    detail: str


Readiness = Callable[[], Sequence[Reason]]


class _Answer(NamedTuple):
    status: HTTPStatus
    content_type: str
    body: bytes


def _json(status: HTTPStatus, value: object) -> _Answer:
    return _Answer(status, "application/json", msgspec.json.encode(value) + b"\n")


class HttpServer:
    """Serves until closed. Port 0 takes a free one; `port` says which.

    Raises UsageError if the address cannot be bound.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, readiness: Readiness) -> None:
        answers = _Answers(registry, readiness)
        request = type("Request", (_Request,), {"answers": answers})
        try:
            self._server = ThreadingHTTPServer((host, port), request)
        except OSError as error:
            raise UsageError(
                f"cannot listen: {error.strerror or error}",
                place=f"[http] {host}:{port}",
                remedy="another program has the port, or the host is not of this machine: change [http]",
            ) from error
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, name="http", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> HttpServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Answers:
    """What each path answers, apart from sockets."""

    def __init__(self, registry: CollectorRegistry, readiness: Readiness) -> None:
        self._registry = registry
        self._readiness = readiness

    def of(self, path: str, accept: str) -> _Answer:
        match path.partition("?")[0]:
            case "/metrics":
                encode, content_type = choose_encoder(accept)
                return _Answer(HTTPStatus.OK, content_type, encode(self._registry))
            case "/healthz":
                return _json(HTTPStatus.OK, {"alive": True})
            case "/readyz":
                reasons = self._readiness()
                status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
                return _json(status, {"ready": not reasons, "reasons": [r._asdict() for r in reasons]})
            case _:
                paths = ["/metrics", "/healthz", "/readyz"]
                return _json(HTTPStatus.NOT_FOUND, {"error": "no such path", "paths": paths})


class _Request(BaseHTTPRequestHandler):
    answers: ClassVar[_Answers]
    timeout = REQUEST_TIMEOUT_S
    server_version = "ebbtide"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        answer = self.answers.of(self.path, self.headers.get("Accept", ""))
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes every few seconds are no news."""
