"""Real servers for the metrics page: gunicorn, Prometheus, and a proxy between them."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.machine import find_program, free_port
from tests.support.processes import run_server, wait_until
from tests.support.site_settings import CHRONIKER_METRICS_TOKEN as TOKEN


@contextlib.contextmanager
def run_gunicorn(env: dict[str, str], folder: Path, *options: str) -> Iterator[str]:
    """Serve the test site with two workers in multiprocess mode and a token; its address."""
    files = folder / "multiprocess"
    files.mkdir()
    settings = {
        "DJANGO_SETTINGS_MODULE": "tests.support.site_settings",
        "PROMETHEUS_MULTIPROC_DIR": str(files),
    }
    command = [
        *(sys.executable, "-m", "gunicorn", "--workers=2", "--bind=127.0.0.1:0"),
        *("--worker-tmp-dir", str(folder), "--graceful-timeout=5", *options),
        "django.core.wsgi:get_wsgi_application()",
    ]
    log = folder / "gunicorn.log"
    with run_server(command, log, env=env | settings):
        found = wait_until(
            lambda: re.search(r"Listening at: http://(\S+)", log.read_text()), timeout=30
        )
        yield found[1]


@dataclass(frozen=True, slots=True)
class Response:
    """What a server of metrics answered."""

    status: int
    headers: Message
    text: str


def fetch(address: str, method: str = "GET", path: str = "/metrics", **headers: str) -> Response:
    """One request to ``host:port``."""
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return Response(answer.status, answer.headers, answer.read().decode())
    finally:
        connection.close()


class PrometheusServer:
    """A Prometheus that scrapes each second; ``jobs`` are targets by the name of their job."""

    def __init__(self, url: str) -> None:
        self.url = url

    @classmethod
    @contextlib.contextmanager
    def scraping(cls, folder: Path, **jobs: str) -> Iterator[PrometheusServer]:
        configs = [
            {
                "job_name": name,
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "authorization": {"credentials": TOKEN},
                "static_configs": [{"targets": [target]}],
            }
            for name, target in jobs.items()
        ]
        config = folder / "prometheus.yml"
        config.write_text(json.dumps({"scrape_configs": configs}))
        address = f"127.0.0.1:{free_port()}"
        command = [
            str(find_program("prometheus")),
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={address}",
            "--enable-feature=exemplar-storage",
        ]
        with run_server(command, folder / "prometheus.log"):
            yield cls(f"http://{address}")

    def query(self, expression: str) -> list[Any]:
        """The current result; empty while it does not listen yet."""
        found = self._ask("query", query=expression)
        return found["result"] if found else []

    def exemplars(self, expression: str) -> list[Any]:
        return self._ask("query_exemplars", query=expression, start=0, end=2**33) or []

    def _ask(self, what: str, **parameters: Any) -> Any:
        asked = urllib.parse.urlencode(parameters)
        with contextlib.suppress(OSError):
            address = f"{self.url}/api/v1/{what}?{asked}"
            with urllib.request.urlopen(address, timeout=5) as answer:
                return json.load(answer)["data"]
        return None


class _TextFormatHandler(BaseHTTPRequestHandler):
    """Forwards a scrape that accepts only the text format."""

    server: TextFormatProxy

    def do_GET(self) -> None:
        headers = {"Authorization": self.headers["Authorization"], "Accept": "text/plain"}
        request = urllib.request.Request(
            f"http://{self.server.upstream}{self.path}", headers=headers
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = answer.read()
            self.server.content_types.add(answer.headers["Content-Type"])
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


class TextFormatProxy(ThreadingHTTPServer):
    """A proxy for a Prometheus that always also accepts OpenMetrics."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _TextFormatHandler)
        self.upstream = upstream
        self.content_types: set[str] = set()

    @classmethod
    @contextlib.contextmanager
    def before(cls, upstream: str) -> Iterator[TextFormatProxy]:
        with cls(upstream) as proxy:
            thread = threading.Thread(target=proxy.serve_forever)
            thread.start()
            try:
                yield proxy
            finally:
                proxy.shutdown()
                thread.join()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"
