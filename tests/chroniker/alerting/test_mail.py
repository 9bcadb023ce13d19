"""The content of emails; names and output of jobs can neither break nor abuse them."""

from __future__ import annotations

import re
import smtplib
from typing import Any

import pytest
from django.core.mail import EmailMultiAlternatives
from django.core.mail.backends.locmem import EmailBackend

from chroniker.alerting.mail import Mail, build_mail, domain, from_address
from chroniker.alerting.notifications import notify, notify_success
from chroniker.alerting.notifiers import ChannelDown
from chroniker.enums import NotificationEvent
from chroniker.masking import Masker
from chroniker.models import Incident, Job, JobState, Notification
from tests.factories import NOON, make_incident, make_run, make_subscribed_job
from tests.support.mail_server import MailServer, html_of, set_mail_options, text_of
from tests.support.timeline import Timeline
from tests.support.types import RunTick

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database]


def test_mail_has_all_facts_for_on_call(mail_server: MailServer, settings: Any) -> None:
    settings.CHRONIKER_SITE_URL = "https://shop.example.com/"
    settings.CHRONIKER_EMAIL_SENDER = "Chroniker at the shop"
    settings.CHRONIKER_EMAIL_HOST_USER = "cron@shop.example.com"
    job = make_subscribed_job(name="import sales", runbook_url="https://wiki.example.com/sales")
    timeline = Timeline()
    lines = "\n".join(f"line {number}" for number in range(1, 41))
    (run,) = timeline.run(job, "F", error="OSError: disk full", stderr=lines + "\n")
    (mail,) = mail_server.mails
    assert mail["Subject"] == "[Chroniker] Warning: import sales failed: OSError: disk full"
    assert mail["From"] == "Chroniker at the shop <cron@shop.example.com>"
    assert mail["To"] == "ann@example.com"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["List-Id"] == f"<job-{job.pk}.chroniker.shop.example.com>"
    assert mail["X-Chroniker-Job"] == "import sales"
    assert mail["Message-ID"].endswith("@shop.example.com>")
    for body in (text_of(mail), html_of(mail)):
        for event_names in (
            "import sales", "OSError: disk full", "2026-03-01 12:00:00 UTC", "web1",
            "line 21\n", "line 40", "https://wiki.example.com/sales",
            f"https://shop.example.com/admin/chroniker/run/{run.pk}/change/",
            "https://shop.example.com/admin/chroniker/incident/",
        ):  # fmt: skip
            assert event_names in body, event_names
        assert "line 20\n" not in body


def test_same_notification_gives_the_same_mail(mail_server: MailServer) -> None:
    timeline = Timeline()
    timeline.run_once(make_subscribed_job(), "F")
    notification = Notification.objects.get()
    run_once, two = (build_mail(notification, Masker()) for _ in range(2))
    assert run_once.extra_headers == two.extra_headers
    assert (run_once.subject, run_once.body) == (two.subject, two.body)


HOSTILE_NAMES = [
    "nightly\nBcc: all@example.com",
    "nightly\r\n\r\nhello",
    "<script>alert(1)</script> & <b>bold</b>",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07",
    "{{ settings.SECRET_KEY }}{% debug %}",
    "Grüße 🎉 " * 20,
    "\u202egnp.exe",
    "a\u2028b\u2029c",
    "x" * 200,
    '"quoted" <a@b.c>, x@y.z;',
]


@pytest.mark.one_database
@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_name_gives_one_valid_mail(mail_server: MailServer, name: str) -> None:
    job = make_subscribed_job(name=name[:200])
    Timeline().run(job, "F")
    (mail,) = mail_server.mails
    assert mail["To"] == "ann@example.com"
    assert mail["Bcc"] is None
    assert mail.envelope_to == ["ann@example.com"]  # type: ignore[attr-defined]
    assert "\n" not in mail["Subject"] and len(mail["Subject"]) < 500
    assert_harmless(mail)


@pytest.mark.parametrize(
    "stderr",
    [
        "<img src=x onerror=alert(1)>\n</pre><script>alert(2)</script>\n",
        "\x1b[2J\x1b[1;31mowned\x1b[0m\x07\x08\x00\n",
        "half a surrogate \ud83d here \udcff\n",
        "no end of line",
        "\n\n\n",
        ".\r\n.\r\nQUIT\r\n",
        "From here on\n.\n",
        "\u202eabc\u2066def\n",
        "y" * 3_000_000,
    ],
)
def test_hostile_output_gives_one_valid_mail(mail_server: MailServer, stderr: str) -> None:
    job = make_subscribed_job()
    text = stderr.replace("\0", "")  # as the reader of the pipes of a run does
    Timeline().run(job, "F", stderr=text)
    (mail,) = mail_server.mails
    assert_harmless(mail)
    assert len(mail.raw) < 100_000  # type: ignore[attr-defined]


def test_long_output_is_cut_to_twenty_lines(mail_server: MailServer) -> None:
    job = make_subscribed_job()
    Timeline().run(job, "F", stderr="".join(f"{n} {'z' * 90}\n" for n in range(55_000)))
    (mail,) = mail_server.mails
    assert len(mail.raw) < 20_000  # type: ignore[attr-defined]
    assert "54999 z" in text_of(mail) and "54980 z" in text_of(mail)
    assert "54979 z" not in text_of(mail)


def assert_harmless(mail: Any) -> None:
    text, html = text_of(mail), html_of(mail)
    for body in (text, html, str(mail["Subject"])):
        assert not re.search(
            "[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", body
        )
    assert not re.search(r"<(script|img|b)\b", html)
    assert max(map(len, mail.raw.splitlines())) <= 998


@pytest.mark.one_database
def test_unvalidated_command_and_runbook_are_escaped(
    mail_server: MailServer,
) -> None:
    job = make_subscribed_job()
    Job.objects.filter(pk=job.pk).update(
        command="no\x1b[2J\u202esuch", runbook_url="https://a.b/\n\x1b[2J<b>x"
    )
    Timeline().run(Job.objects.get(), "F")
    (mail,) = mail_server.mails
    assert_harmless(mail)
    assert "no\\x1b[2J\\u202esuch" in text_of(mail)


def test_error_with_surrogates_can_be_stored_and_sent(mail_server: MailServer) -> None:
    from chroniker.alerting.incidents import open_or_update
    from chroniker.db.transactions import run_transaction

    job, timeline = make_subscribed_job(), Timeline()
    summary = "bad \udcff \0 \x1b[31m" + "w" * 900
    run_transaction(lambda: open_or_update(job, "", "condition", "warning", summary, timeline.now))
    timeline.send()
    (mail,) = mail_server.mails
    assert_harmless(mail)
    assert "Warning" in mail["Subject"]


# --- secrets ---


def test_secrets_are_masked_everywhere_in_a_mail(mail_server: MailServer, settings: Any) -> None:
    settings.PAYMENT_API_KEY = "sk_live_canary_0123456789"
    canary = settings.PAYMENT_API_KEY
    job = make_subscribed_job(name=f"job {canary}", description=canary, email_on_success=True)
    timeline = Timeline()
    timeline.run(job, "F", error=f"ValueError: {canary}", stderr=f"x\n{canary}\n" * 30)
    timeline.run(job, "S")
    assert mail_server.event_names() == ["opened", "resolved", "succeeded"]
    for mail in mail_server.mails:
        assert canary not in mail.raw.decode() + text_of(mail) + html_of(mail)  # type: ignore[attr-defined]
        assert canary not in str(mail["Subject"]) + str(mail["X-Chroniker-Job"])


def test_secrets_of_a_real_run_are_masked(
    run_tick: RunTick, mail_server: MailServer, settings: Any, monkeypatch: Any
) -> None:
    from datetime import UTC, datetime, timedelta

    from django.core import serializers

    monkeypatch.setenv("SHOP_DB_PASSWORD", "canary-of-environment")
    settings.PAYMENT_API_KEY = "canary-of-settings-1"
    settings.ODDLY_NAMED = "canary-of-names-22"
    settings.CHRONIKER_SECRET_NAMES = ["ODDLY_NAMED"]
    canaries = ("canary-of-environment", "canary-of-settings-1", "canary-of-names-22")
    make_subscribed_job(
        command="act", args=f"fail '{' '.join(canaries)}'", schedule="@every 1h",
        created_at=datetime.now(UTC) - timedelta(minutes=61),
    )  # fmt: skip
    ended = run_tick()
    (mail,) = mail_server.mails
    from chroniker import models

    stored = "".join(
        serializers.serialize("json", model.objects.all())  # type: ignore[attr-defined]
        for model in (models.Incident, models.Notification, models.Run, models.OutputChunk,
                      JobState)
    )  # fmt: skip
    for canary in canaries:
        assert canary not in mail.raw.decode() + text_of(mail) + html_of(mail)  # type: ignore[attr-defined]
        assert canary not in stored
        assert canary not in ended.output
    assert "********" in text_of(mail)


def test_secret_split_over_two_writes_is_masked(
    run_tick: RunTick, mail_server: MailServer, settings: Any, monkeypatch: Any, client: Any
) -> None:
    from datetime import UTC, datetime, timedelta

    from django.core import serializers

    from chroniker import models

    monkeypatch.setenv("SHOP_DB_PASSWORD", "canary-of-environment")
    settings.CHRONIKER_ALLOW_RAW_COMMANDS = True
    script = (
        "for out in 1 2; do printf 'a canary-of' >&$out; sleep 0.3; "
        "printf -- '-environment\\n' >&$out; done; exit 3"
    )
    make_subscribed_job(
        raw_command="sh -c", args=f'"{script}"', schedule="@every 1h",
        created_at=datetime.now(UTC) - timedelta(minutes=61),
    )  # fmt: skip
    ended = run_tick()
    (mail,) = mail_server.mails
    assert "a ********" in text_of(mail)
    stored = "".join(
        serializers.serialize("json", model.objects.all())  # type: ignore[attr-defined]
        for model in (models.Incident, models.Notification, models.Run, models.OutputChunk,
                      models.JobState)
    )  # fmt: skip
    assert stored.count("a ********") == 2
    page = client.get("/metrics").content.decode()
    assert "chroniker_job_failures_total" in page
    everything = mail.raw.decode() + text_of(mail) + html_of(mail) + stored + ended.output + page  # type: ignore[attr-defined]
    assert "canary-of-env" not in everything and "-environment" not in everything


# --- pieces ---


def test_sender_address(settings: Any) -> None:
    settings.DEFAULT_FROM_EMAIL = "Shop <shop@example.com>"
    assert from_address() == "Shop <shop@example.com>"
    settings.CHRONIKER_EMAIL_SENDER = "Cron"
    assert from_address() == "Cron <shop@example.com>"
    settings.CHRONIKER_EMAIL_HOST_USER = "cron@example.com"
    assert from_address() == "Cron <cron@example.com>"
    settings.CHRONIKER_EMAIL_HOST_USER = "AKIAIOSFODNN7"
    assert from_address() == "Cron <shop@example.com>", "the user of a mail service, and no address"
    assert domain() == "example.com"


def test_runbook_that_is_not_a_url_is_not_linked(mail_server: MailServer) -> None:
    job = make_subscribed_job()
    Job.objects.filter(pk=job.pk).update(runbook_url="javascript:alert(1)")
    Timeline().run(job, "F")
    assert "javascript" not in html_of(mail_server.mails[0])


def test_site_can_override_templates(mail_server: MailServer, settings: Any, tmp_path: Any) -> None:
    folder = tmp_path / "chroniker" / "mail"
    folder.mkdir(parents=True)
    (folder / "incident_subject.txt").write_text("{{ job_name }}\nbroke\n")
    (folder / "opened.txt").write_text("Call the shop about {{ job_name }}.")
    (engine,) = settings.TEMPLATES
    settings.TEMPLATES = [{**engine, "DIRS": [str(tmp_path)]}]
    job = make_subscribed_job(name="till")
    Timeline().run(job, "FS")
    opened, resolved = mail_server.mails
    assert opened["Subject"] == "[Chroniker] till broke"
    assert text_of(opened).strip() == "Call the shop about till."
    assert "till has recovered. A run succeeded." in text_of(resolved)


@pytest.mark.one_database
@pytest.mark.parametrize(
    "broken",
    [
        "{% nonsense %}",
        "{% include 'not/there.html' %}",
        "{% for a, b in job_name %}{% endfor %}",
    ],
)
@pytest.mark.parametrize("name", ["incident_subject.txt", "incident.txt", "opened.html"])
def test_broken_site_template_falls_back_to_the_default(
    mail_server: MailServer,
    settings: Any,
    tmp_path: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    broken: str,
) -> None:
    monkeypatch.setattr("chroniker.alerting.rendering._broken", set())
    folder = tmp_path / "chroniker" / "mail"
    folder.mkdir(parents=True)
    (folder / name).write_text(broken)
    (engine,) = settings.TEMPLATES
    settings.TEMPLATES = [{**engine, "DIRS": [str(tmp_path)]}]
    Timeline().run(make_subscribed_job(name="till"), "F")
    (message,) = mail_server.mails
    assert message["Subject"] == "[Chroniker] Warning: till failed: ValueError: boom"
    assert "ValueError: boom" in text_of(message) and "ValueError: boom" in html_of(message)
    assert name in caplog.text


def test_broken_template_is_logged_once_in_each_process(
    mail_server: MailServer,
    settings: Any,
    tmp_path: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chroniker.alerting.rendering._broken", set())
    folder = tmp_path / "chroniker" / "mail"
    folder.mkdir(parents=True)
    (folder / "incident.txt").write_text("{% nonsense %}")
    (engine,) = settings.TEMPLATES
    settings.TEMPLATES = [{**engine, "DIRS": [str(tmp_path)]}]
    Timeline().run(make_subscribed_job("ann", "bob"), "F")
    assert len(mail_server.mails) == 2
    assert len(caplog.messages) == 1


# --- built, and not sent ---


def incident_mail(event: str = "opened", **fields: Any) -> EmailMultiAlternatives:
    incident = make_incident(make_subscribed_job(name="till"), severity="warning", **fields)
    notify(NotificationEvent(event), incident, NOON)
    return build_mail(Notification.objects.get(), Masker())


def test_headers_identify_site_job_and_event(settings: Any) -> None:
    settings.CHRONIKER_SITE_URL = "https://shop.example.com"
    mail = incident_mail("reminder")
    notification = Notification.objects.get()
    assert notification.job is not None
    thread = mail.extra_headers["References"]
    assert mail.extra_headers == {
        "Message-ID": f"<{notification.key[:40]}@shop.example.com>",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
        "X-Chroniker-Event": "reminder",
        "X-Chroniker-Job": "till",
        "X-Chroniker-Severity": "warning",
        "X-Chroniker-Kind": "failing",
        "List-Id": f"<job-{notification.job.pk}.chroniker.shop.example.com>",
        "In-Reply-To": thread,
        "References": thread,
    }
    notify(NotificationEvent.OPENED, Incident.objects.get(), NOON)
    opening = build_mail(Notification.objects.get(event="opened"), Masker())
    assert opening.extra_headers["Message-ID"] == thread
    assert "References" not in opening.extra_headers


def test_digest_has_a_list_of_its_own_and_no_thread(settings: Any) -> None:
    settings.CHRONIKER_SITE_URL = "https://shop.example.com"
    facts = {"since": NOON.isoformat(), "until": NOON.isoformat(), "incidents": []}
    digest = Notification.objects.create(
        event="digest", channel="mail", recipient="ann@example.com", key="x" * 64,
        created_at=NOON, facts=facts,
    )  # fmt: skip
    mail = build_mail(digest, Masker())
    assert mail.extra_headers["List-Id"] == "<digest.chroniker.shop.example.com>"
    assert not {"References", "X-Chroniker-Job", "X-Chroniker-Severity"} & set(mail.extra_headers)
    assert mail.subject == "[Chroniker] 0 incidents since 2026-05-04 12:00 UTC"


def test_success_has_templates_of_its_own() -> None:
    job = make_subscribed_job(name="till")
    notify_success(job, make_run(job), NOON)
    mail = build_mail(Notification.objects.get(), Masker())
    assert "till succeeded." in mail.body
    assert mail.extra_headers["X-Chroniker-Event"] == "succeeded"


def test_long_subject_is_shortened_after_its_prefix(settings: Any) -> None:
    settings.CHRONIKER_EMAIL_SUBJECT_PREFIX = "> "
    incident = make_incident(make_subscribed_job(name="x" * 200), host="y" * 250)
    notify(NotificationEvent.OPENED, incident, NOON)
    mail = build_mail(Notification.objects.get(), Masker())
    assert mail.subject.startswith("> Critical: xxx") and len(mail.subject) < 300
    assert len(mail.extra_headers["X-Chroniker-Job"]) == 150


def test_mail_has_text_and_html_for_one_recipient() -> None:
    mail = incident_mail()
    ((html, mimetype),) = mail.alternatives
    assert (mimetype, mail.to) == ("text/html", ["ann@example.com"])
    assert "<html" in str(html) and "<html" not in mail.body


def test_domain_without_any_address_is_localhost(settings: Any) -> None:
    settings.DEFAULT_FROM_EMAIL = ""
    assert domain() == "localhost"


def notification_to_send() -> Notification:
    notify(NotificationEvent.OPENED, make_incident(make_subscribed_job()), NOON)
    return Notification.objects.get()


def test_batch_is_sent_through_one_connection(mail_server: MailServer) -> None:
    notification = notification_to_send()
    with Mail() as mail:
        for _ in range(2):
            mail.send(notification)
    assert len(mail_server.mails) == 2
    assert len({mail.session for mail in mail_server.mails}) == 1  # type: ignore[attr-defined]


def test_rejected_mail_does_not_stop_the_channel(mail_server: MailServer) -> None:
    mail_server.refuse.add("*")
    with Mail() as mail, pytest.raises(smtplib.SMTPRecipientsRefused):
        mail.send(notification_to_send())


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (smtplib.SMTPServerDisconnected("bye"), "closed the connection: bye"),
        (smtplib.SMTPConnectError(421, "busy"), "closed the connection"),
        (TimeoutError("slow"), "closed the connection: slow"),
        (smtplib.SMTPAuthenticationError(535, "no"), "rejected the credentials"),
        (ConnectionRefusedError("refused"), "cannot be reached: refused"),
    ],
)
def test_unusable_mail_server_stops_the_channel(
    settings: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, text: str
) -> None:
    def refuse(backend: object, messages: object) -> int:
        raise error

    monkeypatch.setattr(EmailBackend, "send_messages", refuse)
    set_mail_options(settings, "locmem")
    with Mail() as mail, pytest.raises(ChannelDown, match=f"the mail server {text}"):
        mail.send(notification_to_send())


def test_backend_that_sends_nothing_stops_the_channel(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmailBackend, "send_messages", lambda backend, messages: 0)
    set_mail_options(settings, "locmem")
    with Mail() as mail, pytest.raises(ChannelDown, match="sent nothing"):
        mail.send(notification_to_send())
