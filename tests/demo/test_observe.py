"""``make observe``: the demo with a real Prometheus and Alertmanager."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.machine import REPO, available, require
from tests.support.metrics_servers import PrometheusServer
from tests.support.processes import wait_until

FIRING = "FIRING    ChronikerJobFailing (warning, to people)"


@pytest.mark.slow
@pytest.mark.prometheus
@pytest.mark.no_leftovers
@pytest.mark.timeout(400)
def test_alert_fires_and_ctrl_c_stops_everything(tmp_path: Path) -> None:
    require("alertmanager")
    shop = tmp_path / "shop"
    env = {name: value for name, value in os.environ.items() if not name.startswith("DJANGO_")}
    log = tmp_path / "observe.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "demo", "observe", "--port=0"],
            cwd=REPO,
            env=env | {"DEMO_DIR": str(shop)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(
            lambda: "Press Ctrl-C to stop" in log.read_text() or process.poll() is not None,
            timeout=120,
            interval=0.2,
        )
        said = log.read_text()
        assert process.poll() is None, said
        assert ("Grafana is not installed" in said) == (not available("grafana-server"))
        [address] = re.findall(r"Prometheus +(http://\S+)/alerts", said)
        prometheus = PrometheusServer(address)
        wait_until(
            lambda: prometheus.query("job:chroniker_collector_up:max == 1"),
            timeout=90,
            interval=0.3,
        )
        (shop / "sales.csv").rename(shop / "sales.csv.away")
        wait_until(
            lambda: f"{FIRING}: Import sales is failing" in log.read_text(),
            timeout=120,
            interval=0.3,
            message="ChronikerJobFailing is printed",
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert log.read_text().endswith("Ended.\n")
    finally:
        process.kill()
        process.wait()


def test_missing_prometheus_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from demo import observe
    from demo.site import DemoError, DemoSite

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(observe, "DAEMON_PATH", str(tmp_path))
    monitoring_stack = observe.MonitoringStack(DemoSite(tmp_path, 0), "http://127.0.0.1:1")
    with pytest.raises(DemoError, match="Prometheus is not installed"):
        monitoring_stack.start()
