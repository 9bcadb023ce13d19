"""The runs of the demo's jobs, as the scheduler recorded them."""

from __future__ import annotations

from collections import Counter

from chroniker.models import Job, Run
from tests.demo.running.names import FEED, IMPORT, INITIALLY_UNKNOWN, REPORT


def test_nothing_is_still_running() -> None:
    assert not Run.objects.running().exists()


def test_every_job_succeeded_and_only_expected_ones_failed() -> None:
    for job in Job.objects.all():
        by_status = Counter(Run.objects.filter(job=job).values_list("status", flat=True))
        assert by_status["succeeded"] > 0, job
        # The scheduler shut down while it ran: that is no failure of the job.
        expected = {"succeeded", "interrupted", "missed"}
        if job.name == FEED or job.name in INITIALLY_UNKNOWN:
            expected.add("failed")
        assert set(by_status) <= expected, job


def test_report_runs_after_a_successful_import_and_never_during_one() -> None:
    imports = Run.objects.filter(job__name=IMPORT)
    reports = Run.objects.filter(job__name=REPORT)
    assert reports
    for report in reports:
        assert report.trigger == "dependency"
        assert imports.filter(ended_at__lte=report.started_at, status="succeeded").exists()
        assert not imports.filter(started_at__lt=report.ended_at, ended_at__gt=report.started_at)
