"""Every metric: its name, what it means, where its numbers come from, and how to use it.

The names and labels are a contract (docs/reference/metrics.md is made from this table): rules, dashboards
and other people's queries hang on them. A family belongs to one of these levels:

- job: once for each job; what people defined,
- slot: what the runner wrote, once for each job or, for a job that runs on every host, once for
  each host, with the label ``host``,
- monitor: once for each monitor; what people defined beside its job,
- sample: what was measured, once for each monitor or, like slots, for each of its hosts,
- host: once for each machine that ticks,
- incident: once; what people are told,
- collector: once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from chroniker.enums import FailureReason, MissedReason, RunStatus, Severity

GAUGE, COUNTER, HISTOGRAM = "gauge", "counter", "histogram"
UNITS = ("seconds", "bytes", "ratio")
BLOCKED_REASONS = ("dependency", "schedule", "command", "lock", "other")
"""The classes that a ``blocked_reason`` begins with; what has none of them is ``other``."""
FINAL_STATUSES = tuple(
    status.value for status in RunStatus if status not in (RunStatus.RUNNING, RunStatus.MISSED)
)
"""How a run can end: one that was missed never began."""
FAILURE_LABELS = tuple(reason.value for reason in FailureReason)
MISSED_LABELS = tuple(reason.value for reason in MissedReason)


def format_go_float(number: float) -> str:
    """A number as Go writes it."""
    text: str = floatToGoString(number)  # type: ignore[no-untyped-call]
    return text


def bucket_labels(bounds: Sequence[float]) -> list[str]:
    """The values of label ``le``, as Go writes them."""
    return [*map(format_go_float, bounds), "+Inf"]


class Series(NamedTuple):
    """A line of a family: sample name, labels with fixed values, and which number it shows."""

    name: str
    labels: tuple[tuple[str, str], ...]
    number: str


@dataclass(frozen=True, slots=True, eq=False)
class MetricFamily:
    """A metric.

    ``number`` names what it shows among :mod:`.numbers`; ``by`` is a label and, for each of its
    values, the number of that series; ``texts`` are labels that the row itself has.
    ``optional``: a line is absent where there is no number (all others are there from the start,
    at 0).
    ``exemplar``: which run OpenMetrics shows beside one of its lines.
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

    @property
    def base(self) -> str:
        """The name as OpenMetrics and prometheus_client have it: of a counter without _total."""
        return self.name.removesuffix("_total") if self.type == COUNTER else self.name

    @property
    def unit(self) -> str:
        """Its unit, which ends its name, or nothing."""
        return next((unit for unit in UNITS if self.base.endswith(f"_{unit}")), "")

    def series(self, bounds: Sequence[float]) -> list[Series]:
        """Its lines, in the order in which prometheus_client writes them."""
        if self.type == HISTOGRAM:
            return [
                *(
                    Series(f"{self.name}_bucket", (("le", limit),), f"{self.number}_le_{limit}")
                    for limit in bucket_labels(bounds)
                ),
                Series(f"{self.name}_count", (), f"{self.number}_le_+Inf"),
                Series(f"{self.name}_sum", (), f"{self.number}_seconds_sum"),
            ]
        label, numbers = self.by
        if label:
            return [Series(self.name, ((label, value),), key) for value, key in numbers.items()]
        return [Series(self.name, (), self.number)]

    def labels(self, level: str) -> tuple[str, ...]:
        """The names of its labels, sorted."""
        own = {"le"} if self.type == HISTOGRAM else {self.by[0]} - {""}
        common = {
            "job": {"job_name"},
            "slot": {"host", "job_name"},
            "monitor": {"job_name"},
            "sample": {"host", "job_name"},
            "host": {"host"},
        }
        return tuple(sorted({*self.texts, *own, *common.get(level, ())}))

    def metric(self) -> Metric:
        """It as prometheus_client's, without samples."""
        return Metric(self.base, self.help, self.type, self.unit)


JOB_FAMILIES = (
    MetricFamily(
        "chroniker_job_info",
        GAUGE,
        "How a job is defined; always 1. Of a raw command only the program is named.",
        "chroniker_job_running * on (instance, job_name) group_left (command) chroniker_job_info",
        number="one",
        texts=("command", "hostname", "kind", "schedule", "timezone"),
    ),
    MetricFamily(
        "chroniker_job_enabled",
        GAUGE,
        "Whether the schedule of a job applies.",
        "count(chroniker_job_enabled == 0)",
        number="enabled",
    ),
    MetricFamily(
        "chroniker_job_muted",
        GAUGE,
        "Whether a maintenance window mutes the alerts of a job now.",
        "max by (job_name) (chroniker_job_muted) == 1",
        number="muted",
    ),
    MetricFamily(
        "chroniker_job_expected_seconds",
        GAUGE,
        "How long a run should take at most; only for jobs that say so.",
        "time() - (chroniker_job_start_timestamp_seconds > 0)"
        " > on (instance, job_name) group_left () chroniker_job_expected_seconds",
        number="expected_seconds",
        optional=True,
    ),
    MetricFamily(
        "chroniker_job_timeout_seconds",
        GAUGE,
        "How long a run may take before it is ended; only for jobs that say so.",
        "chroniker_job_last_duration_seconds"
        " / on (instance, job_name) group_left () chroniker_job_timeout_seconds > 0.9",
        number="timeout_seconds",
        optional=True,
    ),
    MetricFamily(
        "chroniker_job_start_deadline_seconds",
        GAUGE,
        "How late a run may start before its slot is missed; only for jobs that say so.",
        "chroniker_job_start_deadline_seconds < 60",
        number="start_deadline_seconds",
        optional=True,
    ),
    MetricFamily(
        "chroniker_job_failures_before_alert",
        GAUGE,
        "How many failures in a row make an alert.",
        "max by (job_name, host) (chroniker_job_consecutive_failures) >= on (job_name)"
        " group_left () max by (job_name) (chroniker_job_failures_before_alert)",
        number="failures_before_alert",
    ),
)

PLACEMENT_FAMILIES = (
    MetricFamily(
        "chroniker_job_running",
        GAUGE,
        "Whether a job runs now.",
        "sum(max by (job_name, host) (chroniker_job_running))",
        number="running",
    ),
    MetricFamily(
        "chroniker_job_blocked",
        GAUGE,
        "Whether a job that is due cannot start, and which kind of reason holds it back.",
        "max by (job_name, reason) (chroniker_job_blocked) == 1",
        by=("reason", {reason: f"blocked_{reason}" for reason in BLOCKED_REASONS}),
    ),
    MetricFamily(
        "chroniker_job_runs_total",
        COUNTER,
        "Runs that ended, in whatever way.",
        "sum by (job_name) (increase(chroniker_job_runs_total[1d]))",
        number="runs_total",
    ),
    MetricFamily(
        "chroniker_job_failures_total",
        COUNTER,
        "Runs that ended otherwise than well, by reason.",
        "sum by (job_name, reason) (increase(chroniker_job_failures_total[1h])) > 0",
        by=("reason", {reason: f"failures_{reason}" for reason in FAILURE_LABELS}),
        exemplar="failures",
    ),
    MetricFamily(
        "chroniker_job_missed_runs_total",
        COUNTER,
        "Slots that were knowingly not run, by reason.",
        "sum by (job_name, reason) (increase(chroniker_job_missed_runs_total[1h])) > 0",
        by=("reason", {reason: f"missed_{reason}" for reason in MISSED_LABELS}),
    ),
    MetricFamily(
        "chroniker_job_retries_total",
        COUNTER,
        "Further attempts at slots whose run failed.",
        "topk(10, increase(chroniker_job_retries_total[1d]))",
        number="retries_total",
    ),
    MetricFamily(
        "chroniker_job_consecutive_failures",
        GAUGE,
        "Failures since the last success.",
        "max by (job_name) (chroniker_job_consecutive_failures) >= 3",
        number="consecutive_failures",
    ),
    MetricFamily(
        "chroniker_job_last_run_status",
        GAUGE,
        "1 for the status with which the last run ended, 0 for all others.",
        'chroniker_job_last_run_status{status!="succeeded"} == 1',
        by=("status", {status: f"status_{status}" for status in FINAL_STATUSES}),
    ),
    MetricFamily(
        "chroniker_job_duration_seconds",
        HISTOGRAM,
        "How long runs took.",
        "histogram_quantile(0.95, sum by (job_name, le)"
        " (rate(chroniker_job_duration_seconds_bucket[1d])))",
        number="duration",
        exemplar="duration",
    ),
    MetricFamily(
        "chroniker_job_start_lag_seconds",
        HISTOGRAM,
        "How long after they were due runs started.",
        "histogram_quantile(0.99, sum by (le) (rate(chroniker_job_start_lag_seconds_bucket[1h])))",
        number="start_lag",
    ),
    MetricFamily(
        "chroniker_job_last_duration_seconds",
        GAUGE,
        "How long the last run took; 0 before the first has ended.",
        "topk(10, chroniker_job_last_duration_seconds)",
        number="last_duration_seconds",
    ),
    MetricFamily(
        "chroniker_job_start_timestamp_seconds",
        GAUGE,
        "When the running run started; 0 while none runs.",
        "time() - (chroniker_job_start_timestamp_seconds > 0)",
        number="started_at",
    ),
    MetricFamily(
        "chroniker_job_last_run_timestamp_seconds",
        GAUGE,
        "When the last run ended; 0 before the first has.",
        "time() - (chroniker_job_last_run_timestamp_seconds > 0) > 7 * 86400",
        number="last_ended_at",
    ),
    MetricFamily(
        "chroniker_job_last_success_timestamp_seconds",
        GAUGE,
        "When a run last ended well; 0 before the first has.",
        "time() - chroniker_job_last_success_timestamp_seconds > 86400",
        number="last_success_at",
    ),
    MetricFamily(
        "chroniker_job_last_failure_timestamp_seconds",
        GAUGE,
        "When a run last ended otherwise than well; 0 before the first has.",
        "chroniker_job_last_failure_timestamp_seconds"
        " > chroniker_job_last_success_timestamp_seconds",
        number="last_failure_at",
    ),
    MetricFamily(
        "chroniker_job_next_run_timestamp_seconds",
        GAUGE,
        "When the schedule starts a job next; 0 where it does not.",
        "time() - (chroniker_job_next_run_timestamp_seconds > 0) > 300",
        number="next_run_at",
    ),
    MetricFamily(
        "chroniker_job_progress_ratio",
        GAUGE,
        "How much of its work the run has done, 0 to 1; 0 where it does not tell.",
        "chroniker_job_progress_ratio and on (job_name, host) chroniker_job_running == 1",
        number="progress_ratio",
    ),
    MetricFamily(
        "chroniker_job_progress_parts",
        GAUGE,
        "Parts of its work that the run has done.",
        "deriv(chroniker_job_progress_parts[10m])",
        number="parts_done",
    ),
    MetricFamily(
        "chroniker_job_progress_parts_expected",
        GAUGE,
        "Parts that its work has; 0 where it does not tell.",
        "chroniker_job_progress_parts_expected - chroniker_job_progress_parts",
        number="parts_total",
    ),
    MetricFamily(
        "chroniker_job_progress_timestamp_seconds",
        GAUGE,
        "When the run last told its progress; 0 if never.",
        "time() - (chroniker_job_progress_timestamp_seconds > 0) > 900"
        " and on (job_name, host) chroniker_job_running == 1",
        number="progress_at",
    ),
    MetricFamily(
        "chroniker_job_cpu_seconds_total",
        COUNTER,
        "CPU time that runs took.",
        "topk(10, rate(chroniker_job_cpu_seconds_total[1d]))",
        number="cpu_seconds_total",
    ),
    MetricFamily(
        "chroniker_job_last_max_rss_bytes",
        GAUGE,
        "The most memory that a process of the last run had resident; 0 where unknown.",
        "topk(10, chroniker_job_last_max_rss_bytes)",
        number="last_max_rss_bytes",
    ),
)

MONITOR_FAMILIES = (
    MetricFamily(
        "chroniker_monitor_info",
        GAUGE,
        "What a monitor measures, and in which unit; always 1.",
        "count by (kind) (max by (job_name, kind) (chroniker_monitor_info))",
        number="one",
        texts=("kind", "unit"),
    ),
    MetricFamily(
        "chroniker_monitor_threshold",
        GAUGE,
        "From which value on it is bad, compared by the operator; only for thresholds there are.",
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
        "What was measured last; absent where the last probe failed, which is not the same as 0.",
        'max by (job_name, host) (chroniker_monitor_value{job_name="Disk of /"})',
        number="value",
        optional=True,
    ),
    MetricFamily(
        "chroniker_monitor_severity",
        GAUGE,
        "0 ok, 1 warning, 2 critical, 3 unknown (the probe itself failed).",
        "max by (job_name, host) (chroniker_monitor_severity) == 2",
        number="severity",
    ),
    MetricFamily(
        "chroniker_monitor_last_sample_timestamp_seconds",
        GAUGE,
        "When a monitor was measured last, in vain or not; 0 if never.",
        "time() - max by (job_name, host) (chroniker_monitor_last_sample_timestamp_seconds > 0)"
        " > 900",
        number="last_sample_at",
    ),
    MetricFamily(
        "chroniker_monitor_latency_seconds",
        GAUGE,
        "How long the last probe took; absent before the first.",
        "topk(10, max by (job_name, host) (chroniker_monitor_latency_seconds))",
        number="latency_seconds",
        optional=True,
    ),
)

HOST_FAMILIES = (
    MetricFamily(
        "chroniker_host_last_tick_timestamp_seconds",
        GAUGE,
        "When a host last ticked; 0 if never.",
        "time() - max by (host) (chroniker_host_last_tick_timestamp_seconds) > 300",
        number="last_tick_at",
    ),
    MetricFamily(
        "chroniker_host_tick_duration_seconds",
        GAUGE,
        "How long its last tick took until its jobs were started.",
        "max by (host) (chroniker_host_tick_duration_seconds) > 30",
        number="tick_seconds",
    ),
    MetricFamily(
        "chroniker_host_running_jobs",
        GAUGE,
        "Jobs that run on a host now.",
        "sum(max by (host) (chroniker_host_running_jobs))",
        number="running_jobs",
    ),
    MetricFamily(
        "chroniker_host_paused",
        GAUGE,
        "Whether a host starts nothing because somebody paused it.",
        "max by (host) (chroniker_host_paused) == 1",
        number="paused",
    ),
)

INCIDENT_FAMILIES = (
    MetricFamily(
        "chroniker_incidents_open",
        GAUGE,
        "Incidents that are open, muted ones too, by severity.",
        "sum(max by (severity) (chroniker_incidents_open)) > 0",
        by=("severity", {severity: f"open_{severity}" for severity in Severity.values}),
    ),
    MetricFamily(
        "chroniker_notifications_pending",
        GAUGE,
        "Mails and other messages that were not sent yet and will be tried again.",
        "max(chroniker_notifications_pending) > 0",
        number="pending",
    ),
    MetricFamily(
        "chroniker_notification_failures_total",
        COUNTER,
        "Attempts to send one that failed.",
        "max(increase(chroniker_notification_failures_total[1h])) > 0",
        number="notification_failures",
    ),
)

COLLECTOR_FAMILIES = (
    MetricFamily(
        "chroniker_collector_up",
        GAUGE,
        "Whether the database answered this scrape in time; without it there are no other series.",
        "max(chroniker_collector_up) == 0",
        number="up",
    ),
    MetricFamily(
        "chroniker_collector_duration_seconds",
        GAUGE,
        "How long it took to read the database for this scrape.",
        "max(chroniker_collector_duration_seconds) > 1",
        number="seconds",
    ),
    MetricFamily(
        "chroniker_collector_dropped_jobs",
        GAUGE,
        "Jobs that are not on this page because there are more than CHRONIKER_METRICS_MAX_JOBS.",
        "max(chroniker_collector_dropped_jobs) > 0",
        number="dropped_jobs",
    ),
    MetricFamily(
        "chroniker_build_info",
        GAUGE,
        "The version of Chroniker; always 1.",
        "count by (version) (chroniker_build_info)",
        number="one",
        texts=("version",),
    ),
)

LEVELS: dict[str, tuple[MetricFamily, ...]] = {
    "job": JOB_FAMILIES,
    "slot": PLACEMENT_FAMILIES,
    "monitor": MONITOR_FAMILIES,
    "sample": SAMPLE_FAMILIES,
    "host": HOST_FAMILIES,
    "incident": INCIDENT_FAMILIES,
    "collector": COLLECTOR_FAMILIES,
}
NAMES = frozenset(family.base for families in LEVELS.values() for family in families)
"""The names of all families, as prometheus_client has them."""


class MetricsConfig(NamedTuple):
    """What of the table the site's settings put on the page."""

    bounds: tuple[float, ...]
    histograms: bool

    @property
    def placement_families(self) -> tuple[MetricFamily, ...]:
        """Without the histograms, where they are off."""
        return tuple(f for f in PLACEMENT_FAMILIES if self.histograms or f.type != HISTOGRAM)
