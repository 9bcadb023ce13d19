"""PromQL expressions that the dashboards share.

If several replicas of a site are scraped, each of them has all series. So every expression begins
with a ``max by`` without the instance, and only then adds anything up.
"""

from __future__ import annotations

from dataclasses import dataclass

SITE = 'job="$job"'
"""The series of the selected site: one scrape job is one site."""

LATE_SECONDS = 300
"""When a job is late: the same as ``CHRONIKER_OVERDUE_SECONDS`` and ChronikerJobOverdue."""
SILENT_SECONDS = 300
"""When a host is silent: the same as ChronikerHostNotTicking."""
RESOLUTIONS = {"1h": "1m", "1d": "10m", "7d": "1h"}
"""Window of a subquery: its resolution. Two steps are needed; until a new site has them, the next
shorter window is shown."""
DEPENDENCY = 'reason="dependency"'
WHOLE = 'series=""'
"""Selects the severity of a monitor, not those of its groups."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The series that a dashboard shows."""

    selector: str

    def raw(self, name: str, where: str = "") -> str:
        """A metric as scraped."""
        return f"{name}{{{', '.join(filter(None, (self.selector, where)))}}}"

    def by(self, labels: str, name: str, where: str = "") -> str:
        """A gauge, one series per combination of these labels."""
        return f"max by ({labels}) ({self.raw(name, where)})"

    def placement(self, name: str, where: str = "") -> str:
        """A gauge of a placement."""
        return self.by("job_name, host", name, where)

    def job(self, name: str, where: str = "") -> str:
        """A gauge of a job definition."""
        return self.by("job_name", name, where)

    def host(self, name: str) -> str:
        """A gauge of a host."""
        return self.by("host", name)

    def increase(self, labels: str, name: str, window: str, where: str = "") -> str:
        """The increase of a counter in a window, correct even if replicas start and stop in it."""
        return self._over_window("increase", labels, name, window, where)

    def quantile(self, quantile: float, labels: str, name: str, window: str) -> str:
        """A quantile of a histogram; no series if there were no observations.

        The buckets of hosts are added up; those of replicas are not.
        """
        rate = self._over_window("rate", "job_name, host, le", f"{name}_bucket", window)
        by = ", ".join(filter(None, (labels, "le")))
        return f"histogram_quantile({quantile:g}, sum by ({by}) ({rate})) >= 0"

    def fleet_quantile(self, quantile: float, name: str, window: str) -> str:
        """A quantile of a histogram of the whole site, which falls when a job is deleted."""
        now, before = (
            f"max by (le) ({self.raw(name + '_bucket')}{offset})"
            for offset in ("", f" offset {window}")
        )
        return f"histogram_quantile({quantile:g}, clamp_min({now} - {before}, 0)) >= 0"

    def mean(self, labels: str, name: str, window: str) -> str:
        """The mean of a histogram or summary; no series if there were no observations."""
        total, number = (
            f"sum by ({labels}) ({self.increase('job_name, host', name + suffix, window)})"
            for suffix in ("_sum", "_count")
        )
        return f"{total} / ({number} > 0)"

    def _over_window(
        self, function: str, labels: str, name: str, window: str, where: str = ""
    ) -> str:
        windows = list(RESOLUTIONS)[: list(RESOLUTIONS).index(window) + 1]
        found = (f"{function}({self._subquery(labels, name, w, where)})" for w in windows[::-1])
        return " or ".join(found) if len(windows) == 1 else f"({' or '.join(found)})"

    def _subquery(self, labels: str, name: str, window: str, where: str = "") -> str:
        """A counter over a window. The replicas are merged at each step, because a new replica
        continues the counters of the old one. A coarse resolution also avoids reading every scrape
        of a day."""
        return f"({self.by(labels, name, where)})[{window}:{RESOLUTIONS[window]}]"


def or_zero(expression: str) -> str:
    """Zero if there are no series, but only while the database answers: no data is not zero."""
    return f"{expression} or 0 * max(chroniker_collector_up{{{SITE}}} == 1)"


def count(expression: str) -> str:
    """The number of series."""
    return or_zero(f"count({expression})")


class JobExpressions:
    """Expressions about the jobs of a scope; each has one series per placement."""

    def __init__(self, scope: Scope) -> None:
        placement, job = scope.placement, scope.job
        self.enabled = f"{job('chroniker_job_enabled')} == 1"
        self.running = f"{placement('chroniker_job_running')} == 1"
        # The same as ChronikerJobFailing. Monitors are excluded: they have a severity.
        failures = placement("chroniker_job_consecutive_failures")
        self.failing = (
            f"({failures} > 0) unless"
            f" ({failures} < on (job_name) group_left ()"
            f" {job('chroniker_job_failures_before_alert')})"
            f" and on (job_name) {self.enabled}"
            f" unless on (job_name) {job('chroniker_monitor_info')}"
        )
        self.blocked = f"{scope.by('job_name, host, reason', 'chroniker_job_blocked')} == 1"
        self.due = f"time() - ({placement('chroniker_job_next_run_timestamp_seconds')} > 0)"
        # Not late: a running job whose next slot has passed (an overlap, counted as missed), and a
        # job that waits for an upstream job.
        waiting = f"{placement('chroniker_job_blocked', DEPENDENCY)} == 1"
        self.late = (
            f"{self.due} > {LATE_SECONDS} unless on (job_name, host) ({self.running} or {waiting})"
        )
        self.elapsed = (
            f"clamp_min(time() - ({placement('chroniker_job_start_timestamp_seconds')} > 0), 0)"
        )
        self.to_start = self._share(
            f"clamp_min({self.due}, 0)", job("chroniker_job_start_deadline_seconds"), "start"
        )
        self.to_end = self._share(self.elapsed, job("chroniker_job_timeout_seconds"), "timeout")
        self.to_expected = self._share(
            self.elapsed, job("chroniker_job_expected_seconds"), "expected"
        )
        self.near_deadline = (
            f"({self.to_start} > 0.5) or ({self.to_end} > 0.5) or ({self.to_expected} > 0.8)"
        )
        self.status = f"{scope.by('job_name, host, status', 'chroniker_job_last_run_status')} == 1"

    @staticmethod
    def _share(used: str, limit: str, deadline: str) -> str:
        """The share of a limit that is used, with the name of the limit as a label."""
        share = f"({used}) / on (job_name) group_left () ({limit} > 0)"
        return f'label_replace({share}, "deadline", "{deadline}", "", "")'


def success_ratio(scope: Scope, window: str) -> str:
    """The share of the runs that ended in a window and succeeded; no series if none ended.

    Interrupted runs do not count: they are started again.
    """
    failures = scope.increase("job_name, host, reason", "chroniker_job_failures_total", window)
    runs = scope.increase("job_name, host", "chroniker_job_runs_total", window)
    interrupted = scope.increase("job_name, host", "chroniker_job_interrupted_runs_total", window)
    # With CHRONIKER_METRICS_DETAIL "low", a counter is absent while it is 0.
    failed, ended = f"(sum({failures}) or 0 * sum({runs}))", f"sum({runs})"
    return f"clamp_min(1 - {failed} / ({ended} - (sum({interrupted}) or 0 * {ended}) > 0), 0)"
