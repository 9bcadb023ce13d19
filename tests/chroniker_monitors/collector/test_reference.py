from __future__ import annotations

import json
from pathlib import Path

import pytest

from chroniker_monitors.collector.metrics import LEVELS, MetricFamily
from chroniker_monitors.collector.reference import replace_table
from chroniker_monitors.conf import all_settings
from tests.support.machine import REPO, require, run_promtool

DOCUMENT = REPO / "docs" / "reference" / "metrics.md"
FAMILIES = [family for families in LEVELS.values() for family in families]


def test_reference_matches_the_code() -> None:
    """python -m chroniker_monitors.collector.reference docs/reference/metrics.md"""
    text = DOCUMENT.read_text()
    assert replace_table(text) == text


def test_document_without_markers_is_rejected() -> None:
    with pytest.raises(ValueError, match="has no"):
        replace_table("# Metrics\n")


def test_every_setting_is_documented() -> None:
    text = DOCUMENT.read_text()
    ours = [s.name for s in all_settings() if s.name.startswith("CHRONIKER_METRICS_")]
    assert [name for name in ours if f"`{name}`" not in text] == []


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_family_has_help_and_labels(family: MetricFamily) -> None:
    assert family.help.endswith(".")
    assert family.base in family.example
    assert "|" not in family.help + family.example  # it would end a cell of the table
    assert family.name.endswith("_total") == (family.type == "counter")


def test_names_are_unique() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.prometheus
def test_examples_are_queries(tmp_path: Path) -> None:
    require("prometheus")
    rules = [
        {"record": f"example:{number}", "expr": family.example}
        for number, family in enumerate(FAMILIES)
    ]
    file = tmp_path / "examples.yml"
    file.write_text(json.dumps({"groups": [{"name": "examples", "rules": rules}]}))
    done = run_promtool("check", "rules", file)
    assert done.returncode == 0, done.stderr
