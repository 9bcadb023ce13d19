"""Email and Prometheus alert on the same jobs, minute by minute, over the same history.

Only the clock is simulated. The site's own rules run over the history and send real emails to a
real server; the real page is read each minute, and the shipped rules are evaluated over what it
said by Prometheus's own engine (``promtool test rules``), with the inhibitions of the shipped
example of Alertmanager.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.db.models import F

from chroniker.engine.blocking import explain_blocked
from chroniker.engine.planning import plan_changed_jobs, plan_for_new_host
from chroniker.models import Host, Job, JobDependency, Maintenance
from chroniker_monitors.checking.measurement import Measurement
from chroniker_monitors.checking.recorder import record_measurement
from chroniker_monitors.enums import Severity
from chroniker_monitors.exposition.page import render_chroniker_page
from chroniker_monitors.series import SeriesValue
from tests.alerts.rules import ALERTS, RULES, alerts, load, metric_names, rules
from tests.factories import make_job, make_monitor, make_user
from tests.support.machine import run_promtool
from tests.support.mail_server import MailServer, run_mail_server, set_mail_options
from tests.support.metrics_page import SAMPLE_LINE
from tests.support.timeline import START, STATUSES, Timeline

HISTORY_MINUTES = 180
"""Minutes of the history."""
ALLOWED_LAG = 2
"""Minutes by which one may be ahead of the other: the ticks and the scrapes count five minutes
each from their own beginning."""
SCRAPE_GAP = range(140, 148)
"""Minutes in which no scrape succeeds."""
LEAD_MINUTES = 10
"""Minutes of promtool's time before the history: its clock begins at 0, which means never."""


def measure_groups(**values: float) -> Measurement:
    """A measurement of groups, critical above 90."""
    series = tuple(
        SeriesValue(name, value, Severity.CRITICAL if value > 90 else Severity.OK)
        for name, value in values.items()
    )
    return Measurement(max(each.severity for each in series), series=series)


MEASUREMENTS = {
    "ok": Measurement(Severity.OK, 50),
    "warning": Measurement(Severity.WARNING, 85),
    "critical": Measurement(Severity.CRITICAL, 95),
    "unknown": Measurement(Severity.UNKNOWN, error="refused"),
    "eu and us ok": measure_groups(eu=50, us=50),
    "eu critical": measure_groups(eu=95, us=50),
    "eu and us critical": measure_groups(eu=95, us=95),
    "us critical, eu gone": measure_groups(us=95),
}

INCIDENT_BY_ALERT = {
    # Alerts by the email event with the same meaning.
    "ChronikerJobFailing": "failing, warning",
    "ChronikerJobFlapping": "flapping",
    "ChronikerJobOverdue": "overdue, warning",
    "ChronikerMonitorSilent": "overdue, warning",
    "ChronikerMonitorWarning": "condition, warning",
    "ChronikerMonitorUnknown": "condition, warning",
    "ChronikerMonitorCritical": "condition, critical",
}
INCIDENT_BY_INHIBITING_ALERT = {
    # Alerts that Alertmanager sends instead; the site has no event of its own for them.
    "ChronikerJobFailingRepeatedly": "failing, warning",
    "ChronikerJobLost": "failing, warning",
}

Key = tuple[str, str]
"""A job name and its placement."""


@dataclass
class JobHistory:
    """What happens to a job, and the emails that are expected, by minute."""

    outcomes: dict[int, str]
    """Letters of :mod:`tests.support.timeline`, severities of a sample, ``disabled``."""
    mails: dict[int, str]
    job: dict[str, Any] = field(default_factory=dict)
    monitor: bool = False
    muted: tuple[int, int] | None = None
    pause: bool = False
    host: str = "web1"
    """The host on which it finally runs."""


def due(minute: int) -> dict[str, Any]:
    """A job that is due once, in that minute."""
    return {
        "schedule": "@every 4h",
        "created_at": START + timedelta(minutes=minute) - timedelta(hours=4),
    }


HISTORY = {
    "backup": JobHistory({5: "S", 10: "F", 20: "F", 40: "S"}, {10: "opened", 40: "resolved"}),
    "import": JobHistory(
        # Three failures are a warning, nine are critical.
        dict.fromkeys([10, 15], "F")
        | {20: "S"}
        | dict.fromkeys(range(30, 90, 5), "F")
        | {90: "S"},
        {40: "opened", 90: "resolved"},
        {"failures_before_alert": 3},
    ),
    "report": JobHistory({15: "T", 35: "S"}, {15: "opened", 35: "resolved"}),
    "sync": JobHistory({20: "L", 30: "F", 45: "S"}, {20: "opened", 45: "resolved"}),
    "stopped by hand": JobHistory({10: "X", 20: "X"}, {}),
    # Started again within the minutes that a job may be late.
    "interrupted": JobHistory({10: "I", 12: "I", 14: "S"}, {}, due(10)),
    "everywhere": JobHistory(
        {20: "F", 50: "S"}, {20: "opened", 50: "resolved"}, {"hostname": "*"}, host="web2"
    ),
    "switched off": JobHistory({20: "F", 40: "disabled"}, {20: "opened", 40: "closed"}),
    "all the while": JobHistory(
        {20: "F", 120: "F", 170: "S"},
        {20: "opened", 80: "reminder", 140: "reminder", 170: "resolved"},
        {"reminder_hours": 1},
    ),
    # Flapping.
    "feed": JobHistory(
        {10: "F", 15: "S", 20: "F", 25: "S", 30: "F", 35: "S", 40: "F", 45: "S"},
        {
            10: "opened", 15: "resolved", 20: "opened", 25: "resolved", 30: "flapping",
            105: "resolved",
        },
    ),
    "stays down": JobHistory(
        {10: "F", 20: "S", 30: "F", 40: "S", 50: "F", 60: "F", 130: "S"},
        {
            10: "opened", 20: "resolved", 30: "opened", 40: "resolved", 50: "flapping",
            110: "opened", 130: "resolved",
        },
    ),
    # Maintenance.
    "within a window": JobHistory({35: "F", 50: "S"}, {}, muted=(30, 60)),
    "beyond a window": JobHistory(
        {40: "F", 55: "F", 75: "S"}, {60: "opened", 75: "resolved"}, muted=(30, 60)
    ),
    "fixed in a window": JobHistory(
        {20: "F", 45: "S"}, {20: "opened", 45: "resolved"}, muted=(30, 60)
    ),
    "before and after a window": JobHistory(
        {20: "F", 50: "F", 80: "S"}, {20: "opened", 80: "resolved"}, muted=(30, 60)
    ),
    "at rest": JobHistory({60: "S"}, {}, due(30), muted=(25, 60), pause=True),
    # Overdue.
    "of a host that is gone": JobHistory(
        {70: "S"}, {35: "opened", 70: "resolved"}, due(30) | {"hostname": "gone"}, host="gone"
    ),
    "started just in time": JobHistory({33: "S"}, {}, due(30)),
    "overdue in a window": JobHistory(
        {120: "S"},
        {100: "opened", 120: "resolved"},
        due(30) | {"hostname": "gone"},
        muted=(20, 100),
        host="gone",
    ),
    "waits for another": JobHistory({}, {}, due(30)),
    # It will run, so what waits for it is not blocked for ever.
    "never": JobHistory({}, {}, due(400)),
    # Monitors.
    "disk": JobHistory(
        {5: "ok", 20: "warning", 40: "critical", 60: "ok"},
        {20: "opened", 40: "worsened", 60: "resolved"},
        monitor=True,
    ),
    "orders": JobHistory({20: "unknown", 50: "ok"}, {20: "opened", 50: "resolved"}, monitor=True),
    "load": JobHistory(
        # Two bad samples in a row.
        {20: "critical", 25: "ok", 30: "critical", 35: "critical", 40: "critical", 50: "ok"},
        {35: "opened", 50: "resolved"},
        {"consecutive": 2},
        monitor=True,
    ),
    "queue": JobHistory(
        {40: "critical", 90: "ok"}, {60: "opened", 90: "resolved"}, monitor=True, muted=(30, 60)
    ),
    "countries": JobHistory(
        # Two good samples in a row. One alert for all groups, and still critical while some of
        # them are already unknown.
        {
            5: "eu and us ok", 20: "eu critical", 30: "eu and us critical",
            40: "us critical, eu gone", 45: "unknown", 50: "us critical, eu gone",
            60: "eu and us ok", 61: "eu and us ok",
        },
        {20: "opened", 61: "resolved"},
        {"recovery": 2},
        monitor=True,
    ),
    "unmeasured": JobHistory(
        {}, {35: "opened"}, due(30) | {"hostname": "gone"}, monitor=True, host="gone"
    ),
}  # fmt: skip


@pytest.fixture
def mail_server(settings: Any) -> Iterator[MailServer]:
    with run_mail_server() as mail_server:
        set_mail_options(settings, host="127.0.0.1", port=mail_server.port)
        settings.CHRONIKER_EMAIL_TIMEOUT = 60
        yield mail_server


class ComparedSite:
    """A site that ticks and is scraped every minute."""

    def __init__(self, mail_server: MailServer) -> None:
        self.mail_server = mail_server
        self.timeline = Timeline("web1")
        plan_for_new_host("web1", START)
        self.jobs = {name: self._define(name, job_history) for name, job_history in HISTORY.items()}
        JobDependency.objects.create(
            downstream=self.jobs["waits for another"], upstream=self.jobs["never"]
        )
        plan_changed_jobs(START)
        Host.objects.create(name="web2")
        plan_for_new_host("web2", START)
        self.open: dict[Key, dict[str, str]] = {}
        self.mails: dict[str, dict[int, str]] = {name: {} for name in HISTORY}
        self.source_states: list[dict[Key, set[str]]] = []
        """By minute: what is wrong according to the emails, outside of maintenance windows."""
        self.series: dict[str, dict[int, float]] = {}
        """What was scraped, by minute."""

    def _define(self, name: str, job_history: JobHistory) -> Job:
        make: Any = make_monitor if job_history.monitor else make_job
        job: Job = make(name=name, **job_history.job)
        job.subscribers.add(make_user(name.replace(" ", "-")))
        if job_history.muted:
            begins, ends = (START + timedelta(minutes=minute) for minute in job_history.muted)
            window = Maintenance.objects.create(
                starts_at=begins, ends_at=ends, pause=job_history.pause, reason="new disks"
            )
            window.jobs.add(job)
        return job

    def play_history(self) -> None:
        for minute in range(HISTORY_MINUTES):
            self.timeline.now = START + timedelta(minutes=minute)
            for name, job_history in HISTORY.items():
                if minute in job_history.outcomes:
                    self._apply_outcome(
                        self.jobs[name], job_history.outcomes[minute], job_history.host
                    )
            self._tick()
            self._read_mails(minute)
            if minute not in SCRAPE_GAP:
                self._scrape(minute)

    def _apply_outcome(self, job: Job, what: str, host: str) -> None:
        if what == "disabled":
            Job.objects.filter(pk=job.pk).update(enabled=False)
        elif what in STATUSES:
            Host.objects.get_or_create(name=host)
            self.timeline.host = host
            self.timeline.end(self.timeline.start(job, force=not job.schedule), what)
        else:
            monitor: Any = job
            record_measurement(
                job, monitor.probe, "", lambda state: MEASUREMENTS[what], now=self.timeline.now
            )

    def _tick(self) -> None:
        now = self.timeline.now
        plan_changed_jobs(now)
        explain_blocked(now, "web1")
        Host.objects.filter(name__startswith="web").update(last_tick_at=now)
        self.timeline.evaluate_incidents()
        while self.timeline.send():
            pass

    def _read_mails(self, minute: int) -> None:
        for mail in self.mail_server.mails:
            name, event = str(mail["X-Chroniker-Job"]), str(mail["X-Chroniker-Event"])
            host, kind = str(mail["X-Chroniker-Host"] or ""), str(mail["X-Chroniker-Kind"])
            assert name in str(mail["Subject"])
            assert minute not in self.mails[name], "two emails at once"
            self.mails[name][minute] = event
            standing = self.open.setdefault((name, host), {})
            if event in ("resolved", "closed"):
                del standing[kind]
            elif event == "flapping":
                standing[kind] = "flapping"
            elif event != "reminder":
                standing[kind] = f"{kind}, {mail['X-Chroniker-Severity']}"
        self.mail_server.reset()
        muted = set(Job.objects.muted(self.timeline.now).values_list("name", flat=True))
        self.source_states.append(
            {
                key: set() if key[0] in muted else {*kinds.values()}
                for key, kinds in self.open.items()
            }
        )

    def _scrape(self, minute: int) -> None:
        """The clock of the database differs; windows are moved to it for this block."""
        with transaction.atomic():
            # A second earlier, because SQLite's clock has no microseconds.
            ahead = datetime.now(UTC) - self.timeline.now - timedelta(seconds=1)
            Maintenance.objects.update(
                starts_at=F("starts_at") + ahead, ends_at=F("ends_at") + ahead
            )
            text, up = render_chroniker_page()
            transaction.set_rollback(True)
        assert up
        wanted = set().union(*(metric_names(rule["expr"]) for rule in rules()))
        for line in ["up 1", *text.decode().splitlines()]:
            found = SAMPLE_LINE.fullmatch(line)
            if found and (found[1] in wanted or found[1] == "up"):
                value = float(found[3])
                if value and "timestamp" in found[1]:
                    value += 60 * LEAD_MINUTES - START.timestamp()
                for instance in ("a:80", "b:80"):
                    labels = ",".join(
                        filter(None, ('job="chroniker"', f'instance="{instance}"', found[2]))
                    )
                    self.series.setdefault(f"{found[1]}{{{labels}}}", {})[minute] = value


def sent(jobs: list[str]) -> str:
    """PromQL for what Alertmanager sends about these jobs, by the event of the mail."""
    tells = INCIDENT_BY_ALERT | INCIDENT_BY_INHIBITING_ALERT
    chosen = f'alertname=~"{"|".join(tells)}", job_name=~"{"|".join(jobs)}"'
    expr = f'ALERTS{{alertstate="firing", {chosen}}}'
    for rule in load(ALERTS / "alertmanager.example.yml")["inhibit_rules"]:
        target, source = (
            f'ALERTS{{alertstate="firing", {matcher}}}'
            for side in ("target", "source")
            for matcher in rule[f"{side}_matchers"]
        )
        expr += f" unless ({target} and on ({', '.join(rule['equal'])}) {source})"
    # While a job flaps, its alert goes on: it was sent before, and nothing new is sent.
    flapping = f'ALERTS{{alertstate="firing", {chosen}, alertname="ChronikerJobFlapping"}}'
    going_on = f'ALERTS{{alertstate="firing", {chosen}, alertname="ChronikerJobFailing"}}'
    expr += f" unless ({going_on} and on (job, job_name, host) {flapping})"
    for source_state in set(tells.values()):
        names = "|".join(name for name, tale in tells.items() if tale == source_state)
        expr = f'label_replace({expr}, "source_state", "{source_state}", "alertname", "{names}")'
    # An email names the placement; an alert also names the only host that may run the job.
    tied = "|".join(
        name for name, job_history in HISTORY.items() if job_history.job.get("hostname") != "*"
    )
    expr = f'label_replace({expr}, "host", "", "job_name", "{tied}")'
    return f"group by (job_name, host, source_state) ({expr})"


def values(scraped: dict[int, float]) -> str:
    """Series in promtool's notation; a sample that is no longer scraped is marked stale."""
    texts = ["_"] * LEAD_MINUTES
    for minute in range(HISTORY_MINUTES):
        if minute in scraped:
            texts.append(f"{scraped[minute]:.3f}".rstrip("0").rstrip("."))
        else:
            texts.append("stale" if minute - 1 in scraped else "_")
    return " ".join(texts)


def rule_test_queries(
    source_states: list[dict[Key, set[str]]],
) -> Iterator[tuple[int, list[str], set[str]]]:
    """For each minute, the jobs without a recent event, and their current state."""

    def of(name: str, minute: int) -> set[tuple[str, str]]:
        return {
            (host, tale)
            for (job, host), tales in source_states[minute].items()
            if job == name
            for tale in tales
        }

    for minute in range(ALLOWED_LAG, HISTORY_MINUTES - ALLOWED_LAG):
        near = range(minute - ALLOWED_LAG, minute + ALLOWED_LAG + 1)
        jobs = [name for name in HISTORY if all(of(name, at) == of(name, minute) for at in near)]
        standing = {
            f'{{{f"""host="{host}", """ if host else ""}job_name="{name}", source_state="{tale}"}}'
            for name in jobs
            for host, tale in of(name, minute)
        }
        yield minute, jobs, standing


def assert_agreement(
    site: ComparedSite, source_states: list[dict[Key, set[str]]], folder: Path, every: int = 1
) -> str:
    """The error of promtool if Alertmanager would send something else; empty if it agrees."""
    asked = list(rule_test_queries(source_states))[::every]
    test = {
        "interval": "1m",
        "input_series": [
            {"series": name, "values": values(scraped)} for name, scraped in site.series.items()
        ],
        "promql_expr_test": [
            {
                "expr": sent(jobs),
                "eval_time": f"{minute + LEAD_MINUTES}m",
                "exp_samples": [{"labels": labels, "value": 1} for labels in sorted(standing)],
            }
            for minute, jobs, standing in asked
        ],
    }
    # An alert of a monitor stays for ten minutes after its end, so that a value that swings is one
    # message; the site has its own rule for that.
    at_once = re.sub(r"(?m)^ +keep_firing_for: .*\n", "", RULES.read_text())
    (folder / RULES.name).write_text(at_once)
    file = folder / "agreement.yml"
    file.write_text(
        json.dumps(
            {
                "rule_files": [RULES.name],
                "group_eval_order": [group["name"] for group in load(RULES)["groups"]],
                "evaluation_interval": "1m",
                "tests": [test],
            }
        )
    )
    done = run_promtool("test", "rules", file)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def disagreements(said: str) -> set[str]:
    """The jobs on which the emails and Alertmanager disagree."""
    sides = re.findall(r"exp: (.*)\n +got: (.*)", said)
    tales = [{*re.findall(r"{.*?}", one)} ^ {*re.findall(r"{.*?}", other)} for one, other in sides]
    return {name for tale in set().union(*tales) for name in re.findall(r'job_name="(.*?)"', tale)}


@pytest.mark.slow
@pytest.mark.one_database
@pytest.mark.prometheus
@pytest.mark.timeout(400)
@pytest.mark.django_db(transaction=True)
def test_mail_and_prometheus_alert_on_the_same_jobs_at_the_same_time(
    mail_server: MailServer, tmp_path: Path
) -> None:
    site = ComparedSite(mail_server)
    site.play_history()
    assert site.mails == {name: job_history.mails for name, job_history in HISTORY.items()}
    assert assert_agreement(site, site.source_states, tmp_path) == ""
    # The comparison is not trivial: it fails if emails arrive ten minutes later.
    said = assert_agreement(
        site, ([{}] * 10 + site.source_states)[:HISTORY_MINUTES], tmp_path, every=2
    )
    assert disagreements(said) == {
        name for name, job_history in HISTORY.items() if job_history.mails
    }


def test_mail_and_prometheus_agree_on_severity() -> None:
    """The severities of the emails are compared above."""
    severities = {alert["alert"]: alert["labels"]["severity"] for alert in alerts()}
    for name, event in INCIDENT_BY_ALERT.items():
        # The alert of a job has the severity of the job: a warning, unless it says otherwise.
        severity = severities[name].replace("{{ $labels.severity }}", "warning")
        assert event == "flapping" or event.endswith(f", {severity}"), name
