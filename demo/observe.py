"""The demo with a real Prometheus, Alertmanager and, if installed, Grafana.

They use the files of ``alerts/`` and ``dashboards/`` with the addresses of this machine.
Alertmanager posts its notifications to this program, which prints them.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from .site import PROJECT, DemoError, DemoSite, available_port

REPO = PROJECT.parent
ALERTS = REPO / "alerts"
DASHBOARDS = REPO / "dashboards"
DAEMON_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
"""Directories of daemons that may not be in PATH."""
GRAFANA_HOME = Path("/usr/share/grafana")
ALERTMANAGER_PACKAGE = "as root: apt-get install prometheus-alertmanager"
GRAFANA_PACKAGE = "Debian has no package; see the documentation of Grafana"
SECONDS = 5
"""Between scrapes, and between evaluations. The rules themselves are not changed."""
TICK_SECONDS = 2

BANNER = """
  Site          {site}/admin/       (user admin, password {password})
  Prometheus    {prometheus}/alerts
  Alertmanager  {alertmanager}
  Grafana       {grafana}

To see an alert fire, move the file that a job reads, in another terminal:

  mv {sales} {sales}.away

Half a minute later ChronikerJobFailing is printed here, and soon after it the critical alert,
because the job keeps failing. To resolve both:

  mv {sales}.away {sales}

The feed fails every third time: it is first reported as failing, and then once as flapping.
Press Ctrl-C to stop. Everything the demo writes is in {directory}.
"""


class MonitoringStack:
    """Prometheus, Alertmanager and Grafana. A warning names those that are not installed."""

    def __init__(self, site: DemoSite, receiver_url: str) -> None:
        self.site = site
        self.folder = site.directory / "observe"
        self.receiver_url = receiver_url
        self.grafana = self._address(3000, find("grafana-server", GRAFANA_HOME / "bin"))
        self.alertmanager = self._address(9093, find("prometheus-alertmanager", "alertmanager"))
        self.prometheus = self._address(9090, find("prometheus"))

    @staticmethod
    def _address(port: int, program: str | None) -> tuple[str, str]:
        """Return the program, "" if it is missing, and the address for it to listen on."""
        return program or "", f"127.0.0.1:{available_port(port)}"

    @staticmethod
    def url(program: tuple[str, str]) -> str:
        """Return its URL."""
        return f"http://{program[1]}" if program[0] else "MISSING"

    def start(self) -> None:
        """Start the installed programs. Raises DemoError without Prometheus."""
        if not self.prometheus[0]:
            raise DemoError(
                "Prometheus is not installed "
                "(as root: apt-get install prometheus prometheus-alertmanager)."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.alertmanager[0]:
            self._start_alertmanager()
        else:
            warn_missing(
                "Alertmanager", "alerts fire, but no notifications are sent", ALERTMANAGER_PACKAGE
            )
        self._start_prometheus()
        if not self.grafana[0]:
            warn_missing("Grafana", "there are no dashboards", GRAFANA_PACKAGE)
        elif not (DASHBOARDS / "provisioning").is_dir():
            print(f"!!! {DASHBOARDS} has no provisioning files for Grafana", file=sys.stderr)
        else:
            self._start_grafana()

    def _start_alertmanager(self) -> None:
        program, address = self.alertmanager
        config = yaml.safe_load((ALERTS / "alertmanager.example.yml").read_text())
        shorten_group_waits(config["route"])
        for receiver in config["receivers"]:
            receiver.pop("email_configs", None)
            receiver["webhook_configs"] = [
                {"url": f"{self.receiver_url}/{receiver['name']}", "send_resolved": True}
            ]
        file = self._write("alertmanager.yml", yaml.safe_dump(config, sort_keys=False))
        self.site.processes.start_program(
            "alertmanager",
            [
                program,
                f"--config.file={file}",
                f"--storage.path={self.folder / 'alertmanager'}",
                f"--web.listen-address={address}",
                f"--web.external-url=http://{address}",
                "--cluster.listen-address=",
            ],
            self.folder / "alertmanager.log",
        )

    def _start_prometheus(self) -> None:
        program, address = self.prometheus
        rules = (ALERTS / "chroniker.rules.yml").read_text()
        rules = rules.replace(
            "https://docs.example/runbooks.md", (REPO / "docs" / "how-to" / "runbooks.md").as_uri()
        ).replace("https://grafana.example", f"http://{self.grafana[1]}")
        config = yaml.safe_load((ALERTS / "prometheus.example.yml").read_text())
        config["global"] = {
            "scrape_interval": f"{SECONDS}s",
            "scrape_timeout": f"{SECONDS}s",
            "evaluation_interval": f"{SECONDS}s",
        }
        config["rule_files"] = [str(self._write("chroniker.rules.yml", rules))]
        config["alerting"]["alertmanagers"] = [
            {"static_configs": [{"targets": [self.alertmanager[1]]}]}
        ] * bool(self.alertmanager[0])
        [scrape] = config["scrape_configs"]
        scrape["scheme"] = "http"
        del scrape["authorization"]
        scrape["static_configs"] = [{"targets": [f"127.0.0.1:{self.site.port}"]}]
        file = self._write("prometheus.yml", yaml.safe_dump(config, sort_keys=False))
        self.site.processes.start_program(
            "prometheus",
            [
                program,
                f"--config.file={file}",
                f"--storage.tsdb.path={self.folder / 'tsdb'}",
                "--storage.tsdb.retention.time=1d",
                f"--web.listen-address={address}",
                f"--web.external-url=http://{address}",
                "--enable-feature=exemplar-storage",
            ],
            self.folder / "prometheus.log",
        )

    def _start_grafana(self) -> None:
        program, address = self.grafana
        provision(self.folder / "provisioning", f"http://{self.prometheus[1]}")
        host, _, port = address.partition(":")
        self.site.processes.start_program(
            "grafana",
            [program, "--homepath", str(GRAFANA_HOME)],
            self.folder / "grafana.log",
            GF_SERVER_HTTP_ADDR=host,
            GF_SERVER_HTTP_PORT=port,
            GF_PATHS_DATA=str(self.folder / "grafana"),
            GF_PATHS_LOGS=str(self.folder / "grafana"),
            GF_PATHS_PLUGINS=str(self.folder / "grafana" / "plugins"),
            GF_PATHS_PROVISIONING=str(self.folder / "provisioning"),
            GF_AUTH_ANONYMOUS_ENABLED="true",
            GF_ANALYTICS_REPORTING_ENABLED="false",
            GF_ANALYTICS_CHECK_FOR_UPDATES="false",
        )

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path


def find(name: str, *others: str | Path) -> str | None:
    """Return the path of a program, by one of its names, in PATH or one of the directories."""
    folders = [str(other) for other in others if isinstance(other, Path)]
    names = [name, *(other for other in others if isinstance(other, str))]
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), DAEMON_PATH, *folders])
    return next(filter(None, (shutil.which(each, path=path) for each in names)), None)


def shorten_group_waits(route: dict[str, Any]) -> None:
    """Send notifications without waiting for more alerts of the group."""
    route |= {"group_wait": "1s", "group_interval": f"{SECONDS}s"}
    for below in route.get("routes", []):
        shorten_group_waits(below)


def provision(folder: Path, prometheus: str) -> None:
    """Write Grafana's provisioning files with the paths and addresses of this machine."""
    for name in ("dashboards", "datasources"):
        provisioned = yaml.safe_load((DASHBOARDS / "provisioning" / f"{name}.yml").read_text())
        for provider in provisioned.get("providers", []):
            provider["options"]["path"] = str(DASHBOARDS)
        for source in provisioned.get("datasources", []):
            source["url"] = prometheus
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "chroniker.yml").write_text(yaml.safe_dump(provisioned, sort_keys=False))


def warn_missing(program: str, consequence: str, hint: str) -> None:
    print(
        f"\n!!! {program} is not installed: {consequence} ({hint})\n", file=sys.stderr, flush=True
    )


class _AlertPrinter(BaseHTTPRequestHandler):
    """Prints the notifications of Alertmanager."""

    def do_POST(self) -> None:
        notification = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        receiver = self.path.removeprefix("/")
        for alert in notification["alerts"]:
            labels, texts = alert["labels"], alert["annotations"]
            print(
                f"{alert['status'].upper():8}  {labels['alertname']} ({labels['severity']}, "
                f"to {receiver}): {texts['summary']}\n          {texts['description']}",
                flush=True,
            )
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print no access log."""


@contextmanager
def _alert_receiver() -> Iterator[str]:
    """Run a receiver of webhooks; yield its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _AlertPrinter) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def default_directory() -> Path:
    """Not the directory of the plain demo, because the schedules differ."""
    return Path(os.environ.get("DEMO_DIR") or REPO / "var" / "observe").resolve()


def main(port: int) -> int:
    """Build what is missing, start all programs, and wait for Ctrl-C."""
    with _alert_receiver() as receiver_url, DemoSite(default_directory(), port) as site:
        monitoring_stack = MonitoringStack(site, receiver_url)
        print("Building the bookshop ...", flush=True)
        site.seed("--quick")
        site.start_web()
        site.start_scheduler(TICK_SECONDS)
        site.start_till(TICK_SECONDS)
        monitoring_stack.start()
        print(
            BANNER.format(
                site=site.url,
                password=site.password,
                prometheus=monitoring_stack.url(monitoring_stack.prometheus),
                alertmanager=monitoring_stack.url(monitoring_stack.alertmanager),
                grafana=monitoring_stack.url(monitoring_stack.grafana),
                sales=site.directory / "sales.csv",
                directory=site.directory,
            ),
            flush=True,
        )
        site.processes.wait()
    return 0
