"""Fleet: is anything wrong, right now?"""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from . import expressions as e
from .frame import chosen, compose, failed_runs, maintenance
from .panels import (
    ENDINGS,
    HOURLY,
    PERCENT_BAR,
    YES,
    Column,
    Line,
    Row,
    bad_from,
    chart,
    good_from,
    listing,
    number,
    ranking,
)

ALL = e.Scope(f'{e.SITE}, job_name=~"$job_name"')
HOSTS = e.Scope(e.SITE)
FACTS = e.Facts(ALL)
KEYS = {"job_name": "Job", "host": "Host"}
MUTED = ALL.job("chroniker_job_muted")
SECONDS_AGO = {"custom.width": 130}


def of(failing: str, which: str) -> str:
    """That metric of those jobs."""
    return f"{failing} and on (job_name, host) ({which})"


def now_row() -> Row:
    severities = f"max by (job_name, host) ({HOSTS.raw('chroniker_monitor_severity')})"
    silent = f"time() - {HOSTS.host('chroniker_host_last_tick_timestamp_seconds')}"
    numbers = [
        number(
            "Failing jobs",
            "Enabled jobs of which as many runs in a row failed as make an alert; monitors are "
            "counted apart. The table below names them.",
            e.count(FACTS.failing),
            thresholds=bad_from(1),
        ),
        number(
            "Late jobs",
            f"Jobs that should have started more than {e.LATE_SECONDS} seconds ago and do not "
            "run, but for those that wait for another one.",
            e.count(FACTS.late),
            thresholds=bad_from(1),
        ),
        number(
            "About to miss a deadline",
            "Jobs that have used half of the time in which they may start or run, or most of the "
            "time that they are expected to take.",
            e.count(f"max by (job_name, host) ({FACTS.hurried})"),
            thresholds=bad_from(1, "orange"),
        ),
        number(
            "Blocked jobs",
            "Jobs that are due and cannot start: they wait for another one, or something is "
            "wrong with their definition.",
            e.count(f"max by (job_name, host) ({FACTS.blocked})"),
            thresholds=bad_from(1, "orange"),
        ),
        number(
            "Running now",
            "Runs that go on, on all hosts.",
            e.or_zero(f"sum({ALL.slot('chroniker_job_running')})"),
        ),
        number(
            "Open incidents",
            "Incidents that have been mailed and are not over, of every severity.",
            e.or_zero(f"sum({HOSTS.by('severity', 'chroniker_incidents_open')})"),
            thresholds=bad_from(1),
        ),
        number(
            "Monitors not ok",
            "Monitors that are warning, critical or unknown.",
            e.count(f"{severities} > 0"),
            thresholds=bad_from(1),
        ),
        number(
            "Silent hosts",
            f"Hosts that have not ticked for more than {e.SILENT_SECONDS} seconds.",
            e.count(f"{silent} > {e.SILENT_SECONDS}"),
            thresholds=bad_from(1),
        ),
    ]
    return Row(4, [(3, panel) for panel in numbers])


def trouble_row() -> Row:
    failing = listing(
        "What is failing",
        "Enabled jobs of which as many runs in a row failed as make an alert, the longest series "
        "of failures first. Click a name to look at the job.",
        Column("Failures in a row", FACTS.failing),
        Column(
            "How",
            of(FACTS.status, FACTS.failing),
            label="status",
            mapping=ENDINGS,
        ),
        Column(
            "Last failure",
            of(
                f"({ALL.slot('chroniker_job_last_failure_timestamp_seconds')} > 0) * 1000",
                FACTS.failing,
            ),
            unit="dateTimeFromNow",
        ),
        Column(
            "Last success",
            of(
                f"({ALL.slot('chroniker_job_last_success_timestamp_seconds')} > 0) * 1000",
                FACTS.failing,
            ),
            unit="dateTimeFromNow",
        ),
        keys=KEYS,
        sort="Failures in a row",
        none="nothing fails",
    )
    late = listing(
        "What is late",
        "Jobs that should have started and do not run, but for those that wait for another one; "
        "with the reason where the scheduler knows one, and the time that is left until the slot "
        "is missed.",
        Column("Late by", FACTS.late, unit="s"),
        Column("Blocked by", of(FACTS.blocked, FACTS.late), label="reason"),
        Column(
            "Missed in",
            of(
                f"({ALL.job('chroniker_job_start_deadline_seconds')} > 0)"
                f" - on (job_name) group_right () ({FACTS.due})",
                FACTS.late,
            ),
            unit="s",
        ),
        keys=KEYS,
        sort="Late by",
        none="nothing is late",
    )
    return Row(8, [(12, failing), (12, late)])


def running_row() -> Row:
    progress = ALL.slot("chroniker_job_progress_ratio")
    running = listing(
        "What runs, and how far it is",
        "Runs that go on. The time left is reckoned from the progress that the job tells.",
        Column("Running for", FACTS.elapsed, unit="s"),
        Column(
            "Progress", of(f"{progress} > 0", FACTS.running), unit="percentunit", more=PERCENT_BAR
        ),
        Column(
            "Left",
            f"({FACTS.elapsed}) * on (job_name, host)"
            f" ((1 - {progress}) / ({progress} > 0)) and on (job_name, host) {FACTS.running}",
            unit="s",
        ),
        Column(
            "Of its timeout",
            f"max by (job_name, host) ({FACTS.to_end})",
            unit="percentunit",
            more=PERCENT_BAR,
        ),
        keys=KEYS,
        sort="Running for",
        none="nothing runs",
    )
    hurried = listing(
        "What is about to miss its deadline",
        "The share of the time that is used, of those who have used half of the time until they "
        "must have started (start) or are ended (timeout), or 80 % of the expected time.",
        Column("Used", FACTS.hurried, unit="percentunit", more=PERCENT_BAR),
        keys=KEYS | {"deadline": "Deadline"},
        sort="Used",
        none="everybody is in time",
    )
    return Row(8, [(14, running), (10, hurried)])


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
                    number(
                        "Success ratio, one day",
                        "Which part of the runs that ended within a day ended well.",
                        e.success_ratio(ALL, "1d"),
                        unit="percentunit",
                        decimals=1,
                        thresholds=good_from(0.99, 0.9),
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
                listing(
                    "All jobs",
                    "Every job, with its last ending, its next start and its day.",
                    Column(
                        "Last run",
                        FACTS.status,
                        label="status",
                        mapping=ENDINGS,
                    ),
                    Column(
                        "Ended",
                        f"({ALL.slot('chroniker_job_last_run_timestamp_seconds')} > 0) * 1000",
                        unit="dateTimeFromNow",
                    ),
                    Column("Took", ALL.slot("chroniker_job_last_duration_seconds"), unit="s"),
                    Column(
                        "Next start",
                        f"({ALL.slot('chroniker_job_next_run_timestamp_seconds')} > 0) * 1000",
                        unit="dateTimeFromNow",
                    ),
                    Column("Running", ALL.slot("chroniker_job_running"), mapping=YES),
                    Column("Runs, one day", runs, more={"decimals": 0}),
                    Column(
                        "Failures, one day",
                        f"sum by (job_name, host) ({failures})",
                        more={"decimals": 0},
                    ),
                    Column("Enabled", ALL.job("chroniker_job_enabled"), mapping=YES),
                    Column("Muted", MUTED, mapping=YES),
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
            "": [now_row(), trouble_row(), running_row()],
            "The day": day_rows(),
            "Every job": [every_job()],
        },
        variables=[
            chosen(
                "job_name",
                "Job",
                f"label_values(chroniker_job_enabled{{{e.SITE}}}, job_name)",
                "The jobs to look at.",
                several=True,
            )
        ],
        annotations=[
            failed_runs(ALL.slot("chroniker_job_last_failure_timestamp_seconds")),
            maintenance(f"count({MUTED} == 1)", "Maintenance"),
        ],
        since="now-24h",
    )
