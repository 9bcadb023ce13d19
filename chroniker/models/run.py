"""Runs: one row for each attempt at a slot, and one for missed slots; and their output."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Case, Q, When
from django.utils.translation import gettext_lazy as _

from chroniker.db.querysets import PrimaryQuerySet
from chroniker.enums import FAILURE_REASONS, MissedReason, RunStatus, Stream, Trigger

from .job import Job


class RunQuerySet(PrimaryQuerySet["Run"]):
    """Runs."""

    def running(self) -> RunQuerySet:
        """Runs that have not ended."""
        return self.filter(status=RunStatus.RUNNING)

    def ended(self) -> RunQuerySet:
        """Runs that have ended, whatever their status."""
        return self.exclude(status=RunStatus.RUNNING)

    def ended_before(self, moment: datetime) -> RunQuerySet:
        """Runs that ended before ``moment``: what ``cron_clean`` may delete."""
        return self.ended().filter(ended_at__lt=moment)


class OutputChunkQuerySet(PrimaryQuerySet["OutputChunk"]):
    """Pieces of output."""

    def of_stream(self, stream: str) -> OutputChunkQuerySet:
        """The chunks of one stream, in the order in which they were written."""
        return self.filter(stream=stream).order_by("offset")


class Run(models.Model):
    """An attempt at a slot. The end is written once and never changes."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="runs", verbose_name=_("job"))
    host = models.CharField(
        _("placement"),
        max_length=255,
        blank=True,
        help_text=_("The host, for a job that runs on every host. Otherwise empty."),
    )
    ran_on = models.CharField(
        _("ran on"),
        max_length=255,
        blank=True,
        help_text=_("The host or the worker that executed the run."),
    )
    scheduled_for = models.DateTimeField(_("scheduled for"))
    attempt = models.PositiveSmallIntegerField(_("attempt"), default=1)
    trigger = models.CharField(
        _("trigger"), max_length=12, choices=Trigger, default=Trigger.SCHEDULE
    )
    args = models.TextField(_("arguments"), null=True, blank=True)  # noqa: DJ001
    """The arguments of this run only. NULL: those of the job."""
    status = models.CharField(
        _("status"), max_length=12, choices=RunStatus, default=RunStatus.RUNNING
    )
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    duration_seconds = models.FloatField(_("duration"), null=True, blank=True)
    exit_code = models.IntegerField(_("exit code"), null=True, blank=True)
    signal = models.PositiveSmallIntegerField(_("signal"), null=True, blank=True)
    error = models.TextField(_("error"), blank=True)
    pid = models.PositiveIntegerField(
        _("process"), null=True, blank=True, help_text=_("Process id of the warden on the host.")
    )
    cpu_seconds = models.FloatField(_("CPU time"), null=True, blank=True)
    max_rss_bytes = models.BigIntegerField(_("peak memory"), null=True, blank=True)
    parts_total = models.BigIntegerField(_("parts"), null=True, blank=True)
    parts_done = models.BigIntegerField(_("parts done"), null=True, blank=True)
    missed_slots = models.PositiveIntegerField(_("missed slots"), default=0)
    missed_reason = models.CharField(
        _("missed because of"), max_length=12, choices=MissedReason, blank=True
    )
    stdout_bytes = models.BigIntegerField(_("bytes of stdout"), default=0)
    stderr_bytes = models.BigIntegerField(_("bytes of stderr"), default=0)
    log_bytes = models.BigIntegerField(_("bytes of log"), default=0)
    task_result_id = models.CharField(
        _("task result"),
        max_length=255,
        blank=True,
        help_text=_("The result that the run follows, in the task backend."),
    )
    traceparent = models.CharField(max_length=55, blank=True, editable=False)
    """The span of the run, as W3C Trace Context writes it; empty if the run is not traced."""

    running_placement = models.GeneratedField(
        expression=Case(When(status=RunStatus.RUNNING, then=models.F("host"))),
        output_field=models.CharField(max_length=255, null=True),
        db_persist=True,
    )
    """The placement while the run is running, else NULL. Unique together with the job, so that
    every database rejects a second running row; MariaDB ignores conditional constraints."""

    objects = RunQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        ordering = ("-id",)
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        permissions = (("view_output", _("Can view the output of runs")),)
        constraints = (
            models.UniqueConstraint(
                fields=["job", "host", "scheduled_for", "attempt"], name="chroniker_run_once"
            ),
            models.UniqueConstraint(
                fields=["job", "running_placement"], name="chroniker_run_one_running"
            ),
            models.CheckConstraint(
                condition=~Q(status=RunStatus.MISSED) | ~Q(missed_reason=""),
                name="chroniker_run_missed_says_why",
            ),
        )
        indexes = (
            models.Index(fields=["job", "-id"], name="chroniker_run_of_job"),
            models.Index(fields=["ended_at"], name="chroniker_run_ended"),
            models.Index(fields=["status", "-id"], name="chroniker_run_status"),
        )

    def __str__(self) -> str:
        return f"{self.job} at {self.scheduled_for:%Y-%m-%d %H:%M:%S}Z: {self.status}"

    @property
    def failed(self) -> bool:
        """Whether the run counts as a failure."""
        return self.status in FAILURE_REASONS

    @property
    def trace_id(self) -> str:
        """The id of the run's trace; empty if no trace was recorded."""
        parts = self.traceparent.split("-")
        return parts[1] if len(parts) == 4 and int(parts[3], 16) & 1 else ""  # 1: sampled


class OutputChunk(models.Model):
    """A piece of the output of a run. Rows are only added, so a live tail never rewrites one.

    ``offset`` and ``size`` are bytes of the stream as the job wrote it. Where the offset of a chunk
    is not the end of the previous one of the same stream, the output in between was not kept.
    """

    run = models.ForeignKey(Run, models.CASCADE, related_name="output", verbose_name=_("run"))
    stream = models.CharField(_("stream"), max_length=6, choices=Stream)
    offset = models.BigIntegerField(_("offset"))
    size = models.PositiveIntegerField(_("size"))
    text = models.TextField(_("text"))
    written_at = models.DateTimeField(_("written"))

    objects = OutputChunkQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        ordering = ("id",)
        verbose_name = _("output")
        verbose_name_plural = _("output")

    def __str__(self) -> str:
        return f"{self.stream} of run {self.run_id} from byte {self.offset}"
