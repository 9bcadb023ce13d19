from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command

from chroniker_monitors import export
from chroniker_monitors.export import MANIFEST, ExportOptions, find_placeholder_urls, render_files
from tests.alerts.rules import RULES
from tests.dashboards.boards import FOLDER
from tests.support.machine import REPO, run_promtool

FLEET = "dashboards/chroniker-fleet.json"
PROVIDERS = "dashboards/provisioning/dashboards.yml"


def run_export(folder: Path, *options: str) -> str:
    out = io.StringIO()
    call_command("export_monitoring", str(folder), *options, stdout=out)
    return out.getvalue()


def check(folder: Path, *options: str) -> list[str]:
    """The differences that ``--check`` reports; empty if there are none."""
    out = io.StringIO()
    try:
        call_command("export_monitoring", str(folder), "--check", *options, stdout=out)
    except CommandError as error:
        assert error.returncode == 1
        return out.getvalue().splitlines()
    assert "up to date" in out.getvalue()
    return []


def files(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): path.read_text() for path in found}


def test_all_files_are_written(tmp_path: Path) -> None:
    run_export(tmp_path)
    written = files(tmp_path)
    shipped = {path.relative_to(REPO).as_posix() for path in FOLDER.rglob("*.json")}
    shipped |= {path.relative_to(REPO).as_posix() for path in FOLDER.rglob("*.yml")}
    shipped |= {path.relative_to(REPO).as_posix() for path in (REPO / "alerts").glob("*.yml")}
    shipped.add("alerts/grafana/chroniker-alerts.yml")
    assert set(written) == shipped
    assert written[FLEET] == (REPO / FLEET).read_text()
    assert check(tmp_path) == []
    assert "up to date" in run_export(tmp_path)


def test_rules_for_the_prometheus_operator_are_the_same(tmp_path: Path) -> None:
    run_export(tmp_path, "--kubernetes", "--job", "shop")
    text = files(tmp_path)[export.PROMETHEUS_RULE]
    resource = yaml.safe_load(text)
    assert (resource["kind"], resource["metadata"]["name"]) == ("PrometheusRule", "chroniker")
    assert resource["metadata"]["labels"] == {"release": "prometheus"}
    assert resource["spec"] == yaml.safe_load(files(tmp_path)["alerts/chroniker.rules.yml"])
    assert "# Alerts for all jobs" in text
    assert check(tmp_path) == []  # the option is remembered
    run_export(tmp_path, "--kubernetes", "prometheus=main")
    assert 'prometheus: "main"' in files(tmp_path)[export.PROMETHEUS_RULE].replace(
        '"prometheus"', "prometheus"
    )
    with pytest.raises(CommandError, match="LABEL=VALUE"):
        run_export(tmp_path, "--kubernetes", "a b=c: d")


def test_folder_is_created(tmp_path: Path) -> None:
    run_export(tmp_path / "etc" / "monitoring")
    assert check(tmp_path / "etc" / "monitoring") == []


def test_values_of_the_site_are_filled_in(tmp_path: Path) -> None:
    run_export(
        tmp_path, "--site-url=https://shop.test/", "--job=the shop", "--datasource=P-1",
        "--folder=Jobs: all",
    )  # fmt: skip
    written = files(tmp_path)
    board = json.loads(written[FLEET])
    current = {v["name"]: v.get("current", {}).get("value") for v in board["templating"]["list"]}
    assert current["job"] == "the shop"
    assert current["datasource"] == "P-1"
    [admin] = [link for link in board["links"] if link["title"] == "Admin"]
    assert admin["url"] == "https://shop.test/admin/chroniker/job/"
    [provider] = yaml.safe_load(written[PROVIDERS])["providers"]
    assert provider["folder"] == "Jobs: all"
    assert provider["options"]["path"] == str(tmp_path / "dashboards")
    assert "dashboards/provisioning/datasources.yml" not in written
    grafana = yaml.safe_load(written["alerts/grafana/chroniker-alerts.yml"])["groups"]
    assert {group["folder"] for group in grafana} == {"Jobs: all"}
    asked = [rule["data"][0] for group in grafana for rule in group["rules"]]
    assert {query["datasourceUid"] for query in asked} == {"P-1"}
    exprs = "".join(query["model"]["expr"] for query in asked)
    assert 'job="the shop"' in exprs and 'job="chroniker"' not in exprs


def test_options_are_remembered(tmp_path: Path) -> None:
    run_export(tmp_path, "--job=shop")
    assert check(tmp_path) == []
    run_export(tmp_path, "--folder=Jobs")
    [job] = [
        variable["current"]["value"]
        for variable in json.loads(files(tmp_path)[FLEET])["templating"]["list"]
        if variable["name"] == "job"
    ]
    assert job == "shop"
    assert check(tmp_path) == []
    assert check(tmp_path, "--job=other") != []


def test_site_url_is_by_default_that_of_the_settings(tmp_path: Path, settings: Any) -> None:
    settings.CHRONIKER_SITE_URL = "https://one.test"
    run_export(tmp_path)
    assert "https://one.test/admin" in files(tmp_path)[FLEET]
    settings.CHRONIKER_SITE_URL = "https://two.test"
    assert f"{FLEET}: outdated" in check(tmp_path)


def test_check_works_on_a_copied_folder(tmp_path: Path) -> None:
    """For example in a repository that is deployed to the Grafana host."""
    run_export(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert check(tmp_path / "there") == []


def test_one_part_can_be_exported(tmp_path: Path) -> None:
    run_export(tmp_path, "--only=dashboards")
    assert {name.split("/")[0] for name in files(tmp_path)} == {"dashboards"}
    assert check(tmp_path) == []


def test_check_says_what_is_wrong_with_each_file(tmp_path: Path) -> None:
    run_export(tmp_path)
    (tmp_path / FLEET).write_text("{}")
    (tmp_path / PROVIDERS).unlink()
    assert check(tmp_path) == [f"{FLEET}: edited", f"{PROVIDERS}: missing"]
    assert f"{FLEET}: edited, outdated" in check(tmp_path, "--job=other")
    job = "dashboards/chroniker-job.json"
    assert f"{job}: outdated" in check(tmp_path, "--job=other")


def test_check_of_an_empty_folder_reports_every_file(tmp_path: Path) -> None:
    assert f"{FLEET}: missing" in check(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_edited_file_is_not_overwritten_without_force(tmp_path: Path) -> None:
    run_export(tmp_path)
    (tmp_path / FLEET).write_text("mine")
    (tmp_path / PROVIDERS).unlink()
    with pytest.raises(CommandError, match=rf"{FLEET}.*--force"):
        run_export(tmp_path)
    assert not (tmp_path / PROVIDERS).exists()  # nothing at all was written
    run_export(tmp_path, "--force")
    assert check(tmp_path) == []


def test_foreign_file_is_not_overwritten_without_force(tmp_path: Path) -> None:
    path = tmp_path / FLEET
    path.parent.mkdir()
    path.write_text("theirs")
    assert f"{FLEET}: not written by export_monitoring" in check(tmp_path)
    with pytest.raises(CommandError, match="not written by"):
        run_export(tmp_path)
    assert path.read_text() == "theirs"


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "dashboards" / "mine.json"
    mine.parent.mkdir()
    mine.write_text("{}")
    run_export(tmp_path)
    assert mine.read_text() == "{}"
    assert check(tmp_path) == []


def test_file_no_longer_shipped_is_removed(tmp_path: Path) -> None:
    run_export(tmp_path)
    note = json.loads((tmp_path / MANIFEST).read_text())
    for name, text in (("old", "as written"), ("edited", "as it was")):
        path = tmp_path / "dashboards" / f"{name}.json"
        path.write_text(text)
        note["files"][f"dashboards/{name}.json"] = export._digest("as written")
    (tmp_path / MANIFEST).write_text(json.dumps(note))
    assert "dashboards/old.json: no longer part of the release" in check(tmp_path)
    run_export(tmp_path)
    assert not (tmp_path / "dashboards" / "old.json").exists()
    assert (tmp_path / "dashboards" / "edited.json").exists()  # files of others are kept
    assert check(tmp_path) == []


def test_manifest_cannot_name_files_outside_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("as written")
    run_export(tmp_path / "copy")
    note = json.loads((tmp_path / "copy" / MANIFEST).read_text())
    note["files"]["dashboards/../../outside"] = export._digest("as written")
    (tmp_path / "copy" / MANIFEST).write_text(json.dumps(note))
    assert check(tmp_path / "copy") == []
    run_export(tmp_path / "copy")
    assert outside.exists()


@pytest.mark.parametrize("note", ["", "[]", '{"files": 3}', '{"options": {}, "files": [1]}'])
def test_unreadable_manifest_is_an_error(tmp_path: Path, note: str) -> None:
    (tmp_path / MANIFEST).write_text(note)
    with pytest.raises(CommandError, match="cannot be read"):
        run_export(tmp_path)


@pytest.mark.parametrize(
    "option",
    [
        "--site-url=javascript:alert(1)", "--site-url=https://a b", '--job=a"b', "--job=a\nb",
        "--folder={{x}}", "--datasource=$x", "--job=a\\b", "--only=both",
    ],
)  # fmt: skip
def test_value_that_would_break_a_file_is_rejected(tmp_path: Path, option: str) -> None:
    with pytest.raises(CommandError):
        run_export(tmp_path, option)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError):
        run_export(tmp_path / "file")


def test_manifest_is_not_read_as_dashboard_or_rule(tmp_path: Path) -> None:
    run_export(tmp_path)
    assert not os.path.splitext(MANIFEST)[1]
    assert (tmp_path / MANIFEST).stat().st_mode & 0o777 == 0o644


@pytest.mark.prometheus
def test_exported_rules_are_valid(tmp_path: Path) -> None:
    run_export(tmp_path, "--job=the shop: 1", "--runbooks-url=https://wiki.test/a?b=c&d=%20")
    done = run_promtool("check", "rules", tmp_path / "alerts" / RULES.name)
    assert done.returncode == 0, done.stderr


def test_exported_rules_have_job_and_urls_of_the_site() -> None:
    options = ExportOptions(
        job="shop", grafana_url="https://g.test/sub/", runbooks_url="https://wiki.test/chroniker"
    )
    text = render_files(options)["alerts/chroniker.rules.yml"]
    assert find_placeholder_urls({"": text}) == []
    assert len(find_placeholder_urls(render_files(ExportOptions()))) == 2
    assert not re.search(r'\bjob\s*=~?\s*"chroniker"', text)
    assert 'job="shop"' in text
    alerts = [
        rule
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert alerts
    for alert in alerts:
        notes = alert["annotations"]
        anchor = alert["alert"].lower()
        assert notes["runbook_url"] == f"https://wiki.test/chroniker#{anchor}"
        assert notes["dashboard_url"].startswith("https://g.test/sub/d/chroniker-")
