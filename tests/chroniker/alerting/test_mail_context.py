"""The names that mail templates can use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chroniker.alerting.mail_context import MailContext, build_context, tail_of
from chroniker.alerting.notifications import notify, notify_success
from chroniker.enums import NotificationEvent
from chroniker.masking import Masker
from chroniker.models import Incident, Notification, Run
from tests.factories import (
    NOON,
    make_incident,
    make_job,
    make_output,
    make_run,
    make_subscribed_job,
)

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

SECRET = "canary-of-settings-1"
MASKER = Masker([SECRET])


def context_of(incident: Incident, run: Run | None = None, event: str = "opened") -> MailContext:
    notify(NotificationEvent(event), incident, NOON, run)
    return build_context(Notification.objects.latest("pk"), MASKER)


def tail(*pieces: Any) -> tuple[str, str]:
    run = make_run(make_job())
    make_output(run, *pieces)
    return tail_of(run.pk, MASKER)


def test_incident_without_a_run() -> None:
    job = make_subscribed_job(name="disk", command="df", description="\nthe disk\nof books\n")
    incident = make_incident(
        job, host="web1", severity="warning", kind="condition", summary="80 %\nfull",
        occurrences=3, opened_at=NOON, last_seen_at=NOON + timedelta(hours=1),
    )  # fmt: skip
    context = context_of(incident)
    expected = {
        "event": "opened", "event_label": "opened", "job_name": "disk", "command": "df",
        "description": "the disk\nof books", "run": None, "run_url": "", "tail": "", "error": "",
        "host": "web1", "placement": "web1", "severity": "warning", "severity_label": "warning",
        "kind": "condition", "kind_label": "condition", "summary": "80 %\nfull",
        "headline": "80 % full", "occurrences": 3, "resolution": "", "resolved_at": None,
        "opened_at": NOON, "last_seen_at": NOON + timedelta(hours=1), "job_url": "",
        "incident": incident, "job": job, "incident_url": "", "runbook_url": "", "site_url": "",
    }  # fmt: skip
    assert {name: context[name] for name in expected} == expected


def test_mail_describes_the_moment_of_its_notification() -> None:
    incident = make_incident(make_subscribed_job(), summary="80 %", severity="warning")
    notify(NotificationEvent.OPENED, incident, NOON)
    Incident.objects.update(
        summary="99 %", severity="critical", occurrences=9, resolution="ok", resolved_at=NOON
    )
    context = build_context(Notification.objects.get(), MASKER)
    assert (context["summary"], context["severity"], context["occurrences"]) == (
        "80 %",
        "warning",
        1,
    )
    assert (context["resolution"], context["resolved_at"]) == ("", None)


def test_notification_without_facts_describes_the_incident() -> None:
    """One that an older release has written."""
    incident = make_incident(make_subscribed_job(), summary="80 %", occurrences=4)
    notify(NotificationEvent.OPENED, incident, NOON)
    Notification.objects.update(facts={})
    context = build_context(Notification.objects.get(), MASKER)
    assert (context["summary"], context["severity"], context["occurrences"]) == (
        "80 %",
        "critical",
        4,
    )
    assert (context["headline"], context["last_seen_at"]) == ("80 %", None)


def test_failed_run_has_its_error_and_the_end_of_its_output() -> None:
    job = make_subscribed_job()
    run = make_run(job, status="failed", ran_on="web1", host="web2", error="\nOSError: disk\nfull")
    make_output(run, ("stderr", "Traceback\nOSError: disk full\n"))
    context = context_of(make_incident(job, host="web3"), run)
    assert (context["host"], context["placement"]) == ("web1", "web3")
    assert (context["status"], context["error"]) == ("failed", "OSError: disk\nfull")
    assert (context["tail_stream"], context["tail"]) == ("stderr", "Traceback\nOSError: disk full")


def test_host_of_a_run_that_did_not_start_is_its_placement() -> None:
    job = make_subscribed_job()
    run = make_run(job, status="failed", host="web2")
    assert context_of(make_incident(job), run)["host"] == "web2"


def test_successful_run_has_no_tail() -> None:
    job = make_subscribed_job()
    run = make_run(job, ran_on="web1")
    make_output(run, ("stderr", "a warning\n"))
    notify_success(job, run, NOON)
    context = build_context(Notification.objects.get(), MASKER)
    assert (context["tail"], context["status"], context["host"]) == ("", "succeeded", "web1")
    assert "incident" not in context and context["severity"] == ""


def test_every_text_is_masked_and_escaped() -> None:
    text = f"{SECRET}\x1b"
    job = make_subscribed_job(name=text, description=text, command=text)
    run = make_run(job, status="failed", ran_on=text, error=text)
    make_output(run, ("stderr", text))
    incident = make_incident(job, summary=text, resolution=text, host=text)
    context = context_of(incident, run)
    names = (
        "job_name", "command", "description", "host", "error", "tail", "summary", "resolution",
        "headline", "placement",
    )  # fmt: skip
    assert {context[name] for name in names} == {"********\\x1b"}


def test_long_texts_are_shortened() -> None:
    job = make_subscribed_job(description="d" * 2000)
    run = make_run(job, status="failed", error="e" * 5000)
    context = context_of(make_incident(job), run)
    assert (len(context["description"]), len(context["error"])) == (1000, 4000)


def test_digest_lists_its_incidents() -> None:
    entry = {
        "job": f"disk\n{SECRET}", "summary": f"80 %\n{SECRET}", "resolved_at": None, "pk": 1,
        "opened_at": NOON.isoformat(), "host": "", "kind": "failing",
    }  # fmt: skip
    facts = {"since": NOON.isoformat(), "until": NOON.isoformat(), "more": True}
    notification = Notification.objects.create(
        event="digest", channel="mail", key="x", created_at=NOON,
        facts=facts | {"incidents": [entry, entry | {"resolved_at": NOON.isoformat()}]},
    )  # fmt: skip
    context = build_context(notification, MASKER)
    first, second = context["incidents"]
    assert (first["job"], first["summary"]) == ("disk ********", "80 % ********")
    assert (first["opened_at"], first["resolved_at"]) == (NOON, None)
    assert (second["resolved_at"], second["kind"]) == (NOON, "failing")
    assert (context["since"], context["until"], context["more"]) == (NOON, NOON, True)
    notification.facts = {}
    context = build_context(notification, MASKER)
    assert (context["incidents"], context["more"], context["since"]) == ([], False, None)


def test_times_of_facts_keep_their_zone() -> None:
    context = context_of(make_incident(make_subscribed_job(), last_seen_at=NOON))
    assert context["last_seen_at"] == datetime(2026, 5, 4, 12, tzinfo=UTC)


def test_tail_is_the_last_twenty_lines() -> None:
    lines = [f"line {number}" for number in range(30)]
    assert tail(("stderr", "\n".join(lines))) == ("stderr", "\n".join(lines[10:]))
    assert tail(("stderr", "\n".join(lines[:20]) + "\n")) == ("stderr", "\n".join(lines[:20]))


def test_tail_joins_the_pieces_in_their_order() -> None:
    pieces = [("stderr", f"{number}\n") for number in range(30)]
    assert tail(*pieces) == ("stderr", "\n".join(map(str, range(10, 30))))
    assert tail(("stderr", "a"), ("stderr", "b"), ("stderr", "c\n")) == ("stderr", "abc")


def test_tail_is_from_the_log_if_stderr_is_empty() -> None:
    assert tail(("log", "WARNING low\n"), ("stdout", "x\n")) == ("log", "WARNING low")
    assert tail(("log", "WARNING low\n"), ("stderr", "\n \n")) == ("log", "WARNING low")
    assert tail(("log", "WARNING low\n"), ("stderr", "boom\n")) == ("stderr", "boom")
    assert tail(("stdout", "x\n")) == ("", "")


def test_long_lines_of_the_tail_are_cut() -> None:
    assert tail(("stderr", "x" * 500 + "\n" + "y" * 501)) == (
        "stderr", "x" * 500 + "\n" + "y" * 500 + " …",
    )  # fmt: skip


def test_secret_across_pieces_and_the_cut_of_a_line_is_masked() -> None:
    assert tail(("stderr", SECRET[:8]), ("stderr", SECRET[8:])) == ("stderr", "********")
    _, text = tail(("stderr", "x" * 490 + SECRET))
    assert "canary" not in text
