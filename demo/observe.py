"""The demo under the eyes of a real Prometheus, Alertmanager and, where there is one, Grafana.

They read the files of ``alerts/`` and ``dashboards/`` as a site would, with this machine's own
addresses in them. What Alertmanager would send to people it posts to this program, which prints
it.
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
"""Where they may be though PATH does not lead there."""
GRAFANA_HOME = Path("/usr/share/grafana")
ALERTMANAGER_PACKAGE = "as root: apt-get install prometheus-alertmanager"
GRAFANA_PACKAGE = "Debian has none, its makers do"
SECONDS = 5
"""Between scrapes, and between evaluations. The bounds of the rules are as they are shipped."""
TICK_SECONDS = 2

BANNER = """
  Site          {site}/admin/       (user admin, password {password})
  Prometheus    {prometheus}/alerts
  Alertmanager  {alertmanager}
  Grafana       {grafana}

To see an alert fire, take away what a job reads, from another terminal:

  mv {sales} {sales}.away

In half a minute ChronikerJobFailing is told here; soon after, as it goes on failing, its critical
brother. To see both clear:

  mv {sales}.away {sales}

The feed fails every third time: it is told as failing at first and then, once, as flapping.
Ctrl-C ends all of it. What is written lies in {directory}.
"""


class MonitoringStack:
    """The programs that watch the site. Those that the machine lacks are named loudly."""

    def __init__(self, site: DemoSite, told: str) -> None:
        self.site = site
        self.folder = site.directory / "observe"
        self.told = told
        self.grafana = self._address(3000, find("grafana-server", GRAFANA_HOME / "bin"))
        self.alertmanager = self._address(9093, find("prometheus-alertmanager", "alertmanager"))
        self.prometheus = self._address(9090, find("prometheus"))

    @staticmethod
    def _address(port: int, program: str | None) -> tuple[str, str]:
        """The program, or nothing, and where it is to listen."""
        return program or "", f"127.0.0.1:{available_port(port)}"

    @staticmethod
    def url(program: tuple[str, str]) -> str:
        """Where a person finds it."""
        return f"http://{program[1]}" if program[0] else "MISSING"

    def start(self) -> None:
        """Start what there is; raises DemoError without Prometheus."""
        if not self.prometheus[0]:
            raise DemoError(
                "there is no prometheus on this machine, and nothing to observe without it "
                "(as root: apt-get install prometheus prometheus-alertmanager)."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.alertmanager[0]:
            self._start_alertmanager()
        else:
            warn_missing("Alertmanager", "alerts fire, and nobody is told", ALERTMANAGER_PACKAGE)
        self._start_prometheus()
        if not self.grafana[0]:
            warn_missing("Grafana", "there are no dashboards", GRAFANA_PACKAGE)
        elif not (DASHBOARDS / "provisioning").is_dir():
            print(f"!!! {DASHBOARDS} has nothing for Grafana", file=sys.stderr)
        else:
            self._start_grafana()

    def _start_alertmanager(self) -> None:
        program, address = self.alertmanager
        config = yaml.safe_load((ALERTS / "alertmanager.example.yml").read_text())
        shorten_group_waits(config["route"])
        for receiver in config["receivers"]:
            receiver.pop("email_configs", None)
            receiver["webhook_configs"] = [
                {"url": f"{self.told}/{receiver['name']}", "send_resolved": True}
            ]
        file = self._write("alertmanager.yml", yaml.safe_dump(config, sort_keys=False))
        self.site.start_program(
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
        self.site.start_program(
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
        self.site.start_program(
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
    """The full path of a program, by its name, another one, or in a folder; also daemons'."""
    folders = [str(other) for other in others if isinstance(other, Path)]
    names = [name, *(other for other in others if isinstance(other, str))]
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), DAEMON_PATH, *folders])
    return next(filter(None, (shutil.which(each, path=path) for each in names)), None)


def shorten_group_waits(route: dict[str, Any]) -> None:
    """Let nobody who watches wait for a group to be complete."""
    route |= {"group_wait": "1s", "group_interval": f"{SECONDS}s"}
    for below in route.get("routes", []):
        shorten_group_waits(below)


def provision(folder: Path, prometheus: str) -> None:
    """Grafana's provisioning files as they are shipped, with this machine's places in them."""
    for name in ("dashboards", "datasources"):
        provisioned = yaml.safe_load((DASHBOARDS / "provisioning" / f"{name}.yml").read_text())
        for provider in provisioned.get("providers", []):
            provider["options"]["path"] = str(DASHBOARDS)
        for source in provisioned.get("datasources", []):
            source["url"] = prometheus
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "chroniker.yml").write_text(yaml.safe_dump(provisioned, sort_keys=False))


def warn_missing(what: str, so: str, cure: str) -> None:
    print(f"\n!!! {what} is not on this machine: {so}; {cure}\n", file=sys.stderr, flush=True)


class _AlertPrinter(BaseHTTPRequestHandler):
    """Prints what Alertmanager sends."""

    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        to = self.path.removeprefix("/")
        for alert in told["alerts"]:
            labels, words = alert["labels"], alert["annotations"]
            print(
                f"{alert['status'].upper():8}  {labels['alertname']} ({labels['severity']}, "
                f"to {to}): {words['summary']}\n          {words['description']}",
                flush=True,
            )
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """What there is to say was printed."""


@contextmanager
def _alert_receiver() -> Iterator[str]:
    """Those who are told: a receiver of webhooks, and its address."""
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
    """Another one than the plain demo's: its schedules are quicker."""
    return Path(os.environ.get("DEMO_DIR") or REPO / "var" / "observe").resolve()


def main(port: int) -> int:
    """Build what is missing, start all of it, and stay until Ctrl-C."""
    with _alert_receiver() as told, DemoSite(default_directory(), port) as site:
        monitoring_stack = MonitoringStack(site, told)
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
        site.wait()
    return 0
