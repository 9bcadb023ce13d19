"""The rule files: what promtool and amtool report, and what they do not check."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from chroniker_monitors.collector.metrics import LEVELS
from tests.alerts.rules import (
    ALERTS,
    RULES,
    RUNBOOKS,
    TESTS,
    alerts,
    load,
    metric_names,
    records,
    rules,
)
from tests.support.machine import run_promtool

DASHBOARDS = {"chroniker-fleet", "chroniker-job", "chroniker-monitors", "chroniker-hosts"}
SIDES = ("source", "target")
OWN_SEVERITY = {
    "{{ $labels.severity }}",
    '{{ if eq $labels.severity "info" }}warning{{ else }}critical{{ end }}',
}
"""That of the job, and one step above it."""
each_alert = pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])


def check_with_promtool(*arguments: str, folder: Path = ALERTS) -> None:
    done = run_promtool(*arguments, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.prometheus
def test_promtool_accepts_the_rules() -> None:
    check_with_promtool("check", "rules", str(RULES))


@pytest.mark.slow
@pytest.mark.prometheus
@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_promtool_tests(file: Path) -> None:
    check_with_promtool("test", "rules", file.name, folder=file.parent)


def test_groups_are_evaluated_in_their_order() -> None:
    """Without an order promtool chooses one, and a later group may lag a minute behind."""
    groups = [group["name"] for group in load(RULES)["groups"]]
    for file in TESTS:
        assert load(file)["group_eval_order"] == groups, file.name


@pytest.mark.prometheus
def test_example_of_prometheus_loads_the_rules(tmp_path: Path) -> None:
    config = yaml.safe_load((ALERTS / "prometheus.example.yml").read_text())
    [named] = config["rule_files"]
    assert named.endswith(f"/{RULES.name}")
    config["rule_files"] = [str(RULES)]
    [scrape] = config["scrape_configs"]
    scrape["authorization"]["credentials_file"] = str(tmp_path / "token")
    (tmp_path / "token").write_text("a token")
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    check_with_promtool("check", "config", str(tmp_path / "prometheus.yml"))


def test_example_of_alertmanager_names_alerts_that_exist() -> None:
    known = {alert["alert"] for alert in alerts()}
    config = load(ALERTS / "alertmanager.example.yml")
    sides = [rule[f"{side}_matchers"] for rule in config["inhibit_rules"] for side in SIDES]
    for [matcher] in sides:
        [pattern] = re.findall(r'^alertname=~?"(.+)"$', matcher)
        matched = {name for name in known if re.fullmatch(pattern, name)}
        wanted = 2 if "|" in pattern else 1
        assert len(matched) >= wanted, f"{matcher} matches only {matched}"


@each_alert
def test_alert_has_summary_description_and_links(alert: dict[str, Any]) -> None:
    name, annotations = alert["alert"], alert["annotations"]
    assert name.startswith("Chroniker")
    assert set(alert["labels"]) == {"severity"}
    assert alert["labels"]["severity"] in {"critical", "warning", "info", "none", *OWN_SEVERITY}
    assert set(annotations) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert annotations["runbook_url"] == f"https://docs.example/runbooks.md#{name.lower()}"
    assert annotations["description"].endswith((".", "?"))
    assert not annotations["summary"].endswith(".")
    link = urlsplit(annotations["dashboard_url"])
    assert (link.scheme, link.netloc) == ("https", "grafana.example")
    assert link.path.removeprefix("/d/") in DASHBOARDS
    # For any job name.
    for value in re.findall(r"=(\{\{.*?\}\})", annotations["dashboard_url"]):
        assert value.endswith("| urlquery }}")


@each_alert
def test_each_alert_has_tests_for_firing_and_not_firing(alert: dict[str, Any]) -> None:
    shown = False
    for file in TESTS:
        for case in load(file)["tests"]:
            moments = [
                (_seconds(test["eval_time"]), bool(test["exp_alerts"]))
                for test in case.get("alert_rule_test", [])
                if test["alertname"] == alert["alert"]
            ]
            fired = [at for at, fires in moments if fires]
            silent = [at for at, fires in moments if not fires]
            shown |= bool(fired and silent) and min(silent) < min(fired) < max(silent)
    assert shown


def _seconds(text: str) -> int:
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", text))


@each_alert
def test_runbook_has_a_section_for_each_alert(alert: dict[str, Any]) -> None:
    sections = _sections()
    assert alert["alert"] in sections
    for part in ("**Means.**", "**Look at.**", "**Do.**"):
        assert part in sections[alert["alert"]]
    assert f"| {alert['alert']}" in RUNBOOKS.read_text() or f", {alert['alert']} |" in (
        RUNBOOKS.read_text()
    ), "it is not in the table"


def test_runbook_has_no_other_sections() -> None:
    titles = {title for title in _sections() if title.startswith("Chroniker")}
    assert titles == {alert["alert"] for alert in alerts()}


def _sections() -> dict[str, str]:
    parts = re.split(r"(?m)^## (.+)$", RUNBOOKS.read_text())
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_metric_names_are_documented_or_recorded() -> None:
    contract = {
        series.name
        for families in LEVELS.values()
        for family in families
        for series in family.series((1.0,))
    }
    recorded = [rule["record"] for rule in records()]
    assert len(set(recorded)) == len(recorded)
    for rule in rules():
        assert metric_names(rule["expr"]) <= contract | set(recorded), rule


@each_alert
def test_alerts_about_jobs_have_the_team_and_severity_of_the_job(alert: dict[str, Any]) -> None:
    about_a_job = "$labels.job_name" in alert["annotations"]["summary"]
    routed = re.search(
        r"\* on \(job, job_name\) group_left \((.+)\) job_name:chroniker_job_routing:max\n?$",
        alert["expr"],
    )
    assert bool(routed) == about_a_job
    if routed:
        own = alert["labels"]["severity"] in OWN_SEVERITY
        assert routed[1] == ("team, severity" if own else "team")


def test_nothing_is_derived_from_alerts() -> None:
    """They get a new start time with each restart of Prometheus."""
    for rule in rules():
        assert "ALERTS" not in rule["expr"]


def test_recording_rules_survive_a_scrape_gap() -> None:
    recorded = {record["record"]: record["expr"] for record in records()}
    for alert in alerts():
        for name in metric_names(alert["expr"]) & set(recorded):
            if name.startswith("job:"):
                continue  # the site itself, which is what a gap is about
            held = rf"or (on \([\w, ]+\) )?{name} and on \(job\) job:chroniker_scrape_gap:max\n$"
            assert re.search(held, recorded[name]), name


@each_alert
def test_disabled_and_muted_jobs_do_not_alert(alert: dict[str, Any]) -> None:
    """Checked by its expression; promtool's tests check the result."""
    recorded = {record["record"]: record["expr"] for record in records()}

    def made_from(names: set[str]) -> set[str]:
        more = names.union(*(metric_names(recorded[name]) for name in names if name in recorded))
        return more if more == names else made_from(more)

    sources = made_from(metric_names(alert["expr"]))
    about_a_job = "$labels.job_name" in alert["annotations"]["summary"]
    assert about_a_job == ("job_name" in alert["annotations"]["dashboard_url"])
    if about_a_job:
        assert "job_name:chroniker_job_silenced:max" in sources
        assert {"chroniker_job_enabled", "chroniker_job_muted"} <= sources


def test_only_rules_about_the_scrape_name_its_job() -> None:
    """A site can then replace it as text."""
    text = RULES.read_text()
    naming = [alert["alert"] for alert in alerts() if 'job="chroniker"' in alert["expr"]]
    assert naming == ["ChronikerMetricsDown", "ChronikerMetricsAbsent"]
    assert "job=~" not in text
    assert set(re.findall(r"https?://[\w.-]+", text)) == {
        "https://docs.example",
        "https://grafana.example",
    }


def test_recorded_names_include_their_labels() -> None:
    """level:metric:operation; ``job`` goes without saying, as one scrape job is one site."""
    for record in records():
        level, metric, operation = record["record"].split(":")
        assert metric.startswith("chroniker_")
        assert operation in {"max", "min", "p95_1d", "mean_1w", "sum_5m", "count_5m"}
        assert level in {
            "job", "job_name", "job_name_host", "job_name_host_reason", "job_name_host_burn", "host"
        }  # fmt: skip
    assert "job_name:chroniker_job_duration_seconds:p95_1d" in {r["record"] for r in records()}
