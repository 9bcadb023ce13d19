"""Every expression of dashboards and rules, evaluated by a real Prometheus."""

from __future__ import annotations

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction

from tests.alerts.rules import rules
from tests.dashboards import history
from tests.dashboards.boards import BOARDS, Query, every_board, queries
from tests.dashboards.grafana_rules import RULES
from tests.factories import NOON
from tests.support.machine import find_program, free_port, require
from tests.support.processes import run_server, wait_until

pytestmark = [
    pytest.mark.django_db,  # the database is created
    pytest.mark.slow,
    pytest.mark.prometheus,
    pytest.mark.one_database,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("dashboards"),  # the day is created once
]
WITH_HIGH_DETAIL = {"chroniker-job/Start lag/B"}
"""What has data with ``CHRONIKER_METRICS_DETAIL = "high"`` only. The day has the default."""
Samples = dict[frozenset[tuple[str, str]], float]


class RecordedPrometheus:
    """A Prometheus with the data of the day; queries are evaluated at its end."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def ask(self, query: Query, **variables: str) -> Samples:
        """The result for a panel; for a range query its last value."""
        expr = fill_variables(query.expr, **variables)
        now = NOON.timestamp()
        when = (
            {"time": now} if query.instant else {"start": now - 25 * 3600, "end": now, "step": 600}
        )
        what = "query" if query.instant else "query_range"
        asked = urllib.parse.urlencode({"query": expr, **when}).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{what}", asked, timeout=60) as answer:
                found = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query.where}: {expr}: {error.read().decode()}") from error
        return {
            frozenset(series["metric"].items()): float(
                (series["value"] if query.instant else series["values"][-1])[1]
            )
            for series in found
        }


def fill_variables(expr: str, **variables: str) -> str:
    """The expression with Grafana variables replaced."""
    chosen = {"job": "chroniker", "job_name": ".*", "host": ".*"} | variables
    return re.sub(r"\$([a-z]\w*)", lambda found: chosen[found[1]], expr)


@pytest.fixture(scope="module")
def prometheus(
    django_db_setup: None,
    django_db_blocker: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RecordedPrometheus]:
    require("prometheus")
    folder = tmp_path_factory.mktemp("day")
    with django_db_blocker.unblock(), transaction.atomic():
        history.write_scrapes(folder / "day.txt")
        transaction.set_rollback(True)
    history.create_blocks(folder / "day.txt", folder / "tsdb")
    (folder / "prometheus.yml").write_text("{}")
    address = f"127.0.0.1:{free_port()}"
    command = [
        str(find_program("prometheus")),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        "--storage.tsdb.retention.time=50y",
        f"--web.listen-address={address}",
    ]
    with run_server(command, folder / "prometheus.log"):
        found = RecordedPrometheus(f"http://{address}")
        wait_until(found.ready, timeout=60, interval=0.2)
        yield found


def query_result(prometheus: RecordedPrometheus, query: Query, **variables: str) -> Samples:
    """The result for the first job with data, where a job is selected."""
    if '"$job_name"' not in query.expr or '=~"$job_name"' in query.expr:
        return prometheus.ask(query, **variables)
    for name in (*history.JOBS, *history.MONITORS):
        if found := prometheus.ask(query, **variables, job_name=name):
            return found
    return {}


@every_board
def test_every_expression_returns_data(
    prometheus: RecordedPrometheus, board: dict[str, Any]
) -> None:
    for query in queries(board):
        found = query_result(prometheus, query)
        assert bool(found) == (query.where not in WITH_HIGH_DETAIL), query
        assert not any(map(math.isnan, found.values())), (query, found)


@every_board
@pytest.mark.parametrize("site", ["chroniker", "churning"])
def test_replicas_do_not_change_results(
    prometheus: RecordedPrometheus, site: str, board: dict[str, Any]
) -> None:
    """Two replicas, or one after the other, except for panels per instance."""
    for query in queries(board):
        if "instance" in query.expr or query.where.endswith("/variable job"):
            continue
        one = query_result(prometheus, query, job="single")
        found = query_result(prometheus, query, job=site)
        if "/variable " in query.where:
            assert set(found) == set(one)
        else:
            assert found == pytest.approx(one), query


def value(prometheus: RecordedPrometheus, where: str, **variables: str) -> Samples:
    [query] = [q for board in BOARDS.values() for q in queries(board) if q.where == where]
    return prometheus.ask(query, **variables)


def names(found: Samples) -> set[str]:
    return {dict(labels)["job_name"] for labels in found}


def test_fleet_shows_current_problems(prometheus: RecordedPrometheus) -> None:
    def one(title: str) -> float:
        [number] = value(prometheus, f"chroniker-fleet/{title}/A").values()
        return number

    assert one("Failing jobs") == 1
    assert one("Late jobs") == 1
    assert one("Blocked jobs") == 2
    assert one("About to miss a deadline") == 2  # late at the start, too long at the end
    assert one("Running now") == 1
    assert one("Silent hosts") == 1
    assert one("Monitors not ok") == 2
    assert one("Open incidents") == 3  # of the failing job and the monitors
    assert names(value(prometheus, "chroniker-fleet/List of failing jobs/A")) == {"broken"}
    assert names(value(prometheus, "chroniker-fleet/List of late jobs/A")) == {"late"}
    [used] = value(prometheus, "chroniker-fleet/Running jobs/B").values()
    assert used == 0.6
    [left] = value(prometheus, "chroniker-fleet/Running jobs/C").values()
    assert left == pytest.approx(8 * 60 * 0.4 / 0.6)
    shares = value(prometheus, "chroniker-fleet/Jobs about to miss a deadline/A")
    assert {
        (dict(labels)["job_name"], dict(labels)["deadline"]): round(share, 2)
        for labels, share in shares.items()
    } == {("late", "start"): 0.67, ("long", "timeout"): 0.8, ("long", "expected"): 0.96}


def test_only_selected_jobs_are_counted(prometheus: RecordedPrometheus) -> None:
    chosen = value(prometheus, "chroniker-fleet/Failing jobs/A", job_name="hourly|late")
    assert list(chosen.values()) == [0]


def test_daily_job_is_visible(prometheus: RecordedPrometheus) -> None:
    for title in ("Busiest jobs, one day", "Slowest jobs, one day"):
        found = value(prometheus, f"chroniker-fleet/{title}/A")
        assert "daily" in names(found)
    for panel in ("Duration/B", "Duration/C", "Success ratio, seven days/A"):
        assert value(prometheus, f"chroniker-job/{panel}", job_name="daily"), panel
    [ratio] = value(
        prometheus, "chroniker-job/Success ratio, seven days/A", job_name="daily"
    ).values()
    assert ratio == 1


def test_unknown_values_are_not_shown_as_zero(prometheus: RecordedPrometheus) -> None:
    """For a site that is not scraped, "0 failing jobs" would be wrong."""
    for query in queries(BOARDS["chroniker-fleet"]):
        if "vector(" not in query.expr and "/variable job" not in query.where:
            assert prometheus.ask(query, job="another") == {}, query


# --- rules ----------------------------------------------------------------------------------

RECORDED = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


NOT_IN_HISTORY = {
    "job:chroniker_scrape_gap:max",
    "job:chroniker_host_silent_seconds:min",
    "job_name_host:chroniker_job_lost:max",
    "job_name_host:chroniker_job_running_too_long_seconds:max",
    "job_name_host:chroniker_job_slow_seconds:max",
    "job_name_host:chroniker_job_stalled_seconds:max",
    "job_name_host:chroniker_job_flapping:max",
    "job_name_host:chroniker_job_expected_late_seconds:max",  # by the clock of today
    "job_name_host:chroniker_job_duration_seconds:sum_5m",
    "job_name_host:chroniker_job_duration_seconds:count_5m",
    "job_name_host_burn:chroniker_job_error_ratio:max",
    "job_name_host:chroniker_monitor_silent:max",
}
"""Alerts that had no reason to fire on that day."""


def expand_recorded_rules(expr: str, within: tuple[str, ...] = ()) -> str:
    """The expression with recorded names replaced by what they record: there are no recorded series
    of that day. A rule that repeats its own last value had none to repeat.
    """

    def expression(found: re.Match[str]) -> str:
        whole, window, offset = found.groups()
        if whole in within:
            return found[0]
        inner = f"({expand_recorded_rules(RECORDED[whole], (*within, whole))})"
        if offset and not window:
            return f"last_over_time({inner}[5m:1m] offset {offset})"
        inner += f"[{window}:{'1h' if window == '1w' else '1m'}]" if window else ""
        return f"{inner} offset {offset}" if offset else inner

    return re.sub(r"\b(\w+:\w+:\w+)(?:\[(\w+)\])?(?: offset (\w+))?", expression, expr)


def test_grafana_finds_the_same_alerts(prometheus: RecordedPrometheus) -> None:
    """Its expressions, which contain what the rules record, without the series of the site."""
    for rule in rules():
        if "alert" not in rule:
            continue
        name = rule["alert"]
        ours = prometheus.ask(Query(name, expand_recorded_rules(rule["expr"], (name,)), True))
        grafana = prometheus.ask(Query(name, RULES[name]["data"][0]["model"]["expr"], True))
        site = {labels for labels, found in grafana.items() if found == -1}
        assert len(site) in (0, 3)
        assert {k: v for k, v in grafana.items() if k not in site} == pytest.approx(ours), name


def test_rules_return_data(prometheus: RecordedPrometheus) -> None:
    """Recording rules have data; alerts fire exactly for the jobs with a reason."""
    firing = set()
    for rule in rules():
        where = rule.get("alert") or rule["record"]
        found = prometheus.ask(Query(where, expand_recorded_rules(rule["expr"], (where,)), True))
        if "record" in rule:
            assert bool(found) == (where not in NOT_IN_HISTORY), where
        for labels in map(dict, found):
            if labels.get("job") == "chroniker":
                firing.add((where, labels.get("job_name", labels.get("host", ""))))
    assert firing >= {
        ("ChronikerJobFailing", "broken"),
        ("ChronikerJobOverdue", "late"),
        ("ChronikerJobBlocked", "late"),
        ("ChronikerJobFasterThanUsual", "orders"),
        ("ChronikerJobMissedDeadline", "long"),
        ("ChronikerMonitorWarning", "disk"),
        ("ChronikerMonitorCritical", "orders"),
        ("ChronikerHostNotTicking", "web2"),
    }
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    well = {"hourly", "daily", "everywhere", "disabled", "web1"}
    assert {(where, name) for where, name in firing if where in alerts and name in well} == set()
