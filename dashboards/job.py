"""Job: how is this one doing?"""

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
DURATION = "chroniker_job_duration_seconds"
LAG = "chroniker_job_start_lag_seconds"


def defined(name: str) -> str:
    return DEFINED.job(name)


def status() -> str:
    """The last ending as the number that stands for it."""
    numbers = " or ".join(
        f"{value} * " + ONE.raw("chroniker_job_last_run_status", f'status="{text}"')
        for value, (text, _) in STATUSES.items()
        if value
    )
    return f"max by (job_name, host) ({numbers})"


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
                "Whether it runs, waits for its time, is due and held back, or is disabled.",
                state,
                unit="none",
                mapping=states,
            ),
        ),
        (
            4,
            stat_panel(
                "Last run",
                "How the last run ended; of a job that runs on every host, the worst of them.",
                f"max({status()})",
                unit="none",
                mapping=STATUSES,
            ),
        ),
        (
            4,
            stat_panel(
                "Last success",
                "When a run last ended well.",
                f"max({ONE.placement('chroniker_job_last_success_timestamp_seconds')} > 0) * 1000",
                unit="dateTimeFromNow",
                none="never",
            ),
        ),
        (
            4,
            stat_panel(
                "Next start",
                "When the schedule starts it next.",
                f"min({ONE.placement('chroniker_job_next_run_timestamp_seconds')} > 0) * 1000",
                unit="dateTimeFromNow",
                none="not by schedule",
            ),
        ),
        (
            4,
            stat_panel(
                "Failures in a row",
                "Failures since the last success; of several hosts, the most.",
                f"max({ONE.placement('chroniker_job_consecutive_failures')})",
                thresholds=red_from(1),
            ),
        ),
        (
            4,
            stat_panel(
                "Success ratio, seven days",
                "Which part of the runs that ended within a week ended well.",
                e.success_ratio(ONE, "7d"),
                unit="percentunit",
                decimals=1,
                thresholds=green_from(0.99, 0.9),
                none="no run",
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
                    "How the last run had ended at each moment, and when the job ran and was "
                    "muted.",
                    Line(status(), "last run {{host}}"),
                    Line(f"10 + {ONE.placement('chroniker_job_running')}", "running {{host}}"),
                    Line(f"20 + {defined('chroniker_job_muted')}", "muted"),
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
        "What the last run took, what half and 19 of 20 of the runs within a day took at most, "
        "and the limits where the job has any.",
        Line(ONE.placement("chroniker_job_last_duration_seconds"), "last {{host}}", color="blue"),
        Line(ONE.quantile(0.5, "job_name", DURATION, "1d"), "p50, one day", color="green"),
        Line(ONE.quantile(0.95, "job_name", DURATION, "1d"), "p95, one day", color="yellow"),
        Line(defined("chroniker_job_expected_seconds"), "expected", dashed=True, color="orange"),
        Line(defined("chroniker_job_timeout_seconds"), "timeout", dashed=True, color="red"),
        unit="s",
    )
    progress = chart(
        "Progress",
        "How much of its work the run had done at each moment, where the job tells it.",
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
    return Row(
        7,
        [
            (
                8,
                chart(
                    "Runs and retries per hour",
                    "Runs that ended, and how many of the attempts were further ones at slots "
                    "whose run had failed; each bar is one hour.",
                    Line(f"sum({runs})", "runs"),
                    Line(f"sum({retries})", "retries", color="orange"),
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
                    "Slots that were knowingly not run; each bar is one hour.",
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
        "Lag of the starts",
        "How long after they were due the runs within a day started: half, and 19 of 20 of them; "
        "and how late a run may start, where the job says so.",
        Line(ONE.quantile(0.5, "", LAG, "1d"), "p50, one day", color="green"),
        Line(ONE.quantile(0.95, "", LAG, "1d"), "p95, one day", color="yellow"),
        Line(defined("chroniker_job_start_deadline_seconds"), "deadline", dashed=True, color="red"),
        unit="s",
    )
    processor = chart(
        "CPU time of a run",
        "On average over the runs within a day.",
        Line(f"sum by (host) ({cpu}) / (sum by (host) ({runs}) > 0)", "CPU {{host}}"),
        unit="s",
    )
    memory = chart(
        "Memory of the last run",
        "The most that one of its processes had resident.",
        Line(ONE.placement("chroniker_job_last_max_rss_bytes"), "resident {{host}}"),
        unit="bytes",
    )
    return Row(7, [(8, lag), (8, processor), (8, memory)])


def definition_row() -> Row:
    labels = "job_name, command, kind, schedule, timezone, hostname"
    definition = table_panel(
        "Definition",
        "What people defined.",
        Column("Command", DEFINED.by(labels, "chroniker_job_info"), label="command"),
        Column("Enabled", defined("chroniker_job_enabled"), mapping=YES_NO),
        Column("Muted", defined("chroniker_job_muted"), mapping=YES_NO),
        keys={
            "job_name": "Job",
            "kind": "Kind",
            "schedule": "Schedule",
            "timezone": "Time zone",
            "hostname": "Host",
        },
        none="no such job",
    )
    blocked = table_panel(
        "Held back by",
        "Why it does not start although it is due.",
        Column(
            "Since",
            f"({EXPRESSIONS.blocked}) * 0 + on (job_name, host) group_left () ({EXPRESSIONS.due})",
            unit="s",
        ),
        keys={"reason": "Reason", "host": "Host"},
        none="nothing",
    )
    return Row(5, [(16, definition), (8, blocked)])


def build() -> Dashboard:
    return compose(
        "chroniker-job",
        "How is this job doing? Its runs, duration, progress, lag and resources.",
        {
            "": [now_row(), history_row(), time_row()],
            "Runs": [count_row()],
            "Cost": [cost_row()],
            "What people defined": [definition_row()],
        },
        variables=[
            query_variable(
                "job_name",
                "Job",
                f"label_values(chroniker_job_enabled{{{e.SITE}}}, job_name)",
                "The job to look at.",
                several=False,
            ),
            query_variable(
                "host",
                "Host",
                f'label_values(chroniker_job_running{{{e.SITE}, job_name="$job_name"}}, host)',
                "The host, of a job that runs on every one.",
                several=True,
            ),
        ],
        annotations=[
            failed_runs(ONE.placement("chroniker_job_last_failure_timestamp_seconds")),
            maintenance(f"{defined('chroniker_job_muted')} == 1", "Maintenance"),
        ],
        since="now-7d",
    )
