"""Run a job in this process, inside the transaction of a test."""

from __future__ import annotations

import contextlib
import io
import logging
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from django.utils.timezone import now as utc_now

from chroniker import progress
from chroniker.commands import check_command, check_raw_command, split_args
from chroniker.conf import conf
from chroniker.db.alias import atomic
from chroniker.engine.candidates import ClaimOptions
from chroniker.engine.claims import ClaimedRun, claim, new_token
from chroniker.engine.completion import FinishedRun, end_run
from chroniker.engine.launch import command_spec
from chroniker.engine.planning import plan_changed_jobs
from chroniker.enums import RunStatus, Stream
from chroniker.exceptions import CommandRefused
from chroniker.masking import Masker, site_secrets
from chroniker.models import Host, Incident, Job, Run
from chroniker.processes.child import run_command
from chroniker.processes.output import Recorder
from chroniker.processes.running_child import Outcome
from chroniker.run_context import attached
from chroniker.signals import job_process_started, run_finished, run_started
from chroniker.site_tasks import check_task

_EVERY_JOB = 2**31


@dataclass(frozen=True, slots=True)
class JobResult:
    """A run that has ended, as it is stored."""

    job: Job
    run: Run

    @property
    def status(self) -> str:
        """The status: ``succeeded``, ``failed`` and so on."""
        return self.run.status

    @property
    def error(self) -> str:
        """Why it failed; empty if it succeeded."""
        return self.run.error

    @property
    def exit_code(self) -> int | None:
        """The exit code; None if it never started."""
        return self.run.exit_code

    @property
    def stdout(self) -> str:
        """What is stored of its stdout: secrets are masked."""
        return self._output(Stream.STDOUT)

    @property
    def stderr(self) -> str:
        """What is stored of its stderr."""
        return self._output(Stream.STDERR)

    @property
    def log(self) -> str:
        """What is stored of its log."""
        return self._output(Stream.LOG)

    @property
    def open_incidents(self) -> list[Incident]:
        """The open incidents of the job."""
        return list(Incident.objects.filter(job=self.job, resolved_at__isnull=True))

    def assert_succeeded(self) -> None:
        """Raise AssertionError with the error and the output unless the run succeeded."""
        if self.status != RunStatus.SUCCEEDED:
            raise AssertionError(self._describe())

    def assert_failed(self, text: str = "") -> None:
        """Raise AssertionError unless the run failed, with ``text`` in its error or its stderr."""
        if self.status != RunStatus.FAILED or text not in f"{self.error}\n{self.stderr}":
            expected = f"a failure with {text!r}" if text else "a failure"
            raise AssertionError(f"Expected {expected}. {self._describe()}")

    def _describe(self) -> str:
        parts = [f"{self.job.name}: {self.status}. {self.error}".rstrip()]
        for stream in (Stream.STDERR, Stream.LOG, Stream.STDOUT):
            if text := self._output(stream):
                parts.append(f"--- {stream}\n{text.rstrip()}")
        return "\n".join(parts)

    def _output(self, stream: Stream) -> str:
        return "".join(chunk.text for chunk in self.run.output.of_stream(stream))


def run_job(job: Job | str, *, now: datetime | None = None) -> JobResult:
    """Run a job now, due or not, in this process, and record it as a tick does.

    The command or task sees the transaction of the test; a task is called here even if the job
    enqueues it. Arguments, checks, output with masking, progress,
    ``current_run()``, exit code, counters, retries, incidents, notifications (in the outbox) and
    jobs downstream are as in a real run. What needs a process of its own is not: the time limit of
    a management command, limits of memory and CPU, signals.

    Parameters:
        job: a job, or the name of one
        now: the time of the claim; by default the current one
    """
    if isinstance(job, str):
        job = Job.objects.get(name=job)
    pinned = job.hostname not in ("", "*")
    claimed = claim_jobs(
        {job.pk}, now or utc_now(), force=True, host=job.hostname if pinned else ""
    )
    if not claimed:
        raise AssertionError(
            f"{job.name} cannot run: it is running already, its host is paused, or a maintenance "
            "window pauses it."
        )
    return execute(claimed[0], now)


def claim_jobs(
    only: set[int] | None, now: datetime, *, force: bool, host: str = ""
) -> list[ClaimedRun]:
    """Plan what has changed, and claim jobs as the tick of a host does."""
    host = host or conf.HOSTNAME
    Host.objects.get_or_create(name=host)
    plan_changed_jobs(now)
    options = ClaimOptions(
        host=host,
        owner="inline",
        max_parallel=_EVERY_JOB,
        only=None if only is None else frozenset(only),
    )
    with atomic():
        return claim(options, now, now, new_token(), force=force).started


def execute(item: ClaimedRun, now: datetime | None = None) -> JobResult:
    """Run what was claimed, and record its end."""
    job, run = item.job, item.run
    streams = [Stream.LOG, *([Stream.STDOUT] if job.log_stdout else [])]
    streams += [Stream.STDERR] if job.log_stderr else []
    masker = Masker(site_secrets())
    recorder = Recorder(streams, conf.MAX_OUTPUT_BYTES, masker)
    written = dict.fromkeys((Stream.STDOUT, Stream.STDERR, Stream.LOG), 0)

    def feed(stream: Stream, data: bytes) -> None:
        written[stream] += len(data)
        if stream in streams:
            recorder.feed(stream, data)

    run_started.send_robust(sender=Run, run=run, job=job)
    page = progress.ProgressPage()
    began = time.perf_counter()
    try:
        outcome = _outcome(item, feed, page)
        parts = page.read()
    finally:
        page.close()
    if outcome.status == RunStatus.SUCCEEDED and job.stderr_is_failure and written[Stream.STDERR]:
        outcome = Outcome(
            RunStatus.FAILED, "It wrote to stderr, which counts as a failure of this job.", 0
        )
    seconds = time.perf_counter() - began
    ended = FinishedRun(
        state=item.state,
        job=job,
        run=run,
        token=item.token,
        outcome=Outcome(
            outcome.status,
            masker.mask_text(outcome.error),
            outcome.exit_code,
            outcome.signal,
            seconds,
        ),
        ended_at=now or utc_now(),
        has_downstream=item.has_downstream,
        output=recorder.take(final=True),
        written={stream.value: size for stream, size in written.items()},
        parts=parts[1:] if parts else None,
    )
    with atomic():
        if not end_run(ended):
            raise AssertionError(f"{job.name} has lost its lease, so its end was not recorded.")
    run_finished.send_robust(sender=Run, run=ended.updated_run(), job=job)
    return JobResult(job, Run.objects.get(pk=run.pk))


Feed = Callable[[Stream, bytes], None]


def _outcome(item: ClaimedRun, feed: Feed, page: progress.ProgressPage) -> Outcome:
    job = item.job
    try:
        args = split_args(job.args)
        if job.task:
            check_task(job.task)
        elif job.raw_command:
            check_raw_command(job.raw_command)
            return _run_program([*split_args(job.raw_command), *args], job, feed)
        else:
            check_command(job.command)
        # No worker of a backend sees the transaction of the test.
        spec = replace(command_spec(item, args), enqueue=False)
    except CommandRefused as refused:
        return Outcome(RunStatus.FAILED, str(refused))
    progress.attach(page.memory)
    try:
        with attached(spec.current_run()), _captured(feed):
            job_process_started.send_robust(sender=None, spec=spec)
            end = run_command(spec)
    finally:
        progress.attach(None)
    if end.error == "KeyboardInterrupt":
        raise KeyboardInterrupt
    if end.code:
        error = end.error or f"Ended with exit code {end.code}."
        return Outcome(RunStatus.FAILED, error, end.code)
    return Outcome(RunStatus.SUCCEEDED, "", 0)


def _run_program(words: list[str], job: Job, feed: Feed) -> Outcome:
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=job.timeout_seconds
        )
    except subprocess.TimeoutExpired as expired:
        feed(Stream.STDOUT, expired.stdout or b"")
        feed(Stream.STDERR, expired.stderr or b"")
        limit = job.timeout_seconds
        return Outcome(RunStatus.TIMED_OUT, f"Ended, because it ran longer than {limit} s.")
    except OSError as failed:
        return Outcome(RunStatus.FAILED, f"{words[0]}: {failed.strerror}", 127)
    feed(Stream.STDOUT, done.stdout)
    feed(Stream.STDERR, done.stderr)
    if done.returncode < 0:
        number = -done.returncode
        return Outcome(RunStatus.FAILED, f"Killed by signal {number}.", None, number)
    if done.returncode:
        error = f"Ended with exit code {done.returncode}."
        return Outcome(RunStatus.FAILED, error, done.returncode)
    return Outcome(RunStatus.SUCCEEDED, "", 0)


class _Writer(io.TextIOBase):
    """A text stream that feeds the recorder."""

    def __init__(self, feed: Feed, stream: Stream) -> None:
        self._feed, self._stream = feed, stream

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._feed(self._stream, text.encode("utf-8", "backslashreplace"))
        return len(text)


@contextlib.contextmanager
def _captured(feed: Feed) -> Iterator[None]:
    """Redirect Python's streams, and add a handler for log records."""
    handler = logging.StreamHandler(_Writer(feed, Stream.LOG))
    handler.setLevel(conf.LOG_CAPTURE_LEVEL)
    handler.setFormatter(logging.Formatter(conf.LOG_FORMAT))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(min(level, handler.level) if level else handler.level)
    try:
        with (
            contextlib.redirect_stdout(_Writer(feed, Stream.STDOUT)),
            contextlib.redirect_stderr(_Writer(feed, Stream.STDERR)),
        ):
            yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
