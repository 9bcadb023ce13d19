"""Runs at moments chosen by a test, recorded as a tick does, without processes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils.timezone import now as utc_now

from chroniker.alerting.delivery import deliver
from chroniker.alerting.review import open_late_jobs, review_due_incidents
from chroniker.db.transactions import run_transaction
from chroniker.engine.candidates import ClaimOptions
from chroniker.engine.claims import claim, new_token
from chroniker.engine.completion import FinishedRun, end_run
from chroniker.engine.planning import plan_changed_jobs
from chroniker.enums import RunStatus
from chroniker.models import Host, Job, JobState, Run
from chroniker.processes.output import OutputBatch, OutputPiece
from chroniker.processes.running_child import Outcome
from tests.factories import make_subscribed_job

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

STATUSES = {
    "S": RunStatus.SUCCEEDED,
    "F": RunStatus.FAILED,
    "T": RunStatus.TIMED_OUT,
    "L": RunStatus.LOST,
    "X": RunStatus.STOPPED,
    "I": RunStatus.INTERRUPTED,
}


class Timeline:
    """A clock with operations on jobs, as a tick performs them."""

    def __init__(self, host: str = "web1") -> None:
        self.host = host
        self.now = START
        Host.objects.get_or_create(name=host)
        plan_changed_jobs(self.now)

    def advance(self, **delta: float) -> Timeline:
        self.now += timedelta(**delta)
        return self

    def catch_up(self) -> Timeline:
        """Go to the present: receivers of Django's signals use the real time."""
        self.now = utc_now() + timedelta(seconds=1)
        return self

    def run(self, job: Job, letters: str, *, every: float = 10, **outcome: Any) -> list[Run]:
        """Runs with the endings of ``letters``, every so many minutes, with their mails."""
        runs = []
        for letter in letters:
            runs.append(self.run_once(job, letter, **outcome))
            self.evaluate_incidents()
            self.send()
            self.advance(minutes=every)
        return runs

    def start(self, job: Job, *, force: bool = True) -> Any:
        """Start a job; ``force``: even if it is not due."""
        plan_changed_jobs(self.now)
        options = ClaimOptions(self.host, "tick-0-test.lock", 100, only=frozenset([job.pk]))
        token = new_token()
        taken = run_transaction(lambda: claim(options, self.now, self.now, token, force=force))
        (item,) = taken.started
        return item

    def start_due(self) -> list[Any]:
        """Start what is due on this host, as a tick does."""
        plan_changed_jobs(self.now)
        options = ClaimOptions(self.host, "tick-0-test.lock", 100)
        token = new_token()
        taken = run_transaction(lambda: claim(options, self.now, self.now, token))
        return list(taken.started)

    def end(self, item: Any, letter: str, *, error: str = "", stderr: str = "") -> Run:
        status = STATUSES[letter]
        if not error and letter != "S":
            error = {"T": "Ran longer than 5 s.", "L": "Lost."}.get(letter, "ValueError: boom")
        taken = OutputBatch()
        if stderr:
            data = stderr.encode("utf-8", "backslashreplace").decode()
            taken.pieces = [
                OutputPiece("stderr", at, len(data[at : at + 60000]), data[at : at + 60000])
                for at in range(0, len(data), 60000)
            ]
        ended = FinishedRun(
            state=item.state,
            job=item.job,
            run=item.run,
            token=item.token,
            outcome=Outcome(status, error),
            ended_at=self.now,
            has_downstream=False,
            output=taken,
        )
        assert run_transaction(lambda: end_run(ended))
        return Run.objects.get(pk=item.run.pk)

    def run_once(self, job: Job, letter: str, **outcome: Any) -> Run:
        return self.end(self.start(job), letter, **outcome)

    def evaluate_incidents(self) -> None:
        """Update incidents as a tick does."""
        open_late_jobs(self.now)
        review_due_incidents(self.now)

    def send(self) -> int:
        return deliver(lambda: self.now, 5)

    def state(self, job: Job) -> JobState:
        return JobState.objects.get(job=job)


def timeline_of_failed_job(*subscribers: str, **fields: Any) -> Timeline:
    job = make_subscribed_job(*subscribers, **fields)
    timeline = Timeline()
    timeline.run_once(job, "F")
    return timeline
