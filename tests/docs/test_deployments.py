"""The files in deploy/ are valid, and start commands that exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from chroniker.conf import Conf
from tests.support.machine import REPO, find_program

from .shell_lines import check_command

DEPLOY = REPO / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
GRACE_SECONDS = 2 * 30
"""Two of the default CHRONIKER_KILL_GRACE_SECONDS."""


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "containers" / "compose.yml").read_text())
    return found


def resources() -> list[dict[str, Any]]:
    return [found for file in MANIFESTS for found in yaml.safe_load_all(file.read_text())]


def pods() -> list[dict[str, Any]]:
    """The pod templates of all workloads."""
    found = []
    for resource in resources():
        spec = resource["spec"]
        if resource["kind"] == "CronJob":
            found.append(spec["jobTemplate"]["spec"]["template"])
        elif resource["kind"] == "Deployment":
            found.append(spec["template"])
    return found


def check_words(words: list[str]) -> None:
    """Check a command of ours, whatever the path of its program."""
    if Path(words[0]).name == "python":
        words = ["python", *words[1:]]
    elif Path(words[0]).name == "chroniker":
        words = ["chroniker", *words[1:]]
    check_command(words)


@pytest.mark.slow
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    analyze = find_program("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    for unit in UNITS:
        # Paths and users of the example do not exist here.
        text = unit.read_text().replace("/srv/site/venv/bin/python", "/bin/true")
        text = text.replace("/srv/site/venv/bin/chroniker", "/bin/true")
        if not shutil.which("systemd-run"):
            text = text.replace("/usr/bin/systemd-run", "/bin/true")
        (tmp_path / unit.name).write_text(text.replace("User=site", "User=root"))
    files = [str(tmp_path / unit.name) for unit in UNITS]
    done = subprocess.run([analyze, "verify", *files], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "chroniker" in line]
    assert ours == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_start_commands_that_exist_and_wait_for_runs(unit: Path) -> None:
    text = unit.read_text()
    for line in re.findall(r"(?m)^ExecStart=(.+)$", text):
        words = shlex.split(line)
        if words[0].endswith("systemd-run"):
            words = words[next(n for n, word in enumerate(words) if word.startswith("/srv")) :]
        check_words(words)
    if "cronserver" in text or "chroniker -p" in text:
        assert int(re.findall(r"TimeoutStopSec=(\d+)", text)[0]) > GRACE_SECONDS
        assert "KillMode=mixed" in text
        assert "EnvironmentFile=-/etc/chroniker.env" in text


def test_compose_file() -> None:
    services = compose()["services"]
    assert set(services) == {"migrate", "scheduler", "metrics", "prometheus"}
    for name in ("migrate", "scheduler", "metrics"):
        check_words(shlex.split(services[name]["command"]))
        variables = set(services[name]["environment"])
        assert {"CHRONIKER_DEADMAN_URL", "CHRONIKER_METRICS_TOKEN"} <= variables
    assert int(services["scheduler"]["stop_grace_period"].rstrip("s")) > GRACE_SECONDS
    compile(services["scheduler"]["healthcheck"]["test"][3], "<healthcheck>", "exec")
    docker = find_program("docker")
    if (
        docker is None
        or subprocess.run([docker, "compose", "version"], capture_output=True).returncode
    ):
        return
    env = {"DATABASE_URL": "x", "CHRONIKER_DEADMAN_URL": "x", "CHRONIKER_METRICS_TOKEN": "x"}
    done = subprocess.run(
        [docker, "compose", "-f", str(DEPLOY / "containers" / "compose.yml"), "config", "-q"],
        env=env | {"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": "/tmp"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.prometheus
def test_prometheus_of_the_compose_file_accepts_its_configuration() -> None:
    file = DEPLOY / "containers" / "prometheus.yml"
    done = subprocess.run(
        [str(find_program("promtool")), "check", "config", "--syntax-only", str(file)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (scrape,) = yaml.safe_load(file.read_text())["scrape_configs"]
    assert scrape["job_name"] == "chroniker"
    assert scrape["static_configs"][0]["targets"] == ["metrics:9877"]


def test_manifests_fit_together() -> None:
    found = {(resource["kind"], resource["metadata"]["name"]) for resource in resources()}
    assert found == {
        ("Deployment", "chroniker-scheduler"), ("CronJob", "chroniker-tick"),
        ("Deployment", "chroniker-metrics"), ("Service", "chroniker-metrics"),
        ("ServiceMonitor", "chroniker"),
    }  # fmt: skip
    by_kind = {resource["kind"]: resource for resource in resources()}
    for resource in resources():
        assert set(resource) == {"apiVersion", "kind", "metadata", "spec"}
        if resource["kind"] == "Deployment":
            labels = resource["spec"]["template"]["metadata"]["labels"]
            assert resource["spec"]["selector"]["matchLabels"] == labels
    service, monitor = by_kind["Service"], by_kind["ServiceMonitor"]
    assert monitor["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"]
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert service["spec"]["selector"] == {"app": "chroniker-metrics"}


def test_containers_start_commands_that_exist_with_probes_and_secrets() -> None:
    for pod in pods():
        (container,) = pod["spec"]["containers"]
        check_words(container["command"])
        assert container["envFrom"] == [{"secretRef": {"name": "site"}}]
        assert pod["spec"]["securityContext"] == {"runAsNonRoot": True}
        ports = {port["name"] for port in container.get("ports", ())}
        for probe in ("livenessProbe", "readinessProbe"):
            if probe in container:
                assert container[probe]["httpGet"]["path"] in ("/health", "/ready")
                assert container[probe]["httpGet"]["port"] in ports
        if "metrics" not in container["name"]:
            assert pod["spec"]["terminationGracePeriodSeconds"] > GRACE_SECONDS


def test_settings_that_the_files_name_exist() -> None:
    known = {f"CHRONIKER_{name}" for name in vars(Conf)} | {"CHRONIKER_METRICS_TOKEN"}
    for file in (path for path in DEPLOY.rglob("*") if path.is_file()):
        assert set(re.findall(r"CHRONIKER_[A-Z_]+[A-Z]", file.read_text())) <= known, file
