"""The table of all metrics: name, meaning, source of the values, example query.

Names and labels are a contract: alert rules, dashboards and users' queries depend on them.
``docs/reference/metrics.md`` is generated from this table. Each family belongs to one level:

- job: one series per job; its definition,
- placement: state that the scheduler wrote; one series per job, or per host (label ``host``) for
  a job that runs on every host,
- monitor: one series per monitor; its definition,
- sample: the last measurement; one series per monitor, or per host like a placement; and, of some
  families, one more for each group (label ``series``),
- host: one series per host that ticks,
- fleet: one series per site; all jobs together,
- incident: one series per site; incidents and notifications,
- collector: one series per site; the scrape itself.

``CHRONIKER_METRICS_DETAIL`` chooses how much of it is exported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from chroniker.enums import BlockedReason, FailureReason, MissedReason, RunStatus, Severity
from chroniker_monitors.enums import MetricsDetail

LOW, DEFAULT, HIGH = MetricsDetail
GAUGE, COUNTER, HISTOGRAM, SUMMARY = "gauge", "counter", "histogram", "summary"
UNITS = ("seconds", "bytes", "ratio")
BLOCKED_LABELS = tuple(reason.value for reason in BlockedReason)
FINAL_STATUSES = tuple(
    status.value for status in RunStatus if status not in (RunStatus.RUNNING, RunStatus.MISSED)
)
"""The statuses in which a run can end. A missed run never started, so it is not one of them."""
FAILURE_LABELS = tuple(reason.value for reason in FailureReason)
MISSED_LABELS = tuple(reason.value for reason in MissedReason)


def format_go_float(number: float) -> str:
    """Format a number as Go does."""
    text: str = floatToGoString(number)  # type: ignore[no-untyped-call]
    return text


def bucket_labels(bounds: Sequence[float]) -> list[str]:
    """Return the values of label ``le``, formatted as in Go."""
    return [*map(format_go_float, bounds), "+Inf"]


class Series(NamedTuple):
    """One line of a family: sample name, labels with fixed values, name of the number shown."""

    name: str
    labels: tuple[tuple[str, str], ...]
    number: str


@dataclass(frozen=True, slots=True, eq=False)
class MetricFamily:
    """A metric.

    ``number``: name of its value in :mod:`.numbers`.
    ``by``: a label, and for each value of the label the name of that series' number.
    ``texts``: labels whose values come from the row.
    ``optional``: omit the line if there is no number. All other lines exist from the start, at 0.
    ``has_series``: whether a monitor with groups has one more line for each of them.
    ``exemplar``: name of the exemplars (:mod:`.numbers`) that OpenMetrics shows on its lines.
    ``least``: the lowest detail that has the family.
    ``full``: the lowest detail that has its lines whose number is ``usual``.
    ``buckets``: the lowest detail at which a histogram has buckets; below, it is a summary.
    """

    name: str
    type: str
    help: str
    example: str
    number: str = ""
    by: tuple[str, Mapping[str, str]] = ("", {})
    texts: tuple[str, ...] = ()
    optional: bool = False
    exemplar: str = ""
    least: MetricsDetail = LOW
    full: MetricsDetail = LOW
    usual: float = 0
    buckets: MetricsDetail = DEFAULT
    sparse: bool = False
    """Whether its lines with the usual number are left out. Set by :meth:`at`."""

    def at(self, detail: MetricsDetail, *, histograms: bool) -> MetricFamily | None:
        """Return the family as it is exported with this detail, or None."""
        if detail.rank < self.least.rank:
            return None
        family = self
        if self.type == HISTOGRAM and not (histograms and detail.rank >= self.buckets.rank):
            family = replace(family, type=SUMMARY, exemplar="")
        if detail.rank < self.full.rank:
            family = replace(family, optional=True, sparse=True, exemplar="")
        return family

    has_series: bool = False

    @property
    def base(self) -> str:
        """The family name in OpenMetrics and prometheus_client: a counter's without ``_total``."""
        return self.name.removesuffix("_total") if self.type == COUNTER else self.name

    @property
    def unit(self) -> str:
        """The unit, which is the suffix of the name; empty if it has none."""
        return next((unit for unit in UNITS if self.base.endswith(f"_{unit}")), "")

    def series(self, bounds: Sequence[float]) -> list[Series]:
        """Return its lines, in the order of prometheus_client's output."""
        if self.type == HISTOGRAM:
            return [
                *(
                    Series(f"{self.name}_bucket", (("le", limit),), f"{self.number}_le_{limit}")
                    for limit in bucket_labels(bounds)
                ),
                Series(f"{self.name}_count", (), f"{self.number}_le_+Inf"),
                Series(f"{self.name}_sum", (), f"{self.number}_seconds_sum"),
            ]
        if self.type == SUMMARY:
            return [
                Series(f"{self.name}_count", (), f"{self.number}_count"),
                Series(f"{self.name}_sum", (), f"{self.number}_seconds_sum"),
            ]
        label, numbers = self.by
        if label:
            return [Series(self.name, ((label, value),), key) for value, key in numbers.items()]
        return [Series(self.name, (), self.number)]

    def labels(self, level: str) -> tuple[str, ...]:
        """Return the sorted names of its labels."""
        own = {"le"} if self.type == HISTOGRAM else {self.by[0]} - {""}
        common = {
            "job": {"job_name"},
            "placement": {"host", "job_name"},
            "monitor": {"job_name"},
            "sample": {"host", "job_name"},
            "host": {"host"},
        }
        groups = {"series"} if self.has_series else set()
        return tuple(sorted({*self.texts, *own, *groups, *common.get(level, ())}))

    def metric(self) -> Metric:
        """Return it as a metric of prometheus_client, without samples."""
        return Metric(self.base, self.help, self.type, self.unit)


JOB_FAMILIES = (
    MetricFamily(
        "chroniker_job_info",
        GAUGE,
        "Definition of the job; always 1. The label `command` also names a task, or the program of "
        "a raw command.",
        "chroniker_job_running * on (instance, job_name) group_left (command) chroniker_job_info",
        number="one",
        texts=("command", "hostname", "kind", "schedule", "severity", "team", "timezone"),
    ),
    MetricFamily(
        "chroniker_job_enabled",
        GAUGE,
        "1 if the job is enabled, 0 if it is disabled.",
        "count(chroniker_job_enabled == 0)",
        number="enabled",
    ),
    MetricFamily(
        "chroniker_job_muted",
        GAUGE,
        "1 while a maintenance window mutes the alerts of the job.",
        "max by (job_name) (chroniker_job_muted) == 1",
        number="muted",
        full=HIGH,
    ),
    MetricFamily(
        "chroniker_job_expected_seconds",
        GAUGE,
        "Expected duration of a run; absent if the job has none.",
        "time() - (chroniker_job_start_timestamp_seconds > 0)"
        " > on (instance, job_name) group_left () chroniker_job_expected_seconds",
        number="expected_seconds",
        optional=True,
    ),
    MetricFamily(
        "chroniker_job_timeout_seconds",
        GAUGE,
        "Time limit of a run, after which it is stopped; absent if the job has none.",
        "chroniker_job_last_duration_seconds"
        " / on (instance, job_name) group_left () chroniker_job_timeout_seconds > 0.9",
        number="timeout_seconds",
        optional=True,
        least=DEFAULT,
    ),
    MetricFamily(
        "chroniker_job_start_deadline_seconds",
        GAUGE,
        "Longest delay of a start before the slot is missed; absent if the job has none.",
        "chroniker_job_start_deadline_seconds < 60",
        number="start_deadline_seconds",
        optional=True,
        least=DEFAULT,
    ),
    MetricFamily(
        "chroniker_job_failures_before_alert",
        GAUGE,
        "Consecutive failures that open an incident.",
        "max by (job_name, host) (chroniker_job_consecutive_failures) >= on (job_name)"
        " group_left () max by (job_name) (chroniker_job_failures_before_alert)",
        number="failures_before_alert",
        full=HIGH,
        usual=1,
    ),
    MetricFamily(
        "chroniker_job_minimum_seconds",
        GAUGE,
        "A run that succeeds faster is suspicious; absent if the job has no minimum.",
        "chroniker_job_last_duration_seconds"
        " < on (instance, job_name) group_left () chroniker_job_minimum_seconds",
        number="minimum_seconds",
        optional=True,
    ),
    MetricFamily(
        "chroniker_job_success_objective_ratio",
        GAUGE,
        "Share of the runs in 30 days that should succeed, 0 to 1; absent if the job has none.",
        "1 - max by (job_name) (chroniker_job_success_objective_ratio)",
        number="success_objective",
        optional=True,
    ),
)

PLACEMENT_FAMILIES = (
    MetricFamily(
        "chroniker_job_running",
        GAUGE,
        "1 while a run of the job is in progress.",
        "sum(max by (job_name, host) (chroniker_job_running))",
        number="running",
    ),
    MetricFamily(
        "chroniker_job_blocked",
        GAUGE,
        "1 while the job is due but cannot start, by reason.",
        "max by (job_name, reason) (chroniker_job_blocked) == 1",
        by=("reason", {reason: f"blocked_{reason}" for reason in BLOCKED_LABELS}),
        full=HIGH,
    ),
    MetricFamily(
        "chroniker_job_runs_total",
        COUNTER,
        "Finished runs, whatever their result.",
        "sum by (job_name) (increase(chroniker_job_runs_total[1d]))",
        number="runs_total",
    ),
    MetricFamily(
        "chroniker_job_failures_total",
        COUNTER,
        "Runs that did not succeed, by reason.",
        "sum by (job_name, reason) (increase(chroniker_job_failures_total[1h])) > 0",
        by=("reason", {reason: f"failures_{reason}" for reason in FAILURE_LABELS}),
        exemplar="failures",
        full=DEFAULT,
    ),
    MetricFamily(
        "chroniker_job_missed_runs_total",
        COUNTER,
        "Slots that were skipped, by reason.",
        "sum by (job_name, reason) (increase(chroniker_job_missed_runs_total[1h])) > 0",
        by=("reason", {reason: f"missed_{reason}" for reason in MISSED_LABELS}),
        full=DEFAULT,
    ),
    MetricFamily(
        "chroniker_job_interrupted_runs_total",
        COUNTER,
        "Runs that a shutdown ended. They are no failures, and are started again.",
        "sum by (job_name) (increase(chroniker_job_interrupted_runs_total[1d]))",
        number="interrupted_total",
        full=DEFAULT,
    ),
    MetricFamily(
        "chroniker_job_retries_total",
        COUNTER,
        "Retries of failed runs.",
        "topk(10, increase(chroniker_job_retries_total[1d]))",
        number="retries_total",
        least=DEFAULT,
        full=HIGH,
    ),
    MetricFamily(
        "chroniker_job_consecutive_failures",
        GAUGE,
        "Failures since the last success.",
        "max by (job_name) (chroniker_job_consecutive_failures) >= 3",
        number="consecutive_failures",
        full=DEFAULT,
    ),
    MetricFamily(
        "chroniker_job_last_run_status",
        GAUGE,
        "1 for the status of the last finished run, 0 for all others.",
        'chroniker_job_last_run_status{status!="succeeded"} == 1',
        by=("status", {status: f"status_{status}" for status in FINAL_STATUSES}),
        full=HIGH,
    ),
    MetricFamily(
        "chroniker_job_duration_seconds",
        HISTOGRAM,
        "Duration of runs.",
        "histogram_quantile(0.95, sum by (job_name, le)"
        " (rate(chroniker_job_duration_seconds_bucket[1d])))",
        number="duration",
        exemplar="duration",
    ),
    MetricFamily(
        "chroniker_job_start_lag_seconds",
        HISTOGRAM,
        "Delay between the time a run was due and its start.",
        "histogram_quantile(0.99, sum by (le) (rate(chroniker_job_start_lag_seconds_bucket[1h])))",
        number="start_lag",
        least=DEFAULT,
        buckets=HIGH,
    ),
    MetricFamily(
        "chroniker_job_last_duration_seconds",
        GAUGE,
        "Duration of the last run; 0 before the first run has finished.",
        "topk(10, chroniker_job_last_duration_seconds)",
        number="last_duration_seconds",
        optional=True,
    ),
    MetricFamily(
        "chroniker_job_start_timestamp_seconds",
        GAUGE,
        "Start time of the run in progress; 0 if there is none.",
        "time() - (chroniker_job_start_timestamp_seconds > 0)",
        number="started_at",
        full=HIGH,
    ),
    MetricFamily(
        "chroniker_job_last_run_timestamp_seconds",
        GAUGE,
        "Time at which the last run ended; 0 before the first run has finished.",
        "time() - (chroniker_job_last_run_timestamp_seconds > 0) > 7 * 86400",
        number="last_ended_at",
    ),
    MetricFamily(
        "chroniker_job_last_success_timestamp_seconds",
        GAUGE,
        "Time at which a run last succeeded; 0 if none has.",
        "time() - chroniker_job_last_success_timestamp_seconds > 86400",
        number="last_success_at",
    ),
    MetricFamily(
        "chroniker_job_last_failure_timestamp_seconds",
        GAUGE,
        "Time at which a run last ended without success; 0 if none has.",
        "chroniker_job_last_failure_timestamp_seconds"
        " > chroniker_job_last_success_timestamp_seconds",
        number="last_failure_at",
        least=DEFAULT,
        full=HIGH,
    ),
    MetricFamily(
        "chroniker_job_next_run_timestamp_seconds",
        GAUGE,
        "Time of the next scheduled start; 0 if none is scheduled.",
        "time() - (chroniker_job_next_run_timestamp_seconds > 0) > 300",
        number="next_run_at",
        full=DEFAULT,
    ),
    MetricFamily(
        "chroniker_job_progress_ratio",
        GAUGE,
        "Progress of the run, from 0 to 1; 0 if the job reports no progress.",
        "chroniker_job_progress_ratio and on (job_name, host) chroniker_job_running == 1",
        number="progress_ratio",
        least=DEFAULT,
        full=HIGH,
    ),
    MetricFamily(
        "chroniker_job_progress_parts",
        GAUGE,
        "Parts that the run has completed.",
        "deriv(chroniker_job_progress_parts[10m])",
        number="parts_done",
        least=DEFAULT,
        full=HIGH,
    ),
    MetricFamily(
        "chroniker_job_progress_parts_expected",
        GAUGE,
        "Total parts of the run; 0 if the job reports no progress.",
        "chroniker_job_progress_parts_expected - chroniker_job_progress_parts",
        number="parts_total",
        least=DEFAULT,
        full=HIGH,
    ),
    MetricFamily(
        "chroniker_job_progress_timestamp_seconds",
        GAUGE,
        "Time at which the run last reported progress; 0 if it has not.",
        "time() - (chroniker_job_progress_timestamp_seconds > 0) > 900"
        " and on (job_name, host) chroniker_job_running == 1",
        number="progress_at",
        full=HIGH,
    ),
    MetricFamily(
        "chroniker_job_cpu_seconds_total",
        COUNTER,
        "CPU time used by runs.",
        "topk(10, rate(chroniker_job_cpu_seconds_total[1d]))",
        number="cpu_seconds_total",
        least=DEFAULT,
    ),
    MetricFamily(
        "chroniker_job_last_max_rss_bytes",
        GAUGE,
        "Peak resident memory of the largest process of the last run; 0 if unknown.",
        "topk(10, chroniker_job_last_max_rss_bytes)",
        number="last_max_rss_bytes",
        least=DEFAULT,
        full=HIGH,
    ),
    MetricFamily(
        "chroniker_job_deadline_timestamp_seconds",
        GAUGE,
        "Until when the run of the slot that runs or comes next should have succeeded; absent if "
        "the job has no deadline.",
        "time() > max by (job_name, host) (chroniker_job_deadline_timestamp_seconds)",
        number="deadline",
        optional=True,
    ),
    MetricFamily(
        "chroniker_job_expected_finish_timestamp_seconds",
        GAUGE,
        "When that run will probably end, the upstream jobs that it waits for included; absent if "
        "the job has no deadline.",
        "chroniker_job_expected_finish_timestamp_seconds"
        " > chroniker_job_deadline_timestamp_seconds",
        number="expected_finish",
        optional=True,
    ),
)

MONITOR_FAMILIES = (
    MetricFamily(
        "chroniker_monitor_info",
        GAUGE,
        "Kind and unit of the monitor; always 1.",
        "count by (kind) (max by (job_name, kind) (chroniker_monitor_info))",
        number="one",
        texts=("kind", "unit"),
    ),
    MetricFamily(
        "chroniker_monitor_threshold",
        GAUGE,
        "Threshold that the value is compared with by the operator; absent if it is not set. For "
        "the operator unusual, a factor.",
        'max by (job_name, operator) (chroniker_monitor_threshold{severity="critical"})',
        by=("severity", {"warning": "threshold_warning", "critical": "threshold_critical"}),
        texts=("operator",),
        optional=True,
    ),
)

SAMPLE_FAMILIES = (
    MetricFamily(
        "chroniker_monitor_value",
        GAUGE,
        "Last measured value; absent if the last probe failed (a failed probe is not 0). With "
        "groups, one for each of them.",
        'max by (job_name, host, series) (chroniker_monitor_value{job_name="Disk of /"})',
        number="value",
        optional=True,
        has_series=True,
    ),
    MetricFamily(
        "chroniker_monitor_severity",
        GAUGE,
        "Severity of the monitor: 0 ok, 1 warning, 2 critical, 3 unknown (the probe failed). With "
        "groups, also one for each of them; the one without the label series is the worst.",
        'max by (job_name, host) (chroniker_monitor_severity{series=""}) == 2',
        number="severity",
        has_series=True,
    ),
    MetricFamily(
        "chroniker_monitor_expected_low",
        GAUGE,
        "Lowest value that is not unusual at this hour of the week; absent if the monitor does not "
        "learn it or has too little history.",
        "chroniker_monitor_value < chroniker_monitor_expected_low",
        number="expected_low",
        optional=True,
        has_series=True,
    ),
    MetricFamily(
        "chroniker_monitor_expected_high",
        GAUGE,
        "Highest value that is not unusual at this hour of the week; absent like the lowest.",
        "chroniker_monitor_value > chroniker_monitor_expected_high",
        number="expected_high",
        optional=True,
        has_series=True,
    ),
    MetricFamily(
        "chroniker_monitor_dropped_series",
        GAUGE,
        "Groups that are not recorded because there are more than CHRONIKER_MONITORS_MAX_SERIES; "
        "absent if the monitor has no groups.",
        "max by (job_name, host) (chroniker_monitor_dropped_series) > 0",
        number="dropped_series",
        optional=True,
    ),
    MetricFamily(
        "chroniker_monitor_last_sample_timestamp_seconds",
        GAUGE,
        "Time of the last measurement, whether it gave a value or failed; 0 if never measured.",
        "time() - max by (job_name, host) (chroniker_monitor_last_sample_timestamp_seconds > 0)"
        " > 900",
        number="last_sample_at",
    ),
    MetricFamily(
        "chroniker_monitor_latency_seconds",
        GAUGE,
        "Duration of the last probe; absent before the first.",
        "topk(10, max by (job_name, host) (chroniker_monitor_latency_seconds))",
        number="latency_seconds",
        optional=True,
    ),
)

HOST_FAMILIES = (
    MetricFamily(
        "chroniker_host_last_tick_timestamp_seconds",
        GAUGE,
        "Time of the host's last tick; 0 if it has never ticked.",
        "time() - max by (host) (chroniker_host_last_tick_timestamp_seconds) > 300",
        number="last_tick_at",
    ),
    MetricFamily(
        "chroniker_host_tick_duration_seconds",
        GAUGE,
        "Duration of the host's last tick, until its jobs were started.",
        "max by (host) (chroniker_host_tick_duration_seconds) > 30",
        number="tick_seconds",
    ),
    MetricFamily(
        "chroniker_host_running_jobs",
        GAUGE,
        "Runs in progress on the host.",
        "sum(max by (host) (chroniker_host_running_jobs))",
        number="running_jobs",
    ),
    MetricFamily(
        "chroniker_host_paused",
        GAUGE,
        "1 if the host is paused: it starts no jobs.",
        "max by (host) (chroniker_host_paused) == 1",
        number="paused",
    ),
)

FLEET_FAMILIES = (
    MetricFamily(
        "chroniker_start_lag_seconds",
        HISTOGRAM,
        "Delay between the time a run was due and its start, all jobs together. Falls when a job "
        "is deleted.",
        "histogram_quantile(0.99, clamp_min(max by (le) (chroniker_start_lag_seconds_bucket)"
        " - max by (le) (chroniker_start_lag_seconds_bucket offset 1h), 0))",
        number="start_lag",
        buckets=LOW,
    ),
)

INCIDENT_FAMILIES = (
    MetricFamily(
        "chroniker_incidents_open",
        GAUGE,
        "Open incidents by severity, muted ones included.",
        "sum(max by (severity) (chroniker_incidents_open)) > 0",
        by=("severity", {severity: f"open_{severity}" for severity in Severity.values}),
    ),
    MetricFamily(
        "chroniker_notifications_pending",
        GAUGE,
        "Notifications that are waiting to be sent or retried.",
        "max(chroniker_notifications_pending) > 0",
        number="pending",
    ),
    MetricFamily(
        "chroniker_notification_failures_total",
        COUNTER,
        "Failed attempts to send a notification.",
        "max(increase(chroniker_notification_failures_total[1h])) > 0",
        number="notification_failures",
    ),
)

COLLECTOR_FAMILIES = (
    MetricFamily(
        "chroniker_collector_up",
        GAUGE,
        "1 if the database answered this scrape in time. Otherwise most other series are absent.",
        "max(chroniker_collector_up) == 0",
        number="up",
    ),
    MetricFamily(
        "chroniker_collector_duration_seconds",
        GAUGE,
        "Time it took to read the database for this scrape.",
        "max(chroniker_collector_duration_seconds) > 1",
        number="seconds",
    ),
    MetricFamily(
        "chroniker_collector_timeout_seconds",
        GAUGE,
        "Time limit for that.",
        "chroniker_collector_duration_seconds / chroniker_collector_timeout_seconds > 0.5",
        number="timeout",
    ),
    MetricFamily(
        "chroniker_collector_dropped_jobs",
        GAUGE,
        "Jobs that are not exported because there are more than CHRONIKER_METRICS_MAX_JOBS.",
        "max(chroniker_collector_dropped_jobs) > 0",
        number="dropped_jobs",
    ),
    MetricFamily(
        "chroniker_build_info",
        GAUGE,
        "Version of Chroniker; always 1.",
        "count by (version) (chroniker_build_info)",
        number="one",
        texts=("version",),
    ),
)

LEVELS: dict[str, tuple[MetricFamily, ...]] = {
    "job": JOB_FAMILIES,
    "placement": PLACEMENT_FAMILIES,
    "monitor": MONITOR_FAMILIES,
    "sample": SAMPLE_FAMILIES,
    "host": HOST_FAMILIES,
    "fleet": FLEET_FAMILIES,
    "incident": INCIDENT_FAMILIES,
    "collector": COLLECTOR_FAMILIES,
}
NAMES = frozenset(family.base for families in LEVELS.values() for family in families)
"""The family names as in prometheus_client."""


class MetricsConfig(NamedTuple):
    """Which parts of the table the site's settings export."""

    bounds: tuple[float, ...]
    histograms: bool
    detail: MetricsDetail = MetricsDetail.HIGH

    def families(self, level: str) -> tuple[MetricFamily, ...]:
        """Return the families of a level as they are exported."""
        return _families(level, self.detail, self.histograms)


@lru_cache(maxsize=64)
def _families(level: str, detail: MetricsDetail, histograms: bool) -> tuple[MetricFamily, ...]:
    found = (family.at(detail, histograms=histograms) for family in LEVELS[level])
    return tuple(family for family in found if family is not None)
