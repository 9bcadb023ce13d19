"""What must work on every kind of database."""

from __future__ import annotations

from pathlib import Path

from chroniker.models import Host, Incident, JobState, Notification, OutputChunk, Run
from chroniker_monitors.models import Sample
from tests.factories import make_action_job, make_gauge_monitor
from tests.support.types import RunManage


def assert_works(manage: RunManage, tmp_path: Path) -> None:
    """A tick runs a chain, sends mail about a failure, checks a monitor and leaves nothing."""
    first = make_action_job("use_database", name="first")
    second = make_action_job("say second", name="second", schedule="")
    second.dependencies.create(upstream=first)
    make_action_job("fail boom", name="broken", subscribers=["ann"])
    monitor = make_gauge_monitor(tmp_path, 95, schedule="@every 1h", name="gauge")
    monitor.states.all().delete()
    type(monitor).objects.update(created_at="2020-01-01T00:00Z")

    done = manage("cron")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "rror" not in done.stderr, done.stderr

    runs = dict(Run.objects.exclude(status="missed").values_list("job__name", "status"))
    assert runs == {
        "first": "succeeded", "second": "succeeded", "broken": "failed", "gauge": "succeeded",
    }, list(Run.objects.values_list("job__name", "error"))  # fmt: skip
    assert OutputChunk.objects.filter(run__job=first, text__contains="4 jobs").exists()
    assert not JobState.objects.filter(lease_token__isnull=False).exists()
    assert Sample.objects.get().value == 95
    assert set(Incident.objects.values_list("job__name", flat=True)) == {"broken", "gauge"}
    mail = Notification.objects.get(incident__job__name="broken")
    assert (mail.recipient, mail.last_error) == ("ann@example.com", "")
    assert mail.sent_at is not None
    assert Host.objects.get().tick_seconds is not None

    idle = manage("cron")
    assert (idle.returncode, idle.stdout, idle.stderr) == (0, "", "")
