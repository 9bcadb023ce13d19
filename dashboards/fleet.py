"""Fleet: is anything wrong, right now?"""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from . import expressions as e
from .frame import compose, failed_runs, maintenance, query_variable
from .panels import (
    HOURLY,
    PERCENT_BAR,
    STATUS_COLORS,
    YES_NO,
    Column,
    Line,
    Row,
    alert_list,
    chart,
    green_from,
    ranking,
    red_from,
    stat_panel,
    table_panel,
)

ALL = e.Scope(f'{e.SITE}, job_name=~"$job_name"')
HOSTS = e.Scope(e.SITE)
EXPRESSIONS = e.JobExpressions(ALL)
KEYS = {"job_name": "Job", "host": "Host"}
MUTED = f"{ALL.job('chroniker_job_muted')} or 0 * {ALL.job('chroniker_job_enabled')}"
SECONDS_AGO = {"custom.width": 130}


def restrict_to(expression: str, jobs: str) -> str:
    """The first expression, for the jobs of the second one."""
    return f"{expression} and on (job_name, host) ({jobs})"


def now_row() -> Row:
    severities = f"max by (job_name, host) ({HOSTS.raw('chroniker_monitor_severity', e.WHOLE)})"
    silent = f"time() - {HOSTS.host('chroniker_host_last_tick_timestamp_seconds')}"
    numbers = [
        stat_panel(
            "Failing jobs",
            "Enabled jobs with enough consecutive failures for an alert, without monitors. The "
            "table below lists them.",
            e.count(EXPRESSIONS.failing),
            thresholds=red_from(1),
        ),
        stat_panel(
            "Late jobs",
            f"Jobs that should have started more than {e.LATE_SECONDS} seconds ago and are not "
            "running, except those that wait for another job.",
            e.count(EXPRESSIONS.late),
            thresholds=red_from(1),
        ),
        stat_panel(
            "About to miss a deadline",
            "Jobs that have used half of their start deadline or timeout, or 80 % of their "
            "expected duration.",
            e.count(f"max by (job_name, host) ({EXPRESSIONS.near_deadline})"),
            thresholds=red_from(1, "orange"),
        ),
        stat_panel(
            "Blocked jobs",
            "Jobs that are due but cannot start, for example because they wait for another job or "
            "their host is paused.",
            e.count(f"max by (job_name, host) ({EXPRESSIONS.blocked})"),
            thresholds=red_from(1, "orange"),
        ),
        stat_panel(
            "Running now",
            "Runs in progress on all hosts.",
            e.or_zero(f"sum({ALL.placement('chroniker_job_running')})"),
        ),
        stat_panel(
            "Open incidents",
            "Open incidents of all severities.",
            e.or_zero(f"sum({HOSTS.by('severity', 'chroniker_incidents_open')})"),
            thresholds=red_from(1),
        ),
        stat_panel(
            "Monitors not ok",
            "Monitors whose severity is warning, critical or unknown.",
            e.count(f"{severities} > 0"),
            thresholds=red_from(1),
        ),
        stat_panel(
            "Silent hosts",
            f"Hosts that have not ticked for more than {e.SILENT_SECONDS} seconds.",
            e.count(f"{silent} > {e.SILENT_SECONDS}"),
            thresholds=red_from(1),
        ),
    ]
    return Row(4, [(3, panel) for panel in numbers])


def problem_row() -> Row:
    failing = table_panel(
        "List of failing jobs",
        "Enabled jobs with enough consecutive failures for an alert, most failures first. Click a "
        "name to open the job.",
        Column("Consecutive failures", EXPRESSIONS.failing),
        Column(
            "Status",
            restrict_to(EXPRESSIONS.status, EXPRESSIONS.failing),
            label="status",
            mapping=STATUS_COLORS,
        ),
        Column(
            "Last failure",
            restrict_to(
                f"({ALL.placement('chroniker_job_last_failure_timestamp_seconds')} > 0) * 1000",
                EXPRESSIONS.failing,
            ),
            unit="dateTimeFromNow",
        ),
        Column(
            "Last success",
            restrict_to(
                f"({ALL.placement('chroniker_job_last_success_timestamp_seconds')} > 0) * 1000",
                EXPRESSIONS.failing,
            ),
            unit="dateTimeFromNow",
        ),
        keys=KEYS,
        sort="Consecutive failures",
        no_value="no failing jobs",
    )
    late = table_panel(
        "List of late jobs",
        "Jobs that should have started and are not running, except those that wait for another "
        "job; with the reason if the scheduler knows one, and the time left until the slot is "
        "missed.",
        Column("Late by", EXPRESSIONS.late, unit="s"),
        Column("Blocked by", restrict_to(EXPRESSIONS.blocked, EXPRESSIONS.late), label="reason"),
        Column(
            "Missed in",
            restrict_to(
                f"({ALL.job('chroniker_job_start_deadline_seconds')} > 0)"
                f" - on (job_name) group_right () ({EXPRESSIONS.due})",
                EXPRESSIONS.late,
            ),
            unit="s",
        ),
        keys=KEYS,
        sort="Late by",
        no_value="no late jobs",
    )
    return Row(8, [(12, failing), (12, late)])


def alert_row() -> Row:
    firing = alert_list(
        "Firing alerts",
        "The alerts of the site that fire or are about to, whether Prometheus or Grafana evaluates "
        "them. Nothing is listed if neither has the rules.",
    )
    return Row(8, [(24, firing)])


def running_row() -> Row:
    progress = ALL.placement("chroniker_job_progress_ratio")
    running = table_panel(
        "Running jobs",
        "Runs in progress. The time left is estimated from the progress that the job reports.",
        Column("Running for", EXPRESSIONS.elapsed, unit="s"),
        Column(
            "Progress",
            restrict_to(f"{progress} > 0", EXPRESSIONS.running),
            unit="percentunit",
            cell_options=PERCENT_BAR,
        ),
        Column(
            "Time left",
            f"({EXPRESSIONS.elapsed}) * on (job_name, host)"
            f" ((1 - {progress}) / ({progress} > 0)) and on (job_name, host) {EXPRESSIONS.running}",
            unit="s",
        ),
        Column(
            "Timeout used",
            f"max by (job_name, host) ({EXPRESSIONS.to_end})",
            unit="percentunit",
            cell_options=PERCENT_BAR,
        ),
        keys=KEYS,
        sort="Running for",
        no_value="no running jobs",
    )
    near_deadline = table_panel(
        "Jobs about to miss a deadline",
        "Jobs that have used half of their start deadline (start) or timeout (timeout), or 80 % of "
        "their expected duration (expected); with the share used.",
        Column("Used", EXPRESSIONS.near_deadline, unit="percentunit", cell_options=PERCENT_BAR),
        keys=KEYS | {"deadline": "Deadline"},
        sort="Used",
        no_value="all jobs are in time",
    )
    return Row(8, [(14, running), (10, near_deadline)])


def day_rows() -> list[Row]:
    failures = ALL.increase("job_name, host, reason", "chroniker_job_failures_total", HOURLY)
    missed = ALL.increase("job_name, host, reason", "chroniker_job_missed_runs_total", HOURLY)
    runs = ALL.increase("job_name, host", "chroniker_job_runs_total", HOURLY)
    spent = ALL.increase("job_name, host", "chroniker_job_duration_seconds_sum", "1d")
    # Recorded if the alert rules are loaded, which avoids reading a day of all histograms.
    recorded = ALL.raw("job_name:chroniker_job_duration_seconds:p95_1d")
    p95 = ALL.quantile(0.95, "job_name", "chroniker_job_duration_seconds", "1d")
    mean = ALL.mean("job_name", "chroniker_job_duration_seconds", "1d")
    tick = HOSTS.host("chroniker_host_last_tick_timestamp_seconds")
    return [
        Row(
            7,
            [
                (
                    4,
                    stat_panel(
                        "Success ratio, one day",
                        "Share of the runs finished in the last day that succeeded.",
                        e.success_ratio(ALL, "1d"),
                        unit="percentunit",
                        decimals=1,
                        thresholds=green_from(0.99, 0.9),
                        no_value="no runs",
                    ),
                ),
                (
                    10,
                    chart(
                        "Success ratio, one day, over time",
                        "Each point covers the day before it, so that daily jobs are included.",
                        Line(e.success_ratio(ALL, "1d"), "succeeded"),
                        unit="percentunit",
                        step=e.RESOLUTIONS["1d"],
                        highest=1,
                    ),
                ),
                (
                    10,
                    chart(
                        "Seconds since the last tick",
                        "For each host. Normally it rises to a minute and drops to zero; above the "
                        "line, the host is silent.",
                        Line(f"time() - ({tick} > 0)", "{{host}}"),
                        Line(f"vector({e.SILENT_SECONDS})", "silent", dashed=True, color="red"),
                        unit="s",
                    ),
                ),
            ],
        ),
        Row(
            7,
            [
                (
                    8,
                    chart(
                        "Runs per hour",
                        "Finished runs, whatever their result. Each bar is one hour.",
                        Line(f"sum({runs})", "runs"),
                        bars=True,
                        step=HOURLY,
                    ),
                ),
                (
                    8,
                    chart(
                        "Failures per hour, by reason",
                        "Runs that did not succeed. Each bar is one hour.",
                        Line(f"sum by (reason) ({failures})", "{{reason}}"),
                        bars=True,
                        step=HOURLY,
                    ),
                ),
                (
                    8,
                    chart(
                        "Missed slots per hour, by reason",
                        "Skipped slots: the previous run was still running, no host ticked, or the "
                        "start deadline had passed; or, as planned, a window paused the job or it "
                        "waited for another one. Each bar is one hour.",
                        Line(f"sum by (reason) ({missed})", "{{reason}}"),
                        bars=True,
                        step=HOURLY,
                    ),
                ),
            ],
        ),
        Row(
            8,
            [
                (
                    12,
                    ranking(
                        "Busiest jobs, one day",
                        "Total duration of the runs of a job in the last day.",
                        f"topk(10, sum by (job_name) ({spent}))",
                        "{{job_name}}",
                        unit="s",
                        no_value="no runs",
                    ),
                ),
                (
                    12,
                    ranking(
                        "Slowest jobs, one day",
                        "95 % of the runs in the last day took at most this long (p95). Without "
                        "histograms, their mean.",
                        f"topk(10, {recorded} or on (job_name) {p95} or on (job_name) {mean})",
                        "{{job_name}}",
                        unit="s",
                        no_value="no runs",
                    ),
                ),
            ],
        ),
    ]


def every_job() -> Row:
    failures = ALL.increase("job_name, host, reason", "chroniker_job_failures_total", "1d")
    runs = ALL.increase("job_name, host", "chroniker_job_runs_total", "1d")
    return Row(
        12,
        [
            (
                24,
                table_panel(
                    "All jobs",
                    "Every job, with its last run, its next start, and its runs of the last day.",
                    Column(
                        "Last run",
                        EXPRESSIONS.status,
                        label="status",
                        mapping=STATUS_COLORS,
                    ),
                    Column(
                        "Ended",
                        f"({ALL.placement('chroniker_job_last_run_timestamp_seconds')} > 0) * 1000",
                        unit="dateTimeFromNow",
                    ),
                    Column("Took", ALL.placement("chroniker_job_last_duration_seconds"), unit="s"),
                    Column(
                        "Next start",
                        f"({ALL.placement('chroniker_job_next_run_timestamp_seconds')} > 0) * 1000",
                        unit="dateTimeFromNow",
                    ),
                    Column("Running", ALL.placement("chroniker_job_running"), mapping=YES_NO),
                    Column("Runs, one day", runs, cell_options={"decimals": 0}),
                    Column(
                        "Failures, one day",
                        f"sum by (job_name, host) ({failures})",
                        cell_options={"decimals": 0},
                    ),
                    Column("Enabled", ALL.job("chroniker_job_enabled"), mapping=YES_NO),
                    Column("Muted", MUTED, mapping=YES_NO),
                    keys=KEYS,
                    sort="Job",
                    ascending=True,
                    no_value="no jobs",
                ),
            )
        ],
    )


def build() -> Dashboard:
    return compose(
        "chroniker-fleet",
        "Is anything wrong, right now? Every job of a site.",
        {
            "": [now_row(), alert_row(), problem_row(), running_row()],
            "The day": day_rows(),
            "Every job": [every_job()],
        },
        variables=[
            query_variable(
                "job_name",
                "Job",
                f"label_values(chroniker_job_enabled{{{e.SITE}}}, job_name)",
                "The jobs to show.",
                several=True,
            )
        ],
        annotations=[
            failed_runs(ALL.placement("chroniker_job_last_failure_timestamp_seconds")),
            maintenance(f"count({ALL.job('chroniker_job_muted')} == 1)", "Maintenance"),
        ],
        since="now-24h",
    )
