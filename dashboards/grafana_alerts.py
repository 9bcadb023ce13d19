"""The Prometheus rules as alerts that Grafana itself evaluates, for sites without a ruler.

``alerts/chroniker.rules.yml`` is the source. Grafana records nothing, so each recorded name in an
expression is replaced by what it records. Two things cannot be expressed that way and are done by
Grafana:

- While scrapes fail, the rules repeat their last values. Here, each expression has a series of the
  site with the value -1, which does not fire. So "no data" only means that scrapes fail, and then
  Grafana keeps the last state.
- A rule that reads its own last value (flapping, after the last failure) goes without.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeAlias, cast

import yaml

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | float | bool | None"
Rule: TypeAlias = "dict[str, JSON]"

ALERTS = Path(__file__).resolve().parent.parent / "alerts"
SOURCE = ALERTS / "chroniker.rules.yml"
TARGET = ALERTS / "grafana" / "chroniker-alerts.yml"
DATASOURCE = "prometheus"
"""The uid of the data source, as in ``provisioning/datasources.yml``."""
INTERVALS = {"chroniker": "1m", "chroniker-durations": "3m"}
WITHOUT_SITE = {"ChronikerMetricsDown", "ChronikerMetricsAbsent", "ChronikerWatchdog"}
"""Alerts about the scrape itself. For them, no data means that there is nothing to tell."""
RESOLUTIONS = {"10m": "1m", "15m": "5m", "1h": "5m", "1d": "10m", "1w": "1h"}
"""The window of a recorded name: the resolution at which its expression is evaluated instead."""

HEADER = """\
# Made by `python -m dashboards.build` from ../chroniker.rules.yml; do not edit.
#
# For sites that cannot load rules into their Prometheus: the same alerts, evaluated by Grafana
# 10.4.1 or newer. Copy the file to /etc/grafana/provisioning/alerting/. Load either this file or
# the rules, not both. Replace `prometheus`, the uid of your data source, and the addresses that end
# in .example, or let `manage.py export_monitoring` do it.
"""
SITE = "-1 * (max by (job) (chroniker_collector_up) == 1)"
_RECORDED = re.compile(r"\b(\w+:\w+:\w+)(?:\[(\w+)\])?(?: offset (\w+))?")


def load_rules() -> list[tuple[str, list[Rule]]]:
    """Return the groups of the source with their rules."""
    loaded = yaml.safe_load(SOURCE.read_text())
    return [(group["name"], group["rules"]) for group in loaded["groups"]]


def render() -> str:
    """Return the provisioning file."""
    groups = load_rules()
    recorded = {
        str(rule["record"]): _without_memory(str(rule["record"]), str(rule["expr"]))
        for _, rules in groups
        for rule in rules
        if "record" in rule
    }
    content = {
        "apiVersion": 1,
        "groups": [
            {
                "orgId": 1,
                "name": name,
                "folder": "Chroniker",
                "interval": INTERVALS[name],
                "rules": [_alert(rule, recorded) for rule in rules if "alert" in rule],
            }
            for name, rules in groups
        ],
    }
    return HEADER + yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=10**6)


def expand(expr: str, recorded: dict[str, str]) -> str:
    """Replace recorded names by what they record."""

    def replace(found: re.Match[str]) -> str:
        name, window, offset = found.groups()
        inner = f"({expand(recorded[name], recorded)})"
        if window:
            inner += f"[{window}:{RESOLUTIONS[window]}]"
            return f"{inner} offset {offset}" if offset else inner
        return f"last_over_time({inner}[10m:5m] offset {offset})" if offset else inner

    return _RECORDED.sub(replace, expr)


def _without_memory(name: str, expr: str) -> str:
    """Drop what repeats the rule's own last value."""
    held = rf"or (?:on \([\w, ]+\) )?{name} and on \(job\) job:chroniker_scrape_gap:max\s*"
    expr = re.sub(held, "", expr)
    return re.sub(rf"\s*and last_over_time\({name}\[\w+\]\)", "", expr).strip()


def _alert(rule: Rule, recorded: dict[str, str]) -> Rule:
    name, expr = str(rule["alert"]), expand(str(rule["expr"]), recorded).strip()
    about_site = name in WITHOUT_SITE
    alert: Rule = {
        "uid": name.lower(),
        "title": name,
        "condition": "B",
        "for": rule.get("for", "0s"),
        "noDataState": "OK" if about_site else "KeepLast",
        "execErrState": "KeepLast",
        "labels": _templates(rule["labels"]),
        "annotations": _templates(rule["annotations"]),
        "data": [
            {
                "refId": "A",
                "relativeTimeRange": {"from": 600, "to": 0},
                "datasourceUid": DATASOURCE,
                "model": {
                    "refId": "A",
                    "expr": expr if about_site else f"{expr}\nor {SITE}",
                    "instant": True,
                    "range": False,
                    "editorMode": "code",
                },
            },
            {
                "refId": "B",
                "relativeTimeRange": {"from": 600, "to": 0},
                "datasourceUid": "__expr__",
                "model": {
                    "refId": "B",
                    "type": "threshold",
                    "expression": "A",
                    "conditions": [{"evaluator": {"type": "gt", "params": [-1]}}],
                },
            },
        ],
    }
    if "keep_firing_for" in rule:  # Grafana 12; older ones ignore it
        alert["keepFiringFor"] = rule["keep_firing_for"]
    return alert


def _templates(texts: JSON) -> JSON:
    """Translate the templates of Prometheus.

    Without ``$``, which Grafana takes for a variable of the environment; it has no ``query``.
    """
    return {
        name: re.sub(r"\{\{ with printf .*\}\}\.$", ".", text)
        .replace("$labels", ".Labels")
        .replace("$value", ".Values.A.Value")
        for name, text in cast("dict[str, str]", texts).items()
    }


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
