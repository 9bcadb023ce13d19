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


class PingKind(models.TextChoices):
    """What the last ping of an outside job reported."""

    SUCCESS = "success", _("success")
    """The job succeeded, or ended with exit code 0."""
    FAIL = "fail", _("failure")
    """The job failed, or ended with another exit code."""


HEARTBEAT = "heartbeat"
"""The kind of probe whose value comes from pings."""
SQL = "sql"
"""The kind of probe that needs its own permission."""
COMMAND = "check_monitor"
"""The management command that the job of a monitor runs."""
