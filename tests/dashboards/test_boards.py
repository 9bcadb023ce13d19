"""Rules for the dashboard JSON that Grafana reads."""

from __future__ import annotations

import itertools
import re
from typing import Any

from tests.alerts.rules import rules
from tests.dashboards.boards import (
    BOARDS,
    Board,
    alert_lists,
    contract,
    every_board,
    panels,
    queries,
)

KINDS = {"stat", "table", "timeseries", "state-timeline", "bargauge"}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
SELECTOR = re.compile(r"\b(chroniker_\w+)(?:\{([^{}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"(?:[^"\\]|\\.)*"')
VARIABLE = re.compile(r"\$\{?(\w+)")
OF_GRAFANA = {"__data", "__interval"}


def test_there_are_four_dashboards() -> None:
    assert set(BOARDS) == {
        "chroniker-fleet", "chroniker-job", "chroniker-monitors", "chroniker-hosts"
    }  # fmt: skip
    assert len({board["title"] for board in BOARDS.values()}) == 4


@every_board
def test_dashboard_metadata(board: Board) -> None:
    assert board["schemaVersion"] >= 39
    assert board["editable"] is False
    assert board["tags"] == ["chroniker"]
    assert board["timezone"] == "browser"
    assert board["refresh"] == "30s"
    assert board["time"]["to"] == "now"
    assert board["description"].endswith((".", "?"))
    assert board.get("id") is None  # an id of one Grafana database
    assert board.get("version") is None


@every_board
def test_every_panel_has_title_unit_and_description(board: Board) -> None:
    for panel in panels(board):
        title = panel["title"]
        assert panel["type"] in KINDS, title
        assert title and not title.endswith("."), title
        assert panel["description"].endswith("."), title
        assert panel["fieldConfig"]["defaults"]["unit"], title
        assert panel["targets"], title


def test_fleet_lists_the_firing_alerts_of_the_chosen_site() -> None:
    [firing] = alert_lists(BOARDS["chroniker-fleet"])
    options = firing["options"]
    assert firing["title"] and firing["description"].endswith(".")
    assert 'job="$job"' in options["alertInstanceLabelFilter"]
    assert {alert["alert"] for alert in rules() if "alert" in alert} == {
        alert["alert"] for alert in rules() if options["alertName"] in alert.get("alert", "")
    }
    assert options["stateFilter"]["firing"] is True
    assert options["stateFilter"]["normal"] is False


@every_board
def test_titles_and_ids_are_unique(board: Board) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert all(isinstance(number, int) and number > 0 for number in ids)
    titles = [panel["title"] for panel in board["panels"]]
    assert len(set(titles)) == len(titles)
    for panel in panels(board):
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)


@every_board
def test_panels_fit_the_grid_without_overlap(board: Board) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        grid = panel["gridPos"]
        assert grid["w"] > 0 and grid["h"] > 0 and grid["x"] >= 0 and grid["y"] >= 0
        assert grid["x"] + grid["w"] <= 24, panel["title"]
        cells = itertools.product(
            range(grid["x"], grid["x"] + grid["w"]), range(grid["y"], grid["y"] + grid["h"])
        )
        for cell in cells:
            assert cell not in taken, f"{panel['title']} lies on {taken[cell]}"
            taken[cell] = panel["title"]
    bottom = max(y for _, y in taken) + 1
    assert len(taken) == 24 * bottom, "a hole in the grid"


@every_board
def test_all_queries_use_the_selected_datasource(board: Board) -> None:
    first = board["templating"]["list"][0]
    assert (first["name"], first["type"], first["query"]) == (
        "datasource", "datasource", "prometheus"
    )  # fmt: skip
    sources = [*_found(board, "datasource")]
    assert all(source == SOURCE for source in sources)
    targets = sum(len(panel["targets"]) for panel in panels(board))
    asked = targets + len(panels(board)) + len(board["annotations"]["list"])
    assert len(sources) == asked + len(board["templating"]["list"]) - 1


def _found(part: Any, key: str) -> Any:
    if isinstance(part, dict):
        for name, value in part.items():
            if name == key:
                yield value
            yield from _found(value, key)
    elif isinstance(part, list):
        for item in part:
            yield from _found(item, key)


@every_board
def test_variables_are_explained_and_used(board: Board) -> None:
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    for name, variable in variables.items():
        assert variable["label"] and variable["description"].endswith("."), name
    asked = [query.expr for query in queries(board)]
    asked += [panel["options"]["alertInstanceLabelFilter"] for panel in alert_lists(board)]
    used = set(VARIABLE.findall(" ".join(asked)))
    assert used - OF_GRAFANA <= set(variables)
    assert set(variables) - used == {"datasource"}
    for expr in asked:
        # Grafana turns a variable with several values into a regular expression.
        for name, variable in variables.items():
            operator = "=~" if variable.get("multi") else "="
            for found in re.findall(rf'\w+(=~|=|!=|!~)"\${name}"', expr):
                assert found == operator, (name, expr)


@every_board
def test_links_point_to_the_other_dashboards(board: Board) -> None:
    leads = [re.match(r"/d/([\w-]+)\?", link["url"]) for link in board["links"]]
    assert {lead[1] for lead in leads if lead} == set(BOARDS) - {board["uid"]}
    for link in (found for links in _found(board, "links") for found in links):
        lead = re.match(r"/d/([\w-]+)\?", link["url"])
        assert lead and lead[1] in BOARDS, link
        theirs = {variable["name"] for variable in BOARDS[lead[1]]["templating"]["list"]}
        mine = {variable["name"] for variable in board["templating"]["list"]}
        assert set(VARIABLE.findall(link["url"])) - OF_GRAFANA <= mine & theirs
        assert set(re.findall(r"var-(\w+)=", link["url"])) <= theirs


@every_board
def test_annotations_show_failed_runs_and_maintenance(board: Board) -> None:
    found = {annotation["name"]: annotation for annotation in board["annotations"]["list"]}
    assert set(found) == {"Failed runs", "Maintenance"}
    assert found["Failed runs"]["useValueForTime"] is True
    assert all(annotation["enable"] for annotation in found.values())


@every_board
def test_tables_rename_query_columns(board: Board) -> None:
    for panel in panels(board):
        if panel["type"] != "table":
            continue
        options = panel["transformations"][-1]["options"]
        shown = set(options["excludeByName"]) | set(options["renameByName"])
        many = len(panel["targets"]) > 1
        values = {f"Value #{t['refId']}" if many else "Value" for t in panel["targets"]}
        assert values <= shown, panel["title"]
        assert all(target["format"] == "table" for target in panel["targets"])
        named = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
        assert named <= set(options["renameByName"].values()), panel["title"]


# --- expressions ----------------------------------------------------------------------------


def selectors(expr: str) -> list[tuple[str, str]]:
    """The names of our metrics with their matchers, without recorded series."""
    return SELECTOR.findall(re.sub(r"\w+:\w+:\w+", "", expr))


@every_board
def test_names_and_labels_are_in_the_contract(board: Board) -> None:
    for query in queries(board):
        assert_in_contract(query.where, query.expr)


def test_names_and_labels_of_rules_are_in_the_contract() -> None:
    for rule in rules():
        assert_in_contract(rule.get("alert") or rule["record"], rule["expr"])


def assert_in_contract(where: str, expr: str) -> None:
    known = contract()
    for name, matchers in selectors(expr):
        assert name in known, where
        assert set(MATCHER.findall(matchers)) <= known[name] | {"job", "instance"}, where


@every_board
def test_series_are_of_the_chosen_site(board: Board) -> None:
    for query in queries(board):
        for name, matchers in selectors(query.expr):
            assert 'job="$job"' in matchers or query.where.endswith("/variable job"), name


@every_board
def test_daily_jobs_are_visible(board: Board) -> None:
    """Daily changes are not queried with ranges of minutes."""
    for query in queries(board):
        assert set(re.findall(r"\[([^\]]*)\]", query.expr)) <= {"1h:1m", "1d:10m", "7d:1h"}, (
            query.where
        )


@every_board
def test_hourly_bars_have_an_hour_interval(board: Board) -> None:
    for panel in panels(board):
        custom = panel["fieldConfig"]["defaults"].get("custom") or {}
        if custom.get("drawStyle") == "bars":
            for target in panel["targets"]:
                assert (target["interval"], "[1h:1m]" in target["expr"]) == ("1h", True)
