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
MUTED = ALL.job("chroniker_job_muted")
SECONDS_AGO = {"custom.width": 130}


def restrict_to(failing: str, which: str) -> str:
    """That metric of those jobs."""
    return f"{failing} and on (job_name, host) ({which})"


def now_row() -> Row:
    severities = f"max by (job_name, host) ({HOSTS.raw('chroniker_monitor_severity')})"
    silent = f"time() - {HOSTS.host('chroniker_host_last_tick_timestamp_seconds')}"
    numbers = [
        stat_panel(
            "Failing jobs",
            "Enabled jobs of which as many runs in a row failed as make an alert; monitors are "
            "counted apart. The table below names them.",
            e.count(EXPRESSIONS.failing),
            thresholds=red_from(1),
        ),
        stat_panel(
            "Late jobs",
            f"Jobs that should have started more than {e.LATE_SECONDS} seconds ago and do not "
            "run, but for those that wait for another one.",
            e.count(EXPRESSIONS.late),
            thresholds=red_from(1),
        ),
        stat_panel(
            "About to miss a deadline",
            "Jobs that have used half of the time in which they may start or run, or most of the "
            "time that they are expected to take.",
            e.count(f"max by (job_name, host) ({EXPRESSIONS.near_deadline})"),
            thresholds=red_from(1, "orange"),
        ),
        stat_panel(
            "Blocked jobs",
            "Jobs that are due and cannot start: they wait for another one, or something is "
            "wrong with their definition.",
            e.count(f"max by (job_name, host) ({EXPRESSIONS.blocked})"),
            thresholds=red_from(1, "orange"),
        ),
        stat_panel(
            "Running now",
            "Runs that go on, on all hosts.",
            e.or_zero(f"sum({ALL.placement('chroniker_job_running')})"),
        ),
        stat_panel(
            "Open incidents",
            "Incidents that have been mailed and are not over, of every severity.",
            e.or_zero(f"sum({HOSTS.by('severity', 'chroniker_incidents_open')})"),
            thresholds=red_from(1),
        ),
        stat_panel(
            "Monitors not ok",
            "Monitors that are warning, critical or unknown.",
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
        "What is failing",
        "Enabled jobs of which as many runs in a row failed as make an alert, the longest series "
        "of failures first. Click a name to look at the job.",
        Column("Failures in a row", EXPRESSIONS.failing),
        Column(
            "How",
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
        sort="Failures in a row",
        none="nothing fails",
    )
    late = table_panel(
        "What is late",
        "Jobs that should have started and do not run, but for those that wait for another one; "
        "with the reason where the scheduler knows one, and the time that is left until the slot "
        "is missed.",
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
        none="nothing is late",
    )
    return Row(8, [(12, failing), (12, late)])


def running_row() -> Row:
    progress = ALL.placement("chroniker_job_progress_ratio")
    running = table_panel(
        "What runs, and how far it is",
        "Runs that go on. The time left is reckoned from the progress that the job tells.",
        Column("Running for", EXPRESSIONS.elapsed, unit="s"),
        Column(
            "Progress",
            restrict_to(f"{progress} > 0", EXPRESSIONS.running),
            unit="percentunit",
            cell_options=PERCENT_BAR,
        ),
        Column(
            "Left",
            f"({EXPRESSIONS.elapsed}) * on (job_name, host)"
            f" ((1 - {progress}) / ({progress} > 0)) and on (job_name, host) {EXPRESSIONS.running}",
            unit="s",
        ),
        Column(
            "Of its timeout",
            f"max by (job_name, host) ({EXPRESSIONS.to_end})",
            unit="percentunit",
            cell_options=PERCENT_BAR,
        ),
        keys=KEYS,
        sort="Running for",
        none="nothing runs",
    )
    near_deadline = table_panel(
        "What is about to miss its deadline",
        "The share of the time that is used, of those who have used half of the time until they "
        "must have started (start) or are ended (timeout), or 80 % of the expected time.",
        Column("Used", EXPRESSIONS.near_deadline, unit="percentunit", cell_options=PERCENT_BAR),
        keys=KEYS | {"deadline": "Deadline"},
        sort="Used",
        none="everybody is in time",
    )
    return Row(8, [(14, running), (10, near_deadline)])


def day_rows() -> list[Row]:
    failures = ALL.increase("job_name, host, reason", "chroniker_job_failures_total", HOURLY)
    missed = ALL.increase("job_name, host, reason", "chroniker_job_missed_runs_total", HOURLY)
    runs = ALL.increase("job_name, host", "chroniker_job_runs_total", HOURLY)
    spent = ALL.increase("job_name, host", "chroniker_job_duration_seconds_sum", "1d")
    # Where the rules are loaded it is recorded, which spares a day of every histogram.
    recorded = ALL.raw("job_name:chroniker_job_duration_seconds:p95_1d")
    p95 = ALL.quantile(0.95, "job_name", "chroniker_job_duration_seconds", "1d")
    tick = HOSTS.host("chroniker_host_last_tick_timestamp_seconds")
    return [
        Row(
            7,
            [
                (
                    4,
                    stat_panel(
                        "Success ratio, one day",
                        "Which part of the runs that ended within a day ended well.",
                        e.success_ratio(ALL, "1d"),
                        unit="percentunit",
                        decimals=1,
                        thresholds=green_from(0.99, 0.9),
                        none="no run",
                    ),
                ),
                (
                    10,
                    chart(
                        "Success ratio of the day before each moment",
                        "The same over time. A day, so that daily jobs count.",
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
                        "Of each host. It climbs to a minute and falls again; above the line the "
                        "host is silent.",
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
                        "Runs that ended, in whatever way; each bar is one hour.",
                        Line(f"sum({runs})", "runs"),
                        bars=True,
                        step=HOURLY,
                    ),
                ),
                (
                    8,
                    chart(
                        "Failures per hour, by reason",
                        "Runs that ended otherwise than well; each bar is one hour.",
                        Line(f"sum by (reason) ({failures})", "{{reason}}"),
                        bars=True,
                        step=HOURLY,
                    ),
                ),
                (
                    8,
                    chart(
                        "Missed slots per hour, by reason",
                        "Slots that were knowingly not run: the job still ran, nobody ticked, or "
                        "it was too late; each bar is one hour.",
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
                        "The time that all runs of a job took together within a day.",
                        f"topk(10, sum by (job_name) ({spent}))",
                        "{{job_name}}",
                        unit="s",
                        none="no run",
                    ),
                ),
                (
                    12,
                    ranking(
                        "Slowest jobs, one day",
                        "19 of 20 runs within a day took at most this long.",
                        f"topk(10, {recorded} or on (job_name) {p95})",
                        "{{job_name}}",
                        unit="s",
                        none="no run",
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
                    "Every job, with its last ending, its next start and its day.",
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
                    none="no job",
                ),
            )
        ],
    )


def build() -> Dashboard:
    return compose(
        "chroniker-fleet",
        "Is anything wrong, right now? Every job of a site.",
        {
            "": [now_row(), problem_row(), running_row()],
            "The day": day_rows(),
            "Every job": [every_job()],
        },
        variables=[
            query_variable(
                "job_name",
                "Job",
                f"label_values(chroniker_job_enabled{{{e.SITE}}}, job_name)",
                "The jobs to look at.",
                several=True,
            )
        ],
        annotations=[
            failed_runs(ALL.placement("chroniker_job_last_failure_timestamp_seconds")),
            maintenance(f"count({MUTED} == 1)", "Maintenance"),
        ],
        since="now-24h",
    )
