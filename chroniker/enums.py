"""The words for what can happen to a run, each with its meaning."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class RunStatus(models.TextChoices):
    """How a run stands. All but ``RUNNING`` are terminal and never change."""

    RUNNING = "running", _("running")
    """Claimed by a host, whose lease on it is being renewed."""
    SUCCEEDED = "succeeded", _("succeeded")
    """The job itself said so: it returned, or exited with 0."""
    FAILED = "failed", _("failed")
    """It raised, exited with another code, was killed by a signal, or could not be started."""
    TIMED_OUT = "timed_out", _("timed out")
    """It ran longer than ``timeout_seconds`` and was ended."""
    STOPPED = "stopped", _("stopped")
    """A person, or the shutdown of its host, asked it to stop."""
    LOST = "lost", _("lost")
    """Its supervisor died, or its lease ran out: nobody knows how far it came."""
    MISSED = "missed", _("missed")
    """It was knowingly not run; ``missed_reason`` says why."""


class FailureReason(models.TextChoices):
    """The value of label ``reason`` of ``chroniker_job_failures_total``."""

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
"""Which reason a failing status is counted under."""


class MissedReason(models.TextChoices):
    """Why a slot was not run."""

    OVERLAP = "overlap", _("overlap")
    """The run before it had not ended."""
    DOWNTIME = "downtime", _("downtime")
    """No host was there to start it, or every place on the hosts was taken."""
    DEADLINE = "deadline", _("deadline")
    """It could only have been started later than ``start_deadline_seconds`` allows."""


class BlockedReason(models.TextChoices):
    """Why a due job does not start. The value of label ``reason`` of ``chroniker_job_blocked``."""

    DEPENDENCY = "dependency", _("waits for another job")
    """An upstream job is running, is due, or did not succeed."""
    HOST = "host", _("its host does not tick")
    """The host that the job is pinned to has never ticked, or has been silent for long."""
    PAUSED = "paused", _("its host is paused")
    """The host that the job is pinned to starts nothing."""
    MAINTENANCE = "maintenance", _("paused by a maintenance window")
    """A maintenance window with ``pause`` is active."""
    SCHEDULE = "schedule", _("its schedule cannot be used")
    """The stored schedule or time zone is invalid."""
    COMMAND = "command", _("it cannot be started")
    """The database refused to record its start."""
    CAPACITY = "capacity", _("its host is at capacity")
    """As many runs as ``CHRONIKER_MAX_PARALLEL`` allows are running on the host."""


class Trigger(models.TextChoices):
    """What made a run start."""

    SCHEDULE = "schedule", _("schedule")
    """Its slot came."""
    MANUAL = "manual", _("manual")
    """A person asked for it, in the admin or on a command line."""
    RETRY = "retry", _("retry")
    """The attempt before it failed and the job has retries left."""
    DEPENDENCY = "dependency", _("dependency")
    """A job without a schedule whose upstream ended."""


class Stream(models.TextChoices):
    """Where a piece of output was written to."""

    STDOUT = "stdout", _("stdout")
    """File descriptor 1."""
    STDERR = "stderr", _("stderr")
    """File descriptor 2."""
    LOG = "log", _("log")
    """Records of the ``logging`` module; a stream of its own, so that logging is not an error."""


class IncidentKind(models.TextChoices):
    """What an incident is about. A job has at most one open incident of each on a host slot."""

    FAILING = "failing", _("failing")
    """``failures_before_alert`` runs in a row have failed."""
    OVERDUE = "overdue", _("overdue")
    """It is due, and nobody has started it for ``CHRONIKER_OVERDUE_SECONDS``."""
    CONDITION = "condition", _("condition")
    """The job checks something, and reports that it is not as it should be."""


class Severity(models.TextChoices):
    """How bad an incident is, the worst first."""

    CRITICAL = "critical", _("critical")
    """Somebody has to act now."""
    WARNING = "warning", _("warning")
    """Somebody has to look at it today."""
    INFO = "info", _("info")
    """Worth knowing."""

    @property
    def rank(self) -> int:
        """For comparing: the higher, the worse."""
        return (Severity.INFO, Severity.WARNING, Severity.CRITICAL).index(self)


class NotificationEvent(models.TextChoices):
    """What a notification tells."""

    OPENED = "opened", _("opened")
    """An incident has opened, or the window that muted it has ended."""
    WORSENED = "worsened", _("worsened")
    """Its severity is higher than what was told."""
    REMINDER = "reminder", _("reminder")
    """It is still open, and nobody has acknowledged it."""
    RESOLVED = "resolved", _("resolved")
    """It is over. Sent to those who got its opening, after it."""
    FLAPPING = "flapping", _("flapping")
    """It opens and closes all the time; silence follows until that ends."""
    SUCCEEDED = "succeeded", _("succeeded")
    """A run succeeded, for those who want to know each time."""
    DIGEST = "digest", _("digest")
    """The incidents of a day."""
