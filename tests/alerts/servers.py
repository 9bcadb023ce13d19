"""Prometheus and Alertmanager with the shipped files, and receivers of their notifications."""

from __future__ import annotations

import contextlib
import email
import email.policy
import json
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from aiosmtpd.controller import Controller

from tests.alerts.rules import ALERTS, RULES, with_short_durations
from tests.support.machine import find_program, free_port
from tests.support.metrics_servers import TOKEN, PrometheusServer
from tests.support.processes import run_server


@dataclass
class ReceivedAlerts:
    """The notifications that the receivers received."""

    posts: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """By webhook: receiver, ``firing`` or ``resolved``, and the labels of the alert."""
    mails: list[str] = field(default_factory=list)
    """By email: the subjects."""

    def by_webhook(self, alertname: str) -> list[tuple[str, str]]:
        return [(to, how) for to, how, labels in self.posts if labels["alertname"] == alertname]

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """For aiosmtpd."""
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.mails.append(str(message["Subject"]))
        return "250 OK"


class _WebhookHandler(BaseHTTPRequestHandler):
    server: _WebhookServer

    def do_POST(self) -> None:
        received = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.posts += [
            (self.path, alert["status"], alert["labels"]) for alert in received["alerts"]
        ]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


class _WebhookServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, received: ReceivedAlerts) -> None:
        super().__init__(("127.0.0.1", 0), _WebhookHandler)
        self.received = received


@contextlib.contextmanager
def run_receivers() -> Iterator[tuple[ReceivedAlerts, str, str]]:
    """A mail server and a webhook receiver: what they received, and their addresses."""
    received = ReceivedAlerts()
    mail = Controller(received, hostname="127.0.0.1", port=free_port())
    mail.start()
    try:
        with _WebhookServer(received) as receiver:
            thread = threading.Thread(target=receiver.serve_forever)
            thread.start()
            try:
                yield received, f"127.0.0.1:{mail.port}", f"127.0.0.1:{receiver.server_address[1]}"
            finally:
                receiver.shutdown()
                thread.join()
    finally:
        mail.stop()


class Alertmanager:
    """The example configuration of Alertmanager with short intervals and these receivers."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.url = f"http://{address}"

    @classmethod
    @contextlib.contextmanager
    def telling(cls, folder: Path, smtp: str, webhooks: str) -> Iterator[Alertmanager]:
        config = yaml.safe_load((ALERTS / "alertmanager.example.yml").read_text())
        config["global"] |= {"smtp_smarthost": smtp, "smtp_require_tls": False}
        _shorten_group_waits(config["route"])
        for receiver in config["receivers"]:
            for hook in receiver.get("webhook_configs", []):
                hook["url"] = f"http://{webhooks}/{receiver['name']}"
        file = folder / "alertmanager.yml"
        file.write_text(yaml.safe_dump(config))
        address = f"127.0.0.1:{free_port()}"
        command = [
            str(find_program("prometheus-alertmanager")),
            f"--config.file={file}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address={address}",
            "--cluster.listen-address=",
        ]
        with run_server(command, folder / "alertmanager.log"):
            yield cls(address)

    def active_alerts(self) -> list[tuple[dict[str, str], bool]]:
        """The labels of each alert, and whether another alert inhibits it."""
        alerts = f"{self.url}/api/v2/alerts"
        with contextlib.suppress(OSError), urllib.request.urlopen(alerts, timeout=5) as answer:
            return [
                (dict(sorted(alert["labels"].items())), bool(alert["status"]["inhibitedBy"]))
                for alert in json.load(answer)
            ]
        return []

    def post(self, alerts: list[dict[str, str]]) -> bool:
        """Post alerts with these labels; False while Alertmanager does not listen yet."""
        request = urllib.request.Request(
            f"{self.url}/api/v2/alerts",
            json.dumps([{"labels": labels} for labels in alerts]).encode(),
            {"Content-Type": "application/json"},
        )
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5) as answer:
            return bool(answer.status == 200)
        return False


def _shorten_group_waits(route: dict[str, Any]) -> None:
    for wait in ("group_wait", "group_interval"):
        if wait in route:
            route[wait] = "1s"
    for below in route.get("routes", []):
        _shorten_group_waits(below)


@contextlib.contextmanager
def prometheus(folder: Path, site: str, alertmanager: str) -> Iterator[PrometheusServer]:
    """A Prometheus that scrapes the site and alerts by the shipped rules with short durations."""
    (folder / "rules.yml").write_text(with_short_durations(RULES.read_text()))
    config = {
        "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.yml")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [
            {
                "job_name": "chroniker",
                "authorization": {"credentials": TOKEN},
                "static_configs": [{"targets": [site]}],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        str(find_program("prometheus")),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}",
        "--rules.alert.resend-delay=1s",
    ]
    with run_server(command, folder / "prometheus.log"):
        yield PrometheusServer(f"http://{address}")
