"""The http probe: measurements, expectations and hostile servers."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import pytest

from chroniker_monitors.probes import preload, tls_connections
from chroniker_monitors.probes.http import MAX_BODY
from tests.support.machine import free_port
from tests.support.measurement import (
    build_errors,
    measure_error,
    measure_value,
    measured_number,
)
from tests.support.probe_servers import (
    CertificateAuthority,
    WebServer,
    close_immediately,
    has_ipv6,
    send_endless_body,
    send_nothing,
    send_slow_body,
    send_slow_headers,
    serve_http,
    serve_socket,
)


def test_page_has_a_latency(web_server: WebServer) -> None:
    found = measure_value("http", url=web_server.answer("/"))
    assert 0 < (found.value or 0) < 20
    assert found.unit == "seconds"
    assert found.message.startswith("200 in ")


@pytest.mark.parametrize("status", [200, 404, 503])
def test_any_status_is_a_value(web_server: WebServer, status: int) -> None:
    assert measured_number("http", url=web_server.answer("/", status), measure="status") == status


def test_unexpected_status_gives_no_latency(web_server: WebServer) -> None:
    url = web_server.answer("/", 503)
    assert measure_error("http", url=url) == "The status was 503, expected 200-299."
    assert measured_number("http", url=url, expected_status="200, 500-599") > 0
    assert measured_number("http", url=url, measure="as_expected") == 0


def test_expected_text_is_required(web_server: WebServer) -> None:
    url = web_server.answer("/", body="Grüße".encode())
    assert measured_number("http", url=url, expected_text="Grüße", measure="as_expected") == 1
    assert measured_number("http", url=url, expected_text="bye", measure="as_expected") == 0
    assert "does not contain 'bye'" in measure_error("http", url=url, expected_text="bye")


@pytest.mark.parametrize(
    ("body", "path", "value"),
    [
        (b'{"a": 5}', "a", 5), (b'{"a": {"b": [1, 2.5]}}', "a.b.1", 2.5), (b"[[7]]", "0.0", 7),
        (b'{"0": 3}', "0", 3), (b'{"a": -1e3}', "a", -1000),
    ],
)  # fmt: skip
def test_number_is_read_from_json(
    web_server: WebServer, body: bytes, path: str, value: float
) -> None:
    assert (
        measured_number(
            "http", url=web_server.answer("/", body=body), measure="json", json_path=path
        )
        == value
    )


@pytest.mark.parametrize(
    ("body", "path", "said"),
    [
        (b"<html>", "a", "not JSON"), (b"", "a", "not JSON"), (b'{"a": 5}', "b", "no 'b'"),
        (b'{"a": {}}', "a.b", "no 'b' in a"), (b"[1]", "1", "no '1'"), (b"[1]", "-1", "no '-1'"),
        (b'{"a": "5"}', "a", "not a number"), (b'{"a": true}', "a", "not a number"),
        (b'{"a": null}', "a", "not a number"), (b'{"a": NaN}', "a", "not a finite number"),
        (b'{"a": 1e999}', "a", "not a finite number"), (b"[" * 100_000, "a", "not JSON"),
    ],
)  # fmt: skip
def test_json_without_that_number_is_unknown(
    web_server: WebServer, body: bytes, path: str, said: str
) -> None:
    url = web_server.answer("/", body=body)
    assert said in measure_error("http", url=url, measure="json", json_path=path)


def test_headers_are_sent_and_never_shown(web_server: WebServer) -> None:
    headers = "Authorization: Bearer staple-99\nAccept: text/html"
    url = web_server.answer("/", 401)
    said = measure_error("http", url=url, headers=headers, expected_text="Bearer staple-99")
    assert web_server.requests[0][2]["Authorization"] == "Bearer staple-99"
    assert web_server.requests[0][2]["Accept"] == "text/html"
    assert "staple-99" not in said


def test_head_request_reads_no_body(web_server: WebServer) -> None:
    assert (
        measured_number("http", url=web_server.answer("/"), method="HEAD", measure="status") == 200
    )
    assert web_server.requests[0][0] == "HEAD"


def test_path_and_query_are_sent_unchanged(web_server: WebServer) -> None:
    measured_number("http", url=web_server.answer("/a%20b/%C3%BC?x=1&y=%26"), measure="status")
    assert web_server.requests[0][1] == "/a%20b/%C3%BC?x=1&y=%26"


# --- redirects ------------------------------------------------------------------------------


def test_redirects_are_followed_and_counted(web_server: WebServer) -> None:
    web_server.answer("/end", body=b"there")
    web_server.answer("/2", 307, Location="end")
    url = web_server.answer("/1", 302, Location="/2")
    assert measured_number("http", url=url, expected_text="there", measure="as_expected") == 1
    assert "more than 1 redirects" in measure_error("http", url=url, max_redirects=1)
    assert measured_number("http", url=url, max_redirects=0, measure="status") == 302


def test_redirect_loop_ends(web_server: WebServer) -> None:
    url = web_server.answer("/", 301, Location="/")
    assert "more than 5 redirects" in measure_error("http", url=url)
    assert len(web_server.requests) == 6


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("http://10.0.0.1/", "10.0.0.1"),
        ("http://169.254.169.254/latest/meta-data/", "169.254.169.254"),
        ("//192.168.0.1/", "192.168.0.1"),
        ("http://[::ffff:127.0.0.1]/", "private or reserved"),
        ("http://2130706433/", "four decimal numbers"),
        ("file:///etc/passwd", "Use http:// or https://"),
        ("ftp://example.com/", "Use http:// or https://"),
        ("gopher://127.0.0.1:6379/_FLUSHALL", "Use http:// or https://"),
        ("http://user:password@127.0.0.1/", "Authorization header"),
        ("http://:80/", "has no host"),
    ],
)
def test_redirect_to_a_forbidden_address_is_refused(
    web_server: WebServer, location: str, said: str
) -> None:
    assert said in measure_error("http", url=web_server.answer("/", 302, Location=location))


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_proxy_of_the_environment_is_ignored(
    web_server: WebServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A proxy would connect to any address, even to forbidden ones."""
    monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert measured_number("http", url=web_server.answer("/"), measure="status") == 200


def test_headers_go_to_no_other_host(web_server: WebServer) -> None:
    with serve_http() as other:
        other.answer("/")
        url = web_server.answer("/", 302, Location=f"http://127.0.0.1:{other.port}/")
        measured_number(
            "http", url=url, headers="Authorization: Bearer staple-99", measure="status"
        )
        assert "Authorization" in web_server.requests[0][2]
        assert "Authorization" not in other.requests[0][2]


# --- requests that are rejected -------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://example.com/", "gopher://example.com/", "example.com",
        "//example.com/", "http://", "http:///path", "http://a b/", "http://example.com:0/",
        "http://example.com:99999/", "http://example.com:x/", "http://[::1/", "javascript:alert(1)",
        "http://user@example.com/", "http://example.com\\@127.0.0.1/", "http://example.com/\u202e",
        "http://exa mple.com", "unix:///run/docker.sock",
    ],
)  # fmt: skip
def test_malformed_url_is_rejected(url: str) -> None:
    assert "url" in build_errors("http", url=url)


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"expected_status": "2xx"}, "expected_status"),
        ({"expected_status": ""}, "expected_status"),
        ({"expected_status": "999"}, "expected_status"), ({"headers": "no colon"}, "headers"),
        ({"headers": "Host: other"}, "headers"), ({"headers": "X: ü"}, "headers"),
        ({"headers": "Content-Length: 5"}, "headers"), ({"headers": "X Y: z"}, "headers"),
        ({"measure": "json"}, "json_path"), ({"method": "POST"}, "method"),
        ({"method": "HEAD", "expected_text": "a"}, "method"),
        ({"max_redirects": 11}, "max_redirects"),
    ],
)  # fmt: skip
def test_conflicting_parameters_are_rejected(params: dict[str, Any], name: str) -> None:
    assert list(build_errors("http", url="http://example.com/", **params)) == [name]


# --- failing and hostile servers ------------------------------------------------------------


def test_refused_connection_is_unknown(loopback: None) -> None:
    port = free_port()
    assert "Nothing listens there" in measure_error("http", url=f"http://localhost:{port}/")


@pytest.mark.parametrize("talk", [send_nothing, send_slow_body, send_slow_headers])
def test_whole_request_has_one_time_limit(loopback: None, talk: Callable[..., None]) -> None:
    with serve_socket(talk) as port:
        began = time.monotonic()
        said = measure_error("http", timeout=0.6, url=f"http://localhost:{port}/")
        assert time.monotonic() - began < 20
    assert said.startswith("No result within 0.6 s.")


def test_huge_body_is_not_read(loopback: None) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with serve_socket(send_endless_body) as port:
        said = measure_error("http", url=f"http://localhost:{port}/")
    assert f"larger than {MAX_BODY} bytes" in said
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


def test_server_that_does_not_speak_http_is_unknown(loopback: None) -> None:
    with serve_socket(close_immediately) as port:
        assert "invalid HTTP response" in measure_error("http", url=f"http://localhost:{port}/")


def test_server_that_hangs_up_is_unknown(loopback: None) -> None:
    with serve_socket(lambda connection, over: None) as port:
        assert measure_error("http", url=f"http://localhost:{port}/")


# --- tls ------------------------------------------------------------------------------------


def test_trusted_certificate_is_accepted(authority: CertificateAuthority) -> None:
    with serve_http(authority.issue(30)) as web_server:
        assert measured_number("http", url=web_server.answer("/"), measure="status") == 200


@pytest.mark.parametrize(("days", "hosts"), [(-1, "localhost"), (30, "other.example.com")])
def test_untrusted_certificate_is_unknown(
    authority: CertificateAuthority, days: float, hosts: str
) -> None:
    with serve_http(authority.issue(days, hosts)) as web_server:
        assert "certificate" in measure_error("http", url=web_server.answer("/"))
    assert web_server.requests == []


def test_unknown_authority_is_unknown(authority: CertificateAuthority, settings: Any) -> None:
    settings.CHRONIKER_MONITORS_CA_FILE = ""
    with serve_http(authority.issue(30)) as web_server:
        assert "certificate" in measure_error("http", url=web_server.answer("/"))
    assert web_server.requests == []


def test_slow_tls_response_ends_in_time(authority: CertificateAuthority) -> None:
    context = authority.issue(30)

    def talk(connection: Any, over: Any) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            send_slow_body(secured, over)

    with serve_socket(talk) as port:
        said = measure_error("http", timeout=1, url=f"https://localhost:{port}/")
    assert said.startswith("No result within 1 s.")


def test_ipv6_url_is_fetched(loopback: None) -> None:
    if not has_ipv6():
        pytest.skip("no IPv6 on loopback")
    with serve_http(host="::1") as server:
        server.answer("/")
        assert measured_number("http", url=f"http://[::1]:{server.port}/", measure="status") == 200
        assert server.requests[0][2]["Host"] == f"[::1]:{server.port}"


def test_authorities_are_read_once_before_the_fork(authority: CertificateAuthority) -> None:
    preload(["http", "tls"])
    before = tls_connections._authorities.cache_info().hits
    with serve_http(authority.issue(30)) as web_server:
        assert measured_number("http", url=web_server.answer("/"), measure="status") == 200
    assert tls_connections._authorities.cache_info().hits > before
