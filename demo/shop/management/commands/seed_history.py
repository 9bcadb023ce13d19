from __future__ import annotations

import random
from datetime import datetime, timedelta

from chroniker.enums import IncidentKind, RunStatus, Severity, Stream, Trigger
from chroniker.models import Host, Incident, Job, JobState, OutputChunk, Run
from chroniker_monitors.models import Monitor
from django.core.management.base import BaseCommand
from django.utils import timezone

HOURS = 30
EVERY = timedelta(minutes=20)
TRACEBACK = """Traceback (most recent call last):
  File "shop/management/commands/fetch_feed.py", line 31, in handle
    raise CommandError("the publisher's feed answered 503")
django.core.management.base.CommandError: the publisher's feed answered 503
"""
HOST = "web1"


class Command(BaseCommand):
    help = "Create runs of the last day, as if the jobs had been running: for screenshots."

    def handle(self, *args: object, **options: object) -> None:
        now = timezone.now()
        dice = random.Random(7)
        Host.objects.update_or_create(
            name=HOST,
            defaults={"first_tick_at": now - timedelta(days=9), "last_tick_at": now,
                      "tick_seconds": 0.02, "version": "1.0"},
        )  # fmt: skip
        Host.objects.update_or_create(
            name="web2",
            defaults={"first_tick_at": now - timedelta(days=9), "last_tick_at": now,
                      "tick_seconds": 0.03, "version": "1.0"},
        )  # fmt: skip
        monitors = set(Monitor.objects.values_list("pk", flat=True))
        jobs = [job for job in Job.objects.order_by("pk") if job.pk not in monitors]
        for number, job in enumerate(jobs):
            self._create_runs(job, now, dice, failing=job.command == "fetch_feed")
            if number == 0:
                self._create_running(job, now)
        self.stdout.write(f"{Run.objects.count()} runs")

    def _create_runs(self, job: Job, now: datetime, dice: random.Random, *, failing: bool) -> None:
        usual = dice.choice((8, 25, 90, 240))
        runs = []
        at = now - timedelta(hours=HOURS)
        while at < now - timedelta(minutes=5):
            recent = now - at < timedelta(minutes=50)
            failed = (failing and recent) or dice.random() < 0.03
            seconds = usual * dice.uniform(0.8, 1.3) * (0.2 if failed else 1)
            runs.append(
                Run(
                    job=job,
                    ran_on=dice.choice((HOST, "web2")),
                    scheduled_for=at,
                    started_at=at + timedelta(seconds=2),
                    ended_at=at + timedelta(seconds=2 + seconds),
                    duration_seconds=seconds,
                    trigger=Trigger.SCHEDULE,
                    status=RunStatus.FAILED if failed else RunStatus.SUCCEEDED,
                    exit_code=1 if failed else 0,
                    error=TRACEBACK if failed else "",
                    cpu_seconds=seconds * 0.6,
                    max_rss_bytes=dice.randrange(60, 140) * 2**20,
                )
            )
            at += EVERY
        for run in runs:
            run.save()
        last = runs[-1]
        failures = 0
        for run in reversed(runs):
            if run.status == RunStatus.SUCCEEDED:
                break
            failures += 1
        next_run = job.parsed_schedule().next(now)
        JobState.objects.update_or_create(
            job=job,
            host="",
            defaults={
                "planned_from": job.definition,
                "next_slot_at": next_run,
                "next_run_at": next_run,
                "last_run": last,
                "last_status": last.status,
                "last_started_at": last.started_at,
                "last_ended_at": last.ended_at,
                "last_duration_seconds": last.duration_seconds,
                "last_error": last.error.strip().splitlines()[-1] if last.error else "",
                "consecutive_failures": failures,
                "runs_total": len(runs),
            },
        )
        Job.objects.filter(pk=job.pk).update(planned_from=job.definition)
        if failures:
            self._create_output(last)
            Incident.objects.create(
                job=job,
                kind=IncidentKind.FAILING,
                severity=Severity.CRITICAL,
                summary="CommandError: the publisher's feed answered 503",
                opened_at=runs[-failures].ended_at,
                last_seen_at=last.ended_at,
                occurrences=failures,
                first_run=runs[-failures],
                last_run=last,
                notified_severity=Severity.CRITICAL,
            )

    def _create_output(self, run: Run) -> None:
        pieces = (
            (Stream.STDOUT, "".join(f"fetched page {page} of 40\n" for page in range(1, 18))),
            (Stream.STDERR, "page 18: HTTP 503\nretrying in 2 s\npage 18: HTTP 503\n"
                            "\x1b[1;31mgiving up after 2 attempts\x1b[0m\n"),
            (Stream.LOG, "ERROR shop.feed the publisher's feed answered 503\n"),
        )  # fmt: skip
        for stream, text in pieces:
            size = len(text.encode())
            OutputChunk.objects.create(
                run=run, stream=stream, offset=0, size=size, text=text,
                written_at=run.ended_at or run.scheduled_for,
            )  # fmt: skip
            Run.objects.filter(pk=run.pk).update(**{f"{stream.value}_bytes": size})

    def _create_running(self, job: Job, now: datetime) -> None:
        started = now - timedelta(seconds=42)
        run = Run.objects.create(
            job=job, ran_on=HOST, scheduled_for=started, started_at=started, pid=4711
        )
        text = "".join(f"imported {number * 1000} of 50000 sales\n" for number in range(1, 32))
        OutputChunk.objects.create(
            run=run, stream=Stream.STDOUT, offset=0, size=len(text), text=text, written_at=now
        )
        JobState.objects.filter(job=job).update(
            current_run=run, lease_token="seeded", lease_host=HOST, last_started_at=started,
            lease_expires_at=now + timedelta(hours=1), parts_done=31_000, parts_total=50_000,
            progress_at=now,
        )  # fmt: skip
