"""Job: the state and history of one job."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from . import expressions as e
from .frame import compose, failed_runs, maintenance, query_variable
from .panels import (
    HOURLY,
    STATUSES,
    YES_NO,
    Column,
    Line,
    Row,
    chart,
    green_from,
    red_from,
    stat_panel,
    table_panel,
    timeline,
)

ONE = e.Scope(f'{e.SITE}, job_name="$job_name", host=~"$host"')
DEFINED = e.Scope(f'{e.SITE}, job_name="$job_name"')
EXPRESSIONS = e.JobExpressions(ONE)
MUTED = f"{DEFINED.job('chroniker_job_muted')} or 0 * {DEFINED.job('chroniker_job_enabled')}"
DURATION = "chroniker_job_duration_seconds"
LAG = "chroniker_job_start_lag_seconds"


def defined(name: str) -> str:
    return DEFINED.job(name)


def status() -> str:
    """The status of the last run, as its number in STATUSES."""
    numbers = " or ".join(
        f"{value} * " + ONE.raw("chroniker_job_last_run_status", f'status="{text}"')
        for value, (text, _) in STATUSES.items()
        if value
    )
    return f"(max by (job_name, host) ({numbers}) or 0 * {ONE.placement('chroniker_job_running')})"


def now_row() -> Row:
    states = {
        0: ("idle", "text"), 1: ("running", "blue"), 2: ("blocked", "orange"),
        3: ("disabled", "text"),
    }  # fmt: skip
    disabled = f"max({defined('chroniker_job_enabled')}) == 0"
    running, blocked = ONE.raw("chroniker_job_running"), ONE.raw("chroniker_job_blocked")
    state = (
        f"(max({running}) == 1) or ({disabled}) + 3 or (max({blocked}) == 1) + 1 or max({running})"
    )
    numbers = [
        (
            4,
            stat_panel(
                "Now",
                "Whether the job is idle, running, blocked (due but cannot start) or disabled.",
                state,
                unit="none",
                mapping=states,
            ),
        ),
        (
            4,
            stat_panel(
                "Last run",
                "Status of the last run; for a job that runs on every host, the worst one.",
                f"max({status()})",
                unit="none",
                mapping=STATUSES,
            ),
        ),
        (
            4,
            stat_panel(
                "Last success",
                "When a run last succeeded.",
                f"max({ONE.placement('chroniker_job_last_success_timestamp_seconds')} > 0) * 1000",
                unit="dateTimeFromNow",
                no_value="never",
            ),
        ),
        (
            4,
            stat_panel(
                "Next start",
                "Time of the next scheduled start.",
                f"min({ONE.placement('chroniker_job_next_run_timestamp_seconds')} > 0) * 1000",
                unit="dateTimeFromNow",
                no_value="not scheduled",
            ),
        ),
        (
            4,
            stat_panel(
                "Consecutive failures",
                "Failures since the last success; the maximum of all hosts.",
                f"max({ONE.placement('chroniker_job_consecutive_failures')}"
                f" or 0 * {ONE.placement('chroniker_job_running')})",
                thresholds=red_from(1),
            ),
        ),
        (
            4,
            stat_panel(
                "Success ratio, seven days",
                "Share of the runs finished in the last seven days that succeeded.",
                e.success_ratio(ONE, "7d"),
                unit="percentunit",
                decimals=1,
                thresholds=green_from(0.99, 0.9),
                no_value="no runs",
            ),
        ),
    ]
    return Row(4, numbers)


def history_row() -> Row:
    return Row(
        6,
        [
            (
                24,
                timeline(
                    "History",
                    "The status of the last run over time, and when the job was running or muted.",
                    Line(status(), "last run {{host}}"),
                    Line(f"10 + {ONE.placement('chroniker_job_running')}", "running {{host}}"),
                    Line(f"20 + ({MUTED})", "muted"),
                    mapping={
                        **STATUSES,
                        10: ("idle", "transparent"),
                        11: ("running", "blue"),
                        20: ("not muted", "transparent"),
                        21: ("muted", "dark-blue"),
                    },
                ),
            )
        ],
    )


def time_row() -> Row:
    duration = chart(
        "Duration",
        "Duration of the last run; median (p50), 95th percentile (p95) and mean of the last day; "
        "and the job's limits, if it has any.",
        Line(ONE.placement("chroniker_job_last_duration_seconds"), "last {{host}}", color="blue"),
        Line(ONE.quantile(0.5, "job_name", DURATION, "1d"), "p50, one day", color="green"),
        Line(ONE.quantile(0.95, "job_name", DURATION, "1d"), "p95, one day", color="yellow"),
        Line(ONE.mean("job_name", DURATION, "1d"), "mean, one day", color="purple"),
        Line(defined("chroniker_job_expected_seconds"), "expected", dashed=True, color="orange"),
        Line(defined("chroniker_job_timeout_seconds"), "timeout", dashed=True, color="red"),
        Line(defined("chroniker_job_minimum_seconds"), "minimum", dashed=True, color="blue"),
        unit="s",
    )
    progress = chart(
        "Progress",
        "The progress of the run in progress, if the job reports it.",
        Line(
            f"{ONE.placement('chroniker_job_progress_ratio')}"
            f" and on (job_name, host) {EXPRESSIONS.running}"
            f" or 0 * {ONE.placement('chroniker_job_running')}",
            "done {{host}}",
        ),
        unit="percentunit",
        highest=1,
    )
    return Row(9, [(14, duration), (10, progress)])


def count_row() -> Row:
    runs = ONE.increase("host", "chroniker_job_runs_total", HOURLY)
    failures = ONE.increase("host, reason", "chroniker_job_failures_total", HOURLY)
    missed = ONE.increase("host, reason", "chroniker_job_missed_runs_total", HOURLY)
    retries = ONE.increase("host", "chroniker_job_retries_total", HOURLY)
    interrupted = ONE.increase("host", "chroniker_job_interrupted_runs_total", HOURLY)
    return Row(
        7,
        [
            (
                8,
                chart(
                    "Runs and retries per hour",
                    "Finished runs, retries of failed runs, and runs that a shutdown interrupted. "
                    "Each bar is one hour.",
                    Line(f"sum({runs})", "runs"),
                    # Absent until the first one, or with CHRONIKER_METRICS_DETAIL "low".
                    Line(f"sum({retries}) or 0 * sum({runs})", "retries", color="orange"),
                    Line(f"sum({interrupted}) or 0 * sum({runs})", "interrupted", color="blue"),
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
                    "Skipped slots. Each bar is one hour.",
                    Line(f"sum by (reason) ({missed})", "{{reason}}"),
                    bars=True,
                    step=HOURLY,
                ),
            ),
        ],
    )


def cost_row() -> Row:
    cpu = ONE.increase("host", "chroniker_job_cpu_seconds_total", "1d")
    runs = ONE.increase("host", "chroniker_job_runs_total", "1d")
    lag = chart(
        "Start lag",
        "Delay between the due time and the start of a run: mean and, with "
        'CHRONIKER_METRICS_DETAIL "high", 95th percentile (p95) of the last day, and the start '
        "deadline, if the job has one.",
        Line(ONE.mean("job_name", LAG, "1d"), "mean, one day", color="green"),
        Line(ONE.quantile(0.95, "", LAG, "1d"), "p95, one day", color="yellow"),
        Line(defined("chroniker_job_start_deadline_seconds"), "deadline", dashed=True, color="red"),
        unit="s",
    )
    processor = chart(
        "CPU time per run",
        "Average of the runs in the last day.",
        Line(f"sum by (host) ({cpu}) / (sum by (host) ({runs}) > 0)", "CPU {{host}}"),
        unit="s",
    )
    memory = chart(
        "Memory of the last run",
        "Peak resident memory of its largest process.",
        Line(ONE.placement("chroniker_job_last_max_rss_bytes"), "resident {{host}}"),
        unit="bytes",
    )
    return Row(7, [(8, lag), (8, processor), (8, memory)])


def definition_row() -> Row:
    labels = "job_name, command, kind, schedule, timezone, hostname, team, severity"
    definition = table_panel(
        "Definition",
        "The job as defined in the admin.",
        Column("Command", DEFINED.by(labels, "chroniker_job_info"), label="command"),
        Column("Enabled", defined("chroniker_job_enabled"), mapping=YES_NO),
        Column("Muted", MUTED, mapping=YES_NO),
        keys={
            "job_name": "Job",
            "kind": "Kind",
            "schedule": "Schedule",
            "timezone": "Time zone",
            "hostname": "Host",
            "team": "Team",
            "severity": "Severity",
        },
        no_value="no such job",
    )
    blocked = table_panel(
        "Blocked by",
        "Why the job does not start although it is due.",
        Column(
            "Due for",
            f"({EXPRESSIONS.blocked}) * 0 + on (job_name, host) group_left () ({EXPRESSIONS.due})",
            unit="s",
        ),
        keys={"reason": "Reason", "host": "Host"},
        no_value="not blocked",
    )
    return Row(5, [(16, definition), (8, blocked)])


def build() -> Dashboard:
    return compose(
        "chroniker-job",
        "One job: its state, runs, duration, progress, start lag and resources.",
        {
            "": [now_row(), history_row(), time_row()],
            "Runs": [count_row()],
            "Cost": [cost_row()],
            "Configuration": [definition_row()],
        },
        variables=[
            query_variable(
                "job_name",
                "Job",
                f"label_values(chroniker_job_enabled{{{e.SITE}}}, job_name)",
                "The job to show.",
                several=False,
            ),
            query_variable(
                "host",
                "Host",
                f'label_values(chroniker_job_running{{{e.SITE}, job_name="$job_name"}}, host)',
                "The host, for a job that runs on every host.",
                several=True,
            ),
        ],
        annotations=[
            failed_runs(ONE.placement("chroniker_job_last_failure_timestamp_seconds")),
            maintenance(f"{defined('chroniker_job_muted')} == 1", "Maintenance"),
        ],
        since="now-7d",
    )
