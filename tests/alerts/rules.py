"""The shipped alert files, and the rules with short durations."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.machine import REPO

ALERTS = REPO / "alerts"
RULES = ALERTS / "chroniker.rules.yml"
TESTS = sorted((ALERTS / "tests").glob("*.yml"))
RUNBOOKS = REPO / "docs" / "how-to" / "runbooks.md"

SHORT_THRESHOLDS = {
    # Thresholds of the rules, and short ones for tests. A host is silent before its jobs are
    # overdue, as with the real thresholds.
    "> 300": "> 15",
    "> 900": "> 30",
    "> 180": "> 22",
}


@cache
def load(file: Path) -> Any:
    """The content of a YAML file; cached, because parsing is slow."""
    return yaml.safe_load(file.read_text())


@cache
def rules() -> list[dict[str, Any]]:
    """All rules, in the order of the file."""
    return [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def records() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "record" in rule]


def metric_names(expression: str) -> set[str]:
    """The metrics that an expression reads, including recorded ones."""
    without_texts = re.sub(r'"[^"]*"', "", expression)
    return {name for name in re.findall(r"[\w:]+", without_texts) if "chroniker_" in name}


def with_short_durations(text: str) -> str:
    """The rules with ``SHORT_THRESHOLDS``, evaluated every second."""
    for usual, quick in SHORT_THRESHOLDS.items():
        assert re.search(rf"{usual}\b", text), f"no rule has {usual}"
        text = re.sub(rf"{usual}\b", quick, text)
    loaded = yaml.safe_load(text)
    for group in loaded["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            # Not the one about the speed of this machine.
            if "for" in rule and rule["alert"] != "ChronikerCollectorSlow":
                rule["for"] = "15s" if rule["alert"].startswith("ChronikerMetrics") else "1s"
    quickened: str = yaml.safe_dump(loaded)
    return quickened
