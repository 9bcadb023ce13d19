"""Hosts: do they tick, how busy are they, and are the metrics up to date?"""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from . import expressions as e
from .frame import compose, failed_runs, maintenance, query_variable
from .panels import (
    HOURLY,
    YES_NO,
    Column,
    Line,
    Row,
    chart,
    red_from,
    stat_panel,
    table_panel,
    timeline,
)

HOSTS = e.Scope(f'{e.SITE}, host=~"$host"')
ALL = e.Scope(e.SITE)
TICK = HOSTS.host("chroniker_host_last_tick_timestamp_seconds")
TOOK = HOSTS.host("chroniker_host_tick_duration_seconds")
RUNNING = HOSTS.host("chroniker_host_running_jobs")
PAUSED = HOSTS.host("chroniker_host_paused")
SINCE = f"time() - ({TICK} > 0)"


def site_value(name: str, how: str = "max") -> str:
    """A metric that the site has once."""
    return f"{how}({ALL.raw(name)})"


def now_row() -> Row:
    numbers = [
        stat_panel(
            "Hosts",
            "Hosts that tick, or have ticked.",
            e.count(TICK),
        ),
        stat_panel(
            "Silent hosts",
            f"Hosts that have not ticked for more than {e.SILENT_SECONDS} seconds.",
            e.count(f"time() - {TICK} > {e.SILENT_SECONDS}"),
            thresholds=red_from(1),
        ),
        stat_panel(
            "Paused hosts",
            "Hosts that are paused: they start no jobs.",
            e.count(f"{PAUSED} == 1"),
            thresholds=red_from(1, "orange"),
        ),
        stat_panel(
            "Running now",
            "Runs in progress on the selected hosts.",
            e.or_zero(f"sum({RUNNING})"),
        ),
        stat_panel(
            "Pending notifications",
            "Notifications that are not sent yet. If the number stays above zero, the mail server "
            "may be down.",
            e.or_zero(site_value("chroniker_notifications_pending")),
            thresholds=red_from(1, "orange"),
        ),
        stat_panel(
            "Metrics",
            "Whether the database answered the last scrape in time.",
            f"min({ALL.raw('chroniker_collector_up')})",
            unit="none",
            mapping={0: ("down", "red"), 1: ("up", "green")},
            no_value="no scrape",
        ),
    ]
    return Row(4, [(4, panel) for panel in numbers])


def hosts_row() -> Row:
    return Row(
        7,
        [
            (
                24,
                table_panel(
                    "Every host",
                    "All hosts; the one without a tick for the longest time is at the top.",
                    Column("Last tick", SINCE, unit="s"),
                    Column("Tick duration", TOOK, unit="s"),
                    Column("Running jobs", RUNNING),
                    Column("Paused", PAUSED, mapping=YES_NO),
                    keys={"host": "Host"},
                    sort="Last tick",
                    no_value="no host has ever ticked",
                ),
            )
        ],
    )


def tick_rows() -> list[Row]:
    since = chart(
        "Seconds since the last tick",
        "Normally it rises to a minute and drops to zero; above the line, a host is silent.",
        Line(SINCE, "{{host}}"),
        Line(f"vector({e.SILENT_SECONDS})", "silent", dashed=True, color="red"),
        unit="s",
    )
    took = chart(
        "Tick duration",
        "Until the jobs were started. A tick that takes a minute delays the next one.",
        Line(TOOK, "{{host}}"),
        unit="s",
    )
    running = chart("Running jobs", "Runs in progress on each host.", Line(RUNNING, "{{host}}"))
    paused = timeline(
        "Pauses",
        "When each host was paused.",
        Line(PAUSED, "{{host}}"),
        mapping={0: ("active", "green"), 1: ("paused", "blue")},
        no_value="no hosts",
    )
    return [Row(8, [(12, since), (12, took)]), Row(7, [(12, running), (12, paused)])]


def load_row() -> Row:
    cpu = ALL.increase("job_name, host", "chroniker_job_cpu_seconds_total", HOURLY)
    runs = ALL.increase("job_name, host", "chroniker_job_runs_total", HOURLY)
    lag = ALL.fleet_quantile(0.95, "chroniker_start_lag_seconds", HOURLY)
    return Row(
        7,
        [
            (
                8,
                chart(
                    "Runs per hour",
                    "Finished runs of the whole site. Each bar is one hour.",
                    Line(f"sum({runs})", "runs"),
                    bars=True,
                    step=HOURLY,
                ),
            ),
            (
                8,
                chart(
                    "CPU time of the jobs per hour",
                    "For the whole site. One hour of CPU time per hour is one busy core. CPU time "
                    "is counted when a run ends.",
                    Line(f"sum({cpu})", "CPU time"),
                    bars=True,
                    step=HOURLY,
                    unit="s",
                ),
            ),
            (
                8,
                chart(
                    "Start lag, p95, one hour",
                    "95 % of the runs in an hour started at most this long after they were due. "
                    "If it rises, the hosts are overloaded.",
                    Line(lag, "lag"),
                    unit="s",
                ),
            ),
        ],
    )


def collector_row() -> Row:
    failed = ALL.increase("job", "chroniker_notification_failures_total", HOURLY)
    mails = chart(
        "Notifications",
        "Pending notifications, and failed attempts to send one, per hour.",
        Line(site_value("chroniker_notifications_pending"), "waiting"),
        Line(f"sum({failed})", "failed, one hour", color="red"),
    )
    scrapes = chart(
        "Time to read the database for a scrape",
        "By scraped instance.",
        Line(
            f"max by (instance) ({ALL.raw('chroniker_collector_duration_seconds')})", "{{instance}}"
        ),
        unit="s",
    )
    up = timeline(
        "Metrics by instance",
        "Whether the database answered in time, by scraped instance.",
        Line(f"min by (instance) ({ALL.raw('chroniker_collector_up')})", "{{instance}}"),
        mapping={0: ("down", "red"), 1: ("up", "green")},
        no_value="no scrape",
    )
    versions = table_panel(
        "Versions",
        "The version of Chroniker on each scraped instance, and the number of jobs that it does "
        "not export because there are too many.",
        Column(
            "Dropped jobs", f"max by (instance) ({ALL.raw('chroniker_collector_dropped_jobs')})"
        ),
        Column(
            "Version",
            f"max by (instance, version) ({ALL.raw('chroniker_build_info')})",
            label="version",
        ),
        keys={"instance": "Instance"},
        no_value="no scrape",
    )
    return Row(7, [(6, mails), (6, scrapes), (6, up), (6, versions)])


def build() -> Dashboard:
    return compose(
        "chroniker-hosts",
        "Do the hosts tick, how busy are they, and are the metrics up to date?",
        {
            "": [now_row(), hosts_row()],
            "Ticks": tick_rows(),
            "Load": [load_row()],
            "Notifications and metrics": [collector_row()],
        },
        variables=[
            query_variable(
                "host",
                "Host",
                f"label_values(chroniker_host_last_tick_timestamp_seconds{{{e.SITE}}}, host)",
                "The hosts to show.",
                several=True,
            )
        ],
        annotations=[
            failed_runs(ALL.placement("chroniker_job_last_failure_timestamp_seconds")),
            maintenance(f"count({ALL.job('chroniker_job_muted')} == 1)", "Maintenance"),
        ],
        since="now-6h",
    )
