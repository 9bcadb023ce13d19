"""The demo, looked at by a program: did the jobs do their work, and does ``/metrics`` say so?

It builds the site from nothing in a directory of its own, with schedules of seconds, waits until
every job has run, stops the scheduler, and then holds what it finds against what it works out by
itself: the report against the CSV file, the backup against the database, the metrics against the
rows of the runs and the samples, the mails against the incidents.
"""

from __future__ import annotations

import csv
import os
import re
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener, urlopen

import django
from prometheus_client.parser import text_string_to_metric_families

from .site import PROJECT, DemoError, DemoSite

PAGES = (
    "chroniker/run", "chroniker/host", "chroniker/incident", "chroniker/notification",
    "chroniker/maintenance", "chroniker/digest", "shop/dailyreport", "shop/sale",
)  # fmt: skip
WAIT_SECONDS = 60
TILL_SECONDS = 3
IMPORT = "Import sales"
REPORT = "Build the sales report"
BACKUP = "Back up the database"
SESSIONS = "Clear expired sessions"
FEED = "Fetch the publisher's feed"
REINDEX = "Reindex the search"
LOW = "Books about to run out"
SHORT = "Books that will not last a week"
NEWEST = "Age of the newest backup"
PAGE = "Front page"
TILL = "Till number one"
INITIALLY_UNKNOWN = {SHORT, NEWEST}
"""Monitors of what is not there until the jobs have run; until then their checks fail."""


class CheckFailed(Exception):
    """What is there is not what should be."""


class CheckReport:
    """Prints a line for each check and counts those that failed."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.failed = 0

    @contextmanager
    def named(self, name: str) -> Iterator[Callable[[str], None]]:
        """One check: it gives ``detail``; any exception is its failure."""
        details: list[str] = []
        try:
            yield details.append
            verdict = "ok  "
        except DemoError:
            raise
        except Exception as error:
            self.failed += 1
            verdict = "FAIL"
            reason = str(error) if isinstance(error, CheckFailed) else repr(error)
            details.append(reason)
        seconds = time.monotonic() - self.began
        print(f"{seconds:5.1f} s  {verdict}  {name}: {'; '.join(details)}", flush=True)


def main() -> int:
    checks = CheckReport()
    with tempfile.TemporaryDirectory(prefix="bookshop-") as directory:
        with DemoSite(Path(directory), port=0) as site:
            _run(site, checks)
        with checks.named("leftovers") as detail:
            left = site.processes()
            _require(not left, f"still running: {left}")
            detail("no process is left")
    print("smoke: " + (f"{checks.failed} checks failed" if checks.failed else "all is well"))
    return 1 if checks.failed else 0


def _run(site: DemoSite, checks: CheckReport) -> None:
    with checks.named("build") as detail:
        site.seed("--quick")
        detail("database, sales file and jobs from nothing")
    with checks.named("serve") as detail:
        site.start_web()
        detail(f"{site.url} answers")
    _use_django(site)
    site.start_scheduler(1)
    site.start_till(TILL_SECONDS)
    progress: list[float] = []
    with checks.named("watch") as detail:
        _wait_for_results(site, progress)
        detail("every job and monitor has run")
    with checks.named("stop") as detail:
        site.stop("till")
        code = site.stop("cronserver")
        _require(code == 0, f"cronserver ended with exit code {code}")
        detail("cronserver ended by SIGTERM, exit code 0")
    for name, check in (
        ("runs", _check_runs),
        ("import", _check_import),
        ("order", _check_order),
        ("report", _check_report),
        ("backup", _check_backup),
        ("sessions", _check_sessions),
        ("feed", _check_feed),
        ("monitors", _check_monitors),
        ("incidents", _check_incidents),
        ("mail", _check_mail),
    ):
        with checks.named(name) as detail:
            detail(check(site.directory))
    with checks.named("progress") as detail:
        _require(_is_increasing(progress), f"of {REINDEX!r} while it ran: {progress}")
        detail(f"{REINDEX!r} was seen at " + ", ".join(f"{ratio:.0%}" for ratio in progress))
    with checks.named("metrics") as detail:
        metrics = ScrapedMetrics.scraped(site)
        detail(_check_metrics(metrics))
        detail(_check_monitor_metrics(metrics))
    with checks.named("admin") as detail:
        detail(_check_admin(site))


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise CheckFailed(otherwise)


def _use_django(site: DemoSite) -> None:
    os.environ.update(DJANGO_SETTINGS_MODULE="bookshop_site.settings")
    os.environ.update(DEMO_DIR=str(site.directory), DEMO_URL=site.url)
    sys.path.insert(0, str(PROJECT))
    django.setup()


# --- while it runs --------------------------------------------------------------------------


def _wait_for_results(site: DemoSite, progress: list[float]) -> None:
    """Wait until there is enough to look at, noting how the slow job's first run goes on."""
    from chroniker.models import Run

    deadline = time.monotonic() + WAIT_SECONDS
    while missing := _missing_results():
        site.check()
        _require(time.monotonic() < deadline, f"after {WAIT_SECONDS} s: {', '.join(missing)}")
        metrics = ScrapedMetrics.scraped(site)
        running = metrics.value("chroniker_job_running", job_name=REINDEX)
        if running and Run.objects.filter(job__name=REINDEX).count() == 1:
            progress.append(metrics.value("chroniker_job_progress_ratio", job_name=REINDEX))
        time.sleep(1)


def _missing_results() -> list[str]:
    """What has yet to happen."""
    from chroniker.models import Job, Notification, Run
    from chroniker_monitors.models import Monitor, Sample

    succeeded_names = set(Run.objects.filter(status="succeeded").values_list("job__name", flat=True))
    names = Job.objects.values_list("name", flat=True)
    missing = [f"{name!r} has not ended well" for name in names if name not in succeeded_names]
    if Run.objects.filter(job__name=FEED, status="failed").count() < 2:
        missing.append(f"{FEED!r} has not failed twice")
    for monitor in Monitor.objects.exclude(samples__in=Sample.objects.exclude(value=None)):
        missing.append(f"{monitor.name!r} has measured nothing")
    told = Notification.objects.filter(job__name=FEED, sent_at__isnull=False)
    for event in ("opened", "resolved"):
        if not told.filter(event=event).exists():
            missing.append(f"nobody was told that {FEED!r} is {event}")
    if not missing and not _backups_after_report():
        missing.append("no backup was begun after the report")
    return missing


def _backups_after_report() -> Any:
    """Successful backups that were begun after a successful report."""
    from chroniker.models import Run

    report = Run.objects.filter(job__name=REPORT, status="succeeded").order_by("id").first()
    return Run.objects.filter(
        job__name=BACKUP, status="succeeded", started_at__gt=report and report.ended_at
    )


def _is_increasing(progress: list[float]) -> bool:
    inner = sorted({ratio for ratio in progress if 0 < ratio < 1})
    return progress == sorted(progress) and len(inner) >= 3


# --- afterwards -----------------------------------------------------------------------------


def _check_runs(directory: Path) -> str:
    from chroniker.models import Job, Run

    _require(not Run.objects.running().exists(), "some are still running")
    told = []
    for job in Job.objects.all():
        by_status = Counter(Run.objects.filter(job=job).values_list("status", flat=True))
        _require(by_status["succeeded"] > 0, f"{job} never succeeded: {dict(by_status)}")
        # The scheduler was told to stop while it ran: that is no fault of the job.
        unexpected = set(by_status) - {"succeeded", "stopped", "missed"}
        if job.name == FEED or job.name in INITIALLY_UNKNOWN:
            unexpected -= {"failed"}
        _require(not unexpected, f"{job} ended as {dict(by_status)}")
        if job.command != "check_monitor":
            told.append(f"{job.command} {sum(by_status.values())}")
    checks = Run.objects.filter(job__command="check_monitor").count()
    return ", ".join(told) + f", and {checks} checks of monitors"


def _check_import(directory: Path) -> str:
    from chroniker.models import Run

    from shop.models import Sale
    from shop.sample import MALFORMED, SALES

    count = Sale.objects.count()
    _require(count == SALES, f"{count} sales, not {SALES}")
    runs = Run.objects.filter(job__name=IMPORT, status="succeeded").order_by("id")
    for run in runs:
        lines = _output(run, "stderr").splitlines()
        _require(len(lines) == len(MALFORMED), f"{len(lines)} malformed rows on stderr: {lines}")
        _require(run.parts_done == run.parts_total == SALES + len(MALFORMED), f"{run}'s progress")
    first = _output(runs[0], "stdout")
    _require(f"{SALES} new sales" in first, f"the first import said {first!r}")
    return (
        f"{count} sales, {len(MALFORMED)} malformed rows told on stderr by each of {len(runs)} runs"
    )


def _output(run: Any, stream: str) -> str:
    return "".join(run.output.of_stream(stream).values_list("text", flat=True))


def _check_order(directory: Path) -> str:
    """The report waits for the import."""
    from chroniker.models import Run

    imports = Run.objects.filter(job__name=IMPORT)
    reports = Run.objects.filter(job__name=REPORT)
    for report in reports:
        before = imports.filter(ended_at__lte=report.started_at, status="succeeded")
        _require(before.exists(), f"{report} began before an import had succeeded")
        _require(report.trigger == "dependency", f"{report} was started by {report.trigger}")
        together = imports.filter(
            started_at__lt=report.ended_at, ended_at__gt=report.started_at
        ).first()
        _require(together is None, f"{report} ran at the same time as {together}")
    return f"{len(reports)} reports, each after a successful import and never beside one"


def _check_report(directory: Path) -> str:
    """Add the file up again, by other means than the shop does."""
    expected: dict[tuple[str, str], tuple[int, int]] = {}
    with closing(sqlite3.connect(directory / "bookshop.sqlite3")) as database:
        category = dict(database.execute("SELECT isbn, category FROM shop_book"))
        report = {
            (day, name): (copies, cents)
            for day, name, copies, cents in database.execute(
                "SELECT day, category, copies, revenue_cents FROM shop_dailyreport"
            )
        }
    with (directory / "sales.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            if not row[0].startswith("R"):  # the heading, and the rows that are malformed
                continue
            _, day, isbn, quantity, price = row
            copies, cents = expected.get((day, category[isbn]), (0, 0))
            euros, _, rest = price.partition(".")
            cents += int(quantity) * (100 * int(euros) + int(rest))
            expected[day, category[isbn]] = (copies + int(quantity), cents)
    wrong = {key: (report.get(key), value) for key, value in expected.items()}
    wrong = {key: pair for key, pair in wrong.items() if pair[0] != pair[1]}
    _require(not wrong, f"{len(wrong)} totals differ (reported, from the file): {wrong}")
    _require(len(report) == len(expected), "it has totals of which the file knows nothing")
    total = sum(cents for _, cents in expected.values())
    return f"{len(report)} totals, {total // 100}.{total % 100:02d} € in all, as in the file"


def _check_backup(directory: Path) -> str:
    backups = sorted((directory / "backups").glob("bookshop-*.sqlite3"))
    _require(0 < len(backups) <= 2, f"{len(backups)} backups are kept, not up to 2")
    counts = {}
    for path in (directory / "bookshop.sqlite3", backups[-1]):
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            counts[path] = [
                database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("shop_book", "shop_sale", "shop_dailyreport", "chroniker_job")
            ]
    database_counts, backup_counts = counts.values()
    _require(database_counts == backup_counts, f"{database_counts} rows, {backup_counts} in it")
    return f"{backups[-1].name} opens and has the same {sum(backup_counts)} rows"


def _check_sessions(directory: Path) -> str:
    from chroniker.models import Run
    from django.contrib.sessions.models import Session

    from shop.management.commands.seed_demo import EXPIRED, EXPIRING

    last = Run.objects.filter(job__name=SESSIONS, status="succeeded").latest("id")
    expired = Session.objects.filter(expire_date__lt=last.started_at).count()
    left = Session.objects.count()
    _require(not expired and 0 < left < EXPIRING, f"{left} left, {expired} of them expired")
    return f"{EXPIRED} expired ones are gone, {left} live ones are not"


def _check_feed(directory: Path) -> str:
    from chroniker.models import Run

    from shop.models import FeedItem, FeedRequest

    runs = Run.objects.filter(job__name=FEED).exclude(status__in=("missed", "stopped"))
    failed = runs.filter(status="failed")
    asked = FeedRequest.objects.count()
    _require(failed.count() == asked // 3, f"{asked} requests, {failed.count()} failed runs")
    errors = " ".join(failed.values_list("error", flat=True))
    for told in ("503", "cut short"):
        _require(told in errors, f"no run says {told!r}: {errors}")
    _require(FeedItem.objects.exists(), "no item was kept")
    return f"{failed.count()} of {runs.count()} runs failed, and say why"


def _check_monitors(directory: Path) -> str:
    """Each was measured, and what some of them measured can be known from elsewhere."""
    from chroniker_monitors.enums import Severity
    from chroniker_monitors.models import Monitor, MonitorState, Sample

    states = {state.job.name: state for state in MonitorState.objects.select_related("job__probe")}
    names = set(Monitor.objects.values_list("name", flat=True))
    _require(names == set(states), f"of {names ^ set(states)} there is no state")
    for name, state in states.items():
        samples = Sample.objects.filter(job=state.job).order_by("at", "id")
        last = samples.last()
        _require(last is not None and last.value is not None, f"{name}: {state.error}")
        assert last
        _require(len(samples) == state.samples_total, f"{name}: {len(samples)} samples are kept")
        _require(
            (last.value, last.at) == (state.value, state.last_sample_at), f"{name}: {last} is last"
        )
        _require(not (samples[0].error and name not in INITIALLY_UNKNOWN), f"{name}: {samples[0].error}")
    with closing(sqlite3.connect(directory / "bookshop.sqlite3")) as database:
        [low] = database.execute("SELECT count(*) FROM shop_book WHERE stock < 5").fetchone()
    measured = {name: state.value or 0 for name, state in states.items()}
    severity = {name: Severity(state.severity) for name, state in states.items()}
    _require(measured[LOW] == low, f"{LOW!r} measured {measured[LOW]}, and there are {low}")
    for name, wanted in ((LOW, "WARNING"), (SHORT, "CRITICAL"), (TILL, "OK")):
        found = severity[name].name
        _require(found == wanted, f"{name!r} is {found}, not {wanted}: {measured[name]}")
    _require(0 < measured[PAGE] < 10, f"{PAGE!r} took {measured[PAGE]} s")
    _require(0 <= measured[NEWEST] < WAIT_SECONDS, f"{NEWEST!r} is {measured[NEWEST]} s")
    till = states[TILL]
    _require(
        (till.last_ping_kind, till.last_ping_body) == ("success", "sold some books"),
        f"the till told {till.last_ping_kind!r} and {till.last_ping_body!r}",
    )
    by_severity = Counter(found.name.lower() for found in severity.values())
    told = ", ".join(f"{number} {name}" for name, number in sorted(by_severity.items()))
    return f"{len(states)} were measured {Sample.objects.count()} times: {told}"


def _check_incidents(directory: Path) -> str:
    """The feed fails once at a time: each is an incident, and over with the next success."""
    from chroniker.models import Incident, Run

    failed = Run.objects.filter(job__name=FEED, status="failed").order_by("id")
    incidents = list(Incident.objects.filter(job__name=FEED).order_by("id"))
    opened = [incident.first_run_id for incident in incidents]
    _require(opened == [run.pk for run in failed], f"opened by the runs {opened}")
    for incident in incidents:
        _require(incident.occurrences == 1, f"{incident} was seen {incident.occurrences} times")
        if incident.resolved_at is None:
            _require(incident == incidents[-1], f"{incident} is still open")
        else:
            run = incident.last_run
            _require(run is not None and run.status == "succeeded", f"{run} ended {incident}")
    return f"{len(incidents)} of the feed, {Incident.objects.count()} in all"


def _check_mail(directory: Path) -> str:
    """One mail tells of an opening, one of its end; of what flaps, one tells that."""
    from chroniker.models import Incident, Notification

    mails = [*_read_mails(directory / "mail")]
    keys = Counter(mail["Message-ID"] for mail in mails)
    _require(max(keys.values()) == 1, f"sent twice: {keys}")
    addresses = {mail["To"] for mail in mails}
    _require(addresses == {"admin@bookshop.example"}, f"sent to {addresses}")
    found = Counter(_event_of(mail) for mail in mails if mail["X-Chroniker-Job"] == FEED)
    _require(max(found.values()) == 1, f"told twice: {found}")
    expected = set()
    for incident in Incident.objects.filter(job__name=FEED).order_by("id"):
        if incident.flapping:
            expected.add(("flapping", incident.pk))
            break
        expected.add(("opened", incident.pk))
        if incident.resolved_at is not None:
            expected.add(("resolved", incident.pk))
    # What happened last may not have been sent before the scheduler was told to stop.
    pending = Notification.objects.pending().filter(job__name=FEED)
    waiting = set(pending.values_list("event", "incident"))
    _require(
        expected - waiting <= set(found) <= expected,
        f"told {sorted(found)}, and waiting {waiting}, not {sorted(expected)}",
    )
    return f"{len(mails)} mails, {len(found)} of them of the feed, one for each event"


def _read_mails(folder: Path) -> Iterator[EmailMessage]:
    """Those that Django's backend has put into files."""
    for path in sorted(folder.iterdir()):
        for text in path.read_bytes().split(b"-" * 79 + b"\n"):
            if text.strip():
                yield message_from_bytes(text, policy=default)


def _event_of(mail: EmailMessage) -> tuple[str, int]:
    """The event, and the incident that the mail links to."""
    body = mail.get_body(("plain",))
    found = re.search(r"/admin/chroniker/incident/(\d+)/", body.get_content() if body else "")
    _require(found is not None, f"{mail['Subject']!r} links to no incident")
    assert found
    return mail["X-Chroniker-Event"], int(found[1])


# --- metrics --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScrapedMetrics:
    """One scrape."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    @classmethod
    def scraped(cls, site: DemoSite) -> ScrapedMetrics:
        with urlopen(f"{site.url}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return cls(
            {
                (sample.name, frozenset(pair for pair in sample.labels.items() if pair[1])): (
                    sample.value
                )
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
        )

    def value(self, name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        _require(key in self.samples, f"there is no {name}{labels}")
        return self.samples[key]


def _check_metrics(metrics: ScrapedMetrics) -> str:
    """Counted from the rows of the runs; the exporter reads the counters of the job states."""
    from chroniker.enums import FAILURE_REASONS, MissedReason, RunStatus
    from chroniker.models import Job, JobState, Run
    from django.db.models import Sum

    compared = 0
    jobs = [(job, {}) for job in Job.objects.exclude(hostname="*")]
    jobs += [(s.job, {"host": s.host}) for s in JobState.objects.filter(job__hostname="*")]
    for job, host in jobs:
        ended = Run.objects.filter(job=job).ended().exclude(status="missed")
        by_status = Counter(ended.values_list("status", flat=True))
        last = ended.latest("ended_at", "id")
        expected: dict[tuple[str, str, str], float] = {
            ("runs_total", "", ""): ended.count(),
            ("duration_seconds_count", "", ""): ended.count(),
            ("running", "", ""): 0,
            ("last_duration_seconds", "", ""): last.duration_seconds or 0,
            ("progress_parts", "", ""): last.parts_done or 0,
            ("progress_parts_expected", "", ""): last.parts_total or 0,
        }
        for status, reason in FAILURE_REASONS.items():
            expected["failures_total", "reason", reason] = by_status[status]
        for status in RunStatus.values:
            if status not in ("running", "missed"):
                expected["last_run_status", "status", status] = float(status == last.status)
        for reason in MissedReason.values:
            missed = Run.objects.filter(job=job, missed_reason=reason)
            slots = missed.aggregate(slots=Sum("missed_slots", default=0))["slots"]
            expected["missed_runs_total", "reason", reason] = slots
        ratio = (last.parts_done or 0) / last.parts_total if last.parts_total else 0
        expected["progress_ratio", "", ""] = ratio
        for (name, label, value), number in expected.items():
            labels = {"job_name": job.name} | host | ({label: value} if label else {})
            scraped = metrics.value(f"chroniker_job_{name}", **labels)
            _require(
                abs(scraped - number) < 1e-6,
                f"chroniker_job_{name}{labels} is {scraped}, the database says {number}",
            )
            compared += 1
    return f"{compared} values of {len(jobs)} jobs agree with the database"


def _check_monitor_metrics(metrics: ScrapedMetrics) -> str:
    """From the samples; the exporter reads the states."""
    from chroniker.models import Incident, Notification
    from chroniker_monitors.models import Monitor, Sample

    expected: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

    def expect(number: float, name: str, **labels: str) -> None:
        expected[name, frozenset(pair for pair in labels.items() if pair[1])] = number

    for monitor in Monitor.objects.select_related("probe"):
        last = Sample.objects.filter(job=monitor).latest("at", "id")
        labels = {"job_name": monitor.name, "host": last.host}
        if last.value is not None:
            expect(last.value, "chroniker_monitor_value", **labels)
        if last.latency_seconds is not None:  # a heartbeat's ping takes no time
            expect(last.latency_seconds, "chroniker_monitor_latency_seconds", **labels)
        moment = last.at.timestamp()
        expect(moment, "chroniker_monitor_last_sample_timestamp_seconds", **labels)
        state = monitor.monitor_states.get(host=last.host)
        expect(state.severity, "chroniker_monitor_severity", **labels)
        for severity in ("warning", "critical"):
            limit = getattr(monitor.probe, severity)
            if limit is not None:
                expect(
                    limit,
                    "chroniker_monitor_threshold",
                    job_name=monitor.name,
                    severity=severity,
                    operator=monitor.probe.operator,
                )
    for severity in ("critical", "warning"):
        number = Incident.objects.open().filter(severity=severity).count()
        expect(number, "chroniker_incidents_open", severity=severity)
    expect(Notification.objects.pending().count(), "chroniker_notifications_pending")
    for (name, pairs), number in expected.items():
        scraped = metrics.value(name, **dict(pairs))
        _require(
            abs(scraped - number) < 1e-6,
            f"{name}{dict(pairs)} is {scraped}, the database says {number}",
        )
    return f"{len(expected)} of {Monitor.objects.count()} monitors and of incidents, too"


# --- admin ----------------------------------------------------------------------------------


def _check_admin(site: DemoSite) -> str:
    """As a browser does it: with cookies, a session and the token of the form."""
    from chroniker.models import Job
    from chroniker_monitors.models import Monitor

    cookies = CookieJar()
    browser = build_opener(HTTPCookieProcessor(cookies))
    login = f"{site.url}/admin/login/?next=/admin/chroniker/job/"
    form = browser.open(login, timeout=10).read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
    _require(token is not None, "the login page has no form with a token")
    assert token
    fields = {"username": "admin", "password": site.password}
    try:
        browser.open(login, urlencode(fields).encode(), timeout=10)
        raise CheckFailed("the login was taken without its token")
    except HTTPError as error:
        _require(error.code == 403, f"a login without its token was answered by {error.code}")
    fields["csrfmiddlewaretoken"] = token[1]
    page = browser.open(login, urlencode(fields).encode(), timeout=10)
    text = page.read().decode()
    _require(page.url.endswith("/admin/chroniker/job/"), f"the login led to {page.url}")
    _require(any(cookie.name == "sessionid" for cookie in cookies), "there is no session")
    for job in Job.objects.all():
        _require(f"/admin/chroniker/job/{job.pk}/change/" in text, f"{job} is not in the list")
    board = browser.open(f"{site.url}/admin/chroniker_monitors/monitor/", timeout=10)
    _require(board.status == 200, f"the board answered {board.status}")
    text = board.read().decode()
    for monitor in Monitor.objects.all():
        address = f"/admin/chroniker_monitors/monitor/{monitor.pk}/change/"
        _require(address in text, f"{monitor} is not on the board")
        browser.open(site.url + address, timeout=10)
    for path in PAGES:
        browser.open(f"{site.url}/admin/{path}/", timeout=10)
    return (
        f"logged in; the list has all {Job.objects.count()} jobs, the board all "
        f"{Monitor.objects.count()} monitors, and their pages open"
    )
