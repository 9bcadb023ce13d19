"""The states, reasons and kinds of the scheduler, each with its meaning."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class RunStatus(models.TextChoices):
    """The status of a run. All but ``RUNNING`` are final."""

    RUNNING = "running", _("running")
    """Claimed by a host that renews its lease."""
    SUCCEEDED = "succeeded", _("succeeded")
    """The command returned, or exited with 0."""
    FAILED = "failed", _("failed")
    """The command raised, exited with another code, was killed by a signal, or could not start."""
    TIMED_OUT = "timed_out", _("timed out")
    """It ran longer than ``timeout_seconds`` and was killed."""
    STOPPED = "stopped", _("stopped")
    """A person stopped it."""
    INTERRUPTED = "interrupted", _("interrupted")
    """The shutdown of its scheduler ended it. Not a failure: its slot is due again at once."""
    LOST = "lost", _("lost")
    """Its supervisor died, its lease ran out, or a task backend lost the result of its task: how
    far it came is unknown."""
    MISSED = "missed", _("missed")
    """The slot was not run; ``missed_reason`` says why."""


class FailureReason(models.TextChoices):
    """Why a run failed. The value of label ``reason`` of ``chroniker_job_failures_total``."""

    ERROR = "error", _("error")
    """Status ``failed``."""
    TIMEOUT = "timeout", _("timeout")
    """Status ``timed_out``."""
    STOPPED = "stopped", _("stopped")
    """Status ``stopped``."""
    LOST = "lost", _("lost")
    """Status ``lost``."""


FAILURE_REASONS: dict[str, FailureReason] = {
    RunStatus.FAILED: FailureReason.ERROR,
    RunStatus.TIMED_OUT: FailureReason.TIMEOUT,
    RunStatus.STOPPED: FailureReason.STOPPED,
    RunStatus.LOST: FailureReason.LOST,
}
"""The reason under which each status is counted."""


class MissedReason(models.TextChoices):
    """Why a slot was not run."""

    OVERLAP = "overlap", _("overlap")
    """The previous run was still running."""
    DOWNTIME = "downtime", _("downtime")
    """No host ticked, or all hosts were at capacity."""
    DEADLINE = "deadline", _("deadline")
    """It could not start within ``start_deadline_seconds``."""
    PAUSED = "paused", _("paused")
    """A maintenance window paused the job. Planned, so it alerts nobody."""
    DEPENDENCY = "dependency", _("dependency")
    """It waited for an upstream job until a later slot was due. Planned, so it alerts nobody."""


class BlockedReason(models.TextChoices):
    """Why a due job does not start. The value of label ``reason`` of ``chroniker_job_blocked``."""

    DEPENDENCY = "dependency", _("waits for another job")
    """An upstream job is running, is due, or did not succeed."""
    HOST = "host", _("its host is not ticking")
    """The host that the job is pinned to has never ticked, has been silent for a long time, or is
    retired."""
    PAUSED = "paused", _("its host is paused")
    """The host that the job is pinned to starts nothing."""
    MAINTENANCE = "maintenance", _("paused by a maintenance window")
    """A maintenance window with ``pause`` is active."""
    SCHEDULE = "schedule", _("its schedule cannot be used")
    """The stored schedule or time zone is invalid."""
    COMMAND = "command", _("it cannot be started")
    """The database rejected the record of its start."""
    CAPACITY = "capacity", _("at capacity")
    """As many runs as ``CHRONIKER_MAX_PARALLEL`` allows are running on its host, or all processes
    of the workers of its queue are busy."""
    QUEUE = "queue", _("its queue does not work")
    """No worker consumes its queue, or the broker cannot be reached."""


class Trigger(models.TextChoices):
    """What started a run."""

    SCHEDULE = "schedule", _("schedule")
    """Its slot was due."""
    MANUAL = "manual", _("manual")
    """A person requested it, in the admin or on a command line."""
    RETRY = "retry", _("retry")
    """The previous attempt failed and the job had retries left."""
    DEPENDENCY = "dependency", _("dependency")
    """The job has no schedule, and its upstream job ended."""


class Stream(models.TextChoices):
    """The stream that a piece of output was written to."""

    STDOUT = "stdout", _("stdout")
    """File descriptor 1."""
    STDERR = "stderr", _("stderr")
    """File descriptor 2."""
    LOG = "log", _("log")
    """Records of ``logging``: a separate stream, so that they do not count as error output."""


class IncidentKind(models.TextChoices):
    """What an incident is about. A placement has at most one open incident of each kind."""

    FAILING = "failing", _("failing")
    """``failures_before_alert`` consecutive slots have failed."""
    OVERDUE = "overdue", _("overdue")
    """It has been due for ``CHRONIKER_OVERDUE_SECONDS`` and has not started."""
    BLOCKED = "blocked", _("blocked")
    """It cannot start until a person does something, or until its upstream job succeeds."""
    HOST = "host", _("silent host")
    """A host has not ticked, and jobs that only this host may run wait for it. Of no job."""
    CONDITION = "condition", _("condition")
    """The job checks something and reports a problem with it."""


class Severity(models.TextChoices):
    """The severity of an incident, the highest first."""

    CRITICAL = "critical", _("critical")
    """Someone must act now."""
    WARNING = "warning", _("warning")
    """Someone must look at it today."""
    INFO = "info", _("info")
    """For information."""

    @property
    def rank(self) -> int:
        """For comparison: higher is more severe."""
        return (Severity.INFO, Severity.WARNING, Severity.CRITICAL).index(self)


class IncidentEnd(models.TextChoices):
    """Why an incident ended. Only ``RECOVERED`` means that the problem is gone."""

    RECOVERED = "recovered", _("recovered")
    """A run succeeded or started, a monitor is ok, a host ticks."""
    DISABLED = "disabled", _("job disabled")
    """The job was disabled."""
    CHANGED = "changed", _("job changed")
    """The job was changed such that the incident no longer applies."""
    DELETED = "deleted", _("job deleted")
    """The job was deleted."""
    RETIRED = "retired", _("host retired")
    """The host was retired."""


class NotificationEvent(models.TextChoices):
    """What a notification is about."""

    OPENED = "opened", _("opened")
    """An incident has opened, or the window that muted it has ended."""
    WORSENED = "worsened", _("worsened")
    """Its severity is higher than in the last notification."""
    REMINDER = "reminder", _("reminder")
    """It is still open and not acknowledged."""
    RESOLVED = "resolved", _("resolved")
    """The problem is gone. Sent to those who received the opening, after it."""
    CLOSED = "closed", _("closed")
    """The incident ended for another reason, such as that the job was disabled."""
    FLAPPING = "flapping", _("flapping")
    """It opens and closes repeatedly; no further notifications until that ends."""
    SUCCEEDED = "succeeded", _("succeeded")
    """A run succeeded, for jobs with ``email_on_success``."""
    DIGEST = "digest", _("digest")
    """The incidents of a period."""
    BUNDLE = "bundle", _("bundle")
    """Many notifications of one event in one message."""
    TEST = "test", _("test")
    """Sent by hand, to test a channel."""
