"""The ``serve_metrics`` command."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.factories import make_job, make_job_state
from tests.support.metrics_page import MetricsPage
from tests.support.metrics_servers import fetch
from tests.support.processes import wait_until
from tests.support.types import StartManage

# --- write_metrics --------------------------------------------------------------------------


# --- serve_metrics --------------------------------------------------------------------------


@pytest.fixture
def serve(start_manage: StartManage, tmp_path: Path) -> Callable[..., tuple[Any, int]]:
    def start(*options: str) -> tuple[subprocess.Popen[bytes], int]:
        process = start_manage("serve_metrics", "--port", "0", *options)
        log = tmp_path / "serve_metrics.log"
        found = wait_until(
            lambda: re.search(r":(\d+)/metrics", log.read_text()), timeout=30, message="its URL"
        )
        return process, int(found[1])

    return start


def test_server_needs_no_web_site(serve: Any) -> None:
    make_job_state(make_job(name="a"), runs_total=3)
    process, port = serve()
    response = fetch(f"127.0.0.1:{port}")
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert MetricsPage(response.text)("chroniker_job_runs_total", job_name="a") == 3
    assert "process_start_time_seconds" in response.text
    openmetrics = fetch(f"127.0.0.1:{port}", Accept="application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")
    head = fetch(f"127.0.0.1:{port}", "HEAD")
    assert (head.status, head.text) == (200, "")
    assert int(head.headers["Content-Length"]) > 1000
    post = fetch(f"127.0.0.1:{port}", "POST")
    assert (post.status, post.headers["Allow"]) == (405, "GET, HEAD")
    assert fetch(f"127.0.0.1:{port}", path="/").status == 404
    # A silent client blocks neither other clients nor the shutdown.
    with socket.create_connection(("127.0.0.1", port)):
        assert fetch(f"127.0.0.1:{port}").status == 200
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert (
            time.monotonic() - began < 8
        )  # generous for a busy machine; if it blocked, it would take ten or more


def test_server_requires_the_token(serve: Any, monkeypatch: Any, tmp_path: Path) -> None:
    (tmp_path / "site_with_token.py").write_text(
        "from tests.settings import *\nCHRONIKER_METRICS_TOKEN = 'a-token-of-some-length'\n"
    )
    process, port = serve("--settings", "site_with_token", "--pythonpath", str(tmp_path))
    assert fetch(f"127.0.0.1:{port}").status == 403
    assert fetch(f"127.0.0.1:{port}", Authorization="Bearer a-token-of-some-length").status == 200
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0


def test_health_needs_no_token_and_has_no_secrets(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "site_with_token.py").write_text(
        "from tests.settings import *\nCHRONIKER_METRICS_TOKEN = 'a-token-of-some-length'\n"
    )
    _, port = serve("--settings", "site_with_token", "--pythonpath", str(tmp_path))
    health = fetch(f"127.0.0.1:{port}", path="/health")
    assert (health.status, json.loads(health.text)) == (200, {"status": "ok"})
    assert health.headers["Content-Type"] == "application/json"
    ready = fetch(f"127.0.0.1:{port}", path="/ready")
    assert (ready.status, json.loads(ready.text)) == (
        503,
        {
            "status": "degraded",
            "checks": {
                "database": {"ok": True},
                "migrations": {"ok": True},
                "hosts": {"ok": False, "detail": "No host has ticked for five minutes."},
                "jobs": {"ok": True},
            },
        },
    )
    assert fetch(f"127.0.0.1:{port}", "POST", path="/health").status == 405


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for this machine."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return cert, key


def test_server_speaks_tls(serve: Any, certificate: tuple[Path, Path]) -> None:
    make_job_state(make_job(name="a"), runs_total=3)
    cert, key = certificate
    process, port = serve("--certfile", str(cert), "--keyfile", str(key))
    # A client without a TLS handshake blocks no other client.
    with socket.create_connection(("127.0.0.1", port)):
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=10, context=ssl.create_default_context(cafile=cert)
        )
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        assert response.status == 200
        assert MetricsPage(response.read().decode())("chroniker_job_runs_total", job_name="a") == 3
        with pytest.raises((OSError, http.client.HTTPException)):
            fetch(f"127.0.0.1:{port}")  # without TLS
        connection.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--certfile", "/missing.pem"), "Cannot use /missing.pem"),
        (("--certfile", __file__), "Cannot use"),
        (("--keyfile", "key.pem"), "requires --certfile"),
    ],
)
def test_invalid_certificate_is_an_error(options: tuple[str, ...], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("serve_metrics", "--port", "0", *options)


def test_port_in_use_is_an_error() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(CommandError, match="Cannot listen"),
    ):
        call_command("serve_metrics", "--port", str(taken.getsockname()[1]))


def test_invalid_port_is_an_error() -> None:
    with pytest.raises(CommandError, match="Cannot listen"):
        call_command("serve_metrics", "--port", "99999999")
