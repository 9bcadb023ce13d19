"""The HTTP client: one attempt, redirects only on request, proxies from the environment."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from urllib3.exceptions import HTTPError

from chroniker.alerting.http_client import UnexpectedStatus, send_request

pytestmark = pytest.mark.one_database

ANSWERS: dict[str, tuple[int, dict[str, str]]] = {
    "/ok": (204, {}),
    "/busy": (503, {"Retry-After": "0"}),
    "/to-ok": (302, {"Location": "/ok"}),
    "/to-busy": (302, {"Location": "/busy"}),
    "/to-file": (302, {"Location": "file:///etc/hostname"}),
    "/secret-loop": (302, {"Location": "/secret-loop"}),
}


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        status, headers = ANSWERS.get(self.path, (200, {}))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None: ...


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("follow", [True, False])
def test_retry_after_is_not_followed(server: _Server, follow: bool) -> None:
    with pytest.raises(UnexpectedStatus, match="503") as caught:
        send_request("GET", f"http://{server.address}/busy", seconds=5, follow_redirects=follow)
    assert caught.value.status == 503
    assert server.paths == ["/busy"]


def test_redirects_are_followed_only_on_request(server: _Server) -> None:
    url = f"http://{server.address}/to-ok"
    with pytest.raises(UnexpectedStatus, match="302"):
        send_request("GET", url, seconds=5)
    assert server.paths == ["/to-ok"]
    send_request("GET", url, seconds=5, follow_redirects=True)
    assert server.paths == ["/to-ok", "/to-ok", "/ok"]


def test_status_after_a_redirect_counts(server: _Server) -> None:
    with pytest.raises(UnexpectedStatus, match="503"):
        send_request("GET", f"http://{server.address}/to-busy", seconds=5, follow_redirects=True)
    assert server.paths == ["/to-busy", "/busy"]


def test_redirect_to_a_file_is_an_error(server: _Server) -> None:
    with pytest.raises(HTTPError):
        send_request("GET", f"http://{server.address}/to-file", seconds=5, follow_redirects=True)


def test_endless_redirects_are_an_error_that_hides_the_url(server: _Server) -> None:
    url = f"http://{server.address}/secret-loop"
    with pytest.raises(HTTPError) as caught:
        send_request("GET", url, seconds=5, follow_redirects=True)
    assert len(server.paths) == 11
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("follow", [True, False])
def test_refused_connection_is_not_retried_and_hides_the_url(follow: bool, free_port: int) -> None:
    url = f"http://127.0.0.1:{free_port}/secret"
    with pytest.raises(HTTPError) as caught:
        send_request("GET", url, seconds=5, follow_redirects=follow)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["file:///etc/hostname", "ftp://127.0.0.1/", "nonsense", "http://[secret", "http://"]
)
def test_other_urls_are_rejected(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        send_request("GET", url, seconds=5)
    assert "secret" not in str(caught.value)


def test_credentials_of_the_url_are_sent(server: _Server) -> None:
    send_request("GET", f"http://ann:a%40b@{server.address}/ok", seconds=5)
    assert server.headers[0]["authorization"] == "Basic YW5uOmFAYg=="


def test_proxy_of_the_environment_is_used(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://ann:secret@{server.address}")
    send_request("GET", "http://receiver.invalid/hook", seconds=5)
    assert server.paths == ["http://receiver.invalid/hook"]
    assert server.headers[0]["proxy-authorization"] == "Basic YW5uOnNlY3JldA=="


def test_proxy_is_bypassed_for_no_proxy(
    server: _Server, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{free_port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    send_request("GET", f"http://{server.address}/ok", seconds=5)
    assert server.paths == ["/ok"]
