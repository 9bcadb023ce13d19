"""Pieces of PromQL that the dashboards share.

Where two replicas of a site are scraped, each has all series; so everything begins with a
``max by`` that leaves the instance out, and only then is anything added up.
"""

from __future__ import annotations

from dataclasses import dataclass

SITE = 'job="$job"'
"""The series of the chosen site: one scrape job is one site."""

LATE_SECONDS = 300
"""When a start is late: as ``CHRONIKER_OVERDUE_SECONDS`` and ChronikerJobOverdue have it."""
SILENT_SECONDS = 300
"""When a host is silent: as ChronikerHostNotTicking has it."""
RESOLUTIONS = {"1h": "1m", "1d": "10m", "7d": "1h"}
"""How far apart a counter is read within a window."""
DEPENDENCY = 'reason="dependency"'


@dataclass(frozen=True, slots=True)
class Scope:
    """The series that a dashboard is about."""

    selector: str

    def raw(self, name: str, where: str = "") -> str:
        """A metric as it was scraped."""
        return f"{name}{{{', '.join(filter(None, (self.selector, where)))}}}"

    def by(self, labels: str, name: str, where: str = "") -> str:
        """A gauge, once for each value of these labels."""
        return f"max by ({labels}) ({self.raw(name, where)})"

    def placement(self, name: str, where: str = "") -> str:
        """A gauge of what the runner wrote."""
        return self.by("job_name, host", name, where)

    def job(self, name: str, where: str = "") -> str:
        """A gauge of what people defined."""
        return self.by("job_name", name, where)

    def host(self, name: str) -> str:
        """A gauge of a machine."""
        return self.by("host", name)

    def increase(self, labels: str, name: str, window: str, where: str = "") -> str:
        """By how much a counter rose in that time, whichever replicas came and went in it."""
        return f"increase({self._subquery(labels, name, window, where)})"

    def quantile(self, quantile: float, labels: str, name: str, window: str) -> str:
        """Of a histogram; nothing of one that did not move, of which there is no quantile.

        Buckets of several hosts are added, those of replicas are not.
        """
        rate = f"rate({self._subquery('job_name, host, le', name + '_bucket', window)})"
        by = ", ".join(filter(None, (labels, "le")))
        return f"histogram_quantile({quantile:g}, sum by ({by}) ({rate})) >= 0"

    def _subquery(self, labels: str, name: str, window: str, where: str = "") -> str:
        """A counter over that time. The replicas are brought together at each reading: a new one
        tells what the old one told. Few readings also spare a day of every scrape."""
        return f"({self.by(labels, name, where)})[{window}:{RESOLUTIONS[window]}]"


def or_zero(expression: str) -> str:
    """Zero where there is nothing, but only while the database answers: no data is no good news."""
    return f"{expression} or 0 * max(chroniker_collector_up{{{SITE}}} == 1)"


def count(expression: str) -> str:
    """How many there are."""
    return or_zero(f"count({expression})")


class JobExpressions:
    """What a scope's jobs are up to; each is one series for each job and host slot."""

    def __init__(self, scope: Scope) -> None:
        placement, job = scope.placement, scope.job
        self.enabled = f"{job('chroniker_job_enabled')} == 1"
        self.running = f"{placement('chroniker_job_running')} == 1"
        # As ChronikerJobFailing has it. Monitors have a severity of their own.
        self.failing = (
            f"({placement('chroniker_job_consecutive_failures')} > 0)"
            f" >= on (job_name) group_left () {job('chroniker_job_failures_before_alert')}"
            f" and on (job_name) {self.enabled}"
            f" unless on (job_name) {job('chroniker_monitor_info')}"
        )
        self.blocked = f"{scope.by('job_name, host, reason', 'chroniker_job_blocked')} == 1"
        self.due = f"time() - ({placement('chroniker_job_next_run_timestamp_seconds')} > 0)"
        # A running job's next slot may have gone by: that is an overlap, and counted as missed.
        # To wait for another job is what some are told to.
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
        """How much of a limit is used, labelled with which one it is."""
        share = f"({used}) / on (job_name) group_left () ({limit} > 0)"
        return f'label_replace({share}, "deadline", "{deadline}", "", "")'


def success_ratio(scope: Scope, window: str) -> str:
    """Which part of the runs that ended in that time ended well; nothing where none did."""
    failures = scope.increase("job_name, host, reason", "chroniker_job_failures_total", window)
    runs = scope.increase("job_name, host", "chroniker_job_runs_total", window)
    return f"clamp_min(1 - sum({failures}) / (sum({runs}) > 0), 0)"
