"""Grafana's alerts and the rules of Prometheus: the same, from one source."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.alerts.rules import alerts, records, rules
from tests.dashboards.grafana_rules import FILE, RULES

SITE = "\nor -1 * (max by (job) (chroniker_collector_up) == 1)"
ABOUT_SITE = {"ChronikerMetricsDown", "ChronikerMetricsAbsent", "ChronikerWatchdog"}
each_alert = pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])


def expression(name: str) -> str:
    """What Grafana asks Prometheus for this alert, without the series that stands for the site."""
    expr: str = RULES[name]["data"][0]["model"]["expr"]
    assert expr.endswith(SITE) == (name not in ABOUT_SITE)
    return expr.removesuffix(SITE)


def prometheus_templates(texts: dict[str, str]) -> dict[str, str]:
    return {
        name: text.replace(".Values.A.Value", "$value").replace(".Labels", "$labels")
        for name, text in texts.items()
    }


def test_both_have_the_same_alerts() -> None:
    assert list(RULES) == [alert["alert"] for alert in alerts()]
    assert len({rule["uid"] for rule in RULES.values()}) == len(RULES)
    assert all(re.fullmatch(r"[a-z]{1,40}", rule["uid"]) for rule in RULES.values())


@each_alert
def test_labels_and_times_are_equal(alert: dict[str, Any]) -> None:
    rule = RULES[alert["alert"]]
    assert prometheus_templates(rule["labels"]) == alert["labels"]
    assert rule["for"] == alert.get("for", "0s")
    assert rule.get("keepFiringFor") == alert.get("keep_firing_for")


@each_alert
def test_annotations_are_equal_without_queries(alert: dict[str, Any]) -> None:
    ours = prometheus_templates(RULES[alert["alert"]]["annotations"])
    for name, text in alert["annotations"].items():
        if "| query" in text:  # Grafana has no such function
            assert "query }}" not in ours[name]
            assert text.startswith(ours[name].removesuffix("."))
        else:
            assert ours[name] == text
    # Grafana takes $ for a variable of the environment.
    assert "$" not in str(RULES[alert["alert"]]["annotations"])


@each_alert
def test_expression_is_the_rule_with_its_recorded_names_written_out(alert: dict[str, Any]) -> None:
    """Written the other way round: each written-out expression becomes its name again."""
    text = squeeze(expression(alert["alert"]))
    assert ":max" not in text and ":mean" not in text
    for _ in range(8):  # the depth of the names
        for record in records():
            memory = rf"(or (on \([\w, ]+\) )?{record['record']} and on \(job\) \S+gap:max\b)"
            own = rf"and last_over_time\({record['record']}\[\w+\]\)"
            inner = re.sub(own, "", re.sub(memory, "", record["expr"]))
            text = text.replace(f"({squeeze(inner)})", record["record"])
        text = re.sub(r"(:\w+)\[(\w+):\w+\]", r"\1[\2]", text)
        text = re.sub(r"last_over_time\(([\w:]+:\w+)\[10m\]offset(\w+)\)", r"\1offset\2", text)
    assert text == squeeze(alert["expr"])


def squeeze(expr: str) -> str:
    """The expression without blanks."""
    return re.sub(r"\s+", "", expr)


@each_alert
def test_a_gap_in_the_scrapes_keeps_the_state_and_nothing_else_does(alert: dict[str, Any]) -> None:
    rule = RULES[alert["alert"]]
    about_site = alert["alert"] in ABOUT_SITE
    assert rule["noDataState"] == ("OK" if about_site else "KeepLast")
    [query, threshold] = rule["data"]
    assert threshold["model"]["conditions"] == [{"evaluator": {"type": "gt", "params": [-1]}}]
    assert (threshold["model"]["expression"], rule["condition"]) == (query["refId"], "B")
    assert query["model"]["instant"] is True


def test_groups_are_those_of_the_rules() -> None:
    assert [group["name"] for group in FILE["groups"]] == ["chroniker", "chroniker-durations"]
    assert len(RULES) + len(records()) == len(rules())
