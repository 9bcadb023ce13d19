"""From a failing job to the notified people, using only real programs."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chroniker.models import Host, Job, JobState
from tests.alerts.rules import rules
from tests.alerts.servers import Alertmanager, prometheus, run_receivers
from tests.factories import make_job
from tests.support.machine import require
from tests.support.metrics_servers import PrometheusServer, run_gunicorn
from tests.support.processes import wait_until
from tests.support.types import StartManage

SITE = {"DJANGO_SETTINGS_MODULE": "tests.alerts.site_settings"}
FIRING, RESOLVED = "firing", "resolved"
WATCHDOG = "ChronikerWatchdog"
TIMEOUT_SECONDS = 90
"""Seconds. What is waited for takes one to thirty of them on a machine with nothing else to do."""


ALWAYS_RECORDED = (
    "job:chroniker_collector_up:max",
    "host:chroniker_host_tick_age_seconds:max",
    "job_name:chroniker_job_duration_seconds:p95_1d",
    "job_name_host:chroniker_job_duration_seconds:mean_1w",
)


def run_soon(job: Job) -> None:
    wait_until(lambda: JobState.objects.filter(job=job).request_run(), timeout=TIMEOUT_SECONDS)


@pytest.mark.slow
@pytest.mark.one_database
@pytest.mark.prometheus
@pytest.mark.timeout(600)
def test_failure_and_recovery_are_each_notified_once(
    site_env: dict[str, str],
    start_manage: StartManage,
    tmp_path: Path,
) -> None:
    """A job, a host and the site really fail; email and webhook report each."""
    require("alertmanager")
    job = make_job(name="nightly import", command="act", args="fail no such table")
    tied = make_job(name="tied to web1", schedule="@every 2s", hostname="web1")
    with contextlib.ExitStack() as stack:
        received, smtp, webhooks = stack.enter_context(run_receivers())
        alertmanager = stack.enter_context(Alertmanager.telling(tmp_path, smtp, webhooks))
        site = stack.enter_context(contextlib.ExitStack())
        address = site.enter_context(run_gunicorn(site_env, tmp_path, "--threads=2"))
        web1 = start_manage("cronserver", "1", env=SITE | {"TEST_HOSTNAME": "web1"})
        start_manage("cronserver", "1", env=SITE | {"TEST_HOSTNAME": "web2"})
        # Jobs without a ticking host would alert, too.
        wait_until(
            lambda: Host.objects.filter(last_tick_at__isnull=False).count() == 2,
            timeout=TIMEOUT_SECONDS,
        )
        asked = stack.enter_context(prometheus(tmp_path, address, alertmanager.address))

        def wait(predicate: Callable[[], bool], what: str) -> None:
            try:
                wait_until(predicate, timeout=TIMEOUT_SECONDS, interval=0.2, message=what)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{received}") from error

        def wait_for_post(alertname: str, *posts: tuple[str, str]) -> None:
            wait(lambda: received.by_webhook(alertname) == list(posts), f"{alertname}: {posts}")

        def wait_for_mail(*subjects: str) -> None:
            wait(
                lambda: [s for s in received.mails if s in subjects] == list(subjects),
                str(subjects),
            )

        # A job.
        run_soon(job)
        wait_for_post("ChronikerJobFailing", ("/people", FIRING))
        wait_for_mail("[firing] nightly import is failing")
        Job.objects.filter(pk=job.pk).update(args="say done")
        run_soon(job)
        wait_for_post("ChronikerJobFailing", ("/people", FIRING), ("/people", RESOLVED))
        wait_for_mail("[firing] nightly import is failing", "[resolved] nightly import is failing")
        assert_each_rule_has_data(asked, tied)

        # A host.
        web1.terminate()
        web1.wait(TIMEOUT_SECONDS)
        wait_for_post("ChronikerHostNotTicking", ("/people", FIRING))
        wait(
            lambda: (
                [
                    (labels["job_name"], labels["host"])
                    for labels, inhibited in alertmanager.active_alerts()
                    if inhibited and labels["alertname"] == "ChronikerJobOverdue"
                ]
                == [(tied.name, "web1")]
            ),
            "its job is overdue, but that alert is inhibited",
        )

        # The site.
        site.close()
        wait_for_post("ChronikerMetricsDown", ("/on-call", FIRING))
        wait_for_mail("[firing] Chroniker's metrics are down")

        # The watchdog fired all the while, and reached no person.
        watched = set(received.by_webhook(WATCHDOG))
        assert watched == {("/watchdog", FIRING)}

        # Nothing is notified twice, and no dependent alert.
        posts = [post for post in received.posts if post[2]["alertname"] != WATCHDOG]
        assert {(labels["alertname"], how) for _, how, labels in posts} == {
            ("ChronikerJobFailing", FIRING),
            ("ChronikerJobFailing", RESOLVED),
            ("ChronikerHostNotTicking", FIRING),
            ("ChronikerMetricsDown", FIRING),
        }
        assert len(posts) == 4
        assert sorted(received.mails) == [
            "[firing] Chroniker's metrics are down",
            "[firing] nightly import is failing",
            "[firing] web1 is not ticking",
            "[resolved] nightly import is failing",
        ]


def assert_each_rule_has_data(asked: PrometheusServer, often: Job) -> None:
    """Every rule evaluates on real series, and recording rules have data."""
    wait_until(
        lambda: JobState.objects.get(job=often).duration_count >= 5,
        timeout=TIMEOUT_SECONDS,
        interval=0.2,
    )
    for name in ALWAYS_RECORDED:
        wait_until(lambda name=name: asked.query(name), timeout=TIMEOUT_SECONDS, message=name)  # type: ignore[misc]
    with urllib.request.urlopen(f"{asked.url}/api/v1/rules", timeout=10) as answer:
        loaded: Any = json.load(answer)["data"]["groups"]
    found = [rule for group in loaded for rule in group["rules"]]
    assert len(found) == len(rules())
    assert [rule for rule in found if rule["health"] != "ok"] == []
