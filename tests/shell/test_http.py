"""Health and metrics over HTTP, through a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
from prometheus_client import CollectorRegistry, Counter

from stream.errors import UsageError
from stream.http import HttpServer, Reason

reasons: list[Reason] = []


@pytest.fixture
def server() -> Iterator[HttpServer]:
    registry = CollectorRegistry()
    Counter("seen", "Seen.", registry=registry).inc(3)
    reasons.clear()
    with HttpServer("127.0.0.1", 0, registry, lambda: reasons) as server:
        yield server


def ask(server: HttpServer, path: str, method: str = "GET", **headers: str) -> tuple[int, str, bytes]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


def test_metrics_are_prometheus_text(server: HttpServer) -> None:
    status, content_type, body = ask(server, "/metrics")
    assert status == 200
    assert content_type.startswith("text/plain")
    assert b"seen_total 3.0" in body


def test_metrics_are_openmetrics_for_those_who_ask(server: HttpServer) -> None:
    _, content_type, body = ask(server, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_ready_without_reasons(server: HttpServer) -> None:
    status, _, body = ask(server, "/readyz")
    assert (status, json.loads(body)) == (200, {"ready": True, "reasons": []})


def test_not_ready_says_why(server: HttpServer) -> None:
    reasons.append(Reason("restoring", "partition 3: 40 % read, about 12 s to go"))
    status, _, body = ask(server, "/readyz")
    assert status == 503
    assert json.loads(body) == {
        "ready": False,
        "reasons": [{"reason": "restoring", "detail": "partition 3: 40 % read, about 12 s to go"}],
    }


def test_alive_even_when_not_ready(server: HttpServer) -> None:
    reasons.append(Reason("stalled", "commit, for 40 s"))
    assert ask(server, "/healthz")[0] == 200


def test_an_unknown_path_names_the_known_ones(server: HttpServer) -> None:
    status, _, body = ask(server, "/")
    assert status == 404
    assert json.loads(body)["paths"] == ["/metrics", "/healthz", "/readyz"]


def test_head_has_no_body(server: HttpServer) -> None:
    status, _, body = ask(server, "/healthz", method="HEAD")
    assert (status, body) == (200, b"")


def test_a_port_in_use_is_a_wrong_config(server: HttpServer) -> None:
    with pytest.raises(UsageError, match=r"\[http\] 127.0.0.1"):
        HttpServer("127.0.0.1", server.port, CollectorRegistry(), lambda: ())
