"""The enums of monitors, with the meaning of each member."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Severity(models.IntegerChoices):
    """Severity. The numbers are the exit codes of Nagios plugins and the values of the metric."""

    OK = 0, _("ok")
    """The value is within its thresholds."""
    WARNING = 1, _("warning")
    """The value has crossed the warning threshold."""
    CRITICAL = 2, _("critical")
    """The value has crossed the critical threshold."""
    UNKNOWN = 3, _("unknown")
    """The probe failed, so there is no value (which is not zero)."""


class Operator(models.TextChoices):
    """How a value is compared: it is bad if ``value operator threshold`` is true."""

    ABOVE = ">", _("is above")
    AT_LEAST = ">=", _("is at least")
    BELOW = "<", _("is below")
    AT_MOST = "<=", _("is at most")
    EQUAL = "==", _("is equal to")
    UNEQUAL = "!=", _("is not equal to")
    UNUSUAL = "unusual", _("is unusual")
    """The thresholds are factors that widen the range of the values of the same hour of the week;
    see :mod:`chroniker_monitors.baselines`."""


class PingKind(models.TextChoices):
    """What the last ping of an outside job reported."""

    SUCCESS = "success", _("success")
    """The job succeeded, or ended with exit code 0."""
    FAIL = "fail", _("failure")
    """The job failed, or ended with another exit code."""


class MetricsDetail(models.TextChoices):
    """How many series a job has. A value of ``CHRONIKER_METRICS_DETAIL``."""

    LOW = "low", _("low")
    """What the alert rules need."""
    DEFAULT = "default", _("default")
    """All metrics, without series of what is not the case."""
    HIGH = "high", _("high")
    """All series, at 0 from the start."""

    @property
    def rank(self) -> int:
        """For comparison: higher has more series."""
        return tuple(MetricsDetail).index(self)


HEARTBEAT = "heartbeat"
"""The kind of probe whose value comes from pings."""
SQL = "sql"
"""The kind of probe that needs its own permission."""
BATCH = "monitors"
"""The batch runner of monitors that are measured together."""
COMMAND = "check_monitor"
"""The management command that the job of a monitor runs."""
