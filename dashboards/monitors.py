"""Monitors: their values, thresholds and severities."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from . import expressions as e
from .frame import compose, failed_runs, maintenance, query_variable
from .panels import (
    SEVERITIES,
    YES_NO,
    Column,
    Line,
    Panel,
    Row,
    chart,
    red_from,
    stat_panel,
    table_panel,
    timeline,
)

CHOSEN = e.Scope(f'{e.SITE}, job_name=~"$job_name"')
SEVERITY = CHOSEN.placement("chroniker_monitor_severity", e.WHOLE)
KEYS = {"job_name": "Monitor", "host": "Host"}
AGE = f"time() - ({CHOSEN.placement('chroniker_monitor_last_sample_timestamp_seconds')} > 0)"
LAST_FAILURE = CHOSEN.placement("chroniker_job_last_failure_timestamp_seconds")
MONITORS_ONLY = f"on (job_name) group by (job_name) ({CHOSEN.raw('chroniker_monitor_info')})"


def threshold(severity: str) -> str:
    return CHOSEN.job("chroniker_monitor_threshold", f'severity="{severity}"')


def now_row() -> Row:
    def count_panel(value: int, description: str, color: str) -> tuple[int, Panel]:
        word = SEVERITIES[value][0]
        counted = e.count(f"{SEVERITY} == {value}")
        return 4, stat_panel(word.capitalize(), description, counted, thresholds=red_from(1, color))

    late = (
        f"time() - (max by (job_name, host) ("
        f"{CHOSEN.raw('chroniker_job_next_run_timestamp_seconds')}) > 0) > {e.LATE_SECONDS}"
        f" and {MONITORS_ONLY}"
    )
    muted = f"{CHOSEN.job('chroniker_job_muted')} == 1 and {MONITORS_ONLY}"
    return Row(
        4,
        [
            count_panel(2, "Monitors beyond their critical threshold.", "red"),
            count_panel(1, "Monitors beyond their warning threshold.", "orange"),
            count_panel(3, "Monitors whose probe failed, so that there is no value.", "purple"),
            count_panel(0, "Monitors whose value is within its thresholds.", "green"),
            (
                4,
                stat_panel(
                    "Late",
                    f"Monitors whose measurement is more than {e.LATE_SECONDS} seconds overdue, so "
                    "their value is outdated.",
                    e.count(late),
                    thresholds=red_from(1),
                ),
            ),
            (4, stat_panel("Muted", "Monitors in a maintenance window.", e.count(muted))),
        ],
    )


def table_row() -> Row:
    labels = "job_name, kind, unit"
    return Row(
        9,
        [
            (
                24,
                table_panel(
                    "Values against thresholds",
                    "The last value of each monitor. The worst severity is at the top. The values "
                    "of groups are in the charts below.",
                    Column("Severity", SEVERITY, unit="none", mapping=SEVERITIES),
                    Column("Value", CHOSEN.placement("chroniker_monitor_value", e.WHOLE)),
                    Column("Warning", threshold("warning")),
                    Column("Critical", threshold("critical")),
                    Column(
                        "Operator",
                        CHOSEN.by("job_name, operator", "chroniker_monitor_threshold"),
                        label="operator",
                    ),
                    Column("Unit", CHOSEN.by(labels, "chroniker_monitor_info"), label="unit"),
                    Column("Sample age", AGE, unit="s"),
                    Column(
                        "Latency", CHOSEN.placement("chroniker_monitor_latency_seconds"), unit="s"
                    ),
                    Column(
                        "Muted",
                        f"({CHOSEN.job('chroniker_job_muted')}"
                        f" or 0 * {CHOSEN.job('chroniker_job_enabled')}) and {MONITORS_ONLY}",
                        mapping=YES_NO,
                    ),
                    keys=KEYS | {"kind": "Kind"},
                    sort="Severity",
                    no_value="no monitors",
                ),
            )
        ],
    )


def time_rows() -> list[Row]:
    severity = timeline(
        "Severity",
        "The severity of each monitor over time.",
        Line(SEVERITY, "{{job_name}} {{host}}"),
        mapping=SEVERITIES,
        no_value="no monitors",
    )
    latency = chart(
        "Latency",
        "Duration of the probes.",
        Line(CHOSEN.placement("chroniker_monitor_latency_seconds"), "{{job_name}} {{host}}"),
        unit="s",
    )
    age = chart(
        "Age of the last sample",
        "Time since the last measurement. It rises until the next one, and drops to zero.",
        Line(AGE, "{{job_name}} {{host}}"),
        unit="s",
    )
    return [Row(9, [(24, severity)]), Row(7, [(12, latency), (12, age)])]


def value_row() -> Row:
    """One chart for each selected monitor."""

    def line(severity: str, color: str) -> Line:
        where = f'severity="{severity}", operator!="unusual"'  # there it is a factor
        found = CHOSEN.by("job_name, operator", "chroniker_monitor_threshold", where)
        return Line(found, f"{severity} {{{{operator}}}}", dashed=True, color=color)

    def expected(side: str) -> Line:
        found = CHOSEN.by("job_name, host, series", f"chroniker_monitor_expected_{side}")
        return Line(found, f"usual {side} {{{{host}}}} {{{{series}}}}", dashed=True, color="green")

    values = chart(
        "$job_name",
        "The value, with its warning and critical thresholds, or what is usual at this hour. With "
        "groups, one line for each of them.",
        Line(
            CHOSEN.by("job_name, host, series", "chroniker_monitor_value"),
            "value {{host}} {{series}}",
        ),
        expected("low"),
        expected("high"),
        line("warning", "orange"),
        line("critical", "red"),
        lowest=None,
    )
    values.repeat("job_name").repeat_direction("h").max_per_row(3)
    return Row(7, [(24, values)])


def build() -> Dashboard:
    return compose(
        "chroniker-monitors",
        "The values of all monitors, with their thresholds and severities.",
        {"": [now_row(), table_row()], "Over time": time_rows(), "Each monitor": [value_row()]},
        variables=[
            query_variable(
                "job_name",
                "Monitor",
                f"label_values(chroniker_monitor_info{{{e.SITE}}}, job_name)",
                "The monitors to show.",
                several=True,
            )
        ],
        annotations=[
            failed_runs(f"{LAST_FAILURE} and {MONITORS_ONLY}"),
            maintenance(
                f"count({CHOSEN.job('chroniker_job_muted')} == 1 and {MONITORS_ONLY})",
                "Maintenance",
            ),
        ],
        since="now-24h",
    )
