"""What happens to jobs, and the mails that come of it: exactly these, each once, in one thread."""

from __future__ import annotations

from typing import Any

import pytest

from chroniker.models import Incident, Job, Notification
from tests.incidents.history import Story, watched_job
from tests.incidents.post import PostOffice

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("letters", "failures", "events"),
    [
        ("S", 1, []),
        ("F", 1, ["opened"]),
        ("FFFFS", 1, ["opened", "resolved"]),
        ("FFS", 3, []),
        ("FFFS", 3, ["opened", "resolved"]),
        ("FFSFFS", 3, []),
        ("FSFS", 1, ["opened", "resolved", "opened", "resolved"]),
        ("TS", 1, ["opened", "resolved"]),
        ("LS", 1, ["opened", "resolved"]),
        ("XXXX", 1, []),
        ("FXFS", 2, ["opened", "resolved"]),
        ("FXS", 1, ["opened", "resolved"]),
    ],
)
def test_a_history_gives_exactly_these_mails(
    office: PostOffice, letters: str, failures: int, events: list[str]
) -> None:
    job = watched_job(failures_before_alert=failures)
    story = Story()
    story.run(job, letters)
    assert office.words() == events
    assert len({mail["Message-ID"] for mail in office.mails}) == len(events)
    assert Incident.objects.open().count() == (1 if letters[-1] in "FTL" and events else 0)
    assert story.state(job).failing_incident == Incident.objects.open().exists()
    assert not Notification.objects.pending().exists()


def test_an_incident_is_one_thread(office: PostOffice) -> None:
    job = watched_job(reminder_hours=1)
    Story().run(job, "F" * 8 + "S")
    assert office.words() == ["opened", "reminder", "resolved"]
    opened, *others = office.mails
    for mail in others:
        assert mail["References"] == mail["In-Reply-To"] == opened["Message-ID"]
    assert opened["References"] is None


def test_reminders_come_every_so_many_hours_and_stop_when_acknowledged(office: PostOffice) -> None:
    job = watched_job(reminder_hours=24)
    story = Story()
    story.run(job, "F", every=0)
    for _ in range(50):
        story.later(hours=1).look()
        story.send()
    assert office.words() == ["opened", "reminder", "reminder"]
    Incident.objects.update(acknowledged_at=story.now)
    for _ in range(50):
        story.later(hours=1).look()
        story.send()
    assert office.words() == ["opened", "reminder", "reminder"]
    story.run(job, "S")
    assert office.words()[-1] == "resolved"


def test_without_a_reminder_there_is_none(office: PostOffice) -> None:
    job = watched_job(reminder_hours=None)
    story = Story()
    story.run(job, "F")
    story.later(days=30).look()
    story.send()
    assert office.words() == ["opened"]
    assert not Incident.objects.filter(next_review_at__isnull=False).exists()


def test_flapping_is_told_once_and_then_there_is_silence_until_it_is_calm(
    office: PostOffice,
) -> None:
    job = watched_job()
    story = Story()
    story.run(job, "FS" * 10)
    assert office.words() == ["opened", "resolved", "opened", "resolved", "flapping"]
    story.later(minutes=30).look()
    story.send()
    assert len(office.mails) == 5, "not calm yet"
    story.later(minutes=31).look()
    story.send()
    assert office.words()[5:] == ["resolved"]
    flapping, resolved = office.mails[4:]
    assert resolved["References"] == flapping["References"]
    story.run(job, "FS")
    assert office.words()[6:] == ["opened", "resolved"], "the count began anew"


def test_what_stays_down_after_flapping_is_told(office: PostOffice) -> None:
    job = watched_job(reminder_hours=None)
    story = Story()
    story.run(job, "FSFSF" + "FFFFFFF")
    assert office.words() == ["opened", "resolved", "opened", "resolved", "flapping", "opened"]
    story.run(job, "S")
    assert office.words()[6:] == ["resolved"]


def test_an_odd_limit_ends_in_flapping_instead_of_a_recovery(
    office: PostOffice, settings: Any
) -> None:
    settings.CHRONIKER_FLAPPING_FLIPS = 3
    job = watched_job()
    story = Story()
    story.run(job, "FSFSFS")
    assert office.words() == ["opened", "resolved", "opened", "flapping"]
    story.later(hours=2).look()
    story.send()
    assert office.words()[4:] == ["resolved"]


def test_flips_of_yesterday_do_not_count(office: PostOffice) -> None:
    job = watched_job()
    story = Story()
    story.run(job, "FSFS")
    story.later(days=1)
    story.run(job, "FSFS")
    assert "flapping" not in office.words()
    assert len(office.mails) == 8


def test_each_of_forty_subscribers_gets_one_mail_and_nobody_sees_the_others(
    office: PostOffice,
) -> None:
    names = [f"user{number}" for number in range(40)]
    job = watched_job(*names)
    story = Story()
    story.run(job, "F")
    while story.send():
        pass
    assert sorted(str(mail["To"]) for mail in office.mails) == sorted(
        f"{name}@example.com" for name in names
    )
    assert all(len(mail.envelope_to) == 1 for mail in office.mails)  # type: ignore[attr-defined]
    assert len({mail["Message-ID"] for mail in office.mails}) == 40


def test_a_success_is_told_where_the_job_asks_for_it(office: PostOffice) -> None:
    job = watched_job(email_on_success=True)
    Story().run(job, "SSF")
    assert office.words() == ["succeeded", "succeeded", "opened"]
    first, second = office.mails[:2]
    assert first["Message-ID"] != second["Message-ID"]


def test_a_failure_is_not_told_by_mail_where_the_job_says_so(office: PostOffice) -> None:
    job = watched_job(email_on_failure=False)
    Story().run(job, "FFS")
    assert office.mails == []
    assert Incident.objects.count() == 1, "but it is an incident all the same"


def test_a_monitor_does_not_fail(office: PostOffice) -> None:
    job = watched_job(command="check_monitor")
    job.args = f"--job-id {job.pk}"  # as a monitor's job has it; see Monitor.save_with
    job.save()
    Story().run(job, "FFS")
    assert not Incident.objects.exists()


def test_a_disabled_job_has_no_open_incident(office: PostOffice) -> None:
    from chroniker.engine.planning import plan_changed_jobs

    job = watched_job()
    story = Story()
    story.run(job, "F")
    Job.objects.filter(pk=job.pk).update(enabled=False)
    plan_changed_jobs(story.now)
    story.send()
    assert office.words() == ["opened", "resolved"]
    assert "disabled" in Incident.objects.get().resolution
    assert not story.state(job).failing_incident


def test_every_host_has_incidents_of_its_own(office: PostOffice) -> None:
    job = watched_job(hostname="*", name="backup")
    one, two = Story("web1"), None
    one.run(job, "F")
    two = Story("web2")
    from chroniker.engine.planning import plan_for_new_host

    plan_for_new_host("web2", two.now)
    two.run(job, "FS")
    assert office.words() == ["opened", "opened", "resolved"]
    assert [incident.host for incident in Incident.objects.open()] == ["web1"]
    assert "backup on web2" in office.subjects()[-1]


def test_only_the_happy_path_of_a_success_costs_no_query(
    office: PostOffice, django_assert_max_num_queries: Any
) -> None:
    job = watched_job()
    story = Story()
    item = story.start(job)
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        story.end(item, "S")
    statements = [query["sql"] for query in captured.captured_queries]
    told = [s for s in statements if "incident" in s.lower() and "UPDATE" not in s]
    assert not told
    writes = [s for s in statements if s.startswith(("UPDATE", "INSERT"))]
    assert len(writes) == 2, "the state and the run"


def test_the_end_is_told_though_the_opening_came_late(office: PostOffice) -> None:
    """The server was away for the whole of an incident: both mails come, in order."""
    job = watched_job()
    story = Story()
    office.refuse.add("*")
    story.run(job, "FS", every=1)
    assert office.mails == []
    office.refuse.clear()
    for _ in range(4):
        story.later(hours=1).send()
    assert office.words() == ["opened", "resolved"]


def test_nothing_is_told_of_an_end_to_whom_nothing_was_told(office: PostOffice) -> None:
    from tests.incidents.history import make_user

    job = watched_job()
    story = Story()
    story.run(job, "F")
    job.subscribers.add(make_user("newcomer"))
    story.run(job, "S")
    assert [str(mail["To"]) for mail in office.mails] == ["ann@example.com"] * 2
